# SPDX-License-Identifier: Apache-2.0
"""A model's sentences into a report: as unverified statements, without its numbers, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from FoundationSegLib.segmentation_io import SegmentationFile, SegmentRecord
from FoundationSegLib.volume import Volume

from ..errors import EngineError, StateError
from ..measure.subjects import anatomy
from ..model import Kind, Origin, Report, Statement, Subject
from ..signatures import OPEN
from . import consistency
from .base import BoolArray, Engine, Narrative, Said, Watch
from .numbers import grounded, subjects_of, words_of
from .prompts import questions

_OF_ANY_FINDING = {"lesion", "mass", "nodule", "focal", "lobe", "segment", "measuring", "size", "diameter", "about"}


@dataclass(frozen=True)
class Merged:
    """A report with a model's statements, and sentences about what was done with its answers, for the log."""

    report: Report
    notes: tuple[str, ...]


def with_narrative(
    report: Report,
    engine: Engine,
    volume: Volume,
    segmentation: SegmentationFile | Iterable[SegmentRecord] | None = None,
    watch: Watch | None = None,
    each_field: bool = True,
) -> Merged:
    """Asks a model about a volume and puts what it adds into the report.

    The model gets the facts and the context that the report holds. Nothing that it says fills a placeholder, and no
    statement that is there changes.

    Args:
        segmentation: its segments' key slices are among those that the model is shown.
        each_field: ask for each field that is not assessed, not for each section; slower, and nearer to what models
            were shown to do.

    Raises:
        EngineError: no weights, no memory, or nothing usable in its answers; the report is as it was.
        StateError: the report is signed or retracted.
        Cancelled: the report is as it was.
    """
    if report.state not in OPEN:
        raise StateError(f"The report is {report.state}, so a model can add nothing; begin a new case.")
    asked = questions(report.sections, report.statements, each_field)
    if not asked:
        raise EngineError(
            "The template has no section that a model can add to; choose another template, or go without a model."
        )
    masks = masks_on(volume, segmentation)
    return merge(report, engine.narrate(report.facts, volume, report.context, asked, masks, watch))


def merge(report: Report, narrative: Narrative) -> Merged:
    """The report with the statements of a narrative. Raises EngineError if none of its answers could be used."""
    if not narrative.answered:
        reasons = "; ".join(dict.fromkeys(item.reason for item in narrative.rejected)) or "no text"
        raise EngineError(
            f"The model {narrative.model.model} gave no answer that can be used ({reasons}); the draft is as it was: "
            "go on without a model, or try another one."
        )
    name = f"m{len(report.models) + 1}"
    model = replace(narrative.model, id=name)
    notes = [
        f'left out "{item.text}": {item.reason}' if item.text else f"left out: {item.reason}"
        for item in narrative.rejected
    ]
    notes += [f'a further sample says the opposite: "{text}"' for text in narrative.disagreements]
    known = [consistency.claim(statement.text) for statement in report.statements if not statement.placeholder]
    statements, number = list(report.statements), report.next_statement
    for said in narrative.said:
        own = consistency.claim(said.text)
        measured = [] if own.denies else subjects_of(said.text, report.facts)
        if own in known:
            notes.append(f'left out "{said.text}": the report says so already')
        elif own.words <= _names_of_organs():
            notes.append(f'left out "{said.text}": it names no finding')
        elif measured and all(_says_no_more(own, subject) for subject in measured):
            notes.append(f'left out "{said.text}": about {measured[0].id}, which was measured')
        else:
            found = grounded(said.text, report.facts)
            notes += found.notes
            new = Statement(
                f"s{number}", said.question.section, found.text, Origin.VLM, found.facts,
                model=name, slices=model.slices, agreement=said.agreement,
            )  # fmt: skip
            statements.insert(_place(statements, said), new)
            known.append(own)
            number += 1
    whole = replace(report, statements=tuple(statements), next_statement=number, models=(*report.models, model))
    return Merged(whole, tuple(notes))


@lru_cache(maxsize=1)
def _names_of_organs() -> frozenset[str]:
    names = " ".join(word for organ in anatomy().organs.values() for word in organ.words)
    return consistency.claim(names).words


def _says_no_more(said: consistency.Claim, subject: Subject) -> bool:
    """Whether a sentence says of a finding only that it is there, and where: what was measured says that better."""
    if subject.kind not in (Kind.LESION, Kind.NODE):
        return False
    known = consistency.claim(" ".join([*words_of(subject), subject.region])).words | _OF_ANY_FINDING
    return said.words <= known


def _place(statements: Sequence[Statement], said: Said) -> int:
    """After the field that was asked for and what stands behind it already; else at the end of the section."""
    places = [n for n, statement in enumerate(statements) if statement.id == said.question.field]
    if not places:
        places = [n for n, statement in enumerate(statements) if statement.section == said.question.section]
        return places[-1] + 1 if places else len(statements)
    place = places[0] + 1
    while place < len(statements) and statements[place].origin is Origin.VLM:
        place += 1
    return place


def masks_on(volume: Volume, segmentation: SegmentationFile | Iterable[SegmentRecord] | None) -> tuple[BoolArray, ...]:
    """Masks on the volume's grid, to the voxel: good enough to choose slices, not to measure."""
    if segmentation is None:
        return ()
    if not isinstance(segmentation, SegmentationFile):
        return tuple(record.mask for record in segmentation if record.mask.shape == volume.shape)
    to_volume = volume.ras_to_ijk @ segmentation.ijk_to_ras
    masks = []
    for record in segmentation.records:
        mask = np.zeros(volume.shape, dtype=bool)
        ijk = np.argwhere(record.mask)[:, ::-1] @ to_volume[:3, :3].T + to_volume[:3, 3]
        kji = np.rint(ijk[:, ::-1]).astype(np.int64)
        inside = ((kji >= 0) & (kji < volume.shape)).all(axis=1)
        mask[tuple(kji[inside].T)] = True
        masks.append(mask)
    return tuple(masks)
