# SPDX-License-Identifier: Apache-2.0
"""The command `foundation-seg`.

Exit status: 0 success, 1 a failure that is named in one sentence, 2 wrong use, 130 cancelled. Results go to standard
output (with --json one object), all else to standard error.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__, commands
from .catalogue import EMBEDDED
from .cli_base import Parser, Report, add_json, run
from .cli_models import add_accept, add_models
from .compact.runtime import DEVICES
from .demo import demo_case
from .errors import PromptError
from .prompts import Box, Point, Prompt, SegmentPrompts, load_prompts
from .segmentation_io import SUFFIX
from .terminal import Terminal

_NUMBERS = re.compile(r"-[\d.]")
_TAKES_NUMBERS = ("--point", "--negative", "--box")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    return run(_parser, _joined(given))


class _AddPrompt(argparse.Action):
    """Collects points and boxes in the order in which they are given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            if self.dest == "box":
                low, high = zip(*(sorted(pair) for pair in zip(values[:3], values[3:], strict=True)), strict=True)
                prompt: Prompt = Box(low, high)
            else:
                prompt = Point(values, positive=self.dest == "point")
        except PromptError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        namespace.given = [*namespace.given, prompt]


def _numbers(count: int) -> Any:
    def parse(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {count} numbers in mm with commas between them, such as {example}"
            )
        return values

    example = ",".join(("-12.5", "40", "88", "20", "90", "120")[:count])
    return parse


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="foundation-seg",
        description="Segments structures in CT, MR and PET volumes from a few prompts. Not for clinical use.",
        epilog="Exit status: 0 success, 1 a named failure (for replay: a segment differs), 2 wrong use, 130 cancelled.",
    )
    parser.add_argument("--version", action="version", version=f"foundation-seg {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    segment = subparsers.add_parser(
        "segment",
        help="segment a volume from points, boxes or a prompt file",
        usage=f"%(prog)s VOLUME (--point R,A,S ... | --prompts FILE.json) --out FILE{SUFFIX} [more options]",
    )
    segment.add_argument(
        "volume", type=Path, help="NRRD, NIfTI or MetaImage file, or a folder or zip with DICOM images"
    )
    segment.add_argument("--out", type=Path, required=True, metavar=f"FILE{SUFFIX}", help="the segmentation to write")
    segment.add_argument("--picture", type=Path, metavar="FILE.png", help="write three planes and a 3-D view")
    segment.add_argument("--table", type=Path, metavar="FILE.csv", help="write volume, extents and intensity")
    _add_prompt_options(segment)
    _add_reading_options(segment)
    segment.set_defaults(run=lambda parsed: _segment(parsed, segment))

    demo = subparsers.add_parser(
        "demo",
        help="segment a sample CT, or a volume of your own, into one folder",
        usage="%(prog)s [VOLUME (--point R,A,S ... | --prompts FILE.json)] [--out FOLDER] [more options]",
    )
    demo.add_argument("volume", type=Path, nargs="?", help="a volume of your own, with prompts (default: the sample)")
    demo.add_argument("--out", type=Path, default=Path("demo-output"), metavar="FOLDER", help="default: demo-output")
    _add_prompt_options(demo)
    _add_reading_options(demo)
    demo.set_defaults(run=lambda parsed: _demo(parsed, demo))

    replay = subparsers.add_parser("replay", help="make segments anew from their stored prompts, and compare")
    replay.add_argument("segmentation", type=Path, help=f"a {SUFFIX} file that FoundationSeg saved")
    replay.add_argument("--volume", type=Path, help="what it was made from (default: found beside it by fingerprint)")
    replay.add_argument("--series", metavar="N", help="number or UID of the DICOM series")
    replay.add_argument("--out", type=Path, metavar=f"FILE{SUFFIX}", help="write the new segments")
    replay.add_argument("--device", choices=DEVICES, help="default: the one recorded in the file")
    add_json(replay)
    replay.set_defaults(run=lambda parsed: _replay(parsed, replay))

    add_models(subparsers, add_json, Terminal)
    return parser


def _add_prompt_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("prompts", "Positions are RAS millimetres, as 3D Slicer shows them.")
    group.add_argument("--point", action=_AddPrompt, type=_numbers(3), metavar="R,A,S", help="a click on the structure")
    group.add_argument("--negative", action=_AddPrompt, type=_numbers(3), metavar="R,A,S", help="a click beside it")
    group.add_argument(
        "--box", action=_AddPrompt, type=_numbers(6), metavar="R0,A0,S0,R1,A1,S1", help="two corners of a box around it"
    )
    group.add_argument("--segment", metavar="NAME", help='its name ("Left kidney"); of a prompt file, only this one')
    group.add_argument("--prompts", type=Path, metavar="FILE.json", help="prompts of one or several segments")
    parser.set_defaults(given=[])


def _add_reading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--series", metavar="N", help="of several DICOM series the one to read: number or UID")
    parser.add_argument(
        "--nonfinite", choices=("error", "minimum"), default="error", help="voxels without a value: refuse, or fill"
    )
    parser.add_argument("--modality", choices=("CT", "MR", "PT", "US"), help="where the file does not say")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help=f"see `foundation-seg models list` (default: {EMBEDDED}, or what a checkpoint fits)",
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="your own or fine-tuned weights of a known model"
    )
    parser.add_argument("--fallback", metavar="NAME", help="the model to use if the first does not fit in memory")
    add_accept(parser)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    add_json(parser)


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--point -12,3,4` as `--point=-12,3,4`: argparse takes what begins with a hyphen for an option."""
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] in _TAKES_NUMBERS and _NUMBERS.match(argument):
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result


def _segment(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> Report:
    _check_outputs(parser, [parsed.volume, parsed.prompts], [parsed.out, parsed.picture, parsed.table])
    _check_suffix(parser, "--out", parsed.out, SUFFIX)
    _check_suffix(parser, "--picture", parsed.picture, ".png")
    _check_suffix(parser, "--table", parsed.table, ".csv")
    plan = _plan(parsed, parser)
    job = commands.SegmentJob(parsed.volume, plan, parsed.out, parsed.picture, parsed.table, **_reading(parsed))
    return commands.segment(job, Terminal(parsed.accept_licence))


def _demo(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> Report:
    case = demo_case() if parsed.volume is None else None
    if case is not None:
        parsed.volume, parsed.modality = case.volume, parsed.modality or case.modality
        if not parsed.given and parsed.prompts is None:
            parsed.prompts = case.prompts
    out, picture, table = (parsed.out / name for name in (f"segmentation{SUFFIX}", "picture.png", "table.csv"))
    _check_outputs(parser, [parsed.volume, parsed.prompts], [out, picture, table])
    reference = case.reference if case is not None else None
    plan = _plan(parsed, parser)
    job = commands.SegmentJob(parsed.volume, plan, out, picture, table, reference=reference, **_reading(parsed))
    return commands.demo(job, Terminal(parsed.accept_licence), beside=case is not None)


def _replay(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> Report:
    _check_outputs(parser, [parsed.segmentation, parsed.volume], [parsed.out])
    _check_suffix(parser, "--out", parsed.out, SUFFIX)
    if parsed.series is not None and parsed.volume is None:
        parser.error("--series chooses a series of --volume; give that too")
    return commands.replay(parsed.segmentation, parsed.volume, parsed.series, parsed.out, parsed.device, Terminal())


def _reading(parsed: argparse.Namespace) -> dict[str, Any]:
    return {
        name: getattr(parsed, name)
        for name in ("series", "nonfinite", "modality", "model", "device", "checkpoint", "fallback")
    }


def _plan(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> list[SegmentPrompts]:
    """The segments to make, from the options or from the prompt file."""
    if parsed.prompts is None:
        if not parsed.given:
            parser.error("no prompt is given; add --point R,A,S, --box R0,A0,S0,R1,A1,S1 or --prompts FILE.json")
        return [SegmentPrompts((parsed.segment or "").strip() or "Segment", (tuple(parsed.given),))]
    if parsed.given:
        parser.error("prompts are given twice; use --prompts, or --point, --negative and --box")
    plan = load_prompts(parsed.prompts)
    if parsed.segment is None:
        return plan
    chosen = [item for item in plan if item.name == parsed.segment]
    if not chosen:
        names = ", ".join(f'"{item.name}"' for item in plan)
        raise PromptError(f'The prompt file {parsed.prompts} has no segment "{parsed.segment}"; it has {names}.')
    return chosen


def _check_outputs(
    parser: argparse.ArgumentParser, inputs: Sequence[Path | None], outputs: Sequence[Path | None]
) -> None:
    """No output takes the place of an input or of another output."""
    taken = [os.path.realpath(path) for path in inputs if path is not None]
    for path in outputs:
        if path is None:
            continue
        real = os.path.realpath(path)
        if real in taken or any(_same_file(real, other) for other in taken):
            parser.error(f"{path} would be written over a file that is read or written too; choose another name for it")
        taken.append(real)


def _same_file(a: str, b: str) -> bool:
    """Also under another spelling: letter case, hard links."""
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def _check_suffix(parser: argparse.ArgumentParser, option: str, path: Path | None, suffix: str) -> None:
    if path is not None and not path.name.lower().endswith(suffix):
        parser.error(f"let {option} end in {suffix}, not {path.name!r}")
