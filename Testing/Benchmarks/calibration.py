#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is the quality that a model predicts the quality that it reaches? From the rows of `accuracy.py`, on real volumes.

    python Testing/Benchmarks/accuracy.py --methods compact --only human --out build/benchmarks/ours
    python Testing/Benchmarks/calibration.py build/benchmarks/ours.json
    python Testing/Benchmarks/calibration.py build/benchmarks/ours.json --map Resources/Weights/compact.calibration.json

Prints reliability tables and writes OUT.json, OUT.md and OUT.png (the curve); `segbench/reliability.py` defines the
errors and their intervals. Predictions are taken as the session reported them: where the shipped map is applied
already, `--map` must not be given. Exit status 0, or 2 when there is nothing to compare.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from FoundationSegLib.compact.quality import ECE_BINS, QualityMap, expected_calibration_error
from FoundationSegLib.errors import ModelError
from segbench import environment, reliability, report
from segbench.reliability import Points

DEFAULT_OUT = environment.ROOT / "build" / "benchmarks" / "calibration"
AS_REPORTED, BY_MAP, LEFT_OUT = "as reported", "through the map", "recalibrated, leaving one patient out"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("accuracy", type=Path, help="JSON that accuracy.py wrote")
    parser.add_argument("--method", default="compact")
    parser.add_argument("--labels", default="human", choices=("human", "model", "unclear", "all"))
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME", help="tidy, untidy (default: both)")
    parser.add_argument("--map", type=Path, metavar="FILE", help="a calibration fitted elsewhere, to be tried as well")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="writes OUT.json, OUT.md, OUT.png")
    return parser.parse_args(arguments)


def read_points(options: argparse.Namespace) -> tuple[Points, dict[str, Any]]:
    """The predictions that the options name, and the document they are from. Raises ValueError with a sentence."""
    try:
        document = json.loads(options.accuracy.read_text(encoding="utf-8"))
        rows = document["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{options.accuracy} is no result of accuracy.py") from error
    chosen = [
        row
        for row in rows
        if row["method"] == options.method
        and options.labels in ("all", row["labels"])
        and (not options.variants or row["variant"] in options.variants)
    ]
    if any("predicted" not in row for row in chosen):
        raise ValueError(f"{options.accuracy} is of an older accuracy.py, without predicted IoUs; measure anew")
    points = reliability.points_of(chosen)
    if not len(points):
        raise ValueError(f"{options.accuracy} has no predicted IoU of {options.method} for these options")
    return points, document


def read_map(path: Path) -> QualityMap:
    """A stored map, whichever weights it belongs to. Raises ModelError, OSError, ValueError."""
    return QualityMap.from_dict(json.loads(path.read_text(encoding="utf-8")))


def draw(path: Path, versions: dict[str, Points], title: str) -> None:
    """The reliability curves, with the number of predictions per bin underneath."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 7), dpi=130)
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], "--", color="#888888", lw=1, label="right on average")
    colours = ("#0b6fb8", "#d1495b", "#3a9b5c")
    edges = np.linspace(0, 1, ECE_BINS + 1)
    for (name, points), colour in zip(versions.items(), colours, strict=False):
        places = reliability.curve(points)
        error = expected_calibration_error(points.predicted, points.reached)
        x, y = [place[3] for place in places], [place[4] for place in places]
        upper.plot(x, y, "o-", color=colour, ms=5, label=f"{name}: ECE {error:.3f}")
        lower.stairs(np.histogram(points.predicted, edges)[0], edges, color=colour)
    first = next(iter(versions.values()))
    upper.scatter(first.predicted, first.reached, s=5, color=colours[0], alpha=0.15, lw=0)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="IoU reached", title=title)
    upper.legend(loc="upper left", fontsize=8)
    lower.set(xlabel="IoU predicted", ylabel="predictions")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def main(arguments: list[str] | None = None) -> int:
    """Read, compare, print and write."""
    options = parse(arguments)
    try:
        points, document = read_points(options)
        quality = None if options.map is None else read_map(options.map)
    except (ModelError, OSError, ValueError) as error:
        print(f"calibration: {error}", file=sys.stderr)
        return 2
    versions = {AS_REPORTED: points}
    if quality is not None:
        versions[BY_MAP] = reliability.mapped(points, quality)
    left_out = reliability.leave_one_out(points)
    if left_out is not None:
        versions[LEFT_OUT] = left_out
    about = document["environment"]
    head = (
        f"{options.method}, structures labelled by: {options.labels}; measured {about['date']}, commit "
        f"{about['commit'][:12]}. Predicted and reached IoU of every prompt; definitions: segbench/reliability.py."
    )
    result: dict[str, Any] = {"benchmark": "FoundationSeg calibration", "about": head, "versions": {}}
    plain, marked = [head], ["# Calibration of the predicted IoU", head]
    for name, version in versions.items():
        lines = reliability.groups(version)
        header, cells = reliability.table(lines)
        plain.append(report.as_text(f"Predicted IoU {name}", header, cells))
        marked.append(report.as_markdown(f"Predicted IoU {name}", header, cells))
        bins = [[f"{a:.1f} to {b:.1f}", str(n), f"{x:.3f}", f"{y:.3f}"] for a, b, n, x, y in reliability.curve(version)]
        marked.append(
            report.as_markdown(f"Reliability curve, {name}", ["bin", "n", "mean predicted", "mean reached"], bins)
        )
        result["versions"][name] = {
            "groups": [{**dataclasses.asdict(line), "bias": line.bias} for line in lines],
            "curve": reliability.curve(version),
        }
    base = options.out
    base.parent.mkdir(parents=True, exist_ok=True)
    base.with_name(base.name + ".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    base.with_name(base.name + ".md").write_text("\n\n".join(marked) + "\n", encoding="utf-8")
    draw(base.with_name(base.name + ".png"), versions, f"{options.method}: {len(points)} predictions")
    print("\n\n".join(plain))
    return 0


if __name__ == "__main__":
    sys.exit(main())
