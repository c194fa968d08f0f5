# SPDX-License-Identifier: Apache-2.0
"""The words of a report in a language: sentences, organs, findings, numbers. One JSON file each, no words in code.

A language file (`Resources/ReportLanguages`) has sentences with fields in braces, nouns with their forms, and one
declension per gender, which says what "the", "in the", "of the" do to a noun with and without a side. So a language
is added by a file, not by code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from FoundationSegLib.resources import resource_folder

from .errors import TemplateError
from .measure.quantities import display, rounded
from .measure.subjects import VERTEBRA, anatomy
from .model import Fact, Kind, Side, Subject

_WITHOUT_SIZE = {
    "sized": "one",
    "sized_new": "one_new",
    "the_sized": "the_one",
    "of_sized": "of_one",
    "bare": "bare_one",
    "new": "new_bare_one",
}
_WHOLE_ML = 20  # from here on a tenth of a mL says nothing
_CASES = ("the", "of", "in", "from", "at", "label")


@dataclass(frozen=True)
class Language:
    """The words of one language. `data`: its file."""

    code: str
    data: Mapping[str, Any]

    # --- sentences ---

    def sentence(self, key: str, **fields: str) -> str:
        """A sentence with its fields filled in, its first letter a capital."""
        text: str = self.data["sentences"][key].format(**fields)
        return capital(re.sub(r"\s+([.,;])", r"\1", re.sub(r"\s{2,}", " ", text)))

    def part(self, key: str, **fields: str) -> str:
        """A part of a sentence, as it is."""
        text: str = self.data["sentences"][key].format(**fields)
        return text

    def section(self, key: str, otherwise: str = "") -> str:
        """The title of a section."""
        title: str = self.data["sections"].get(key, otherwise or key)
        return title

    def detail(self, fact: Fact) -> str:
        """A measured quantity as a part of a sentence: "a volume of 3.4 mL"."""
        text: str = self.data["details"][fact.quantity].format(value=self.value(fact))
        return text

    def has_detail(self, quantity: str) -> bool:
        return quantity in self.data["details"]

    def modality(self, code: str) -> str:
        name: str = self.data["modalities"].get(code, code)
        return name

    def sex(self, code: str) -> str:
        word: str = self.data["sex"].get(code.lower(), self.data["sex"][""])
        return word

    # --- numbers ---

    def value(self, fact: Fact) -> str:
        """A fact's value as this language prints it, with its unit: whole mm and HU; mL as they can be read off.

        What would be rounded to nothing keeps one digit.
        """
        text = display(fact)
        number, _, unit = text.partition(" ")
        if unit == "mL" and abs(float(fact.value)) >= _WHOLE_ML:
            text = f"{rounded(float(fact.value), 0)} mL"
        elif fact.value and float(number.rstrip("%") or 0) == 0:
            text = text.replace(number, f"{float(fact.value):.1g}", 1)
        elif unit == "mL":
            text = f"{number.rstrip('0').rstrip('.') if '.' in number else number} mL"
        for unit, word in self.data["units"].items():
            text = re.sub(rf"(?<!\w){unit}$", word, text)
        return self.decimal(text)

    def decimal(self, text: str) -> str:
        """Decimal points of a text made into this language's."""
        return re.sub(r"(?<=\d)\.(?=\d)", self.data["decimal"], text)

    def size(self, lengths: Iterable[Fact]) -> str:
        """Diameters as "24 x 18 mm"; all are mm."""
        numbers = [self.value(fact).removesuffix(" mm") for fact in lengths]
        return f"{self.data['times'].join(numbers)} mm"

    def signed(self, fact: Fact) -> str:
        """A change with its sign: "+35%"."""
        text = self.value(fact)
        return text if text.startswith(("-", "0")) else f"+{text}"

    def count(self, number: int) -> str:
        """A number as a word where the language has one for it, else in digits."""
        words = self.data["count_words"]
        return words[number] if number < len(words) else str(number)

    def joined(self, parts: Iterable[str]) -> str:
        """ "a, b and c"."""
        *first, last = parts
        join = self.data["join"]
        return f"{join['comma'].join(first)}{join['and']}{last}" if first else last

    # --- places ---

    def organ(self, organ: str, side: Side = Side.NONE, case: str = "the", region: str = "") -> str:
        """An organ or a part of it in a case: "the", "of", "in", "from", "at" or "label" ("in the left kidney")."""
        if organ == VERTEBRA and region:
            return self._declined(self._named_noun("vertebra", region), Side.NONE, case)
        entry = self.data["organs"].get(organ) or self._named_noun("unknown", organ)
        if side == Side.BOTH and entry.get("uncounted"):
            side = Side.NONE
        if not region:
            if side and not _paired(organ):
                if case == "in" and side != Side.BOTH:
                    forms = {each: self._declined(entry, Side.NONE, each) for each in _CASES}
                    text: str = self.data["in_side"][side.value].format(**forms)
                    return text
                side = Side.NONE
            return self._declined(entry, side, case)
        part = self.data["regions"].get(region)
        own = Side(part["side"]) if part is not None and "side" in part else None  # "left ventricle"
        if part is not None and organ in part.get("alone", ()):
            return self._declined(part, side if own is None else own, case)
        whole = self._declined(entry, side if _paired(organ) else Side.NONE, "of")
        if part is not None:
            return f"{self._declined(part, own or Side.NONE, case)} {whole}"
        if match := re.fullmatch(r"segment (.+)", region):
            region = self.data["words"]["segment"].format(name=match[1])
            named: str = self.data["named"][case].format(region=region, of=whole)
            return named
        if rib := re.fullmatch(r"rib (1[0-2]|[1-9])", region):
            return self._declined(self._named_noun("rib", self.data["ordinals"][int(rib[1]) - 1]), side, case)
        if organ in region:
            return self._declined(self._named_noun("unknown", region), side, case)
        return f"{self._declined(self._named_noun('unknown', region), Side.NONE, case)} {whole}"

    def is_plural(self, organ: str, side: Side, region: str = "") -> bool:
        """Whether a verb after `organ(...)` stands in the plural: both of a pair, or a word like "ribs"."""
        entry = self.data["organs"].get(organ)
        if entry is None:  # "portal vein and splenic vein"
            entry = {"plural": " and " in organ}
        both = side == Side.BOTH and _paired(organ) and not entry.get("uncounted")
        return not region and (both or bool(entry.get("plural")))

    def knows(self, organ: str) -> bool:
        """Whether the organ has words of its own here; of others the name in the segmentation is said."""
        return organ in self.data["organs"]

    def place(self, subject: Subject) -> str:
        """Where a finding is ("in the right upper lobe"); empty where it is not known, or its own words say it."""
        if subject.kind == Kind.NODE and subject.region and not self._is_part(subject.region):
            station = re.fullmatch(r"station (.+)", subject.region)
            return self.data["words"]["station"].format(name=station[1]) if station else ""
        if not subject.organ or self._finding(subject).get("placed"):
            return self.on_side(subject.side)
        return self.organ(subject.organ, subject.side, "in", subject.region)

    def on_side(self, side: Side) -> str:
        """ "on the left", where the place itself needs no words; empty without a side."""
        text: str = self.data["on_side"].get(side.value, "")
        return text

    # --- findings ---

    def finding(self, subject: Subject, form: str, size: str = "", count: int = 0) -> str:
        """A finding in a form of the declension ("sized", "the_sized", "bare", ...).

        Without a size the form that has none is taken: nothing may be called large that nobody measured.
        """
        if not size:
            form = _WITHOUT_SIZE.get(form, form)
        return self._finding_form(self._finding(subject), form, size, self._adjective(subject), count)

    def finding_named(self, finding: str, form: str, count: int = 0) -> str:
        """The same by the finding's name alone ("no nodule")."""
        return self._finding_form(self._finding_entry(finding), form, "", "", count)

    def is_placed(self, finding: str) -> bool:
        """Whether the finding's own name says where it is ("pleural effusion")."""
        return bool(self._finding_entry(finding).get("placed"))

    def _finding_form(self, entry: Mapping[str, Any], form: str, size: str, adjective: str, count: int) -> str:
        pattern: str = self.data["declension"][entry.get("gender", "")][form]
        following = pattern.format(a="", size=size, adjective=adjective, count=self.count(count), **_forms(entry))
        article = next(word for start, word in self.data["article"].items() if re.search(start, following.lstrip()))
        text = pattern.format(a=article, size=size, adjective=adjective, count=self.count(count), **_forms(entry))
        return text.strip()

    def _finding(self, subject: Subject) -> Mapping[str, Any]:
        return self._finding_entry(subject.finding or "lesion")

    def _finding_entry(self, finding: str) -> Mapping[str, Any]:
        """The noun, or for a finding such as "ground-glass nodule" the noun at its end behind what stands before it."""
        known = self.data["findings"]
        if finding in known:
            entry: Mapping[str, Any] = known[finding]
            return entry
        before, _, last = finding.rpartition(" ")
        if before and last in known and "" in self.data["declension"]:
            base = known[last]
            return {**base, "noun": f"{before} {base['noun']}", "nouns": f"{before} {base['nouns']}"}
        return {"noun": finding, "nouns": f"{finding}s", **self._unknown_gender()}

    def _adjective(self, subject: Subject) -> str:
        """What a lymph node's region adds to its noun ("left para-aortic")."""
        region = subject.region
        if subject.kind != Kind.NODE or not region or region.startswith("station ") or self._is_part(region):
            return ""
        region = self.data["node_regions"].get(region, region)
        side = self.data["sides"].get(subject.side.value, "")
        words = f"{side} {region}" if "" in self.data["declension"] else f"{region} {side}"
        text: str = self.data["words"]["adjective"].format(words=words.strip())
        return text

    def _is_part(self, region: str) -> bool:
        """Whether a region is a part of an organ, and no region of lymph nodes."""
        return region in self.data["regions"] or region.startswith("segment ")

    # --- forms ---

    def _declined(self, entry: Mapping[str, Any], side: Side, case: str) -> str:
        pattern: str = self.data["declension"][entry.get("gender", "")][case][side.value]
        return pattern.format(**_forms(entry))

    def _named_noun(self, key: str, name: str) -> Mapping[str, Any]:
        noun = self.data["words"][key].format(name=name)
        head, of, rest = noun.partition(" of ")  # "deep muscles of back"; other languages have genders and no plural
        nouns = f"{head}s{of}{rest}" if "" in self.data["declension"] and not head.endswith("s") else noun
        return {"noun": noun, "nouns": nouns, **self._unknown_gender(masculine=key == "vertebra")}

    def _unknown_gender(self, masculine: bool = False) -> Mapping[str, Any]:
        genders = self.data["declension"]
        return {"gender": "" if "" in genders else "m" if masculine else "f"}


def language(code: str) -> Language:
    """The language of that code.

    Raises:
        TemplateError: if there is no such language.
    """
    if code not in languages():
        raise TemplateError(f"Reports cannot be written in {code!r}; the languages are {', '.join(languages())}.")
    return languages()[code]


@cache
def languages() -> dict[str, Language]:
    """All languages by code."""
    files = sorted(resource_folder("ReportLanguages").glob("*.json"))
    return {file.stem: Language(file.stem, json.loads(file.read_text(encoding="utf-8"))) for file in files}


def capital(text: str) -> str:
    """The text with its first letter a capital; a text that begins with a number keeps its case."""
    return text[:1].upper() + text[1:]


def _forms(entry: Mapping[str, Any]) -> dict[str, str]:
    nouns = entry.get("nouns", entry["noun"])
    return {
        "noun": entry["noun"],
        "nouns": nouns,
        "gen": entry.get("gen", entry["noun"]),
        "nouns_dat": entry.get("nouns_dat", nouns),
    }


def _paired(organ: str) -> bool:
    # An organ that the anatomy does not list (axilla, rib) has a side only if there are two of it.
    listed = anatomy().organs.get(organ)
    return listed.paired if listed is not None else True
