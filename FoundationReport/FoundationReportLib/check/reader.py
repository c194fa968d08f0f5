# SPDX-License-Identifier: Apache-2.0
"""A sentence as a row of mentions: numbers with units, places, sides, findings, negations, words of change, the rest.

What no rule and no word of the lexicon covers becomes an UNKNOWN mention; a sentence with one is never "supported".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..measure.quantities import UNITS, Dimension
from .lexicon import Entry, FindingWord, Lexicon

# If a phrase has several readings, the first of these that it has is meant.
PRIORITY = (
    "NAME QUOTE NOPRIOR NEGAFTER COVERAGE NORMALSIZE NORMAL CATEGORY TECHNIQUE PHASE AVID DENSITY SUMMARY FACTOR CHANGE NEG FIND SITE "
    "CONJ DET FROM EXCEPT THAN COMPARATIVE RESPECTIVELY SIDE SELECT COUNT QUANTITY ENLARGED SMALL UPTO CMP RELATION COMPARE PRIOR NOW "
    "SEVERITY NOT RECOMMEND HEDGE REMAINS MODALITY UPTAKE BY SYSTEM STUDY HEADER PRONOUN TERM NEUTRAL"
).split()
_RANK = {kind: n for n, kind in enumerate(PRIORITY)}


@dataclass(frozen=True)
class Measure:
    """A number or some, in the base unit of its dimension (mm, mm2, mL, HU, SUV, %, days).

    Attributes:
        values: one, or two or three of "14 x 9 x 8 mm".
        dimension: None if no unit is written.
        to: the other end of "6 to 8 mm"; None otherwise.
        signed: written with a sign.
        decimals: digits after the point as written.
    """

    values: tuple[float, ...]
    dimension: Dimension | None
    to: float | None = None
    signed: bool = False
    decimals: int = 0
    factor: float = 1.0
    ordinal: bool = False


@dataclass(frozen=True)
class Mention:
    """Something a sentence names, with its place in the text (characters)."""

    kind: str
    value: Any
    start: int
    end: int
    text: str = ""
    plural: bool = False
    others: tuple[Entry, ...] = ()


_UNIT_WORDS: dict[str, str] = {}
for _unit in UNITS.values():
    for _spelling in (_unit.ucum, _unit.display, *_unit.spellings):
        if _spelling and _unit.ucum not in ("m", "L", "T", "1", "a", "g/mL{SUVbw}", "Bq/mL", "d"):
            _UNIT_WORDS[_spelling.lower()] = _unit.ucum
_UNIT_WORDS |= {
    "hu": "[hnsf'U]", "mm": "mm", "cm": "cm", "cm³": "cm3", "mm²": "mm2", "cm²": "cm2", "mm³": "mm3", "litres": "L",
    "liters": "L", "litre": "L", "liter": "L", "l": "L", "days": "d", "day": "d", "weeks": "wk", "wks": "wk", "months": "mo",
    "mos": "mo", "years": "a", "yrs": "a", "tesla": "T", "t": "T", "hounsfield": "[hnsf'U]", "percent": "%", "%": "%",
    "per cent": "%", "kvp": "kV", "µm": "um", "mls": "mL", "g": "g{SUVbw}", "ccs": "cm3",
}  # fmt: skip
_UNIT = "|".join(re.escape(u) for u in sorted(_UNIT_WORDS, key=len, reverse=True))
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?"
def _one(n: int) -> str:
    return rf"(?P<n{n}>{_NUMBER})(?:\s*-?\s*(?P<u{n}>(?:{_UNIT})(?![\w³²])))?"



_MEASURE = re.compile(
    r"(?P<sign>(?<![\w.%)])[+\-−–±](?=\d))?(?<![\w.])"
    + _one(1)
    + r"(?:\s*(?:[x×*]|by|/(?=\s*\d+(?:[.,]\d+)?\s*mm))\s*"
    + _one(2)
    + r")?(?:\s*(?:[x×*]|by)\s*"
    + _one(3)
    + r")?",
    re.IGNORECASE,
)
_LINK = re.compile(r"\s*(?:to|-|–|—|through|→|->)\s*", re.IGNORECASE)
_SHARE = re.compile(r"\s*(?:,|,?\s*and|or|vs\.?|versus|/|&|respectively)\s*", re.IGNORECASE)

_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8}
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_ORDINALS = r"\d{1,2}(?:st|nd|rd|th)?"
_ORDINAL_LIST = rf"{_ORDINALS}(?:\s*(?:,|,?\s*and|to|-|–|through|&)\s*{_ORDINALS})*"
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("DATE", re.compile(r"\b\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b|\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[./]\d{4}\b")),
    ("DATE", re.compile(rf"\b(?:\d{{1,2}}\.?\s+)?(?:{_MONTHS})[a-z]*\.?\s+(?:\d{{1,2}},?\s+)?\d{{4}}\b", re.I)),
    ("SLICE", re.compile(r"\b(?:series|se|image|img|im|slice)\.?\s*#?\s*\d+(?:\s*[/,]\s*(?:(?:image|img|im|slice)\.?\s*)?\d+)?", re.I)),
    ("RADS", re.compile(
        r"\b(?P<system>lung|li|pi|bi|ti|o|c|nodule)[- ]?rads®?(?:\s*v?(?:ersion)?\.?\s*\d{4})?(?:\s*(?:category|score|class|assessment|suggested))*\s*(?:of|is|:|=|-)?\s*"
        r"(?P<value>[0-6]\s?[A-CXMSabcxs]?\b)?", re.I)),
    ("RADS", re.compile(r"\bcategory\s+(?P<value>[0-6][A-CX]?)\b(?P<system>)")),
    ("RADS", re.compile(r"\b(?P<system>deauville|bosniak|fleischner|pi-?rads)(?:\s*(?:score|category|class|grade|criteria|type|ds|5ps))*\s*(?:of|is|:|=)?\s*(?P<value>[1-6]|IV|I{1,3}F?)?(?![\w%]|\.\d)", re.I)),
    ("SEGMENTS", re.compile(
        r"\b(?:hepatic\s+|liver\s+)?(?:segments?|segs?\.?|couinaud(?:\s+segment)?)\s*(?P<list>(?:viii|vii|vi|iv|v|iii|ii|i|[1-8])[ab]?(?:\s*(?:/|,|,?\s*and|&|-)\s*(?:viii|vii|vi|iv|v|iii|ii|i|[1-8])[ab]?\b(?!\s*(?:x|×|mm|cm|ml|%|\.\d)))*)(?![\w])", re.I)),
    ("SEGMENTS", re.compile(r"\bS(?P<list>[1-8][ab]?)\b")),
    ("MORESEGMENTS", re.compile(r"(?<=[ ,(/])(?P<list>VIII|VII|VI|IV[ab]|IV(?! contrast)|III|II)(?=[ ,.;)]|$)")),
    ("RIBS", re.compile(rf"\b(?P<list>{_ORDINAL_LIST})\s+ribs?\b", re.I)),
    ("RIBS", re.compile(rf"\bribs?\s+(?:nos?\.?\s*)?(?P<list>{_ORDINAL_LIST})(?!\s*(?:mm|cm|ml|%))", re.I)),
    ("RIBFX", re.compile(rf"\bribs?\s+fractures?\s+(?P<list>{_ORDINAL_LIST})(?!\s*(?:mm|cm|ml|%))", re.I)),
    ("STATION", re.compile(r"\bstations?\s+(?P<list>2|4|5|7|8|10)(?P<side>[RL])?\b", re.I)),
    ("LEVEL", re.compile(r"\blevels?\s+(?P<list>(?:IV|V|III|II|I|VI)[AB]?|[1-6][ab]?)\b")),
    ("VERTEBRA", re.compile(r"\b(?P<list>(?:C[1-7]|T[3-9]|T1[0-2]|(?:(?<=level )|(?<=at )|(?<=vertebra )|(?<=body ))T[12]|L[1-5])(?:\s*[-/–]\s*[CTLS]?\d{1,2})?)\b")),
    ("ENUMERATOR", re.compile(r"^\s*(?:\d{1,2}[.)]|[-•*·–])\s+")),
    ("RECIST", re.compile(r"\b(?:i?recist)(?:\s*(?:version|v\.?)?\s*1[.,]1)?", re.I)),
    ("RIBS", re.compile(rf"(?<=\()\s*(?P<list>\d{{1,2}}(?:st|nd|rd|th)(?:\s*(?:,|,?\s*and|to|-|–|through|&)\s*\d{{1,2}}(?:st|nd|rd|th)?)*)", re.I)),
    ("NOPRIOR", re.compile(r"\bcomparisons?\s*:?\s*(?:none|not available|n/?a|no\b[^.;,]*|nil)\b", re.I)),
    ("WITH", re.compile(
        r"\b(?:after|following|with|post|upon)\s+(?:the\s+)?(?:(?:intravenous|i\.?v\.?)\s+)?(?:(?:administration|injection|application)\s+of\s+)?(?:(?:intravenous|i\.?v\.?|iodinated|gadolinium[- ]based)\s+)*"
        r"(?:contrast|gadolinium)(?:\s+(?:medium|agent|material|media|dye))?(?:\s+(?:administration|injection|application))?\b", re.I)),
    ("WITHOUT", re.compile(
        r"\b(?:without|no|lack\s+of|absence\s+of)\s+(?:the\s+)?(?:(?:administration|injection|use|application)\s+of\s+)?(?:(?:intravenous|i\.?v\.?|iodinated)\s+)*"
        r"(?:contrast|gadolinium)(?:\s+(?:medium|agent|material|media|dye))?(?!-)(?:\s+(?:administration|injection|enhancement(?=\s*(?:$|[.,;]\s*(?:$|slice|ct)))))?\b(?!\s*(?:enhanc|uptake))", re.I)),
    ("STRENGTH", re.compile(r"\b(?P<value>[137](?:[.,]\d)?)\s*T(?:esla)?\b")),
    ("SUB", re.compile(r"\bsub-?(?P<unit>cm|centimet(?:er|re)(?:s)?|centimetric)\b", re.I)),
    ("CENTI", re.compile(r"\b(?<!sub)(?:centimetric|a centimet(?:er|re))\b", re.I)),
)  # fmt: skip


# Lymph node stations of the IASLC map that the lexicon has a place for.
_STATIONS = {
    "2": "upper paratracheal",
    "4": "lower paratracheal",
    "5": "aortopulmonary",
    "7": "subcarinal",
    "8": "paraesophageal",
    "10": "hilum",
}


def _number(text: str) -> tuple[float, int]:
    """The value and the decimals written. A comma before one or two digits is a decimal comma."""
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    text = text.replace(",", ".")
    return float(text), len(text.partition(".")[2])


def read(text: str, lex: Lexicon, names: Mapping[tuple[str, ...], list[Entry]] | None = None) -> list[Mention]:
    """The mentions of a sentence in their order. `names`: more phrases than the lexicon has, of these facts."""
    for pattern, written_out in lex.rewrite:
        text = pattern.sub(written_out, text)
    fixed = _patterns(text, lex)
    names = names or {}
    fixed += _numbered(text, names, [(m.start, m.end) for m in fixed], lex)
    taken = [(m.start, m.end) for m in fixed]
    measures = _measures(text, taken)
    fixed += measures
    taken += [(m.start, m.end) for m in measures]
    mentions = fixed + _words(text, taken, lex, names)
    mentions.sort(key=lambda m: (m.start, m.end))
    return mentions


_NUMBERED = re.compile(r"\b(?:[A-Za-z-]+\s+){1,3}#?\d{1,2}\b(?!\s*(?:[x×.,]\s*\d|mm|cm|ml|hu|%))", re.I)


def _numbered(
    text: str, names: Mapping[tuple[str, ...], list[Entry]], taken: list[tuple[int, int]], lex: Lexicon
) -> list[Mention]:
    """Names of subjects that end with a number ("Target lesion 2")."""
    found: list[Mention] = []
    for match in _NUMBERED.finditer(text):
        words = list(re.finditer(r"[A-Za-z-]+|\d+", match.group()))
        for first in range(len(words) - 1):
            start, end = match.start() + words[first].start(), match.end()
            key = lex.key(text[start:end].replace("#", ""))
            if key in names and _free(start, end, taken):
                entry = names[key][0]
                found.append(Mention(entry.kind, entry.value, start, end, text[start:end]))
                break
    return found


def _free(start: int, end: int, taken: Iterable[tuple[int, int]]) -> bool:
    return all(end <= a or start >= b for a, b in taken)


def _patterns(text: str, lex: Lexicon) -> list[Mention]:
    found: list[Mention] = []
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            if not _free(match.start(), match.end(), [(m.start, m.end) for m in found]):
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
            number = _ROMAN.get(item[0].lower()) or int(item[0])
            name = f"segment {number}{item[1].lower()}"
            sites.append("caudate lobe" if number == 1 else name if name in lex.places else f"segment {number}")
        return [Mention("SITE", (tuple(sites), ""), *span, text)] if sites else []
    if kind == "RIBFX":
        ribs = tuple(f"rib {n}" for n in _ordinals(match["list"]))
        return [
            Mention("FIND", FindingWord("fracture"), span[0], span[0] + 1, "fractures", True),
            Mention("SITE", (ribs, ""), span[0] + 1, span[1], text),
        ]
    if kind == "RIBS":
        return [Mention("SITE", (tuple(f"rib {n}" for n in _ordinals(match["list"])), ""), *span, text)]
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
        return [Mention("RADS", (match["system"].lower().replace("-", ""), match["value"].replace(" ", "").upper()), *span, text)]
    if kind in ("WITH", "WITHOUT"):
        return [Mention("TECHNIQUE", f"contrast_{kind.lower()}", *span, text)]
    if kind == "RECIST":
        return [Mention("SYSTEM", "recist", *span, text)]
    if kind == "STRENGTH":
        return [Mention("MEASURE", Measure((_number(match["value"])[0],), Dimension.OTHER), *span, text)]
    if kind == "SUB":
        return [
            Mention("CMP", "<", span[0], span[0] + 3, text[:3]),
            Mention("MEASURE", Measure((10.0,), Dimension.LENGTH), span[0] + 3, span[1], text),
        ]
    if kind == "CENTI":
        return [Mention("CMP", "~", span[0], span[0] + 1), Mention("MEASURE", Measure((10.0,), Dimension.LENGTH), span[0] + 1, span[1], text)]
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
        if numbers and re.search(r"to|-|–|through", link.replace("th", "")):
            numbers += range(numbers[-1] + 1, n)
        numbers.append(n)
        previous_end = match.end()
    return [n for n in numbers if 1 <= n <= 12]


def _measures(text: str, taken: list[tuple[int, int]]) -> list[Mention]:
    found: list[Mention] = []
    for match in _MEASURE.finditer(text):
        start, end = match.span()
        if not _free(start, end, taken):
            continue
        values, units, decimals = [], [], 0
        for n in ("1", "2", "3"):
            if match[f"n{n}"]:
                value, digits = _number(match[f"n{n}"])
                values.append(value)
                decimals = max(decimals, digits)
                units.append(match[f"u{n}"])
        unit = next((u for u in reversed(units) if u), None)
        sign = match["sign"]
        if sign in ("-", "−", "–") and len(values) == 1 and (unit or "").lower() != "%" and unit and "hu" not in unit.lower():
            pass  # "-4 mm" as a change keeps its sign too
        if sign in ("-", "−", "–"):
            values[0] = -values[0]
        found.append(_measure_mention(tuple(values), unit, sign is not None, decimals, start, end, text, units))
    return _joined(found, text)


def _measure_mention(
    values: tuple[float, ...], unit: str | None, signed: bool, decimals: int, start: int, end: int, text: str,
    units: list[str | None] | None = None,
) -> Mention:  # fmt: skip
    if unit is None:
        return Mention("MEASURE", Measure(values, None, None, signed, decimals), start, end, text[start:end])
    known = UNITS.get(_UNIT_WORDS[unit.lower()])
    if known is None:
        return Mention("UNKNOWN", text[start:end], start, end, text[start:end])
    factors = [known.factor] * len(values)
    for n, own in enumerate(units or []):
        other = UNITS.get(_UNIT_WORDS[own.lower()]) if own else None
        if other is not None and other.dimension == known.dimension:
            factors[n] = other.factor
    scaled = tuple(value * factor for value, factor in zip(values, factors, strict=True))
    return Mention(
        "MEASURE", Measure(scaled, known.dimension, None, signed, decimals, known.factor), start, end, text[start:end]
    )


def _joined(found: list[Mention], text: str) -> list[Mention]:
    """Ranges become one mention; a number without a unit takes that of the next of its list."""
    out: list[Mention] = []
    for mention in reversed(found):
        if out and mention.kind == "MEASURE" and out[-1].kind == "MEASURE":
            following = out[-1]
            between = text[mention.end : following.start]
            a, b = mention.value, following.value
            same = a.dimension is None or b.dimension is None or a.dimension == b.dimension
            if same and (_LINK.fullmatch(between) or _SHARE.fullmatch(between)):
                if a.dimension is None and b.dimension is not None:
                    a = Measure(tuple(v * b.factor for v in a.values), b.dimension, a.to, a.signed, a.decimals, b.factor)
                if _LINK.fullmatch(between) and len(a.values) == 1 and len(b.values) == 1 and b.to is None and not b.signed:
                    out[-1] = Mention(
                        "MEASURE",
                        Measure(a.values, a.dimension, b.values[0], False, max(a.decimals, b.decimals), b.factor),
                        mention.start, following.end, text[mention.start : following.end],
                    )  # fmt: skip
                    continue
                mention = Mention("MEASURE", a, mention.start, mention.end, mention.text)
        out.append(mention)
    return out[::-1]


_TOKEN = re.compile(r"\d+(?:st|nd|rd|th)\b|[A-Za-zäöüßéµ]+(?:/[A-Za-z]{1,3}\b)?(?:\.[A-Za-z]\b\.?)*\d*|'\w+|\d+|\[|\]|[^\s\w]")


@dataclass(frozen=True)
class _Token:
    text: str
    norm: tuple[str, ...]
    start: int
    end: int


def _words(text: str, taken: list[tuple[int, int]], lex: Lexicon, names: Mapping[tuple[str, ...], list[Entry]]) -> list[Mention]:
    runs: list[list[_Token]] = [[]]
    for match in _TOKEN.finditer(text):
        if not _free(match.start(), match.end(), taken):
            runs.append([])
            continue
        for token in _split(match, lex):
            if token.text == "-" and _inside_word(text, token):
                continue
            runs[-1].append(token)
    out: list[Mention] = []
    for run in runs:
        n = 0
        while n < len(run):
            if run[n].text.lower() == "free" and text[run[n].start - 1 : run[n].start] == "-":
                out.append(Mention("NEGAFTER", None, run[n].start, run[n].end, "free"))  # "stone-free"
                n += 1
                continue
            mention, used = _match(run, n, lex, names)
            if mention is not None:
                out.append(mention)
            n += used
    return out


def _split(match: re.Match[str], lex: Lexicon) -> list[_Token]:
    word = match.group()
    if "/" in word and word.lower() not in ("w/o", "c/w", "pet/ct", "s/p", "w/"):
        parts, at = [], match.start()
        for part in re.split(r"(/)", word):
            if part:
                parts.append(_Token(part, lex.key(part) or (part,), at, at + len(part)))
            at += len(part)
        return parts
    return [_Token(word, lex.key(word) or (word.lower(),), *match.span())]


def _inside_word(text: str, token: _Token) -> bool:
    return 0 < token.start and token.end < len(text) and not text[token.start - 1].isspace() and not text[token.end].isspace()


def _match(run: list[_Token], n: int, lex: Lexicon, names: Mapping[tuple[str, ...], list[Entry]]) -> tuple[Mention | None, int]:
    token = run[n]
    entries = lex.exact.get(token.text)
    first = token.norm[0]
    longest = max(lex.longest.get(first, 0), max((len(k) for k in names if k[0] == first), default=0))
    words: list[str] = []
    ends: list[int] = []  # how many words after so many tokens
    for other in run[n : n + longest + 1]:
        words += other.norm
        ends.append(len(words))
    for used in range(len(ends), 0, -1):
        key = tuple(words[: ends[used - 1]])
        if key in names:
            return _mention(names[key], run[n : n + used]), used
        if used == 1 and entries:
            break
        if key in lex.phrases:
            return _mention(lex.phrases[key], run[n : n + used]), used
    if entries:
        return _mention(entries, [token]), 1
    if re.fullmatch(r"[^\w\s]", token.text):
        kind = "SEP" if token.text in ",;:()/–—-[]|" else "SKIP"
        return Mention(kind, token.text, token.start, token.end, token.text), 1
    return Mention("UNKNOWN", token.text, token.start, token.end, token.text), 1


def _mention(entries: list[Entry], tokens: list[_Token]) -> Mention:
    ranked = sorted(entries, key=lambda e: _RANK.get(e.kind, len(PRIORITY)))
    last = tokens[-1]
    plural = last.text.lower().endswith(("s", "i", "ae", "ses")) and last.norm[-1] != last.text.lower()
    text = " ".join(t.text for t in tokens)
    return Mention(ranked[0].kind, ranked[0].value, tokens[0].start, last.end, text, plural, tuple(ranked[1:]))
