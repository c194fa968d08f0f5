# SPDX-License-Identifier: Apache-2.0
"""A sentence as a row of mentions: numbers with units, places, sides, findings, negations, words of change, the rest.

What no rule and no word of the lexicon covers becomes an UNKNOWN mention; a sentence with one is never "supported".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from .amounts import measures as find_measures
from .lexicon import Entry, Lexicon, load_data
from .mentions import Mention, free
from .patterns import patterns as find_patterns


@cache
def _rank() -> dict[str, int]:
    """If a phrase has several readings, the one whose kind comes first is meant."""
    return {kind: n for n, kind in enumerate(load_data("phrases")["priority"])}


def read(text: str, lex: Lexicon, names: Mapping[tuple[str, ...], list[Entry]] | None = None) -> list[Mention]:
    """The mentions of a sentence in their order. `names`: more phrases than the lexicon has, of these facts."""
    for pattern, written_out in lex.rewrite:
        text = pattern.sub(written_out, text)
    fixed = find_patterns(text, lex)
    names = names or {}
    fixed += _numbered(text, names, [(m.start, m.end) for m in fixed], lex)
    taken = [(m.start, m.end) for m in fixed]
    measures = find_measures(text, taken)
    fixed += measures
    taken += [(m.start, m.end) for m in measures]
    mentions = fixed + _words(text, taken, lex, names)
    mentions.sort(key=lambda m: (m.start, m.end))
    return mentions


_NUMBERED = re.compile(r"\b(?:[A-Za-z-]+\s+){1,3}#?\d{1,2}\b(?!\s*(?:[x\u00d7.,]\s*\d|mm|cm|ml|hu|%))", re.I)


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
            if key in names and free(start, end, taken):
                entry = names[key][0]
                found.append(Mention(entry.kind, entry.value, start, end, text[start:end]))
                break
    return found


_TOKEN = re.compile(
    r"\d+(?:st|nd|rd|th)\b|[A-Za-zäöüßéµ]+(?:/[A-Za-z]{1,3}\b)?(?:\.[A-Za-z]\b\.?)*\d*|'\w+|\d+|\[|\]|[^\s\w]"
)


_SIGNS = {"<": "<", "\u2264": "<", ">": ">", "\u2265": ">", "~": "~", "\u2248": "~"}


@dataclass(frozen=True)
class _Token:
    text: str
    norm: tuple[str, ...]
    start: int
    end: int


def _words(
    text: str, taken: list[tuple[int, int]], lex: Lexicon, names: Mapping[tuple[str, ...], list[Entry]]
) -> list[Mention]:
    runs: list[list[_Token]] = [[]]
    for match in _TOKEN.finditer(text):
        if not free(match.start(), match.end(), taken):
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
    return (
        token.start > 0
        and token.end < len(text)
        and not text[token.start - 1].isspace()
        and not text[token.end].isspace()
    )


def _match(
    run: list[_Token], n: int, lex: Lexicon, names: Mapping[tuple[str, ...], list[Entry]]
) -> tuple[Mention | None, int]:
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
        if token.text in "{}\\`^$":
            return Mention("UNKNOWN", token.text, token.start, token.end, token.text), 1
        if token.text in _SIGNS:
            return Mention("CMP", _SIGNS[token.text], token.start, token.end, token.text), 1
        kind = "SEP" if token.text in ",;:()/\u2013\u2014-[]|" else "SKIP"
        return Mention(kind, token.text, token.start, token.end, token.text), 1
    return Mention("UNKNOWN", token.text, token.start, token.end, token.text), 1


def _mention(entries: list[Entry], tokens: list[_Token]) -> Mention:
    ranked = sorted(entries, key=lambda e: _rank().get(e.kind, 99))
    last = tokens[-1]
    plural = last.text.lower().endswith(("s", "i", "ae", "ses")) and last.norm[-1] != last.text.lower()
    text = " ".join(t.text for t in tokens)
    return Mention(ranked[0].kind, ranked[0].value, tokens[0].start, last.end, text, plural, tuple(ranked[1:]))
