# SPDX-License-Identifier: Apache-2.0
"""The part of the command line that makes reports: `foundation-report draft ...`, `narrate` and `templates ...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from FoundationSegLib.cli_base import Report, add_json
from FoundationSegLib.cli_models import add_accept
from FoundationSegLib.terminal import Terminal

from . import commands_draft, commands_suggest, commands_templates
from .case_files import REPORT
from .cli_models import add_models
from .commands_draft import DraftJob, EngineJob, Reading, Study

Command = Callable[[str, str, str | None], argparse.ArgumentParser]


def add_draft(command: Command) -> None:
    """Adds the command `draft`."""
    draft = command(
        "draft",
        "measure segments, draft a report from what was measured, and check it",
        "%(prog)s --volume FILE --segmentation FILE.seg.nrrd [--template NAME] --out CASE [more options]",
    )
    _add_study(draft)
    draft.add_argument("--out", type=Path, required=True, metavar="CASE", help="a new folder for the case")
    draft.add_argument(
        "--template", default="generic", metavar="NAME", help="see `templates list`, or a file (default: generic)"
    )
    draft.add_argument("--language", default="en", metavar="CODE", help="of the draft (default: en)")
    draft.add_argument(
        "--prior",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an earlier study, the oldest first: its volume, or its case or facts file",
    )
    draft.add_argument(
        "--prior-segmentation",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.seg.nrrd",
        help="what was drawn on the volume of --prior",
    )
    draft.add_argument("--prior-series", metavar="N", help="of several DICOM series of the earlier study, the one")
    draft.add_argument(
        "--targets",
        action="append",
        metavar="NAME",
        help="a RECIST target lesion; auto: the largest ones at baseline; none (default: those of the earlier study, "
        "else auto where the template lists targets)",
    )
    draft.add_argument(
        "--contrast", choices=("with", "without"), help="what you know of the contrast where the header does not say"
    )
    draft.add_argument(
        "--searched",
        action="append",
        default=[],
        metavar="ORGAN:FINDING",
        help="what was gone through in full, such as lung:nodule; only this can be reported as not found",
    )
    draft.add_argument("--context", type=Path, metavar="FHIR.json", help="a FHIR R4 bundle: age, indication, labs")
    draft.add_argument(
        "--answer",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what a category rule asks for and nobody can measure, such as density=solid",
    )
    draft.add_argument("--engine", metavar="MODEL", help="ask this vision-language model too (see `models`)")
    _add_engine(draft)
    draft.set_defaults(run=lambda parsed: _draft(parsed, draft))


def add_narrate(command: Command) -> None:
    """Adds the command `narrate`."""
    narrate = command(
        "narrate",
        "ask a vision-language model what it would add to a case; its sentences enter as unverified",
        "%(prog)s CASE --volume FILE --segmentation FILE.seg.nrrd --engine MODEL [more options]",
    )
    narrate.add_argument("case", type=Path, metavar="CASE")
    _add_study(narrate)
    narrate.add_argument("--engine", required=True, metavar="MODEL", help="see `models`; or a folder with a model")
    _add_engine(narrate)
    narrate.set_defaults(
        run=lambda parsed: commands_draft.narrate(
            parsed.case, _study(parsed), _reading(parsed), _engine(parsed), Terminal(parsed.accept_licence)
        )
    )
    add_models(command)


def add_suggest(command: Command) -> None:
    """Adds the commands `suggest` and `triage`."""
    suggest = command(
        "suggest",
        "score findings with an image-text model; nothing enters the report unless a person takes it over",
        "%(prog)s CASE --volume FILE --segmentation FILE.seg.nrrd --model NAME --findings FILE.json [more options]",
    )
    suggest.add_argument("case", type=Path, metavar="CASE")
    _add_study(suggest)
    suggest.add_argument("--model", required=True, metavar="NAME", help="an image-text model (see `models`)")
    suggest.add_argument(
        "--findings", type=Path, required=True, metavar="FILE.json", help="a list of name, statement, present, absent"
    )
    suggest.add_argument("--calibrations", type=Path, metavar="FILE.json", help="which make probabilities of scores")
    suggest.add_argument("--take", action="append", default=[], metavar="FINDING", help="take this one over")
    suggest.add_argument("--section", default="findings", help="into which section (default: findings)")
    suggest.add_argument("--by", default="", metavar="NAME", help="who takes it over")
    suggest.add_argument("--device", default="auto")
    suggest.add_argument("--slices", type=int, metavar="N", help="looked at, at most")
    add_accept(suggest)
    suggest.set_defaults(run=lambda parsed: _suggest(parsed, suggest))

    triage = command("triage", "print the order in which to read cases, and why", "%(prog)s CASE [CASE ...] [--json]")
    triage.add_argument("cases", type=Path, nargs="+", metavar="CASE")
    triage.set_defaults(run=lambda parsed: commands_suggest.triage(parsed.cases))


def add_templates(command: Command) -> None:
    """Adds the command `templates` and its own commands."""
    templates = command("templates", "list, show or import report templates", None)
    actions = templates.add_subparsers(required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="the shipped templates")
    listed.set_defaults(run=lambda parsed: commands_templates.list_templates())
    shown = actions.add_parser(
        "show", help="what a template reports and which answers it asks for; checked against the schema"
    )
    shown.add_argument("name", help="of a shipped template, or a file")
    shown.add_argument("--source", action="store_true", help="print its file, to make one of your own")
    shown.set_defaults(run=lambda parsed: commands_templates.show_template(parsed.name, parsed.source))
    imported = actions.add_parser("import", help="make a template of an MRRT HTML file")
    imported.add_argument("file", type=Path, metavar="FILE.html")
    imported.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    imported.set_defaults(run=lambda parsed: commands_templates.import_template(parsed.file, parsed.out))
    for action in (listed, shown, imported):
        add_json(action)


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--volume", type=Path, required=True, help="NRRD, NIfTI or MetaImage file, or a folder or zip with DICOM images"
    )
    parser.add_argument(
        "--segmentation", type=Path, required=True, metavar="FILE.seg.nrrd", help="what was drawn on it"
    )
    parser.add_argument("--series", metavar="N", help="of several DICOM series the one to read: number or UID")
    parser.add_argument("--modality", choices=("CT", "MR", "PT", "US"), help="where the file does not say")
    parser.add_argument(
        "--nonfinite", choices=("error", "minimum"), default="error", help="voxels without a value: refuse, or fill"
    )
    parser.add_argument(
        "--other-image",
        action="store_true",
        help="the segments were drawn on another image of the patient in the same position (the CT of a PET)",
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    group.add_argument("--slices", type=int, metavar="N", help="shown at most (default: as many as fit)")
    group.add_argument("--samples", type=int, default=0, metavar="K", help="further answers, to see whether they agree")
    group.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
    group.add_argument("--quantise", choices=("int8", "int4"), help="less memory on a GPU, other numbers")
    add_accept(group)  # type: ignore[arg-type]


def _study(parsed: argparse.Namespace) -> Study:
    return Study(parsed.volume, parsed.segmentation, parsed.series)


def _reading(parsed: argparse.Namespace) -> Reading:
    return Reading(parsed.modality, parsed.nonfinite, parsed.other_image)


def _engine(parsed: argparse.Namespace) -> EngineJob:
    return EngineJob(parsed.engine, parsed.device, parsed.slices, parsed.samples, parsed.seed, parsed.quantise or "")


def _suggest(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> Report:
    if parsed.take and not parsed.by.strip():
        parser.error("--take needs --by NAME: who takes the finding over")
    job = commands_suggest.SuggestJob(
        parsed.case,
        _study(parsed),
        _reading(parsed),
        parsed.model,
        parsed.findings,
        parsed.calibrations,
        parsed.device,
        parsed.slices,
        tuple(parsed.take),
        parsed.section,
        parsed.by,
    )
    return commands_suggest.suggest(job, Terminal(parsed.accept_licence))


def _draft(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> Report:
    job = DraftJob(
        study=_study(parsed),
        out=parsed.out,
        template=parsed.template,
        language=parsed.language,
        priors=_priors(parsed, parser),
        context=parsed.context,
        engine=_engine(parsed) if parsed.engine is not None else None,
        answers=parsed.answer,
        searched=parsed.searched,
        targets=parsed.targets,
        contrast=parsed.contrast or "",
        reading=_reading(parsed),
    )
    return commands_draft.draft(job, Terminal(parsed.accept_licence))


def _priors(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Study]:
    """Volumes take the segmentations in their order; cases and facts files take none."""
    measured = [path for path in parsed.prior if path.suffix == ".json" or (path / REPORT).exists()]
    images = [path for path in parsed.prior if path not in measured]
    if len(images) != len(parsed.prior_segmentation):
        parser.error("an earlier volume needs both --prior and --prior-segmentation")
    drawn = iter(parsed.prior_segmentation)
    return [Study(path, None if path in measured else next(drawn), parsed.prior_series) for path in parsed.prior]
