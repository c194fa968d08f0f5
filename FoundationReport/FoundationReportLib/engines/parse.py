# SPDX-License-Identifier: Apache-2.0
"""A model's answer, whatever it is, into sentences that can stand in a report, and a record of what was left out."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..redaction import redact
from .reject import is_instruction, reason

# Thinking that models put before the answer: MedGemma 1.5's and the usual one.
_THINKING = ((re.compile(r"<unused94>.*?<unused95>", re.S), "<unused94>", "<unused95>"),
             (re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.S | re.I), "<think", "</think"))  # fmt: skip
_SPECIAL = re.compile(
    r"<\|[^|>\n]{1,40}\|>|</?(?:s|eos|bos|pad|unk|end_of_turn|start_of_turn|image_soft_token)>|<unused\d+>"
)
_MARKUP = re.compile(r"^\s*(?:[-*•+]|\d{1,2}[.)]|#{1,6})\s+|\*\*|__|`+")
_HEADING = re.compile(r"^[^.|]{1,60}:\s*$|^(?:findings?|impression|answer|observations?)\s*:\s*", re.I)
_ABBREVIATIONS = r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bDr)(?<!\bapprox)(?<!\bNo)(?<!\bca)(?<!\bcf)(?<!\bFig)"
_END = re.compile(rf"{_ABBREVIATIONS}(?<=[.!?;])\s+(?=[A-Z(\[])")
_NOTHING = re.compile(
    r"^(?:\W*(?:none|nil|n/?a|nothing|no (?:other |additional |further |new )?(?:findings?|abnormalit(?:y|ies)))"
    r"(?: (?:are |is )?(?:seen|noted|identified|present|found))?\W*)$",
    re.I,
)
_EMPTY = {"", "-", "--", "n/a", "na", "none", "nil", "unknown", "not applicable", "midline", "?"}
_TEXT_KEYS = ("finding", "statement", "text", "description", "observation")
_MOST = 40
_CLIPPED = 120


@dataclass(frozen=True)
class Rejected:
    """What was left out of an answer: its beginning, without identifiers, and why."""

    text: str
    reason: str


@dataclass(frozen=True)
class Parsed:
    """Sentences of an answer, each once; `none`: the model said that there is nothing to add."""

    sentences: tuple[str, ...]
    rejected: tuple[Rejected, ...] = ()
    none: bool = False


def parse(answer: str, cut: bool = False) -> Parsed:
    """Sentences of an answer. `cut`: it ended at the limit of tokens, so its last sentence is not a whole one.

    An answer that holds an instruction gives no sentence at all. Never raises.
    """
    text, thoughts = _without_thinking(answer)
    text = _SPECIAL.sub(" ", text)
    if is_instruction(text):
        return Parsed((), (_rejected(text, "instructions, perhaps words in a picture: none of the answer is used"),))
    text = redact(text).text  # words in a picture can name the patient
    candidates, said_none = _candidates(text, cut)
    kept: dict[str, str] = {}
    rejected = [Rejected("", "thinking before the answer")] * thoughts
    counts: Counter[str] = Counter()
    for sentence in candidates:
        key = " ".join(re.findall(r"\w+", sentence.casefold()))
        counts[key] += 1
        if counts[key] > 1:
            continue
        if why := reason(sentence):
            rejected.append(_rejected(sentence, why))
        elif len(kept) >= _MOST:
            rejected.append(_rejected(sentence, f"after {_MOST} statements"))
        else:
            kept[key] = sentence
    for key, count in counts.items():
        if count > 1 and key in kept:
            rejected.append(_rejected(kept[key], f"said {count} times, taken once"))
    return Parsed(tuple(kept.values()), tuple(rejected), said_none and not kept)


def _without_thinking(text: str) -> tuple[str, int]:
    """The text without blocks of thinking, and how many there were; one that never ends takes all the rest."""
    count = 0
    for block, opening, closing in _THINKING:
        text, found = block.subn(" ", text)
        count += found
        at = text.casefold().find(opening)
        if at >= 0:
            text, count = text[:at], count + 1
        elif (at := text.casefold().find(closing)) >= 0:  # it began in the chat template
            text, count = text[at:].partition(">")[2], count + 1
    return text, count


def _candidates(text: str, cut: bool) -> tuple[list[str], bool]:
    """Sentences and lines in their order; and whether the model said that there is nothing."""
    none = False
    whole = _json(text)
    source = list(_texts(whole)) if whole is not None else text.splitlines()
    found: list[str] = []
    for number, line in enumerate(source):
        line = _MARKUP.sub("", line).strip().strip("*_ ")
        line = _HEADING.sub("", line).strip()
        if not line:
            continue
        if _NOTHING.match(line):
            none = True
            continue
        last = cut and number == len(source) - 1
        if "|" in line:
            if not last or line.count("|") >= 3:
                found.append(_from_fields([part.strip() for part in line.strip("| ").split("|")]))
            continue
        lines = [part.strip() for part in _END.split(line) if part.strip()]
        if last and lines and not re.search(r"[.!?]$", lines[-1]):
            lines.pop()
        found += [part for part in (_sentence(part) for part in lines) if part]
    return [sentence for sentence in found if sentence], none


def _sentence(text: str) -> str:
    """With a capital and a full stop, as all others."""
    text = " ".join(text.split()).rstrip(";,").strip()
    if not text or set(text) <= set("-=|: "):
        return ""
    if "{" not in text and "[" not in text and text[-1] not in ".!?":
        text += "."
    return text[0].upper() + text[1:]


def _from_fields(fields: list[str]) -> str:
    """ "cyst | left | kidney | possible" to "Possible cyst in the left kidney."; "" for a row that says nothing."""
    finding, side, place, certainty = (field.rstrip(". ") for field in (*fields, "", "", "", "")[:4])
    if finding.casefold() in _EMPTY or set("".join(fields)) <= set("-: "):
        return ""
    if finding.casefold() == "finding" and side.casefold() == "side":
        return ""
    side, place, certainty = ("" if part.casefold() in _EMPTY else part for part in (side, place, certainty))
    before = "" if re.match(r"no\b", finding, re.I) else _hedge(certainty.casefold())
    if re.search(r"\b(?:left|right|bilateral)\b", f"{finding} {place}", re.I):
        side = ""
    first = finding[0].lower() if before else finding[0]
    return _sentence(f"{before}{first}{finding[1:]}{_where(side.lower(), place)}")


def _hedge(certainty: str) -> str:
    if certainty in {"absent", "no", "not seen", "excluded", "negative"}:
        return "No "
    if re.match(r"possibl|uncertain|low|suspect", certainty):
        return "Possible "
    return "Probable " if re.match(r"probab|likely|moderate", certainty) else ""


def _where(side: str, place: str) -> str:
    place = re.sub(r"^(?:in )?(?:the )?", "", place)
    if not place:
        return f" on the {side}" if side in {"left", "right"} else f", {side}" if side else ""
    if not side:
        return f" in the {place}"
    return f" in both {place}" if side == "both" else f" in the {side} {place}"


def _json(text: str) -> Any:
    """The value of an answer that is JSON as a whole, also within a code fence; None if it is not."""
    inner = re.sub(r"^\s*```(?:json)?\s*|\s*```\s*$", "", text.strip())
    if not inner.startswith(("{", "[")):
        return None
    try:
        return json.loads(inner)
    except (ValueError, RecursionError):
        return None


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Statements in a JSON value under the names that models use; boxes and labels alone say nothing."""
    if depth > 4:
        return
    if isinstance(value, list):
        for item in value:
            yield from [item] if isinstance(item, str) and depth == 0 else _texts(item, depth + 1)
    elif isinstance(value, dict):
        text = next((value[key] for key in _TEXT_KEYS if isinstance(value.get(key), str)), None)
        if text is not None:
            rest = [str(value.get(key) or "") for key in ("side", "location", "certainty")]
            yield " | ".join([text, *rest]) if any(rest) and len(text.split()) < 6 else text
        else:
            for item in value.values():
                if isinstance(item, list | dict):
                    yield from _texts(item, depth + 1)


def _rejected(text: str, why: str) -> Rejected:
    clipped = " ".join(redact(text).text.split())
    return Rejected(clipped[:_CLIPPED] + ("…" if len(clipped) > _CLIPPED else ""), why)
