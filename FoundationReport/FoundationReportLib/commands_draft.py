# SPDX-License-Identifier: Apache-2.0
"""What `draft` and `templates` do: measure a volume, write the draft into a new case, ask a model if one is chosen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from FoundationSegLib.cli_base import Report as Result
from FoundationSegLib.segmentation_io import SegmentationFile, read_segmentation
from FoundationSegLib.volume import NonFinite, Volume

from .case import Case, require_new
from .commands import SOFTWARE, Listener, report_data
from .model import ClinicalContext, Facts, Report
from .render import facts_table, report_text


@dataclass(frozen=True)
class Study:
    """A volume and what was drawn on it, as files."""

    volume: Path
    segmentation: Path
    series: str | None = None


@dataclass(frozen=True)
class DraftJob:
    """What `draft` was asked for. `answers`: for the rules, as "name=value"."""

    study: Study
    out: Path
    template: str = "generic"
    language: str = "en"
    prior: Study | None = None
    context: Path | None = None
    engine: str | None = None
    answers: Sequence[str] = ()
    modality: str | None = None
    nonfinite: NonFinite = "error"
    engine_options: Mapping[str, Any] = field(default_factory=dict)


def draft(job: DraftJob, listener: Listener) -> Result:
    """Measures, drafts, asks a model if one is named, checks, and writes a new case. Raises this package's errors."""
    from .draft import draft as make_draft
    from .rules import parse_answers
    from .templates import load_template

    require_new(job.out)  # what is wrong is said before the work, not after it
    template = load_template(job.template)
    answers = parse_answers(job.answers)
    context = _context(job.context, listener)
    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        volume, segmentation = _read(job.study, job, listener)
        prior = _read(job.prior, job, listener) if job.prior is not None else None
    listener.say("Measuring ...")
    with _timed(seconds, "measure"):
        facts = _measured(volume, segmentation, prior)
    with _timed(seconds, "draft"):
        report = make_draft(facts, template, context=context, language_code=job.language, answers=answers)
    with _timed(seconds, "check"):
        report = report.check()
    details = {"template": f"{report.template} {report.template_version}", "language": report.language}
    with Case.create(job.out, report, SOFTWARE, details) as case:
        if job.engine is not None:
            with _timed(seconds, "narrative"):
                _narrate(case, job, volume, segmentation, listener)
        report, head = case.report, case.head
    for warning in report.facts.warnings:
        listener.say(f"Note: {warning}")
    data = report_data("draft", report, head)
    data |= {"case": str(job.out), "facts": len(report.facts.facts), "warnings": list(report.facts.warnings)}
    data |= {"seconds": {name: round(value, 3) for name, value in seconds.items()}}
    text = f"FACTS\n{facts_table(replace(report.facts, warnings=()))}\n\n{report_text(report)}\n\nCase: {job.out}"
    return Result(data, text)


def list_templates() -> Result:
    """The shipped templates."""
    from .templates import load_template, template_names, words

    found = [load_template(name) for name in template_names()]
    lines = [f"{t.id:<12} {t.version:<6} {', '.join(t.modality) or 'any':<8} {words(t.title, 'en')}" for t in found]
    data = [
        {
            "id": t.id,
            "version": t.version,
            "modality": list(t.modality),
            "languages": list(t.languages),
            "title": dict(t.title),
        }
        for t in found
    ]
    return Result({"command": "templates list", "templates": data}, "\n".join(lines))


def show_template(name: str) -> Result:
    """One template, shipped or from a file, checked against the schema."""
    from .serialise import json_text
    from .templates import load_template

    template = load_template(name)
    return Result({"command": "templates show", "template": dict(template.data)}, json_text(template.data).rstrip())


def import_template(source: Path, out: Path) -> Result:
    """An MRRT (IHE Management of Radiology Report Templates) HTML file as a template file."""
    from .mrrt import read_mrrt
    from .templates import save_template

    template, notes = read_mrrt(source)
    save_template(template, out)
    text = "\n".join([*(f"Note: {note}" for note in notes), f"Wrote {out}: {len(template.sections)} sections."])
    data = {"command": "templates import", "id": template.id, "out": str(out), "notes": list(notes)}
    return Result(data, text)


def _read(study: Study, job: DraftJob, listener: Listener) -> tuple[Volume, SegmentationFile]:
    listener.say(f"Reading {study.volume} ...")
    volume = Volume.read(study.volume, series=study.series, nonfinite=job.nonfinite)
    for warning in volume.warnings:
        listener.say(f"Note: {warning}")
    if job.modality is not None:
        volume = replace(volume, modality=job.modality)
    return volume, read_segmentation(study.segmentation)


def _measured(volume: Volume, segmentation: SegmentationFile, prior: tuple[Volume, SegmentationFile] | None) -> Facts:
    from .measure import measure

    return measure(volume, segmentation, prior=prior)


def _context(path: Path | None, listener: Listener) -> ClinicalContext | None:
    if path is None:
        return None
    from .context import load_context

    context = load_context(path)
    for what in context.redacted:
        listener.say(f"Left out of the clinical context: {what}")
    return context


def _narrate(case: Case, job: DraftJob, volume: Volume, segmentation: SegmentationFile, listener: Listener) -> None:
    from .engines import load_engine

    report: Report = case.report
    engine = load_engine(job.engine, **job.engine_options)
    listener.say(f"Asking {job.engine} ...")
    case.save(report.with_narrative(engine, volume, segmentation).check(), str(job.engine), "narrative")


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
