# SPDX-License-Identifier: Apache-2.0
"""What is found by its form, not by its words: dates, segments, ribs, vertebrae, categories, contrast phrases."""

from __future__ import annotations

import re
from functools import cache

from ..measure.quantities import Dimension
from .amounts import number
from .lexicon import FindingWord, Lexicon, load_data
from .mentions import Measure, Mention, free

_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8}


_FLAGS = {"": 0, "i": re.IGNORECASE}


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, re.compile(text, _FLAGS[flags])) for kind, text, flags in load_data("patterns")["patterns"])


# Lymph node stations of the IASLC map that the lexicon has a place for.
_STATIONS = {
    "2": "upper paratracheal",
    "4": "lower paratracheal",
    "5": "aortopulmonary",
    "7": "subcarinal",
    "8": "paraesophageal",
    "10": "hilum",
}


def patterns(text: str, lex: Lexicon) -> list[Mention]:
    found: list[Mention] = []
    for kind, pattern in _patterns():
        for match in pattern.finditer(text):
            if not free(match.start(), match.end(), [(m.start, m.end) for m in found]):
                continue
            if kind == "MORESEGMENTS" and not any("segment" in str(m.value) for m in found):
                continue
            if kind == "ENUMERATOR":
                found.append(Mention("SKIP", None, match.start(), match.end(), match.group()))
                continue
            found += _pattern_mention(kind, match, lex)
    return found


def _pattern_mention(kind: str, match: re.Match[str], lex: Lexicon) -> list[Mention]:
    span, text = match.span(), match.group()
    if kind in ("SEGMENTS", "MORESEGMENTS"):
        sites = []
        for item in re.findall(r"(viii|vii|vi|iv|v|iii|ii|i|[1-8])([ab]?)\b", match["list"], re.I):
            nth = _ROMAN.get(item[0].lower()) or int(item[0])
            name = f"segment {nth}{item[1].lower()}"
            sites.append("caudate lobe" if nth == 1 else name if name in lex.places else f"segment {nth}")
        return [Mention("SITE", (tuple(sites), ""), *span, text)] if sites else []
    if kind == "RIBFX":
        ribs = tuple(f"rib {n}" for n in _ordinals(match["list"]))
        return [
            Mention("FIND", FindingWord("fracture"), span[0], span[0] + 1, "fractures", True),
            Mention("SITE", (ribs, ""), span[0] + 1, span[1], text),
        ]
    if kind == "RIBS":
        return [Mention("SITE", (tuple(f"rib {n}" for n in _ordinals(match["list"])), ""), *span, text)]
    if kind == "N":
        return [Mention("COUNT", ("=", int(match["list"]), True), *span, text)]
    if kind == "STATION":
        side = {"r": "right", "l": "left"}.get((match["side"] or "").lower(), "")
        return [Mention("SITE", ((_STATIONS[match["list"]],), side), *span, text)]
    if kind == "LEVEL":
        return [Mention("SITE", (f"level {_level(match['list'])}", ""), *span, text)]
    if kind == "VERTEBRA":
        return [Mention("SITE", (match["list"].upper(), ""), *span, text)]
    if kind == "RADS":
        if not match["value"]:
            return [Mention("SYSTEM", None, *span, text)]
        return [
            Mention(
                "RADS", (match["system"].lower().replace("-", ""), match["value"].replace(" ", "").upper()), *span, text
            )
        ]
    if kind in ("WITH", "WITHOUT"):
        return [Mention("TECHNIQUE", f"contrast_{kind.lower()}", *span, text)]
    if kind == "RECIST":
        return [Mention("SYSTEM", "recist", *span, text)]
    if kind == "STRENGTH":
        return [Mention("MEASURE", Measure((number(match["value"])[0],), Dimension.OTHER), *span, text)]
    if kind == "SUB":
        return [
            Mention("CMP", "<", span[0], span[0] + 3, text[:3]),
            Mention("MEASURE", Measure((10.0,), Dimension.LENGTH), span[0] + 3, span[1], text),
        ]
    if kind == "CENTI":
        return [
            Mention("CMP", "~", span[0], span[0] + 1),
            Mention("MEASURE", Measure((10.0,), Dimension.LENGTH), span[0] + 1, span[1], text),
        ]
    return [Mention(kind, text, *span, text)]


def _level(text: str) -> str:
    head = re.match(r"(IV|VI|V|III|II|I|[1-6])", text)
    return str(_ROMAN.get(head.group().lower(), head.group())) if head else text


def _ordinals(text: str) -> list[int]:
    numbers: list[int] = []
    previous_end = 0
    for match in re.finditer(r"\d{1,2}", text):
        link = text[previous_end : match.start()]
        n = int(match.group())
        if numbers and re.search(r"to|-|\u2013|through", link.replace("th", "")):
            numbers += range(numbers[-1] + 1, n)
        numbers.append(n)
        previous_end = match.end()
    return [n for n in numbers if 1 <= n <= 12]
