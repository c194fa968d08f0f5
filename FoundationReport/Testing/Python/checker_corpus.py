# SPDX-License-Identifier: Apache-2.0
"""The corpus of sentences with planted errors, and how the checker does on it: for the test and the benchmark."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from FoundationReportLib.check import check_text
from FoundationReportLib.model import Facts, Verdict
from FoundationReportLib.serialise import load_facts

FOLDER = Path(__file__).parents[1] / "Data" / "checker_corpus"
_ORDER = [Verdict.SUPPORTED, Verdict.UNVERIFIABLE, Verdict.CONTRADICTED]


@dataclass
class Rates:
    """Counts over one part.

    `fact`: errors that a fact contradicts; `open`: statements that no fact decides, `left_open` of them unverifiable;
    `reports`: texts with (or without) an omission.
    """

    true: int = 0
    supported: int = 0
    false_alarms: int = 0
    errors: int = 0
    flagged: int = 0
    fact: int = 0
    contradicted: int = 0
    open: int = 0
    left_open: int = 0
    reports: int = 0
    reports_right: int = 0
    kinds: dict[str, Counter[str]] = field(default_factory=dict)


def items(half: str) -> list[dict[str, Any]]:
    """The sentences of "dev", "test" or "outside"."""
    read: list[dict[str, Any]] = json.loads((FOLDER / f"sentences_{half}.json").read_text(encoding="utf-8"))
    return read


@cache
def facts_of(name: str) -> Facts:
    return load_facts(FOLDER / f"facts_{name}.json")


def verdict(facts: Facts, text: str) -> Verdict:
    """The worst verdict over the sentences of a text."""
    return max((judgement.verdict for _, judgement in check_text(facts, text).statements), key=_ORDER.index)


def rates(half: str) -> Rates:
    """How the checker does on a half. Nothing says which sentence was judged how."""
    out = Rates()
    for item in items(half):
        facts = facts_of(item["facts"])
        undecided = "truth" in item and item["truth"] is None
        kinds = out.kinds.setdefault("undecided" if undecided else item.get("kind", "true"), Counter())
        kinds["n"] += 1
        if "report" in item:
            omitted = {facts.fact(i).subject for i in check_text(facts, "\n".join(item["report"])).omitted}
            right = omitted == set(item["omitted"])
            out.reports += 1
            out.reports_right += right
            kinds["right" if right else "wrong"] += 1
            continue
        found = verdict(facts, item["text"])
        kinds[found.value] += 1
        if item["truth"] is None:
            out.open += 1
            out.left_open += found is Verdict.UNVERIFIABLE
        elif item["truth"]:
            out.true += 1
            out.supported += found is Verdict.SUPPORTED
            out.false_alarms += found is Verdict.CONTRADICTED
        else:
            out.errors += 1
            out.flagged += found is not Verdict.SUPPORTED
            if item["fact"]:
                out.fact += 1
                out.contradicted += found is Verdict.CONTRADICTED
    return out
