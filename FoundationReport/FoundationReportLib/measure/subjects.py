# SPDX-License-Identifier: Apache-2.0
"""From a segment's name and coded terms to the subject of facts: which organ or finding it is, on which side, where.

Coded terms win over the name where they say something ("Tissue", 3D Slicer's default, says nothing). A name is taken
apart into words: "Left kidney", "lung_nodule_2", "hypodense lesion segment VI of liver", "LN 4R". What is not known
stays empty; nothing is guessed. Organs, findings and their words are data: `Resources/Terminology/anatomy.json`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from FoundationSegLib.terminology import Terminology, lookup

from ..model import Code, Kind, Side, Subject
from .anatomy import anatomy as anatomy

IMAGE_ID = "image"
VERTEBRA = "vertebra"
IMAGE = Subject(IMAGE_ID, "image", Kind.IMAGE)

_FINDING_CATEGORY = "49755003"
_ANATOMY_CATEGORY = "123037004"
_GENERIC_TYPES = frozenset({"", "85756007", "123037004"})  # nothing, "Tissue", "Anatomical structure"
_SIDE_CODES = {"7771000": Side.LEFT, "24028007": Side.RIGHT, "51440002": Side.BOTH}
_SIDE_WORDS = {
    **dict.fromkeys(("left", "l", "lt"), Side.LEFT),
    **dict.fromkeys(("right", "r", "rt"), Side.RIGHT),
    **dict.fromkeys(("both", "bilateral"), Side.BOTH),
}
# Couinaud: II to IV lie in the left lobe, V to VIII in the right one, I (caudate) in neither.
_LIVER_SIDES = {
    **dict.fromkeys(("II", "III", "IV", "left lobe"), Side.LEFT),
    **dict.fromkeys(("V", "VI", "VII", "VIII", "right lobe"), Side.RIGHT),
}
_LYMPH_NODE = "59441001"
_LOBES = re.compile(r"\b(upper|middle|lower|left|right|caudate|frontal|parietal|temporal|occipital) lobe\b")
_LIVER_LOBE = re.compile(r"\b(left|right) (?:liver|hepatic) lobe\b")
_LUNG_LOBE = re.compile(r"\b(r|l)(ul|ml|ll)\b")
_SEGMENT = re.compile(r"\b(?:segment|seg)\W?((?:[ivx]+|\d)[ab]?)(?: ?/ ?(?:[ivx]+|\d)[ab]?)?\b")
_STATION = re.compile(r"\b(?:station ?)?(1[0-4]|[1-9])([rl])\b")
_ROMAN = {str(n): text for n, text in enumerate(("I", "II", "III", "IV", "V", "VI", "VII", "VIII"), start=1)}
_LONGEST_NAME = 5  # words of the longest structure's name


@dataclass(frozen=True)
class Description:
    """What a name and its coded terms say.

    Attributes:
        kind, organ, side, finding, region, code: as in `Subject`.
        several: the name is a plural ("nodules"), so that its separate parts are findings of their own.
        vertebra: "L2" for a vertebra, else empty.
        part: it is a part of `organ` (a lobe), not the whole of it.
        conflict: a sentence if name and coded terms contradict each other, else empty.
    """

    kind: Kind
    organ: str = ""
    side: Side = Side.NONE
    finding: str = ""
    region: str = ""
    code: Code | None = None
    several: bool = False
    vertebra: str = ""
    part: bool = False
    conflict: str = ""


def describe(name: str, terminology: str | None = None) -> Description:
    """What a segment of this name is. `terminology`: 3D Slicer's serialised entry ("context~category~type~...")."""
    named = _by_name(name)
    coded = _by_entry(terminology or "")
    if coded is None:
        return named
    conflict = ""
    for what, a, b in (("side", coded.side, named.side), ("organ", coded.organ, named.organ)):
        if a and b and a != b:
            conflict = (
                f'The name of segment "{name}" says {what} "{b}" and its coded term says "{a}"; '
                "the coded term was used, so correct whichever is wrong."
            )
    result = replace(coded, region=coded.region or named.region, several=named.several, conflict=conflict)
    if named.finding and named.kind == coded.kind and coded.finding in ("", "lesion"):
        result = replace(result, finding=named.finding)
    if not result.organ:
        # A finding without a coded place: the name may say it.
        result = replace(result, organ=named.organ, side=result.side or named.side)
    return result


def make_subject(
    name: str,
    description: Description,
    *,
    taken: Collection[str] = (),
    segment: str = "",
    tracking_uid: str = "",
    number: int = 0,
) -> Subject:
    """A subject with an id that is not taken ("left-kidney", "lung-nodule-2"); `number` names one of several."""
    shown = f"{name} {number}" if number else name
    return Subject(
        id=unique_id(shown, taken),
        name=shown,
        kind=description.kind,
        organ=description.organ,
        side=description.side,
        finding=description.finding,
        region=description.region,
        segment=segment,
        tracking_uid=tracking_uid,
        code=description.code,
    )


def unique_id(name: str, taken: Collection[str]) -> str:
    """The name in lower-case letters, digits and dashes, with a number behind it if that is taken."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "segment"
    used = {*taken, IMAGE_ID}
    return next(text for n in range(1, len(used) + 2) if (text := plain if n == 1 else f"{plain}-{n}") not in used)


# --- Coded terms -----------------------------------------------------------------------------------------------------


def _by_entry(entry: str) -> Description | None:
    """What the coded terms say; None if they say nothing that is not generic."""
    parts = [(*part.split("^"), "", "", "")[:3] for part in [*entry.split("~"), *[""] * 7]]
    (_, category, _), code, modifier, region, region_modifier = (parts[n] for n in (1, 2, 3, 5, 6))
    if code[1] in _GENERIC_TYPES or code[0] not in ("SCT", ""):
        return None
    term = Code(code[1], "SCT", code[2])
    side = _SIDE_CODES.get(modifier[1], Side.NONE)
    if code[1] == _LYMPH_NODE:
        organ, part, where = _place(region[1], region[2])
        return Description(Kind.NODE, organ, side, "lymph node", part or where, term)
    if category == _FINDING_CATEGORY:
        organ, part, own_side = _place(region[1], region[2])
        side = _SIDE_CODES.get(region_modifier[1], Side.NONE) or side or own_side
        finding = anatomy().finding_codes.get(code[1], code[2].lower())
        return Description(_finding_kind(finding), organ, side, finding, part, term)
    if category == _ANATOMY_CATEGORY:
        if vertebra := anatomy().vertebra_codes.get(code[1], ""):
            return Description(Kind.ORGAN, VERTEBRA, side, "", vertebra, term, vertebra=vertebra)
        organ, part, own_side = _place(code[1], code[2])
        return Description(Kind.ORGAN, organ, side or own_side, "", part, term, part=bool(part))
    return Description(Kind.OTHER, code[2].lower(), side, "", "", term)


def _place(code: str, meaning: str) -> tuple[str, str, Side]:
    """Organ, part and side of a code; of one that the data do not list, its own meaning."""
    return anatomy().places.get(code, (meaning.lower(), "", Side.NONE))


def _finding_kind(finding: str) -> Kind:
    """Effusions and their like are OTHER: they have no diameter that anybody reports."""
    listed = anatomy().findings.get(finding)
    return Kind.OTHER if listed is not None and listed.diffuse else Kind.LESION


# --- Names -----------------------------------------------------------------------------------------------------------


def _by_name(name: str) -> Description:
    if (term := lookup(name)) is not None and (exact := _by_entry(term.entry)) is not None:
        return replace(exact, several=_is_plural(_tokens(name)), region=exact.region or _region(_text(name)))
    tokens = _tokens(name)
    text = _text(name)
    finding, used = _finding(tokens)
    node = finding == "lymph node"
    region = _node_region(text) if node else _region(text)
    rest = [token for token in tokens if token not in used]
    side = next((_SIDE_WORDS[token] for token in rest if token in _SIDE_WORDS), Side.NONE)
    term = _longest_structure(rest)
    place = _by_entry(term.entry) if term is not None else None
    if place is None or place.kind != Kind.ORGAN:
        place = _by_adjective(rest)
    if place is None and (lobe := _LUNG_LOBE.search(text)):
        place = replace(_by_name("lung"), side=Side.RIGHT if lobe[1] == "r" else Side.LEFT)
    if not finding and place is None:
        return Description(Kind.OTHER, side=side)
    organ = place.organ if place is not None else ""
    if not finding and place is not None:
        return replace(place, region=place.region or region, side=place.side or _own_side(organ, side))
    place_side = place.side if place is not None else Side.NONE
    if node and (station := _STATION.search(text)):
        place_side = place_side or (Side.RIGHT if station[2] == "r" else Side.LEFT)
    code = lookup(finding)
    return Description(
        kind=Kind.NODE if node else _finding_kind(finding),
        organ=organ,
        side=place_side or _own_side(organ, side, region),
        finding=finding,
        region=region or (place.region if place is not None else ""),
        code=Code(code.type.value, "SCT", code.type.meaning) if code is not None else None,
        several=_is_plural(tokens),
    )


def _own_side(organ: str, side: Side, region: str = "") -> Side:
    """A side said of an organ that has none is that of a part of it; of the liver the lobe's, by its segments."""
    if organ == "liver" and region:
        return _LIVER_SIDES.get(region.removeprefix("segment ").rstrip("ABab"), Side.NONE)
    listed = anatomy().organs.get(organ)
    return Side.NONE if listed is not None and not listed.paired and listed.region != "head" else side


def _text(name: str) -> str:
    """The name in lower case with single spaces; "LungNodule2" and "lung_nodule_2" become "lung nodule 2"."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[a-z]{3})(?=\d)", " ", name)
    return " ".join(re.findall(r"[a-z0-9/]+", spaced.lower()))


def _tokens(name: str) -> list[str]:
    return [token for token in _text(name).split() if not token.isdigit()]


def _finding(tokens: list[str]) -> tuple[str, set[str]]:
    """The finding that some of the words name, the specific before the general one, and the words used for it."""
    data = anatomy()
    phrase = f" {' '.join(tokens)} "
    for words in data.node_words:
        if f" {words} " in phrase:
            return "lymph node", set(words.split())
    found = {data.finding_words[token]: token for token in reversed(tokens) if token in data.finding_words}
    for finding in data.findings:
        if finding in found and (finding != "lesion" or len(found) == 1):
            return finding, set(found.values())
    return "", set()


def _longest_structure(tokens: list[str]) -> Terminology | None:
    """The structure that the most consecutive words name, with a side if one stands anywhere among them."""
    plain = [token for token in tokens if token not in _SIDE_WORDS]
    sides = [token for token in tokens if token in _SIDE_WORDS]
    for length in range(min(_LONGEST_NAME, len(plain)), 0, -1):
        for start in range(len(plain) - length + 1):
            words = " ".join(plain[start : start + length])
            for attempt in (f"{sides[0]} {words}" if sides else words, words):
                if (term := lookup(attempt)) is None or term.category.value != _ANATOMY_CATEGORY:
                    continue
                # A bare "T1" beside a finding may be an MR weighting as well.
                if term.type.value not in anatomy().vertebra_codes or length > 1:
                    return term
    return None


def _by_adjective(tokens: list[str]) -> Description | None:
    """ "renal", "hepatic": the organ whose adjective is among the words."""
    for organ in anatomy().organs.values():
        if any(word in tokens for word in organ.words):
            return Description(Kind.ORGAN, organ.name, Side.NONE, "", "", organ.code)
    return None


def _is_plural(tokens: list[str]) -> bool:
    """Whether one of the words is a finding in the plural ("nodules", "metastases", "mets", "nodes")."""
    data = anatomy()
    plurals = {"mets", "nodes", "lns", "metastases", "abscesses", "masses", "emboli", "calculi"}
    known = {*data.finding_words, *data.node_words}
    return any(token in plurals or (token in known and token.removesuffix("s") in known - {token}) for token in tokens)


def _region(text: str) -> str:
    """A lobe or a segment that the name states ("upper lobe", "segment VI")."""
    if lobe := _LOBES.search(text):
        return lobe[0]
    if lobe := _LIVER_LOBE.search(text):
        return f"{lobe[1]} lobe"
    if lobe := _LUNG_LOBE.search(text):
        return {"ul": "upper lobe", "ml": "middle lobe", "ll": "lower lobe"}[lobe[2]]
    if segment := _SEGMENT.search(text):
        number = segment[1]
        return f"segment {_ROMAN.get(number, number.upper())}"
    return ""


def _node_region(text: str) -> str:
    """ "mediastinal", "axillary", or the station ("station 4R"), as the name states it."""
    if station := _STATION.search(text):
        return f"station {station[0].removeprefix('station').strip().upper()}"
    if number := re.search(r"\bstation (1[0-4]|[1-9])\b", text):
        return f"station {number[1]}"
    return next((region for region in anatomy().node_regions if region in text), "")
