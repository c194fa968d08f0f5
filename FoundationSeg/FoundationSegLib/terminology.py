# SPDX-License-Identifier: Apache-2.0
"""From a segment's name to coded terms (SNOMED CT) in the form in which 3D Slicer keeps them, and to a colour.

The structures and their codes are data, `Resources/Terminology/structures.json`. A name is understood as a set of words
in any order: "Left kidney", "kidney_left" and "L kidney" are the same, and so are "tumor of the left lung" and
"left lung tumour". What is not understood whole gets no code, since a wrong one is worse than none.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from .resources import resource_folder

Words = frozenset[str]

_SIDE_WORDS = {
    **dict.fromkeys(("left", "l", "lt"), "left"),
    **dict.fromkeys(("right", "r", "rt"), "right"),
    **dict.fromkeys(("both", "bilateral"), "both"),
}
_FILLERS = frozenset({"the", "of", "in", "a", "an", "structure"})
_SINGULARS = {"vertebrae": "vertebra", "metastases": "metastasis", "teeth": "tooth", "testes": "testis"}


class Code(NamedTuple):
    """A coded concept; all empty where there is none."""

    scheme: str = ""
    value: str = ""
    meaning: str = ""


_NO_CODE = Code()


@dataclass(frozen=True)
class Terminology:
    """What a segment is.

    Attributes:
        context: name of the list that category and type are from.
        category, type, type_modifier: what it is ("Anatomical Structure", "Kidney", "Left").
        region_context: name of the list that the region is from.
        region, region_modifier: where it is, for a finding ("Lung", "Left"); else empty.
        color: recommended red, green, blue in [0, 1].
    """

    context: str
    category: Code
    type: Code
    type_modifier: Code
    region_context: str
    region: Code
    region_modifier: Code
    color: tuple[float, float, float]

    @property
    def entry(self) -> str:
        """3D Slicer's serialised terminology entry, the value of a segment's tag "TerminologyEntry"."""
        type_codes = (self.category, self.type, self.type_modifier)
        region_codes = (self.region, self.region_modifier)
        return "~".join([self.context, *map("^".join, type_codes), self.region_context, *map("^".join, region_codes)])


def lookup(name: str) -> Terminology | None:
    """The terms for a segment's name, None if any part of the name is not known.

    A side is kept for paired structures ("Left kidney"), and refused for others ("left liver" is no known structure).
    A finding may name its place ("cyst of the left kidney").
    """
    words = _words(name)
    return _structure(words) or _finding(words)


class _Structure(NamedTuple):
    """One line of the data."""

    category: str
    context: str
    code: Code
    color: tuple[float, float, float]
    paired: bool
    region: Code | None


@dataclass(frozen=True)
class _Dictionary:
    contexts: dict[str, str]
    categories: dict[str, Code]
    sides: dict[str, Code]
    structures: dict[Words, _Structure]

    def terminology(
        self, structure: _Structure, side: str | None, region: Code = _NO_CODE, region_side: str | None = None
    ) -> Terminology:
        return Terminology(
            context=self.contexts[structure.context],
            category=self.categories[structure.category],
            type=structure.code,
            type_modifier=self.sides[side] if side else _NO_CODE,
            region_context=self.contexts["region"],
            region=region,
            region_modifier=self.sides[region_side] if region_side else _NO_CODE,
            color=structure.color,
        )

    def match(self, words: Words) -> tuple[_Structure, str | None] | None:
        """The structure that these words name, and its side."""
        # First as a whole: some structures have a side in their name ("left ventricle").
        if found := self.structures.get(words):
            return found, None
        sides = words & self.sides.keys()
        found = self.structures.get(words - sides)
        if found is None or len(sides) != 1 or not found.paired:
            return None
        return found, next(iter(sides))


def _structure(words: Words) -> Terminology | None:
    match = _dictionary().match(words)
    return _dictionary().terminology(*match) if match else None


def _finding(words: Words) -> Terminology | None:
    """A finding with its place: some of the words name the finding, all the others one anatomical region."""
    dictionary = _dictionary()
    for key, structure in dictionary.structures.items():
        if structure.category == "finding" and key < words:
            match = dictionary.match(words - key)
            if match and match[0].region:
                return dictionary.terminology(structure, None, match[0].region, match[1])
    return None


def _words(name: str) -> Words:
    """The name's words: lower case, singular, sides in one form, fillers left out."""
    # "SpinalCord" is two words; "L1" stays one.
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[a-z0-9]+", spaced.lower())
    return frozenset(_SIDE_WORDS.get(word, _singular(word)) for word in words if word not in _FILLERS)


def _singular(word: str) -> str:
    if word in _SINGULARS:
        return _SINGULARS[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


@lru_cache(maxsize=1)
def _dictionary() -> _Dictionary:
    data = json.loads((resource_folder("Terminology") / "structures.json").read_text(encoding="utf-8"))
    return _Dictionary(
        contexts=data["contexts"],
        categories={name: Code(*code) for name, code in data["categories"].items()},
        sides={name: Code(*code) for name, code in data["sides"].items()},
        structures={
            _words(name): _parsed(line)
            for line in data["structures"]
            for name in (line["name"], *line.get("synonyms", ()))
        },
    )


def _parsed(line: dict[str, Any]) -> _Structure:
    code = Code(*line["code"])
    red, green, blue = (channel / 255 for channel in line["color"])
    return _Structure(
        category=line["category"],
        context=line["context"],
        code=code,
        color=(red, green, blue),
        paired=line.get("paired", False),
        region=code._replace(meaning=line["region"]) if "region" in line else None,
    )
