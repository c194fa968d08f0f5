# SPDX-License-Identifier: Apache-2.0
"""The checker's words: places, findings and set phrases, read once from the JSON files in `lexicon/`.

Words are compared in a normal form: lower case, American spelling, singular, hyphens as spaces. A phrase can have
several readings (`Entry`); which one is meant is decided where it stands (`reader.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("lexicon")

_SPELLING = (
    ("haem", "hem"),
    ("oedem", "edem"),
    ("oesoph", "esoph"),
    ("tumour", "tumor"),
    ("calibre", "caliber"),
    ("litre", "liter"),
    ("metre", "meter"),
    ("grey", "gray"),
    ("centre", "center"),
    ("caec", "cec"),
    ("coeliac", "celiac"),
    ("analyse", "analyze"),
    ("neighbour", "neighbor"),
    ("colour", "color"),
    ("fibre", "fiber"),
    ("behaviour", "behavior"),
    ("isation", "ization"),
    ("ised", "ized"),
    ("ising", "izing"),
)
_KEEP_ENDINGS = ("ss", "us", "is", "pancreas", "gas", "atlas")


@dataclass(frozen=True)
class Entry:
    """One reading of a phrase: what kind of mention it is, and its value."""

    kind: str
    value: Any = None


@dataclass(frozen=True)
class Place:
    """A node of the tree of places. `parents`: what it is directly part of."""

    name: str
    parents: tuple[str, ...]
    family: str
    paired: bool = False
    side: str = ""
    host: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A concept of what can be found. See `lexicon/findings.json` for the fields."""

    name: str
    parents: tuple[str, ...] = ()
    generic: bool = False
    at: tuple[str, ...] = ()


@dataclass(frozen=True)
class FindingWord:
    """What a word of a finding says: the concept, the places it names by itself, and qualities it implies."""

    concept: str
    makes: tuple[str, ...] = ()
    enlarged: bool = False
    uptake: bool = False


@dataclass(eq=False)
class Lexicon:
    """All words. `exact` is matched letter for letter ("PR", "RUL"), before `phrases`."""

    places: dict[str, Place] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    phrases: dict[tuple[str, ...], list[Entry]] = field(default_factory=dict)
    exact: dict[str, list[Entry]] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)
    irregular: dict[str, str] = field(default_factory=dict)
    physics: Mapping[str, Any] = field(default_factory=dict)
    rewrite: tuple[tuple[re.Pattern[str], str], ...] = ()

    def normal(self, word: str) -> str:
        """A word in the form in which words are compared."""
        word = word.lower()
        for british, american in _SPELLING:
            if british in word:
                word = word.replace(british, american)
        if word in self.irregular:
            return self.irregular[word]
        if len(word) <= 3 or word.endswith(_KEEP_ENDINGS) or not word.endswith("s"):
            return word
        if word.endswith("ies") and len(word) > 4:
            return word[:-3] + "y"
        if word.endswith(("sses", "xes", "ches", "shes")):
            return word[:-2]
        return word[:-1]

    def key(self, phrase: str) -> tuple[str, ...]:
        words = phrase.replace("-", " ").replace("'", " '").split()
        return tuple(w for word in words for w in self.normal(word).split())

    def add(self, phrases: Iterable[str], entry: Entry) -> None:
        for phrase in phrases:
            key = self.key(phrase)
            if not key:
                continue
            entries = self.phrases.setdefault(key, [])
            if entry not in entries:
                entries.append(entry)
            self.longest[key[0]] = max(self.longest.get(key[0], 0), len(key))

    # --- places ---

    @cache  # noqa: B019 - one lexicon lives as long as the program
    def place_ancestors(self, name: str) -> frozenset[str]:
        """The place itself and all it is part of."""
        place = self.places.get(name)
        if place is None:
            return frozenset((name,))
        return frozenset((name,)).union(*(self.place_ancestors(parent) for parent in place.parents))

    def place_in(self, name: str, other: str) -> bool:
        return other in self.place_ancestors(name)

    @cache  # noqa: B019
    def disjoint(self, a: str, b: str) -> bool:
        """Whether nothing can be in both places. Places of different systems of division may overlap."""
        if self.place_in(a, b) or self.place_in(b, a):
            return False
        one, two = self.places.get(a), self.places.get(b)
        if one is None or two is None:
            return False
        if one.host or two.host:
            if one.host and two.host:
                return one.family == two.family
            part, whole = (one, b) if one.host else (two, a)
            return not any(self.place_in(whole, host) or self.place_in(host, whole) for host in part.host)
        for x in self.place_ancestors(a):
            for y in self.place_ancestors(b):
                if x != y and not self.place_in(x, y) and not self.place_in(y, x):
                    first, second = self.places.get(x), self.places.get(y)
                    if first and second and self._excludes(first, second):
                        return True
        return False

    @staticmethod
    def _excludes(a: Place, b: Place) -> bool:
        if a.family == b.family:
            return True
        whole = {"organ", "vessel", "bone part"}
        return a.family in whole and b.family in whole

    # --- findings ---

    @cache  # noqa: B019
    def finding_ancestors(self, name: str) -> frozenset[str]:
        finding = self.findings.get(name)
        if finding is None:
            return frozenset((name,))
        return frozenset((name,)).union(*(self.finding_ancestors(parent) for parent in finding.parents))

    def finding_isa(self, name: str, other: str) -> bool:
        return other in self.finding_ancestors(name)


@cache
def load_data(name: str) -> dict[str, Any]:
    """One of the JSON files; what is returned is shared and must not be changed."""
    data: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return data


@cache
def lexicon() -> Lexicon:
    """The one lexicon (read on first use, about 30 ms)."""
    phrases = load_data("phrases")
    lex = Lexicon(irregular=phrases["irregular"], physics=load_data("physics"))
    lex.rewrite = tuple((re.compile(old, re.IGNORECASE), new) for old, new in phrases["rewrite"])
    _add_places(lex, load_data("anatomy"))
    _add_findings(lex, load_data("findings")["findings"])
    _add_phrases(lex, phrases)
    for modality, terms in lex.physics["terms"].items():
        lex.add(terms, Entry("TERM", modality))
    return lex


def _add_places(lex: Lexicon, data: dict[str, Any]) -> None:
    for name, item in data["places"].items():
        lex.places[name] = Place(
            name,
            tuple(item.get("in", ())),
            item["family"],
            bool(item.get("paired")),
            item.get("side", ""),
            tuple(item.get("host", ())),
        )
        lex.add([*item["words"], name], Entry("SITE", (name, item.get("side", ""))))
        for word in (*item["words"], name):
            if word.startswith("lateral ") and item.get("paired"):  # "right lateral" alone is a side
                for side in ("left", "right"):
                    lex.add([f"{side} {word}"], Entry("SITE", (name, side)))
    for n in range(1, 13):
        lex.places[f"rib {n}"] = Place(f"rib {n}", ("rib",), "rib number", paired=True)
    for n in range(1, 8):
        lex.places[f"level {n}"] = Place(f"level {n}", ("neck",), "node station", paired=True)
    for letter, region, last in (("C", "cervical", 7), ("T", "thoracic", 12), ("L", "lumbar", 5)):
        for n in range(1, last + 1):
            lex.places[f"{letter}{n}"] = Place(f"{letter}{n}", (f"{region} spine",), "vertebra")
    for short, (name, side) in data["abbreviations"].items():
        lex.exact.setdefault(short, []).append(Entry("SITE", (name, side)))
        if len(short) == 3 and side:
            lex.exact.setdefault(short.lower(), []).append(Entry("SITE", (name, side)))


def _add_findings(lex: Lexicon, data: dict[str, Any]) -> None:
    for name, item in data.items():
        concept = item.get("as", name)
        if concept == name:
            lex.findings[name] = Finding(
                name,
                tuple(item.get("isa", ())),
                bool(item.get("generic")),
                tuple(item.get("at", ())),
            )
        word = FindingWord(
            concept,
            (*item.get("makes", ()), *item.get("and", ())),
            bool(item.get("enlarged")),
            bool(item.get("uptake")),
        )
        lex.add([*item["words"], name], Entry("FIND", word))


def _add_phrases(lex: Lexicon, data: dict[str, Any]) -> None:
    for kind, key in (
        ("NEG", "negation_before"),
        ("NEGAFTER", "negation_after"),
        ("NOT", "not"),
        ("HEDGE", "hedge"),
        ("RECOMMEND", "recommend"),
        ("NORMAL", "normal"),
        ("NORMALSIZE", "normal_size"),
        ("ENLARGED", "enlarged"),
        ("SMALL", "small_organ"),
        ("REMAINS", "remains"),
        ("PRIOR", "prior"),
        ("COMPARE", "compare"),
        ("NOPRIOR", "no_prior"),
        ("NOW", "now"),
        ("BY", "by"),
        ("THAN", "than"),
        ("NUMBEROF", "number_of"),
        ("EXCEPT", "except"),
        ("RESPECTIVELY", "respectively"),
        ("UPTAKE", "uptake"),
        ("SYSTEM", "systems"),
        ("HEADER", "header"),
        ("STUDY", "image_words"),
        ("PRONOUN", "pronouns"),
    ):
        lex.add(data[key], Entry(kind))
    for kind, key in (
        ("CHANGE", "change"),
        ("SELECT", "select"),
        ("COMPARATIVE", "comparative"),
        ("SIDE", "sides"),
        ("COVERAGE", "coverage"),
        ("RELATION", "relations"),
        ("CMP", "cmp"),
        ("QUANTITY", "quantities"),
        ("AVID", "avid"),
        ("DENSITY", "density"),
        ("SEVERITY", "severity"),
        ("CATEGORY", "category_words"),
        ("TECHNIQUE", "technique"),
        ("PHASE", "phases"),
        ("MODALITY", "modalities"),
    ):
        for value, words in data[key].items():
            lex.add(words, Entry(kind, value))
    lex.add(data["up_to"], Entry("UPTO"))
    for word, n in data["counts"].items():
        lex.add([word], Entry("COUNT", ("=", n, word in data["strict_one"])))
    for word, n in data["vague_counts"].items():
        lex.add([word], Entry("COUNT", (">=", n, True)))
    for word, factor in data["factor"].items():
        lex.add([word], Entry("FACTOR", factor))
    for text, value in data["category_exact"].items():
        lex.exact.setdefault(text, []).append(Entry("CATEGORY", value))
    lex.exact.setdefault("L", []).append(Entry("SIDE", "left"))
    lex.exact.setdefault("R", []).append(Entry("SIDE", "right"))
    for word in (
        "and",
        "or",
        "but",
        "while",
        "whereas",
        "with",
        "which",
        "although",
        "however",
        "whilst",
        "though",
        "vs",
        "versus",
    ):
        lex.add([word], Entry("CONJ", word))
    for word in ("a", "an", "there is", "there are", "there was", "there were"):
        lex.add([word], Entry("DET", "a"))
    lex.add(["from"], Entry("FROM"))
    lex.add(data["neutral"], Entry("NEUTRAL"))
