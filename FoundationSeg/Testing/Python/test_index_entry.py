# SPDX-License-Identifier: Apache-2.0
"""The entry for the Extensions Index agrees with the extension, and what its reviewers ask for is there."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NAME = "FoundationSegReport"
FOLDER = ROOT / "Testing" / "ExtensionsIndex"
TEXT = (FOLDER / f"{NAME}.json").read_bytes()
ENTRY = json.loads(TEXT)
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Of slicer-extension-catalog-entry-schema-v1.0.2.json, which allows nothing else.
KEYS = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "dicom_support_rule": str,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}


def metadata(name: str) -> str:
    found = re.search(rf'^set\(EXTENSION_{name} "(.*)"\)$', CMAKE, flags=re.MULTILINE)
    assert found, name
    return found[1]


def test_entry_has_the_fields_of_the_schema_and_no_others() -> None:
    assert b"\r" not in TEXT
    assert set(ENTRY) <= set(KEYS) and {"$schema", "category", "scm_url"} <= set(ENTRY)
    for key, value in ENTRY.items():
        assert type(value) is KEYS[key], key
    assert ENTRY["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert ENTRY["category"] == "Segmentation" and 1 <= ENTRY["tier"] <= 5
    assert re.fullmatch(rf"https://github\.com/[^/]+/Slicer{NAME}\.git", ENTRY["scm_url"])


def test_names_and_dependencies_agree_with_cmake() -> None:
    assert re.search(r"^project\((\w+)\)", CMAKE, flags=re.MULTILINE)[1] == NAME  # type: ignore[index]
    assert not NAME.startswith("Slicer")
    depends = metadata("DEPENDS")
    assert ENTRY["build_dependencies"] == ([] if depends == "NA" else depends.split())


def test_description_is_short_and_names_the_licence() -> None:
    description = metadata("DESCRIPTION")
    assert 80 < len(description) < 500
    assert "Apache License 2.0" in description and "Not for clinical use" in description


def test_icons_are_128_pixels_and_screenshots_are_there() -> None:
    icons = [ROOT / "Resources" / "Icons" / f"{NAME}.png", *ROOT.glob("Foundation*/Resources/Icons/Foundation*.png")]
    assert len(icons) >= 2
    for icon in icons:
        assert struct.unpack(">II", icon.read_bytes()[16:24]) == (128, 128), icon
    assert metadata("ICONURL").endswith(icons[0].relative_to(ROOT).as_posix())
    screenshots = metadata("SCREENSHOTURLS").split()
    assert screenshots
    for address in screenshots:  # relative, or raw addresses of the same files once there is a repository on the web
        assert (ROOT / ("Resources" + address.partition("Resources")[2])).is_file(), address
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:400]


def test_readme_has_what_reviewers_look_for() -> None:
    assert README.startswith(f"# {NAME}\n")
    assert "](Resources/Screenshots/" in README.partition("## ")[0]
    headings = re.findall(r"^##+ (.+)$", README, flags=re.MULTILINE)
    for heading in ("Tutorial", "Models and licences", "Privacy and safety", "Citation and licence"):
        assert heading in headings
    tutorial = README.partition("### Tutorial")[2].partition("\n### ")[0]
    assert "Sample Data" in tutorial
    for module in ("FoundationSeg", "FoundationReport"):
        if (ROOT / module / f"{module}.py").exists():
            assert f"*{module}*" in README.partition("**Modules:**")[2].partition("\n## ")[0]


def test_no_document_of_the_index_names_a_test_that_is_not_there() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(test_\w+\.py)`", text))
    assert len(names) > 4
    for name in names:
        assert list(ROOT.glob(f"*/Testing/Python/{name}")), name


def test_keys_are_the_same_in_readme_help_and_code() -> None:
    code = (ROOT / "FoundationSeg" / "FoundationSegLib" / "panel" / "shortcuts.py").read_text(encoding="utf-8")
    keys = dict[str, str]()
    for names, values in re.findall(r"^([A-Z_, ]+) = (\"[^#\n]+)$", code, flags=re.MULTILINE):
        keys |= dict(zip(names.split(", "), re.findall(r'"([^"]+)"', values), strict=True))
    assert {"POINT", "BOX", "SCRIBBLE", "LASSO", "OTHER_SIGN", "NEW_SEGMENT", "PUT_AWAY"} <= set(keys)
    table = README.partition("| key |")[2].partition("\n\n")[0]
    cells = {part for cell in table.replace("\n", "|").split("|") for part in re.split(r", ", cell.strip())}
    assert set(keys.values()) <= cells
    module = (ROOT / "FoundationSeg" / "FoundationSeg.py").read_text(encoding="utf-8")
    shown = module.partition("Keys: ")[2].partition(".")[0]
    for name, word in (("POINT", "point"), ("BOX", "box"), ("SCRIBBLE", "scribble"), ("LASSO", "lasso")):
        assert f"{keys[name]} {word}" in shown
    assert len(set(keys.values())) == len(keys)
