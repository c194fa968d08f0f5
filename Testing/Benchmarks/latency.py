#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long does a person wait, on a CT of 512 x 512 x 300, beside what can run here without a download?

    python Testing/Benchmarks/latency.py                     # on a real chest CT where the shared data are, else drawn
    python Testing/Benchmarks/latency.py --repeats 5 --out latency

Every repeat starts one fresh process per system, one after the other, so that a load on the machine falls on all of
them; the table gives the median of the repeats and the ratio to ours in the same repeat. The prompts are the same for
all, and the peers work in the very region that our model looked at (at most 56^3 and 80^3 voxels of it, see
`segbench/baselines.py`). "Mask" means the boolean array of the whole volume in hand. A timing never decides a test.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from segbench import cases, clicks, environment, phantom, report

DEFAULT_DATA = environment.ROOT.parent / "shared" / "data"
PEERS = ("random-walker", "grow-from-seeds")
IMPORTS = {
    "FoundationSegLib": "import FoundationSegLib",
    "random-walker": "from skimage.segmentation import random_walker",
    "grow-from-seeds": "import slicer_core.vtkSlicerSegmentationsModuleLogic",
}
HEAVY = ("torch", "scipy", "SimpleITK", "onnxruntime", "monai", "transformers", "matplotlib", "vtk")
RESAMPLING = "of each prompt: resampling"
# A second object beside the first: near enough to be in the same region, far enough to be another click.
BESIDE_MM = 6.0


@dataclasses.dataclass
class Measured:
    """Seconds (wall, CPU) by what was done, in one process; counts of encoder runs; memory in MiB."""

    wall: dict[str, float] = dataclasses.field(default_factory=dict)
    cpu: dict[str, float] = dataclasses.field(default_factory=dict)
    encoder_runs: dict[str, int] = dataclasses.field(default_factory=dict)
    memory_mib: dict[str, float | None] = dataclasses.field(default_factory=dict)
    region: list[list[int]] = dataclasses.field(default_factory=list)
    stages: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def time(self, what: str, call: Callable[[], Any]) -> Any:
        """Run, and keep how long it took under a name."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        self.wall[what] = time.perf_counter() - wall
        self.cpu[what] = time.process_time() - cpu
        return result


def peak_memory_mib() -> float | None:
    """Largest resident set of this process so far; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss: under Linux a process that was just started inherits its parent's.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    try:
        import resource
    except ImportError:
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 2**10)


def prompts(scene: phantom.Phantom, count: int) -> list[tuple[list[float], bool]]:
    """The clicks of a patient person: the deepest place, then by turns in the target and close outside it (RAS mm)."""
    from scipy import ndimage

    spacing = np.linalg.norm(scene.ijk_to_ras[:3, :3], axis=0)[::-1].tolist()
    shell = ndimage.binary_dilation(scene.target, iterations=8) & ~ndimage.binary_dilation(scene.target, iterations=4)
    result = []
    for number in range(count):
        positive = number % 2 == 0
        rng = clicks.generator("latency", number) if number else None
        place = clicks.first_click(scene.target if positive else shell, spacing, rng).kji
        result.append(((scene.ijk_to_ras @ [*place[::-1], 1])[:3].tolist(), positive))
    return result


def run_own(work: Path, given: list[tuple[list[float], bool]], model: str) -> Measured:
    """One warm process of the project's own model, through the public calls only."""
    from FoundationSegLib import Point, SegmentationSession, Volume

    measured = Measured()
    array = np.load(work / "array.npy")
    matrix = np.load(work / "matrix.npy")
    volume = Volume(array, matrix, "CT")
    del array
    # A small volume warms the process: model loaded, the runtime's buffers and threads made.
    noise = np.random.default_rng(0).normal(0, 50, (40, 40, 40)).astype(np.int16)
    warm = SegmentationSession(Volume(noise, np.eye(4), "CT"), model=model)
    measured.time("model's first mask in the process (tiny volume)", lambda: warm.add("warm", Point((20, 20, 20))))
    measured.memory_mib["before"] = peak_memory_mib()
    session = measured.time("session on the volume", lambda: SegmentationSession(volume, model=model))

    def ask(segment: str, ras: list[float], positive: bool) -> Any:
        result = session.add(segment, Point((ras[0], ras[1], ras[2]), positive))
        session.mask(segment)
        return result

    def timed(what: str, segment: str, ras: list[float], positive: bool) -> Any:
        before = session.cache.misses
        result = measured.time(what, lambda: ask(segment, ras, positive))
        measured.encoder_runs[what] = session.cache.misses - before
        measured.stages[what] = {stage: float(seconds) for stage, seconds in result.timings.items()}
        return result

    first = timed("first mask", "first", *given[0])
    for number, (ras, positive) in enumerate(given[1:], start=2):
        timed(f"click {number}", "first", ras, positive)
    timed("second object, same place", "second", *given[0])
    beside = [given[0][0][0] + BESIDE_MM, *given[0][0][1:]]
    timed("second object, 6 mm beside", "third", beside, True)
    measured.time("undo", lambda: session.undo("first"))
    measured.memory_mib["peak"] = peak_memory_mib()
    measured.region = [[part.start, part.stop] for part in first.region_box]
    return measured


def run_peer(work: Path, given: list[tuple[list[float], bool]], name: str, region: list[list[int]]) -> Measured:
    """The same clicks for a peer, in the region that our model looked at."""
    from segbench import baselines, regions

    measured = Measured()
    array = np.load(work / "array.npy")
    matrix = np.load(work / "matrix.npy")
    part = tuple(slice(start, stop) for start, stop in region)
    shifted = matrix.copy()
    shifted[:3, 3] = (matrix @ [region[2][0], region[1][0], region[0][0], 1])[:3]
    crop = np.ascontiguousarray(array[part])
    grid = regions.Grid((crop.shape[0], crop.shape[1], crop.shape[2]), shifted)
    # The region is given, so the usual rule (a margin around the clicks) must not cut it further.
    regions.CLICK_MARGIN_MM = 1e4
    function = baselines.BASELINES[name]
    warm = np.random.default_rng(0).normal(0, 50, (20, 20, 20))
    warm_prompts = regions.Prompts([(np.array([10.0, 10, 10]), True)])
    measured.time("warm-up", lambda: function(warm, regions.Grid((20, 20, 20), np.eye(4)), warm_prompts))
    measured.memory_mib["before"] = peak_memory_mib()
    state = regions.Prompts()

    def ask() -> None:
        full = np.zeros(array.shape, bool)
        full[part] = function(crop, grid, state)

    for number, (ras, positive) in enumerate(given, start=1):
        state.clicks.append((np.array(ras), positive))
        measured.time("first mask" if number == 1 else f"click {number}", ask)
    state = regions.Prompts([(np.array(given[0][0]), True)])
    measured.time("second object, same place", ask)
    # How much of this is the way to the coarse grid and back, which another implementation might do faster.
    budget = baselines.WALKER_BUDGET if name == "random-walker" else baselines.GROW_BUDGET

    def resample() -> None:
        coarse = regions.Workspace(crop, grid, state, budget)
        coarse.back(np.zeros(coarse.shape))

    measured.time(RESAMPLING, resample)
    measured.memory_mib["peak"] = peak_memory_mib()
    return measured


def import_time(statement: str) -> tuple[float, list[str]]:
    """Seconds that an import takes in a fresh process, and which heavy packages it pulled in."""
    code = (
        f"import sys, time; t = time.perf_counter(); {statement}; t = time.perf_counter() - t;"
        f"print(t, *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *heavy = done.stdout.split()
    return float(seconds), heavy


def _child(work: Path, name: str, region: list[list[int]] | None = None) -> Measured:
    command = [sys.executable, str(Path(__file__).resolve()), "--child", name, str(work), json.dumps(region)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr.strip()}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All repeats of all systems."""
    try:
        scene = phantom.from_case(options.data)
    except cases.DataError:
        scene = phantom.drawn()
    given = prompts(scene, options.clicks)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (options.model, *options.peers)}
    imports: dict[str, list[float]] = {}
    heavy: dict[str, list[str]] = {}
    document = {
        "benchmark": "FoundationSeg latency",
        "environment": environment.describe(),
        "volume": {"shape": list(scene.array.shape), "origin": scene.origin, "mib": scene.array.nbytes / 2**20},
        "clicks": [{"ras": ras, "positive": positive} for ras, positive in given],
        "imports": imports,
        "heavy_modules": heavy,
        "runs": runs,
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        np.save(work / "array.npy", scene.array)
        np.save(work / "matrix.npy", scene.ijk_to_ras)
        (work / "clicks.json").write_text(json.dumps(given), encoding="utf-8")
        for repeat in range(options.repeats):
            for name in ("FoundationSegLib", *options.peers):
                seconds, heavy[name] = import_time(IMPORTS[name])
                imports.setdefault(name, []).append(seconds)
            own = _child(work, options.model)
            runs[options.model].append(dataclasses.asdict(own))
            for peer in options.peers:
                runs[peer].append(dataclasses.asdict(_child(work, peer, own.region)))
            if options.out:  # after every repeat, so that a run that is cut short keeps what it has
                options.out.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps(document, indent=1) + "\n"
                options.out.with_name(options.out.name + ".json").write_text(text, encoding="utf-8")
            print(f"repeat {repeat + 1}/{options.repeats} done", file=sys.stderr, flush=True)
    return document


def table(document: dict[str, Any]) -> str:
    """Medians and ratios as text."""
    runs, names = document["runs"], list(document["runs"])
    own = names[0]
    peers = names[1:]
    environment_line = document["environment"]
    lines = [
        f"{environment_line['date']}, commit {environment_line['commit'][:12]}; {environment_line['processor']}, "
        f"{environment_line['cores']} cores, OMP_NUM_THREADS={environment_line['omp_num_threads']}.",
        f"Volume: {' x '.join(map(str, document['volume']['shape'][::-1]))} int16, {document['volume']['origin']}. "
        f"Median of {len(runs[own])} repeats, seconds wall (CPU); a ratio is peer / ours, median over repeats.",
    ]
    header = ["what", own, "encoder runs", *(text for peer in peers for text in (peer, "ratio"))]
    cells = []
    imported = document["imports"]
    line = ["import, fresh process", f"{statistics.median(imported['FoundationSegLib']):.2f}", "-"]
    for peer in peers:
        ratios = [a / b for a, b in zip(imported[peer], imported["FoundationSegLib"], strict=True)]
        line += [f"{statistics.median(imported[peer]):.2f}", f"{statistics.median(ratios):.1f}"]
    cells.append(line)
    further = [key for key in runs[own][0]["wall"] if key.startswith("click ")]
    rows: list[tuple[str, list[str]]] = [(key, [key]) for key in runs[own][0]["wall"] if key not in further]
    if further:
        rows.insert(1 + [key for key, _ in rows].index("first mask"), ("further click, mean", further))
    for title, keys in rows:
        counts = [run["encoder_runs"].get(key) for run in runs[own] for key in keys]
        known = [count for count in counts if count is not None]
        line = [title, _seconds(runs[own], keys), f"{min(known)}-{max(known)}" if known else "-"]
        for peer in peers:
            if all(key in runs[peer][0]["wall"] for key in keys):
                ratios = [
                    sum(theirs["wall"][key] for key in keys) / sum(ours["wall"][key] for key in keys)
                    for theirs, ours in zip(runs[peer], runs[own], strict=True)
                ]
                line += [_seconds(runs[peer], keys), f"{statistics.median(ratios):.1f}"]
            else:
                line += ["-", "-"]
        cells.append(line)
    line = [RESAMPLING, "-", "-"]
    bare = ["first mask, peer's resampling left out", _seconds(runs[own], ["first mask"]), "-"]
    for peer in peers:
        line += [_seconds(runs[peer], [RESAMPLING]), "-"]
        spent = [max(0.0, run["wall"]["first mask"] - run["wall"][RESAMPLING]) for run in runs[peer]]
        ratio = statistics.median(a / run["wall"]["first mask"] for a, run in zip(spent, runs[own], strict=True))
        bare += [f"{statistics.median(spent):.3f}", f"{ratio:.1f}"]
    cells += [line, bare]
    for which in ("before", "peak"):
        line = [f"memory, {which} (MiB)", _memory(runs[own], which), "-"]
        for peer in peers:
            line += [_memory(runs[peer], which), "-"]
        cells.append(line)
    found = {name: ", ".join(modules) or "none" for name, modules in document["heavy_modules"].items()}
    for key in ("first mask", "second object, same place"):
        stages = [run["stages"][key] for run in runs[own]]
        parts = [f"{stage} {statistics.median(run.get(stage, 0.0) for run in stages):.3f}" for stage in stages[0]]
        lines.append(f"Stages of ours, {key} (s, wall): {', '.join(parts)}.")
    side = [stop - start for start, stop in runs[own][0]["region"][::-1]]
    lines.append(f"Region that our model looked at (i, j, k voxels), given to the peers: {' x '.join(map(str, side))}.")
    lines.append(f"Heavy packages that `import FoundationSegLib` pulls in: {found['FoundationSegLib']}.")
    return "\n".join(lines) + "\n\n" + report.as_text("Latency", header, cells)


def _seconds(runs: list[dict[str, Any]], keys: list[str]) -> str:
    def median(clock: str) -> float:
        return statistics.median(statistics.fmean(run[clock][key] for key in keys) for run in runs)

    return f"{median('wall'):.3f} ({median('cpu'):.3f})"


def _memory(runs: list[dict[str, Any]], which: str) -> str:
    values = [run["memory_mib"].get(which) for run in runs]
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.0f}" if known else "-"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write JSON where --out says so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with index.json (default: shared data)")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--clicks", type=int, default=3, metavar="N")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--out", type=Path, help="writes OUT.json")
    parser.add_argument("--child", nargs=3, metavar=("NAME", "DIR", "REGION"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        name, folder, region = options.child
        work = Path(folder)
        given = [(ras, bool(positive)) for ras, positive in json.loads((work / "clicks.json").read_text("utf-8"))]
        peer = json.loads(region)
        measured = run_own(work, given, name) if peer is None else run_peer(work, given, name, peer)
        print(json.dumps(dataclasses.asdict(measured)))
        return 0
    if options.clicks < 1 or options.repeats < 1:
        parser.error("--clicks and --repeats must be at least 1")
    document = measure(options)
    print(table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
