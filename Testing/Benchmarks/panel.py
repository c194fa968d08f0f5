# SPDX-License-Identifier: Apache-2.0
"""How long the panel takes from a click to the updated segment, and how long its event loop ever stands still.

    python Testing/Benchmarks/panel.py [--shape 300 512 512] [--clicks 6]

The panel is the real one, with its real worker process and the embedded model, on the PySide6 stand-in of the tests:
PythonQt, rendering and the real widgets of 3D Slicer are not in these numbers. A timer that fires every millisecond
measures the gaps: between two of its beats the panel could not have answered.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "FoundationSeg")]
os.environ.setdefault("FOUNDATIONSEG_EMBEDDINGS", "off")

import headless_slicer  # noqa: E402
import numpy as np  # noqa: E402

LIMIT_S = 300.0


class Gaps:
    """The longest time between two beats of the event loop since the last look, and the most work in one of them.

    Work is the main thread's own processor time. On a busy machine the gaps are longer than the work, because other
    processes are served meanwhile.
    """

    def __init__(self, qt: Any) -> None:
        self._last, self._worked = time.perf_counter(), time.thread_time()
        self.longest = self.most = 0.0
        self._timer = qt.QTimer()
        self._timer.setInterval(1)
        self._timer.connect("timeout()", self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now, worked = time.perf_counter(), time.thread_time()
        self.longest, self.most = max(self.longest, now - self._last), max(self.most, worked - self._worked)
        self._last, self._worked = now, worked

    def take(self) -> tuple[float, float]:
        """Gap and work in milliseconds; begins anew."""
        self._beat()
        result = 1000 * self.longest, 1000 * self.most
        self.longest = self.most = 0.0
        return result


def phantom(shape: tuple[int, int, int]) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Balls of soft tissue in noise, int16, and their centres (k, j, i)."""
    rng = np.random.default_rng(0)
    voxels = rng.normal(-60, 12, shape).astype(np.int16)
    centres = []
    for number in range(4):
        centre = [int(n * f) for n, f in zip(shape, (0.3 + 0.13 * number, 0.35, 0.3 + 0.1 * number), strict=True)]
        radius = [max(4, n // 10) for n in shape]
        box = tuple(slice(max(0, c - r), c + r + 1) for c, r in zip(centre, radius, strict=True))
        grid = np.ogrid[tuple(slice(b.start - c, b.stop - c) for b, c in zip(box, centre, strict=True))]
        inside = sum((g / r) ** 2 for g, r in zip(grid, radius, strict=True)) <= 1
        voxels[box][inside] += 120
        centres.append((centre[0], centre[1], centre[2]))
    return voxels, centres


def line(what: str, seconds: float, gap: float, work: float) -> None:
    print(f"{what:34}{seconds:>14.2f} s{gap:>11.0f} ms{work:>9.0f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs=3, type=int, default=(300, 512, 512), metavar=("K", "J", "I"))
    parser.add_argument("--clicks", type=int, default=6, help="on each of two structures (default: %(default)s)")
    arguments = parser.parse_args()
    slicer = headless_slicer.start(panel=True)
    import qt
    import vtk

    module = headless_slicer.load_module(ROOT / "FoundationSeg" / "FoundationSeg.py")
    voxels, centres = phantom(tuple(arguments.shape))
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "phantom")
    slicer.util.updateVolumeFromArray(volume, voxels)
    volume.SetSpacing(0.8, 0.8, 1.25)
    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    parent.setMRMLScene(slicer.mrmlScene)
    widget = module.FoundationSegWidget(parent)
    widget.setup()
    widget.enter()
    parent.show()
    live = widget.live
    gaps = Gaps(qt)

    def run(until: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not until():
            qt.QApplication.processEvents(qt.QEventLoop.WaitForMoreEvents)
            if time.monotonic() > end:
                raise SystemExit(f"It took longer than {LIMIT_S:g} s; the status is {live.status}.")

    def click(kji: tuple[int, ...], positive: bool) -> tuple[float, float, float]:
        """Seconds from the click to the updated segment; longest gap and most work in ms."""
        updated: list[float] = []
        end = live.observe(module_event.RESULT, lambda: updated.append(time.perf_counter()))
        before = len(live.state.book)
        gaps.take()
        start = time.perf_counter()
        node = live.promptNode(positive)
        node.AddControlPointWorld(vtk.vtkVector3d(kji[2] * 0.8, kji[1] * 0.8, kji[0] * 1.25))
        run(lambda: len(live.state.book) > before or live.status.isError)
        seconds = (updated[-1] if updated else time.perf_counter()) - start
        run(lambda: not live.busy)
        end()
        if live.status.isError:
            raise SystemExit(live.status.message)
        return seconds, *gaps.take()

    from FoundationSegLib.scene.live import Event as module_event

    print(f"Volume {' x '.join(map(str, arguments.shape))}, {voxels.nbytes / 2**20:.0f} MiB, {os.cpu_count()} CPUs\n")
    print(f"{'what':34}{'click to update':>16}{'longest gap':>14}{'most work':>12}")
    rng = np.random.default_rng(1)
    for number in range(2):
        live.newSegment(f"Ball {number + 1}")
        first = click(centres[number], True)
        what = "first click, worker started" if number == 0 else "first click, another structure"
        line(what, *first)
        rest = []
        for _ in range(arguments.clicks - 1):
            offset = rng.integers(-6, 7, 3)
            rest.append(click(tuple(c + int(o) for c, o in zip(centres[number], offset, strict=True)), True))
        if rest:
            columns = list(zip(*rest, strict=True))
            median, worst = statistics.median(columns[0]), [max(column) for column in columns[1:]]
            line(f"next {len(rest)} clicks, median / worst", median, worst[0], worst[1])
    painted = slicer.vtkOrientedImageData()
    painted.SetExtent(0, 60, 0, 60, 0, 30)
    painted.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    painted.GetPointData().GetScalars().Fill(1)
    painted.SetSpacing(0.8, 0.8, 1.25)
    segmentations = slicer.vtkSlicerSegmentationsModuleLogic
    segmentations.SetBinaryLabelmapToSegment(
        painted, live.segmentationNode, live.segmentId, segmentations.MODE_MERGE_MAX, painted.GetExtent()
    )
    run(lambda: not live.busy)
    line("a click after an edit by hand", *click(centres[1], True))
    gaps.take()
    start = time.perf_counter()
    live.undo()
    run(lambda: not live.busy)
    line("undo", time.perf_counter() - start, *gaps.take())
    widget.exit()
    widget.cleanup()


if __name__ == "__main__":
    main()
