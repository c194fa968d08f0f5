#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Variants of the compact model side by side: other weights, other ways of laying the region. One table, one run.

    python Testing/Benchmarks/ablation.py base prior:size_prior=0.2 long:weights=runs/long/onnx,touch=0.02
    python Testing/Benchmarks/ablation.py base new:weights=DIR --volumes 12 --cases msd_hippocampus_001 sts_001_ct

A variant is NAME, or NAME:KEY=VALUE,...: `weights` is a folder of exported weights (default: the shipped ones), every
other key a field of `RegionPolicy`. All variants get the same structures: a fixed set of synthetic volumes, which is
what a choice may be based on, and real ones only where they are named with --cases, to see whether a gain holds.
Prompts are those of `accuracy.py`. Rows of the table are variants; the first one is what the others are compared with.
Exit status 0, 1 when a prediction failed, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from FoundationSegLib.compact.calibrate import CalibrationConfig, load_folder, synthetic_cases
from FoundationSegLib.compact.quality import expected_calibration_error
from FoundationSegLib.errors import FoundationSegError
from FoundationSegLib.region_segmenter import RegionModel, RegionPolicy
from FoundationSegLib.resources import resource_folder
from FoundationSegLib.volume import Volume
from segbench import cases, environment, methods, report
from segbench.metrics import BoolArray, SurfaceScore
from segbench.regions import Grid
from segbench.simulate import SERIES, VARIANTS, Target, run_series

Row = dict[str, Any]
DEFAULT_DATA = environment.ROOT.parent / "shared" / "data"
DEFAULT_OUT = environment.ROOT / "build" / "benchmarks" / "ablation"
# Neither the seed of the training nor that of the calibration: what is compared here was seen by neither.
VALIDATION_SEED = 20_260_301
COLUMNS = (("clicks", 1), ("clicks", 3), ("clicks", 5), ("clicks", 10), ("box", 0), ("box", 2), ("strokes", 1))
GROUPS = ("synthetic", "real organs", "real lesions")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row: a name, the folder of the weights, and what differs from that model's own policy."""

    name: str
    weights: Path
    policy: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Variant:
        """From `NAME` or `NAME:KEY=VALUE,...`. Raises ValueError with a sentence."""
        name, _, rest = text.partition(":")
        known = [field.name for field in dataclasses.fields(RegionPolicy)]
        weights, policy = resource_folder("Weights"), {}
        for part in filter(None, rest.split(",")):
            key, given, value = part.partition("=")
            if not given or key not in ("weights", *known):
                raise ValueError(f"the variant {text!r} has {part!r}; give weights=FOLDER or one of {', '.join(known)}")
            if key == "weights":
                weights = Path(value)
            else:
                try:
                    policy[key] = json.loads(value.replace("None", "null"))
                except ValueError:
                    raise ValueError(f"the variant {text!r} has {part!r}; its value must be a number or null") from None
        if not name:
            raise ValueError(f"the variant {text!r} has no name")
        return cls(name, weights, policy)

    def model(self) -> RegionModel:
        """The loaded model. Raises ModelError."""
        loaded = load_folder(self.weights)
        return dataclasses.replace(loaded, policy=dataclasses.replace(loaded.policy, **self.policy))


@dataclasses.dataclass(frozen=True)
class Scene:
    """A volume with named targets, and the group of rows that they count into."""

    name: str
    volume: Volume
    targets: tuple[tuple[str, str, BoolArray], ...]  # (group, name, mask)


def scenes(options: argparse.Namespace) -> Iterator[Scene]:
    """The synthetic validation volumes, then the real ones that were named."""
    config = CalibrationConfig(seed=VALIDATION_SEED, volumes=options.volumes, size=options.size)
    for drawn in synthetic_cases(config):
        targets = tuple(("synthetic", f"target {number}", mask) for number, mask in enumerate(drawn.targets))
        yield Scene(drawn.name, drawn.volume, targets)
    if not options.cases:
        return
    known = cases.load_cases(options.data)
    for case in cases.choose(known, names=options.cases, structures=options.structures, most=options.max_structures):
        for image in dict.fromkeys(structure.image for structure in case.structures):
            chosen = [structure for structure in case.structures if structure.image == image]
            masks = tuple((f"real {entry.kind}s", entry.name, case.reference(entry)[0]) for entry in chosen)
            yield Scene(case.name, Volume.read(case.folder / image), masks)


def measure(models: dict[str, RegionModel], options: argparse.Namespace) -> list[Row]:
    """All rows: variants times structures times series. Scenes are the outer loop, so each is made once."""
    used = {name: methods.OwnModel(name, model) for name, model in models.items()}
    rows: list[Row] = []
    for scene in scenes(options):
        grid = Grid(scene.volume.shape, np.asarray(scene.volume.ijk_to_ras))
        prepared = [
            (group, Target((scene.name, name), mask, grid, SurfaceScore(mask, grid.spacing_kji.tolist())))
            for group, name, mask in scene.targets
        ]
        for name, method in used.items():
            method.open(scene.volume)
            for group, target in prepared:
                for series in options.series:
                    found = run_series(method, target, series, options.prompts, options.clicks, options.seed, _log)
                    about = {"variant": name, "group": group, "case": scene.name, "structure": target.key[1]}
                    rows.append({**about, "series": series, **dataclasses.asdict(found)})
        _log(f"{scene.name}: {len(rows)} rows")
    return rows


def table(rows: Sequence[Row], group: str, names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """One line per variant: mean Dice, its difference to the first variant's, and what else may have changed."""
    mine = [row for row in rows if row["group"] == group]
    columns = [
        (series, at) for series, at in COLUMNS if any(row["series"] == series and at in row["at"] for row in mine)
    ]
    titles = [f"box+{at}" if series == "box" else f"{series.rstrip('s')} {at}" for series, at in columns]
    header = ["variant", "n", *titles, "mean", "to first", ">=.80", "falls", "ECE", "s first", "s next", "failed"]
    cells: list[list[str]] = []
    first: float | None = None
    for name in names:
        own = [row for row in mine if row["variant"] == name]
        means = [report.mean_at([row for row in own if row["series"] == series], "dice", at) for series, at in columns]
        mean = statistics.fmean([value for value in means if value is not None])
        first = mean if first is None else first
        falls = [
            fall
            for series in dict.fromkeys(row["series"] for row in own)
            for _, fall in report.worse_steps([row for row in own if row["series"] == series], "dice")
        ]
        share = report.reached([row for row in own if row["series"] == "clicks"])
        answered = [
            (predicted, reached)
            for row in own
            for predicted, reached, _ in zip(row["predicted"], row["iou"], row["prompts"], strict=False)
            if predicted is not None
        ]
        ece = expected_calibration_error([a for a, _ in answered], [b for _, b in answered]) if answered else None
        starts = [row["seconds"][0] for row in own]
        nexts = [seconds for row in own for seconds in row["seconds"][1:]]
        cells.append(
            [
                name,
                str(len({(row["case"], row["structure"]) for row in own})),
                *("-" if value is None else f"{value:.3f}" for value in means),
                f"{mean:.3f}",
                f"{mean - first:+.3f}",
                "-" if share is None else f"{share:.2f}",
                f"{sum(falls):.3f}",
                "-" if ece is None else f"{ece:.3f}",
                f"{statistics.median(starts):.2f}",
                f"{statistics.median(nexts):.2f}" if nexts else "-",
                str(sum(row["failures"] for row in own)),
            ]
        )
    return header, cells


def _log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="NAME or NAME:KEY=VALUE,...")
    parser.add_argument("--volumes", type=int, default=8, help="synthetic volumes, two targets each (default: 8)")
    parser.add_argument("--size", type=int, default=96, help="voxels along an edge of a synthetic volume")
    parser.add_argument("--cases", nargs="+", default=[], metavar="NAME", help="real cases as well")
    parser.add_argument("--structures", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--max-structures", type=int, metavar="N", help="at most N per real case, evenly over size")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with index.json (default: shared data)")
    parser.add_argument("--series", nargs="+", choices=SERIES, default=["clicks", "box"])
    parser.add_argument("--prompts", choices=VARIANTS, default="tidy")
    parser.add_argument("--clicks", type=int, default=5, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="for untidy prompts")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="writes OUT.json and OUT.md (default: build/)")
    options = parser.parse_args(arguments)
    if options.clicks < 1 or options.volumes < 0 or options.size < 32:
        parser.error("--clicks must be at least 1, --volumes 0 and --size 32")
    if not options.volumes and not options.cases:
        parser.error("there is nothing to measure on: give --volumes or --cases")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    options = parse(arguments)
    try:
        variants = [Variant.parse(text) for text in options.variants]
        if len({variant.name for variant in variants}) < len(variants):
            raise ValueError("two variants have one name")
        models = {variant.name: variant.model() for variant in variants}
        rows = measure(models, options)
    except (cases.DataError, FoundationSegError, ValueError) as error:
        _log(f"ablation: {error}")
        return 2
    about = environment.describe()
    head = (
        f"{about['date']}, commit {about['commit'][:12]}; {options.prompts} prompts; mean Dice; falls: the sum of all "
        "steps by which a further prompt made the mean worse; seconds are medians and depend on what else runs."
    )
    said = [
        f"{variant.name}: weights {models[variant.name].identity.sha256[:12]}, policy {variant.policy or 'its own'}"
        for variant in variants
    ]
    plain, marked = [head, "\n".join(said)], ["# Ablation", head, "\n".join(f"- {line}" for line in said)]
    for group in GROUPS:
        if any(row["group"] == group for row in rows):
            header, cells = table(rows, group, list(models))
            plain.append(report.as_text(group.capitalize(), header, cells))
            marked.append(report.as_markdown(group.capitalize(), header, cells))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    document = {"benchmark": "FoundationSeg ablation", "environment": about, "variants": said, "rows": rows}
    options.out.with_name(options.out.name + ".json").write_text(
        json.dumps(document, indent=1) + "\n", encoding="utf-8"
    )
    options.out.with_name(options.out.name + ".md").write_text("\n\n".join(marked) + "\n", encoding="utf-8")
    print("\n\n".join(plain))
    return 1 if any(row["failures"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
