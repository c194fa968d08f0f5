# SPDX-License-Identifier: Apache-2.0
"""What `draft` and `narrate` do: measure a volume, write the draft into a new case, ask a model if one is chosen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from FoundationSegLib.cli_base import Report as Result
from FoundationSegLib.commands import Listener
from FoundationSegLib.segmentation_io import SegmentationFile, read_segmentation
from FoundationSegLib.volume import NonFinite, Volume

from .case import Case, read_report, require_new
from .commands import SOFTWARE, report_data
from .errors import CaseError, EngineError
from .model import ClinicalContext, Facts, Report
from .render import facts_summary, report_text
from .serialise import load_facts

if TYPE_CHECKING:
    from FoundationSegLib.segmentation_io import BoolArray

    from .engines import Engine
    from .measure import Search
    from .templates import Template


@dataclass(frozen=True)
class Study:
    """A volume and what was drawn on it, as files. An earlier one may be a case or facts file: no `segmentation`."""

    volume: Path
    segmentation: Path | None
    series: str | None = None


@dataclass(frozen=True)
class Reading:
    """How files are read. `other_image`: the segments may have been drawn on another image in the same position."""

    modality: str | None = None
    nonfinite: NonFinite = "error"
    other_image: bool = False


@dataclass(frozen=True)
class EngineJob:
    """Which model to ask, and how; see `engines.hf_chat.Settings`."""

    name: str
    device: str = "auto"
    slices: int | None = None
    samples: int = 0
    seed: int = 0
    quantise: str = ""


@dataclass(frozen=True)
class DraftJob:
    """What `draft` was asked for.

    Attributes:
        priors: earlier studies, the oldest first: volume and segmentation, or a case or facts file in `volume`.
        answers: for the rules, as "name=value".
        searched: "organ:finding" that something or somebody went through in full.
        targets: RECIST target lesions by name or id; "auto" chooses them, "none" marks none. None: those of the last
            earlier study, else automatically if the template lists targets.
        contrast: "with" or "without" as a person states it; empty: as the header says.
    """

    study: Study
    out: Path
    template: str = "generic"
    language: str = "en"
    priors: Sequence[Study] = ()
    context: Path | None = None
    engine: EngineJob | None = None
    answers: Sequence[str] = ()
    searched: Sequence[str] = ()
    targets: Sequence[str] | None = None
    contrast: str = ""
    reading: Reading = Reading()


def draft(job: DraftJob, listener: Listener) -> Result:
    """Measures, drafts, asks a model if one is named, checks, and writes a new case. Raises this package's errors."""
    from .draft import draft as make_draft
    from .measure import Search, read_header, with_contrast
    from .rules import parse_answers
    from .templates import load_template

    require_new(job.out)  # what is wrong is said before the work, not after it
    template = load_template(job.template)
    answers = parse_answers(job.answers)
    context = _context(job.context, listener)
    engine = _engine(job.engine, listener) if job.engine is not None else None
    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        volume, segmentation = _read(job.study, job.reading, listener)
        searched = [Search.parse(text) for text in job.searched]
        earlier = [_earlier(study, job.reading, searched, listener) for study in job.priors]
    listener.say("Measuring ...")
    with _timed(seconds, "measure"):
        header = read_header(job.study.volume, job.study.series)
        if job.contrast:
            header = with_contrast(header, job.contrast)
        facts = _measured(
            volume,
            segmentation,
            header=header,
            prior=earlier or None,
            searched=searched,
            targets=_targets(job, template, earlier),
            other_image=job.reading.other_image,
        )
    with _timed(seconds, "draft"):
        report = make_draft(facts, template, context=context, language_code=job.language, answers=answers)
    with _timed(seconds, "check"):
        report = report.check()
    details = {"template": f"{report.template} {report.template_version}", "language": report.language}
    with Case.create(job.out, report, SOFTWARE, details) as case:
        if engine is not None:
            try:
                with _timed(seconds, "narrative"):
                    _narrate(case, engine, volume, segmentation, listener)
            except EngineError as error:
                raise EngineError(
                    f"{error} The draft is in {job.out}; `narrate` asks a model about it again."
                ) from error
        report, head = case.report, case.head
    data = report_data("draft", report, head)
    data |= {"case": str(job.out), "facts": len(report.facts.facts), "warnings": list(report.facts.warnings)}
    data |= {"seconds": {name: round(value, 3) for name, value in seconds.items()}}
    text = (
        f"FACTS (all of them: show --facts)\n{facts_summary(report.facts)}\n\n{report_text(report)}\n\nCase: {job.out}"
    )
    return Result(data, text)


def narrate(folder: Path, study: Study, reading: Reading, job: EngineJob, listener: Listener) -> Result:
    """Asks a model about a case that is there already; its sentences enter unverified, and are checked."""
    engine = _engine(job, listener)
    with Case.open(folder) as case:
        volume, segmentation = _same_study(study, reading, case.report, listener)
        _narrate(case, engine, volume, segmentation, listener)
        return Result(report_data("narrate", case.report, case.head), report_text(case.report))


def _read(study: Study, reading: Reading, listener: Listener) -> tuple[Volume, SegmentationFile]:
    listener.say(f"Reading {study.volume} ...")
    volume = Volume.read(study.volume, series=study.series, nonfinite=reading.nonfinite)
    for warning in volume.warnings:
        listener.say(f"Note: {warning}")
    if reading.modality is not None:
        volume = replace(volume, modality=reading.modality)
    if study.segmentation is None:
        raise CaseError(f"{study.volume} has no segmentation; give what was drawn on it.")
    return volume, read_segmentation(study.segmentation)


def open_study(
    study: Study, reading: Reading, report: Report, listener: Listener
) -> tuple[Volume, Sequence[BoolArray]]:
    """The image that a report was measured on, and its segments on that grid. Raises CaseError if it is another."""
    from .engines.narrative import masks_on

    volume, segmentation = _same_study(study, reading, report, listener)
    return volume, masks_on(volume, segmentation)


def _same_study(study: Study, reading: Reading, report: Report, listener: Listener) -> tuple[Volume, SegmentationFile]:
    volume, segmentation = _read(study, reading, listener)
    if report.facts.study.get("fingerprint") not in (None, volume.fingerprint):
        raise CaseError(f"{study.volume} is not the image that the case was measured on; give that one.")
    return volume, segmentation


def _measured(volume: Volume, segmentation: SegmentationFile, **options: Any) -> Facts:
    from .measure import measure

    return measure(volume, segmentation, **options)


def _targets(job: DraftJob, template: Template, earlier: Sequence[Facts]) -> Sequence[str] | None:
    """What `measure` is told of target lesions."""
    from .templates import has_targets

    if job.targets is not None:
        return () if list(job.targets) == ["none"] else job.targets
    followed = bool(earlier) and any(fact.quantity == "target" for fact in earlier[-1].facts)
    return None if followed or not has_targets(template) else ("auto",)


def _earlier(study: Study, reading: Reading, searched: Sequence[Search], listener: Listener) -> Facts:
    """The facts of an earlier study: of a case, a facts file, or measured now."""
    from .measure import read_header

    if study.segmentation is None:
        if study.volume.is_dir():
            return read_report(study.volume).facts
        return load_facts(study.volume)
    volume, segmentation = _read(study, reading, listener)
    header = read_header(study.volume, study.series)
    return _measured(volume, segmentation, header=header, searched=searched, other_image=reading.other_image)


def _context(path: Path | None, listener: Listener) -> ClinicalContext | None:
    if path is None:
        return None
    from .context import load_context

    context = load_context(path)
    for what in context.redacted:
        listener.say(f"Left out of the clinical context: {what}")
    return context


def _engine(job: EngineJob, listener: Listener) -> Engine:
    """The model's files are here when this returns; they are loaded when it is asked."""
    from FoundationSegLib.hub.weights import Ask

    from .engines import load_engine
    from .engines.hf_chat import Settings

    settings = Settings(device=job.device, slices=job.slices, samples=job.samples, seed=job.seed, quantise=job.quantise)
    return load_engine(job.name, settings, Ask(listener.consent, listener.weights(job.name)))


def _narrate(case: Case, engine: Engine, volume: Volume, segmentation: SegmentationFile, listener: Listener) -> None:
    from .engines import Watch, with_narrative

    listener.say(f"Asking {engine.name} ...")
    watch = Watch(listener.cancel, progress=listener.weights(engine.name))
    merged = with_narrative(case.report, engine, volume, segmentation, watch)
    for note in merged.notes:
        listener.say(f"Note: {note}")
    # Of a model from a folder the card's name, never the path.
    case.save(merged.report.check(), engine.name, "narrative", {"notes": list(merged.notes)})


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
