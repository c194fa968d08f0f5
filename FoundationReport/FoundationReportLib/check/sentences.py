# SPDX-License-Identifier: Apache-2.0
"""A report's text as sentences with their headings. Abbreviations, numbers and lists do not end a sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from .lexicon import load_data

_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9•*-])")
_INLINE = re.compile(r"^(?:\d+[.)]\s*)?([A-Z][A-Za-z ,/&-]{2,40}):\s")


@cache
def _not_end() -> re.Pattern[str]:
    short = "|".join(re.escape(word) for word in load_data("phrases")["abbreviations"])
    return re.compile(rf"(?:\b(?:{short})|(?-i:\b[a-z])|\b\d{{1,2}})\.$", re.IGNORECASE)


@cache
def _headings(key: str, end: str) -> re.Pattern[str]:
    words = "|".join(re.escape(word) for word in load_data("phrases")[key])
    return re.compile(rf"^\s*(?:{words}){end}", re.IGNORECASE)


@dataclass(frozen=True)
class Sentence:
    """A sentence as it stands in the text, and the heading under which it stands ("Liver"), if any."""

    text: str
    heading: str = ""


def split(text: str) -> list[Sentence]:
    """The sentences of a report. Lines that are only a heading are none."""
    out: list[Sentence] = []
    heading = ""
    for line in _lines(text):
        stripped = line.strip()
        if not stripped or not re.search(r"\w", stripped):
            if not stripped:
                heading = ""
            continue
        if _headings("headings", r"\s*:?\s*$").match(stripped):
            heading = ""
            continue
        bare = re.fullmatch(r"(?:[-•*#]\s*)?([A-Za-z][A-Za-z ,/&()-]{1,50}):\s*", stripped)
        if bare:
            heading = bare[1]
            continue
        stripped = _headings("headings_before_text", r"\s*:\s*(?=\S)").sub("", stripped)
        stripped = re.sub(r"^#+\s*", "", stripped)
        inline = ""
        for part in _sentences(stripped):
            own = _INLINE.match(part)
            inline = own[1] if own else inline
            out.append(Sentence(part, heading if own or not inline else inline))
    return out


def _lines(text: str) -> list[str]:
    """Lines, where a line that goes on in the next (no end mark, next in lower case) is joined to it."""
    lines: list[str] = []
    for line in text.replace("\r", "").split("\n"):
        runs_on = lines and lines[-1].strip() and line.strip() and not re.search(r"[.:;!?]\s*$", lines[-1])
        if runs_on and re.match(r"\s*[a-z0-9(]", line) and not re.match(r"\s*(?:\d+[.)]|[-•*])\s", line):
            lines[-1] = f"{lines[-1].rstrip()} {line.strip()}"
        else:
            lines.append(line)
    return lines


def _sentences(line: str) -> list[str]:
    out: list[str] = []
    start = 0
    for match in _END.finditer(line):
        piece = line[start : match.start()]
        if _not_end().search(piece) and not re.search(r"(?:mm|cm|ml|HU|%|\d\d)\.$", piece):
            enumerated = re.fullmatch(r"\s*\d{1,2}\.", piece)
            if enumerated or not re.search(r"\b\d{1,2}\.$", piece):
                continue
        out.append(piece.strip())
        start = match.end()
    rest = line[start:].strip()
    if rest:
        out.append(rest)
    return out
