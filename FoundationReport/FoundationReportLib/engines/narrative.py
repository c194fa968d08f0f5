# SPDX-License-Identifier: Apache-2.0
"""A model's sentences into a report: as unverified statements, without its numbers, beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from FoundationSegLib.volume import Volume

from ..errors import EngineError, StateError
from ..model import Origin, Report, Statement
from ..signatures import OPEN
from . import consistency
from .base import BoolArray, Engine, Narrative, Said, Watch
from .numbers import grounded, subjects_of


@dataclass(frozen=True)
class Merged:
    """A report with a model's statements, and sentences about what was done with its answers, for the log."""

    report: Report
    notes: tuple[str, ...]


def with_narrative(
    report: Report,
    engine: Engine,
    volume: Volume,
    masks: Sequence[BoolArray] = (),
    watch: Watch | None = None,
) -> Merged:
    """Asks a model about a volume and puts what it adds into the report.

    The model gets the facts and the context that the report holds. Nothing that it says fills a placeholder, and no
    statement that is there changes.

    Raises:
        EngineError: no weights, no memory, or nothing usable in its answers; the report is as it was.
        StateError: the report is signed or retracted.
        Cancelled: the report is as it was.
    """
    if report.state not in OPEN:
        raise StateError(f"The report is {report.state}, so a model can add nothing; begin a new case.")
    return merge(report, engine.narrate(report.facts, volume, report.context, report.sections, masks, watch))


def merge(report: Report, narrative: Narrative) -> Merged:
    """The report with the statements of a narrative. Raises EngineError if none of its answers could be used."""
    if not narrative.answered:
        reasons = "; ".join(dict.fromkeys(item.reason for item in narrative.rejected)) or "no text"
        raise EngineError(
            f"The model {narrative.model.model} gave no answer that can be used ({reasons}); the draft is as it was: go "
            "on without a model, or try another one."
        )
    name = f"m{len(report.models) + 1}"
    model = replace(narrative.model, id=name)
    notes = [f'left out "{item.text}": {item.reason}' if item.text else f"left out: {item.reason}" for item in narrative.rejected]
    notes += [f'a further sample says the opposite: "{text}"' for text in narrative.disagreements]
    known = [consistency.claim(statement.text) for statement in report.statements if not statement.placeholder]
    keys = {section.key for section in report.sections}
    result = report
    for said in narrative.said:
        if said.section not in keys:
            raise EngineError(f'The model answers for a section "{said.section}" that the report does not have.')
        own = consistency.claim(said.text)
        if any(own == other for other in known):
            notes.append(f'left out "{said.text}": the report says so already')
        elif not own.denies and (measured := subjects_of(said.text, report.facts)) and _is_finding(measured):
            notes.append(f'left out "{said.text}": about {measured[0].id}, which was measured')
        else:
            result, more = _with(result, said, name, model.slices)
            notes += more
    return Merged(replace(result, models=(*report.models, model)), tuple(notes))


def _is_finding(measured: Sequence[object]) -> bool:
    from ..model import Kind, Subject

    return all(isinstance(subject, Subject) and subject.kind in (Kind.LESION, Kind.NODE) for subject in measured)


def _with(report: Report, said: Said, model: str, slices: tuple[int, ...]) -> tuple[Report, tuple[str, ...]]:
    """The statement at the end of its section."""
    found = grounded(said.text, report.facts)
    new = Statement(
        f"s{report.next_statement}", said.section, found.text, Origin.VLM, found.facts,
        model=model, slices=slices, agreement=said.agreement,
    )  # fmt: skip
    places = [n for n, statement in enumerate(report.statements) if statement.section == said.section]
    place = places[-1] + 1 if places else len(report.statements)
    statements = (*report.statements[:place], new, *report.statements[place:])
    return replace(report, statements=statements, next_statement=report.next_statement + 1), found.notes
