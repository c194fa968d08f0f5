# SPDX-License-Identifier: Apache-2.0
"""Numbers with their units: lengths, axes, volumes, HU, SUV, percentages, ranges and lists of them."""

from __future__ import annotations

import re

from ..measure.quantities import UNITS
from .mentions import Measure, Mention, free

_UNIT_WORDS: dict[str, str] = {}


for _unit in UNITS.values():
    for _spelling in (_unit.ucum, _unit.display, *_unit.spellings):
        if _spelling and _unit.ucum not in ("m", "L", "T", "1", "a", "g/mL{SUVbw}", "Bq/mL", "d"):
            _UNIT_WORDS[_spelling.lower()] = _unit.ucum


_UNIT_WORDS |= {
    "hu": "[hnsf'U]",
    "mm": "mm",
    "cm": "cm",
    "cm³": "cm3",
    "mm²": "mm2",
    "cm²": "cm2",
    "mm³": "mm3",
    "litres": "L",
    "liters": "L",
    "litre": "L",
    "liter": "L",
    "l": "L",
    "days": "d",
    "day": "d",
    "weeks": "wk",
    "wks": "wk",
    "months": "mo",
    "mos": "mo",
    "years": "a",
    "year": "a",
    "yr": "a",
    "yrs": "a",
    "tesla": "T",
    "t": "T",
    "hounsfield": "[hnsf'U]",
    "percent": "%",
    "%": "%",
    "per cent": "%",
    "kvp": "kV",
    "µm": "um",
    "mls": "mL",
    "g": "g{SUVbw}",
    "ccs": "cm3",
}


_UNIT = "|".join(re.escape(u) for u in sorted(_UNIT_WORDS, key=len, reverse=True))


_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?"


def _one(n: int) -> str:
    return rf"(?P<n{n}>{_NUMBER})(?:\s*-?\s*(?P<u{n}>(?:{_UNIT})(?![\w³²])))?"


_MEASURE = re.compile(
    r"(?P<sign>(?<![\w.%)])[+\-\u2212\u2013±](?=\d))?(?<![\w.])"
    + _one(1)
    + r"(?:\s*(?:[x\u00d7*]|by|/(?=\s*\d+(?:[.,]\d+)?\s*mm))\s*"
    + _one(2)
    + r")?(?:\s*(?:[x\u00d7*]|by)\s*"
    + _one(3)
    + r")?",
    re.IGNORECASE,
)


_LINK = re.compile(r"\s*(?:to|-|\u2013|\u2014|through|→|->)\s*", re.IGNORECASE)


_SHARE = re.compile(r"\s*(?:,|,?\s*and|or|vs\.?|versus|/|&|respectively)\s*", re.IGNORECASE)


def number(text: str) -> tuple[float, int]:
    """The value and the decimals written. A comma before one or two digits is a decimal comma."""
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    text = text.replace(",", ".")
    return float(text), len(text.partition(".")[2])


def measures(text: str, taken: list[tuple[int, int]]) -> list[Mention]:
    found: list[Mention] = []
    for match in _MEASURE.finditer(text):
        start, end = match.span()
        if not free(start, end, taken):
            continue
        values, units, decimals = [], [], 0
        for n in ("1", "2", "3"):
            if match[f"n{n}"]:
                value, digits = number(match[f"n{n}"])
                values.append(value)
                decimals = max(decimals, digits)
                units.append(match[f"u{n}"])
        unit = next((u for u in reversed(units) if u), None)
        sign = match["sign"]
        if sign in ("-", "\u2212", "\u2013"):
            values[0] = -values[0]
        found.append(_measure_mention(tuple(values), unit, sign is not None, decimals, start, end, text, units))
    return _joined(found, text)


def _measure_mention(
    values: tuple[float, ...],
    unit: str | None,
    signed: bool,
    decimals: int,
    start: int,
    end: int,
    text: str,
    units: list[str | None] | None = None,
) -> Mention:
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
                    a = Measure(
                        tuple(v * b.factor for v in a.values), b.dimension, a.to, a.signed, a.decimals, b.factor
                    )
                if (
                    _LINK.fullmatch(between)
                    and len(a.values) == 1
                    and len(b.values) == 1
                    and b.to is None
                    and not b.signed
                ):
                    out[-1] = Mention(
                        "MEASURE",
                        Measure(a.values, a.dimension, b.values[0], False, max(a.decimals, b.decimals), b.factor),
                        mention.start,
                        following.end,
                        text[mention.start : following.end],
                    )
                    continue
                mention = Mention("MEASURE", a, mention.start, mention.end, mention.text)
        out.append(mention)
    return out[::-1]
