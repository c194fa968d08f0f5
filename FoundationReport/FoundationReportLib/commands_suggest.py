# SPDX-License-Identifier: Apache-2.0
"""What `suggest` and `triage` do: scores that a person looks at, and the order in which cases are read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from FoundationSegLib.cli_base import Report as Result
from FoundationSegLib.commands import Listener

from . import case as cases
from .case import Case
from .commands import report_data
from .commands_draft import Reading, Study, open_study
from .errors import EngineError
from .render import report_text
from .serialise import from_data, read_json


@dataclass(frozen=True)
class SuggestJob:
    """What `suggest` was asked for. `take`: findings that the person `by` takes over into `section` of the case."""

    case: Path
    study: Study
    reading: Reading
    model: str
    findings: Path
    calibrations: Path | None = None
    device: str = "auto"
    slices: int | None = None
    take: tuple[str, ...] = ()
    section: str = "findings"
    by: str = ""


def suggest(job: SuggestJob, listener: Listener) -> Result:
    """Scores findings on a case's image; those that are taken over become statements, accepted by a person."""
    from FoundationSegLib.hub.weights import Ask

    from .calibration import load_calibrations
    from .engines import Watch, load_zero_shot
    from .suggest import Finding, accept

    data = read_json(job.findings, EngineError)
    if not isinstance(data, list) or not data:
        raise EngineError(
            f"{job.findings}: It should be a list of findings, each with name, statement, present, absent."
        )
    findings = [from_data(Finding, item, f"{job.findings}: finding {n}", EngineError) for n, item in enumerate(data, 1)]
    if unknown := sorted(set(job.take) - {finding.name for finding in findings}):
        raise EngineError(f'{job.findings} has no finding "{unknown[0]}"; take one of those it has.')
    calibrations = load_calibrations(job.calibrations) if job.calibrations is not None else None
    progress = listener.weights(job.model)
    model = load_zero_shot(job.model, job.device, Ask(listener.consent, progress, listener.cancel))
    with Case.open(job.case) as case:
        volume, masks = open_study(job.study, job.reading, case.report, listener)
        listener.say(f"Asking {job.model} ...")
        found = model.suggest(
            volume, findings, calibrations, masks, Watch(listener.cancel, progress=progress), job.slices
        )
        report = case.report
        for item in found:
            if item.finding in job.take:
                report = accept(report, item, job.section, job.by).check()
                case.save(report, job.by, "suggestion", {"finding": item.finding, "score": item.score})
        result = report_data("suggest", case.report, case.head)
    result["suggestions"] = [asdict(item) for item in found]
    lines = [
        f"{item.score:.2f}  {item.finding:<28} "
        + (f"probability, calibrated on {item.calibrated}" if item.calibrated else "score, not calibrated")
        + f"; slices {', '.join(str(k) for k in item.slices[:5])}"
        for item in found
    ]
    if job.take:
        lines += ["", report_text(report)]
    return Result(result, "\n".join(lines))


def triage(folders: list[Path]) -> Result:
    """Cases in the order in which to read them, each with the reason."""
    from .triage import LEVELS, Study, in_words, triage

    places = triage(Study(str(folder), cases.read_report(folder).facts) for folder in folders)
    data = [{**asdict(place), "level": LEVELS[place.level]} for place in places]
    return Result({"command": "triage", "worklist": data}, in_words(places))
