#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How good are the masks that clicks and boxes give, ours beside what Slicer users have today, in one run?

    python Testing/Benchmarks/accuracy.py                                   # everything, about an hour or two
    python Testing/Benchmarks/accuracy.py --only human --cache DIR          # peers from DIR where nothing changed
    python Testing/Benchmarks/accuracy.py --methods compact --cases msd_hippocampus_001 --clicks 3

Prompts are simulated on volumes with reference labels (`segbench/clicks.py` defines them); after every prompt Dice and
normalised surface Dice are taken on the volume's own grid. Tables are printed, and written as JSON and Markdown.
Model-labelled cases measure agreement with another model; by default they are thinned to ten structures each.
A table is no test: the exit status is 0 when every prediction worked, 1 when one failed, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from segbench import cases, environment, methods, report
from segbench.cache import Cache
from segbench.metrics import SurfaceScore
from segbench.regions import Grid
from segbench.simulate import SERIES, VARIANTS, Target, run_series

if TYPE_CHECKING:
    from FoundationSegLib.volume import Volume

DEFAULT_DATA = environment.ROOT.parent / "shared" / "data"
DEFAULT_OUT = environment.ROOT / "build" / "benchmarks" / "accuracy"
MODEL_LABELLED_STRUCTURES = 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the rows depend on besides data and method; written into the result."""

    clicks: int
    series: tuple[str, ...]
    variants: tuple[str, ...]
    seed: int
    tolerance_mm: float
    tell_modality: bool


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    known = ", ".join(methods.NAMES)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with index.json (default: shared data)")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"default: all of {known}; or a catalogue model")
    parser.add_argument("--cases", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--structures", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--only", choices=("human", "model", "unclear"), help="only structures labelled so")
    parser.add_argument("--kind", choices=("organ", "lesion"))
    parser.add_argument("--max-structures", type=int, metavar="N", help="at most N per case, evenly over size")
    parser.add_argument(
        "--model-structures",
        type=int,
        default=MODEL_LABELLED_STRUCTURES,
        metavar="N",
        help="at most N per model-labelled case, evenly over size; 0 for all (default: %(default)s)",
    )
    parser.add_argument("--clicks", type=int, default=10, metavar="N")
    parser.add_argument("--series", nargs="+", choices=SERIES, default=["clicks", "box"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["tidy"])
    parser.add_argument("--seed", type=int, default=0, help="for untidy prompts")
    parser.add_argument("--tolerance", type=float, default=2.0, metavar="MM", help="of the NSD")
    parser.add_argument("--tell-modality", action="store_true", help="give the index's modality to the volume")
    parser.add_argument("--workers", type=int, default=1, help="processes, one case each")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="read and keep the peers' rows here")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="writes OUT.json and OUT.md (default: build/)")
    options = parser.parse_args(arguments)
    if options.clicks < 1 or options.workers < 1:
        parser.error("--clicks and --workers must be at least 1")
    return options


def read_volume(case: cases.Case, image: str, tell_modality: bool) -> Volume:
    """One image of a case as a user would read it (NIfTI does not say its modality)."""
    from FoundationSegLib.volume import Volume

    volume = Volume.read(case.folder / image)
    return dataclasses.replace(volume, modality=case.modality) if tell_modality else volume


def same_grid(volume: Volume, shape: tuple[int, ...], matrix: np.ndarray) -> bool:
    """Whether labels lie on a volume's grid, to a hundredth of a voxel over its whole extent."""
    if tuple(volume.shape) != tuple(shape):
        return False
    corners = np.array([[i, j, k, 1] for i in (0, shape[2]) for j in (0, shape[1]) for k in (0, shape[0])], float)
    shift = np.linalg.norm((corners @ (np.asarray(volume.ijk_to_ras) - matrix).T)[:, :3], axis=1)
    return bool(shift.max() < 0.01 * min(volume.spacing_mm))


def measure_case(
    case: cases.Case, names: list[str], settings: Settings, cache_folder: Path | None
) -> tuple[list[report.Row], dict[str, Any]]:
    """Every row of one case, and the settings that the methods report. Runs in its own process with --workers."""
    cache = Cache(cache_folder)
    used = {name: methods.make(name) for name in names}
    rows: list[report.Row] = []
    for image in dict.fromkeys(structure.image for structure in case.structures):
        volume = read_volume(case, image, settings.tell_modality)
        opened: set[str] = set()
        for structure in (entry for entry in case.structures if entry.image == image):
            mask, matrix = case.reference(structure)
            if not same_grid(volume, mask.shape, matrix):
                raise cases.DataError(f"the labels of {case.name} do not lie on the grid of {image}")
            grid = Grid(volume.shape, np.asarray(volume.ijk_to_ras))
            surface = SurfaceScore(mask, grid.spacing_kji.tolist(), settings.tolerance_mm)
            target = Target((case.name, structure.name), mask, grid, surface)
            for name, method in used.items():
                for variant in settings.variants:
                    for series in settings.series:
                        if series != "box" and method.needs_box:
                            continue
                        fixed = {
                            "case": case.name,
                            "patient": case.patient,
                            "structure": structure.name,
                            "kind": structure.kind,
                            "labels": case.group,
                            "modality": case.modality,
                            "image": image,
                            "voxels": int(np.count_nonzero(mask)),
                            "ml": float(np.count_nonzero(mask) * abs(np.linalg.det(grid.ijk_to_ras[:3, :3])) / 1000),
                            "variant": variant,
                            "series": series,
                            "method": name,
                        }
                        key = {
                            **fixed,
                            "files": case.sha256(structure),
                            "label": structure.value,
                            "volume": volume.fingerprint,
                            "clicks": settings.clicks,
                            "seed": settings.seed,
                            "tolerance_mm": settings.tolerance_mm,
                            "settings": method.settings() if method.cacheable else None,
                        }
                        row = cache.get(key) if method.cacheable else None
                        if row is not None:
                            rows.append({**row, "cached": True})
                            continue
                        if name not in opened:
                            method.open(volume)
                            opened.add(name)
                        measured = run_series(method, target, series, variant, settings.clicks, settings.seed, _log)
                        row = {**fixed, **dataclasses.asdict(measured), "cached": False}
                        rows.append(row)
                        if method.cacheable and not measured.failures:
                            cache.put(key, row)
    return rows, {name: method.settings() for name, method in used.items()}


def _log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(content, encoding="utf-8")
    draft.replace(path)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what the options name; the document is written anew after every case, so a killed run keeps its rows."""
    from FoundationSegLib.errors import VolumeError

    chosen = cases.choose(
        cases.load_cases(options.data),
        names=options.cases,
        structures=options.structures,
        group=options.only,
        kind=options.kind,
        most=options.max_structures,
        most_model=options.model_structures or None,
    )
    if not chosen:
        raise cases.DataError("no structure is left after --cases, --structures, --only and --kind")
    names = list(dict.fromkeys(options.methods or methods.NAMES))
    left_out = {name: reason for name in names if (reason := methods.missing(name))}
    if options.methods and left_out:
        raise cases.DataError("; ".join(left_out.values()))
    names = [name for name in names if name not in left_out]
    settings = Settings(
        options.clicks,
        tuple(options.series),
        tuple(options.variants),
        options.seed,
        options.tolerance,
        options.tell_modality,
    )
    document: dict[str, Any] = {
        "benchmark": "FoundationSeg accuracy",
        "environment": environment.describe(),
        "settings": {**dataclasses.asdict(settings), "model_structures_per_case": options.model_structures},
        "left_out": left_out,
        "skipped": {case.name: case.skipped for case in chosen if case.skipped},
        "methods": {},
        "failed_cases": {},
        "complete": False,
        "rows": [],
        "summary": [],
    }
    found: dict[str, list[report.Row]] = {}

    def keep(case: cases.Case, measured: Callable[[], tuple[list[report.Row], dict[str, Any]]]) -> None:
        try:
            rows, used = measured()
        except (cases.DataError, VolumeError) as error:  # one unreadable volume must not cost the rows of the others
            rows, used = [], {}
            document["failed_cases"][case.name] = str(error)
        found[case.name] = rows
        document["methods"].update(used)
        document["rows"] = [row for entry in chosen for row in found.get(entry.name, [])]
        document["summary"] = report.summarise(document["rows"])
        document["complete"] = len(found) == len(chosen)
        _write(options.out.with_name(options.out.name + ".json"), json.dumps(document, indent=1) + "\n")
        seconds = sum(sum(row["seconds"]) for row in rows if not row["cached"])
        _log(f"{len(found)}/{len(chosen)} {case.name}: {len(rows)} rows, {seconds:.0f} s in predictions")

    if options.workers == 1:
        for case in chosen:
            keep(case, partial(measure_case, case, names, settings, options.cache))
    else:
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            jobs = {pool.submit(measure_case, case, names, settings, options.cache): case for case in chosen}
            for job in as_completed(jobs):
                keep(jobs[job], job.result)
    _write(options.out.with_name(options.out.name + ".md"), report.markdown(document))
    return document


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and say by the exit status whether every prediction worked."""
    options = parse(arguments)
    try:
        from FoundationSegLib.errors import FoundationSegError
    except ImportError:
        _log("accuracy: FoundationSegLib cannot be imported; install the project first (pip install -e '.[test]')")
        return 2
    try:
        document = run(options)
    except (cases.DataError, FoundationSegError) as error:
        _log(f"accuracy: {error}")
        return 2
    print(report.text(document))
    return 1 if document["failed_cases"] or any(row["failures"] for row in document["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
