# SPDX-License-Identifier: Apache-2.0
"""Report templates: the shipped ones, the schema, and what is said of a file that breaks it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from FoundationReportLib.errors import TemplateError
from FoundationReportLib.measure.quantities import QUANTITIES
from FoundationReportLib.measure.subjects import anatomy
from FoundationReportLib.model import Fact, Facts, Kind, Subject
from FoundationReportLib.templates import (
    load_template,
    must_mention,
    save_template,
    template_from_data,
    template_names,
    words,
)
from FoundationReportLib.wording import language, languages
from pydicom.sr._concepts_dict import concepts


def test_the_five_templates_are_shipped() -> None:
    assert template_names() == ("ct-abdomen", "ct-chest", "generic", "mr-brain", "oncology")


@pytest.mark.parametrize("name", template_names())
def test_shipped_templates_use_only_what_exists(name: str) -> None:
    template = load_template(name)
    assert template.id == name
    known = {*anatomy().organs, "vertebra", "bone", "retroperitoneum"}
    for section in template.sections:
        assert section.code is not None
        assert section.code.scheme == "DCM"
        assert any(code == section.code.value for entry in concepts["DCM"].values() for code in entry)
        for item in section.items:
            assert set(item.get("organs", ())) <= known
            assert set(item.get("quantities", ())) | set(item.get("details", ())) <= set(QUANTITIES)
            assert set(item.get("quantities", ())) <= set(language("en").data["details"])
            for label in (item.get("label"), item.get("lesions")):
                if label:
                    assert set(label) == set(languages())
    assert set(template.title) == set(languages())
    assert set(template.mention) <= set(QUANTITIES)
    assert template.sections[-1].key == "impression"


def test_both_languages_have_the_same_words() -> None:
    english, german = (language(code).data for code in ("en", "de"))
    assert set(english) == set(german)
    for table in ("sentences", "sections", "details", "modalities", "sex", "words", "named", "on_side", "in_side"):
        assert set(english[table]) == set(german[table]), table
    forms = set(english["declension"][""])
    for gender in german["declension"].values():
        assert set(gender) == forms
    listed = {name for name, organ in anatomy().organs.items() if organ.listed}
    for data in (english, german):
        assert listed <= set(data["organs"])
        assert set(anatomy().findings) - {"calcification"} <= set(data["findings"])
        for table in ("organs", "regions", "findings"):
            assert all(entry.get("gender", "") in data["declension"] for entry in data[table].values())


def minimal(**changes: Any) -> dict[str, Any]:
    data = {
        "schema": "foundation-report/template/1",
        "id": "mine",
        "version": "1.0.0",
        "title": {"en": "Mine"},
        "sections": [{"key": "findings", "items": [{"item": "other"}]}],
    }
    return {**data, **changes}


def section(*items: dict[str, Any], key: str = "findings") -> dict[str, Any]:
    return {"key": key, "items": list(items)}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ([], "breaks the template schema at its top"),
        (minimal(schema="foundation-report/template/2"), "at schema"),
        (minimal(version="1"), "at version"),
        (minimal(id="My template"), "at id"),
        (minimal(sections=[]), "at sections"),
        (minimal(colour="red"), "'colour' was unexpected"),
        ({key: value for key, value in minimal().items() if key != "title"}, "'title' is a required property"),
        (minimal(sections=[section({"item": "organs"})]), "at sections/0/items/0"),
        (minimal(sections=[section({"item": "organ", "label": {"en": "Liver"}})]), "at sections/0/items/0"),
        (
            minimal(sections=[section({"item": "other"}), section({"item": "other"})]),
            "two sections with the key 'findings'",
        ),
        (minimal(sections=[section({"item": "categories", "rules": ["birads"]})]), "names the rule 'birads'"),
        (minimal(languages=["fr"]), "is in 'fr'"),
        (
            minimal(sections=[section({"item": "field", "label": {"en": "Size"}, "minimum": float("nan")})]),
            "a number that is not finite",
        ),
    ],
)
def test_what_breaks_the_schema_is_said_with_its_place(data: Any, complaint: str) -> None:
    with pytest.raises(TemplateError) as caught:
        template_from_data(copy.deepcopy(data), "The file mine.json")
    message = str(caught.value)
    assert complaint in message
    assert message.startswith("The file mine.json")
    assert message.count("\n") == 0


def test_a_template_file_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(minimal()), encoding="utf-8")
    template = load_template(path)
    assert (template.id, template.languages) == ("mine", tuple(languages()))
    copy_path = tmp_path / "copy.json"
    save_template(template, copy_path)
    assert load_template(str(copy_path)) == template


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("gone.json", None, "There is no report template"),
        ("bad.json", "{", "not a JSON file"),
        ("page.html", "<html></html>", "import an MRRT template first"),
        ("deep.json", "[" * 100_000, "not a JSON file"),
        ("large.json", " " * 2_000_001, "too large"),
    ],
)
def test_what_is_no_template_file(tmp_path: Path, name: str, content: str | None, complaint: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(TemplateError, match=complaint):
        load_template(path)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(TemplateError, match=r"'ct-knee'.*ct-abdomen, ct-chest"):
        load_template("ct-knee")


def test_a_file_that_cannot_be_written_is_an_answer(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="folder does not exist"):
        save_template(load_template("generic"), tmp_path / "no" / "mine.json")


def test_what_has_to_be_mentioned() -> None:
    subjects = (
        Subject("n1", "n1", Kind.LESION, "lung"),
        Subject("n2", "n2", Kind.LESION, "lung"),
        Subject("n3", "n3", Kind.LESION, "lung"),
        Subject("node", "node", Kind.NODE),
        Subject("liver", "liver", Kind.ORGAN, "liver"),
    )
    facts = (
        Fact("f1", "n1", "presence", "present"),
        Fact("f2", "n1", "long_axis", 9.0, "mm"),
        Fact("f3", "n1", "trend", "larger"),
        Fact("f4", "n2", "presence", "present"),
        Fact("f5", "n2", "trend", "unchanged"),
        Fact("f6", "node", "long_axis", 20.0, "mm"),
        Fact("f7", "node", "short_axis", 12.0, "mm"),
        Fact("f8", "liver", "volume", 1500.0, "mL"),
        Fact("f9", "n3", "presence", "searched_not_found"),
    )
    assert must_mention(load_template("ct-chest"), Facts(subjects, facts, "CT")) == ("f2", "f3", "f4", "f7")


def test_words_fall_back_to_english() -> None:
    assert words({"en": "Liver", "de": "Leber"}, "de") == "Leber"
    assert words({"en": "Liver"}, "de") == "Liver"
    assert words({"de": "Leber"}, "en") == "Leber"
