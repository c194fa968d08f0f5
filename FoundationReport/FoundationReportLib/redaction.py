# SPDX-License-Identifier: Apache-2.0
"""Takes out of free text what identifies a person, before a model or a report sees it.

It follows the list of identifiers of the HIPAA safe harbour method (45 CFR 164.514(b)(2)): names, contacts, addresses
below the state, dates other than the year, numbers of records, ages over 89. Patterns find much and not all: names that
stand alone are found only where the caller knows them. When in doubt it takes out too much.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?|januar|februar|märz|mai|juni|juli|oktober|dezember)\.?"
)
_NAME_WORD = r"[A-ZÀ-Þ][\w'\u2019-]+"
_NEXT_WORD = rf"(?:{_NAME_WORD}|[A-Z]\b\.?)"
_TITLE = r"(?:dr|prof|mr|mrs|ms|miss|herr|frau)\.?"
_NAMED = r"(?:patient(?:'s)? name|name|referring physician|radiologist|reported by|signed by|surgeon)"

_YEAR, _DATED = r"((?:19|20)\d\d)", "[date in {}]"
_CLOCK = r"(?:[T ]\d\d?:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?)?"

# Kind, pattern, what stays. The order matters: what is more special comes first.
_RULES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("contact", re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "[contact]"),
    ("contact", re.compile(r"\b(?:https?://|www\.)\S+", re.I), "[contact]"),
    ("name", re.compile(r"\b\w+(?:\^\w+)+\b"), "[name]"),  # DICOM's person names
    ("name", re.compile(rf"\b(?i:{_NAMED})\s*[:=]\s*{_NAME_WORD}(?:[ ,]+{_NEXT_WORD}){{0,3}}"), "[name]"),
    ("name", re.compile(rf"\b(?i:{_TITLE}(?:\s+{_TITLE})*)\s+{_NAME_WORD}(?:[ -]+{_NAME_WORD}){{0,2}}"), "[name]"),
    (
        "number",
        re.compile(
            r"\b(?:mrn|pid|ssn|nhs|accession|acc\.?|patient\s*(?:id|no|number)|case\s*(?:id|no|number)|record)"
            r"\s*(?:no\.?|number|#|nr\.?)?\s*[:#=]?\s*[A-Z]{0,4}-?\d[\w-]*",
            re.I,
        ),
        "[number]",
    ),
    ("number", re.compile(r"\b\d{3}-\d{2}-\d{4}\b"), "[number]"),
    ("date", re.compile(rf"\b{_YEAR}-\d\d?-\d\d?{_CLOCK}"), _DATED),
    ("date", re.compile(rf"\b\d{{1,2}}[./-]\d{{1,2}}[./-]{_YEAR}\b"), _DATED),
    ("date", re.compile(r"\b\d{1,2}[./]\d{1,2}[./]\d\d\b"), "[date]"),
    ("date", re.compile(rf"\b\d{{1,2}}(?:st|nd|rd|th|\.)?\s+(?:of\s+)?{_MONTH},?\s+{_YEAR}\b", re.I), _DATED),
    ("date", re.compile(rf"\b{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+{_YEAR}\b", re.I), _DATED),
    ("date", re.compile(rf"\b{_MONTH}\s+{_YEAR}\b", re.I), _DATED),
    ("age", re.compile(r"\b(?:9\d|1[0-2]\d)(?=[- ]?(?:years?|yrs?|y/?o|year-old|jahre|jährig))", re.I), "over 89"),
    (
        "address",
        re.compile(
            r"\b\d{1,5}\s+(?:[A-Z][\w'-]+\s+){1,3}(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Boulevard|Blvd|Court)\b\.?"
        ),
        "[address]",
    ),
    ("address", re.compile(r"\b[A-ZÄÖÜ][\wäöüß]+(?:straße|strasse|weg|platz|allee)\s+\d{1,4}[a-z]?\b"), "[address]"),
    ("contact", re.compile(r"(?<![\w.])(?:\+\d{1,3}[ -]?)?\(?\d{2,4}\)?[ -]\d{3,4}[ -]\d{3,5}(?![\w.])"), "[contact]"),
    ("number", re.compile(r"(?<![\w.])\d{7,}(?![\w.])"), "[number]"),
)  # fmt: skip


_ADDRESSES = 2  # the first rules: e-mail and web


@dataclass(frozen=True)
class Redaction:
    """A text without identifiers, and how many of which kind were taken out; never which."""

    text: str
    kinds: Counter[str]


def redact(text: str, known: Iterable[str] = ()) -> Redaction:
    """The text without identifiers. `known` are names and numbers that are known to be the person's, or staff's."""
    kinds: Counter[str] = Counter()
    text = _without(text, _RULES[:_ADDRESSES], kinds)  # whole, before a name in one of them is taken out
    for word in sorted({w.strip() for w in known}, key=len, reverse=True):
        if len(word) < 2:
            continue
        # A short name can be a word ("Li", "May"): only where it is written as a name.
        flags = re.IGNORECASE if len(word) > 3 else re.NOFLAG
        text, count = re.subn(rf"(?<!\w){re.escape(word)}(?:['\u2019]s)?(?!\w)", "[name]", text, flags=flags)
        kinds["name"] += count
    text = _without(text, _RULES[_ADDRESSES:], kinds)
    return Redaction(re.sub(r"\[name\](?:[ ,]+\[name\])+", "[name]", text), +kinds)


def _without(text: str, rules: Iterable[tuple[str, re.Pattern[str], str]], kinds: Counter[str]) -> str:
    for kind, pattern, replacement in rules:
        text, count = pattern.subn(_keeping_year(replacement), text)
        kinds[kind] += count
    return text


def _keeping_year(replacement: str) -> Callable[[re.Match[str]], str]:
    return lambda match: replacement.format(*match.groups())
