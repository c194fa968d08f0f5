# SPDX-License-Identifier: Apache-2.0
"""In which order a worklist is read: from facts and from scores, with the reason for each place.

An order, no decision: nothing leaves the list, and a study about which nothing is known stands before one that was
found routine, because not to know is no sign of health. Which fact puts a study where is data
(`Resources/ReportRules/triage`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from FoundationSegLib.resources import resource_folder

from .errors import FactsError
from .model import Fact, Facts, Subject
from .suggest import Suggestion


@dataclass(frozen=True)
class Study:
    """One entry of a worklist. `id`: the caller's own; `facts`: None where nothing was measured."""

    id: str
    facts: Facts | None = None
    suggestions: tuple[Suggestion, ...] = ()
    waiting_minutes: float = 0.0


@dataclass(frozen=True)
class Reason:
    """Why a study stands where it does: a sentence, and the facts it rests on."""

    text: str
    facts: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Place:
    """A study's place. `level`: 0 at once, 1 soon, 2 unknown, 3 routine; `score`: the highest of its suggestions."""

    id: str
    level: int
    score: float
    reasons: tuple[Reason, ...]


LEVELS = ("at once", "soon", "unknown", "routine")


def triage(worklist: Iterable[Study], thresholds: Mapping[str, float] | None = None) -> list[Place]:
    """The worklist in reading order.

    Levels first, then the highest score of a calibrated suggestion, then who has waited longest, then the id: the
    same list gives the same order. `thresholds`: for each finding the calibrated probability from which on a suggestion
    moves a study to "soon"; scores that are not calibrated move none, they only order within a level.

    Raises FactsError for two studies with the same id.
    """
    studies = list(worklist)
    ids = [study.id for study in studies]
    if len(set(ids)) != len(ids):
        repeated = next(name for name in ids if ids.count(name) > 1)
        raise FactsError(f'The worklist has two studies with the id "{repeated}"; give each its own.')
    waiting = {study.id: study.waiting_minutes for study in studies}
    places = [_place(study, thresholds or {}) for study in studies]
    return sorted(places, key=lambda place: (place.level, -place.score, -waiting[place.id], place.id))


def _place(study: Study, thresholds: Mapping[str, float]) -> Place:
    found: list[tuple[int, Reason]] = []
    for rule in _rules():
        if study.facts is not None and (facts := _matching(rule, study.facts)):
            reason = Reason(str(rule["because"]), tuple(fact.id for fact in facts), str(rule["source"]))
            found.append((LEVELS.index(rule["level"]), reason))
    for suggestion in study.suggestions:
        limit = thresholds.get(suggestion.finding)
        if suggestion.calibrated and limit is not None and suggestion.score >= limit:
            text = f"{suggestion.finding} suggested with {suggestion.score:.2f}, calibrated on {suggestion.calibrated}"
            found.append((LEVELS.index("soon"), Reason(text)))
    score = max((suggestion.score for suggestion in study.suggestions), default=0.0)
    if not found:
        known = study.facts is not None and any(fact.quantity in _MEASURED for fact in study.facts.facts)
        level = "routine" if known else "unknown"
        text = "nothing that was measured asks for haste" if known else "nothing was measured"
        return Place(study.id, LEVELS.index(level), score, (Reason(text),))
    level_number = min(level for level, _ in found)
    reasons = tuple(reason for level, reason in sorted(found, key=lambda item: item[0]))
    return Place(study.id, level_number, score, reasons)


_MEASURED = {"volume", "long_axis", "presence", "count"}


def _matching(rule: Mapping[str, Any], facts: Facts) -> list[Fact]:
    """Facts that fulfil every condition of a rule."""
    subjects = {subject.id: subject for subject in facts.subjects}
    return [fact for fact in facts.facts if fact.subject in subjects and _fulfils(rule, fact, subjects[fact.subject])]


def _fulfils(rule: Mapping[str, Any], fact: Fact, subject: Subject) -> bool:
    number = fact.value if isinstance(fact.value, int | float) and not isinstance(fact.value, bool) else None
    checks: dict[str, Callable[[Any], bool]] = {
        "quantity": lambda wanted: fact.quantity in wanted,
        "organ": lambda wanted: subject.organ in wanted,
        "kind": lambda wanted: subject.kind in wanted,
        "finding": lambda wanted: subject.finding in wanted or fact.of in wanted,
        "values": lambda wanted: fact.value in wanted,
        "values_not": lambda wanted: fact.value not in wanted,
        "contains": lambda wanted: any(part in str(fact.value) for part in wanted),
        "of_contains": lambda wanted: any(part in fact.of for part in wanted),
        "at_least": lambda wanted: number is not None and fact.unit == rule["unit"] and number >= wanted,
    }
    return all(checks[key](wanted) for key, wanted in rule.items() if key in checks)


@lru_cache(maxsize=1)
def _rules() -> tuple[Mapping[str, Any], ...]:
    data = json.loads((resource_folder("ReportRules") / "triage" / "triage.json").read_text(encoding="utf-8"))
    return tuple(data["rules"])


def in_words(places: Sequence[Place]) -> str:
    """The order as lines for people."""
    return "\n".join(
        f"{number}. {place.id}: {LEVELS[place.level]} ({'; '.join(reason.text for reason in place.reasons)})"
        for number, place in enumerate(places, start=1)
    )
