# SPDX-License-Identifier: Apache-2.0
"""Organs, findings, vertebrae and their words, as `Resources/Terminology/anatomy.json` has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from FoundationSegLib.resources import resource_folder

from ..model import Code, Side


@dataclass(frozen=True)
class Organ:
    """An organ as reports speak of it.

    Attributes:
        name: canonical, lower case ("adrenal gland"); `Subject.organ`.
        words: everything it is called, adjectives included ("adrenal", "suprarenal"), its name first.
        paired: there is a left and a right one.
        region: of the body ("chest", "abdomen", ...).
        levels: highest and lowest vertebral level at which it usually lies (C1 = 1, T1 = 8, L1 = 20); None if unknown.
        listed: its coverage is stated in every study.
        code: SNOMED CT.
    """

    name: str
    words: tuple[str, ...]
    paired: bool
    region: str
    levels: tuple[float, float] | None
    listed: bool
    code: Code


@dataclass(frozen=True)
class Finding:
    """A kind of finding: its canonical name, all its words; a diffuse one (effusion) has no diameter."""

    name: str
    words: tuple[str, ...]
    diffuse: bool


@dataclass(frozen=True)
class Anatomy:
    """The data of `anatomy.json`, by canonical name; `places` maps a SNOMED code to (organ, part, side)."""

    organs: Mapping[str, Organ]
    findings: Mapping[str, Finding]
    places: Mapping[str, tuple[str, str, Side]]
    finding_codes: Mapping[str, str]
    finding_words: Mapping[str, str]
    vertebrae: Mapping[str, int]
    vertebra_codes: Mapping[str, str]
    vertebra_mm: Mapping[str, float]
    node_words: tuple[str, ...]
    node_regions: tuple[str, ...]


@lru_cache(maxsize=1)
def anatomy() -> Anatomy:
    """The organs, findings and words of `anatomy.json`."""
    data = json.loads((resource_folder("Terminology") / "anatomy.json").read_text(encoding="utf-8"))
    places: dict[str, tuple[str, str, Side]] = {}
    for line in data["organs"]:
        places.update(dict.fromkeys(line["codes"], (line["name"], "", Side.NONE)))
    for line in data["organs"]:
        for part in line.get("parts", ()):
            places.setdefault(part["code"], (line["name"], part["name"], Side(part.get("side", ""))))
    findings = {f["name"]: Finding(f["name"], tuple(f["words"]), f.get("diffuse", False)) for f in data["findings"]}
    return Anatomy(
        organs={line["name"]: _organ(line) for line in data["organs"]},
        findings=findings,
        places=places,
        finding_codes={code: f["name"] for f in data["findings"] for code in f["codes"]},
        finding_words={word: f["name"] for f in data["findings"] for word in f["words"]},
        vertebrae={line["name"]: line["level"] for line in data["vertebrae"]},
        vertebra_codes={line["code"]: line["name"] for line in data["vertebrae"]},
        vertebra_mm=data["vertebra_mm"],
        node_words=tuple(data["node_words"]),
        node_regions=tuple(data["node_regions"]),
    )


def is_paired(organ: str) -> bool:
    """Whether there is a left and a right one; False for an organ that the data do not list."""
    listed = anatomy().organs.get(organ)
    return listed is not None and listed.paired


def _organ(line: Mapping[str, Any]) -> Organ:
    levels = line.get("levels")
    return Organ(
        name=line["name"],
        words=(line["name"], *line.get("words", ()), *line.get("adjectives", ())),
        paired=line.get("paired", False),
        region=line["region"],
        levels=(levels[0], levels[1]) if levels else None,
        listed=line.get("listed", False),
        code=Code(line["codes"][0], "SCT", line["name"]),
    )
