#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SAM-Med3D at its published size: our encoder against the original's computation, in one process, in turns.

    python Testing/Benchmarks/speed.py                       # 3 repeats, 2 threads
    python Testing/Benchmarks/speed.py --repeats 5 --threads 1 --out speed-3d

"original" pads 8^3 tokens to windows of 14^3 and holds every attention matrix, as the published code does; both sides
share weights, image, process and allocator settings (large blocks are kept instead of returned to the system, which
alone is worth a third to the original). Weights are drawn at random: times and differences do not depend on training.
The ratio is that of each repeat; the table has the medians of wall and CPU seconds. On a busy machine CPU seconds with
`--threads 1` are the ones to trust, since waiting threads spin.

The click is the second one on a CT of 512 x 512 x 300 voxels: decoder, threshold, components and the mask on the
volume's voxels, for an answer that is a ball of 80 mm (random weights give no shape, so it is put in their place).
A timing never decides a test.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from segbench import environment, report

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
CLICK_TARGET_MS = 150
BALL_MM = 80.0


def with_allocator_settings() -> None:
    """Starts this program anew with the settings, which count from a process's first moment."""
    if os.name == "posix" and any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})


def random_network() -> Any:
    """The published size; values as large as trained ones are, so that no branch is idle."""
    import torch
    from FoundationSegLib.families.sam_med3d.config import SamMed3dConfig
    from FoundationSegLib.families.sam_med3d.network import SamMed3d

    network = SamMed3d(SamMed3dConfig()).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        scale = 0.3 if value.ndim < 2 or "embed" in name or "rel_pos" in name else value[0].numel() ** -0.5
        value.copy_(torch.randn(value.shape, generator=generator) * scale)
    return network


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returned, wall seconds, CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def encoders(network: Any, repeats: int) -> dict[str, Any]:
    """Ours and the original's encoder in turns; the order changes with every repeat."""
    import torch
    from FoundationSegLib.families import onednn

    image = torch.randn(1, 1, 128, 128, 128, generator=torch.Generator().manual_seed(2))
    operator = onednn._OPERATOR

    def without_onednn() -> Any:
        onednn._OPERATOR = None
        try:
            return network.image_encoder(image)
        finally:
            onednn._OPERATOR = operator

    variants: dict[str, Callable[[], Any]] = {
        "original": lambda: network.image_encoder(image, plain=True),
        "padding collapsed": without_onednn,
        "ours (and oneDNN)": lambda: network.image_encoder(image),
    }
    wall: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    out: dict[str, Any] = {}
    with torch.inference_mode():
        for name, run in variants.items():
            out[name] = run()  # first touch of memory, not timed
        for repeat in range(repeats):
            for name in list(variants)[:: 1 if repeat % 2 == 0 else -1]:
                _, seconds, busy = timed(variants[name])
                wall[name].append(seconds)
                cpu[name].append(busy)
        coords = torch.tensor([[[64.0, 64.0, 64.0]]])
        kinds, mask = torch.ones(1, 1, dtype=torch.int64), torch.zeros(1, 1, 32, 32, 32)
        decode = [timed(lambda: network.decode(out["original"], coords, kinds, mask)) for _ in range(repeats + 1)][1:]
    largest = float(out["original"].abs().max())
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "largest_difference": {k: float((v - out["original"]).abs().max()) / largest for k, v in out.items()},
        "decode_wall_s": [seconds for _, seconds, _ in decode],
        "decode_cpu_s": [busy for _, _, busy in decode],
    }


def clicks(network: Any, repeats: int) -> dict[str, Any]:
    """Milliseconds of further clicks in a session, by stage."""
    import torch
    from FoundationSegLib import Point, SegmentationSession, Volume
    from FoundationSegLib.families.sam_med3d.model import SamMed3dModel
    from FoundationSegLib.families.sam_med3d.predictor import SamMed3dPredictor
    from FoundationSegLib.predictor import ModelIdentity

    axis = (np.arange(32) - 15.5) * 6.0
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    ball = np.clip((BALL_MM / 2 - radius) / 4, -8, 8).astype(np.float32)

    class Ball(SamMed3dPredictor):
        def refine(self, *arguments: Any) -> Any:
            _, quality = super().refine(*arguments)
            return ball, quality

    rng = np.random.default_rng(0)
    array = rng.integers(-100, 200, (300, 512, 512), dtype=np.int16)
    volume = Volume(array, np.diag([0.7, 0.7, 1.0, 1.0]), "CT")
    identity = ModelIdentity("sam-med3d-turbo", "random", "0" * 64, "cpu", "float32")
    session = SegmentationSession(volume, SamMed3dModel(Ball(network, torch.device("cpu"), identity)))
    middle = np.array([150, 256, 256])
    first, first_wall, _ = timed(lambda: session.add("s", Point(tuple(volume.kji_to_ras(middle)))))
    session.add("s", Point(tuple(volume.kji_to_ras(middle + 1))))
    wall, cpu, stages = [], [], []
    for number in range(repeats):
        position = tuple(volume.kji_to_ras(middle + rng.integers(-15, 15, 3) + 0.01 * number))
        result, seconds, busy = timed(lambda at=position: session.add("s", Point(at)))
        wall.append(seconds)
        cpu.append(busy)
        stages.append(result.timings)
    return {
        "first_wall_s": first_wall,
        "first_stages_s": first.timings,
        "voxels": result.voxels,
        "wall_s": wall,
        "cpu_s": cpu,
        "stages_s": {name: statistics.median(s[name] for s in stages) for name in stages[-1]},
        "encoder_runs": session.cache.misses,
    }


def text(document: dict[str, Any]) -> str:
    """The tables."""
    found = document["encoder"]
    rows = []
    for name in found["wall_s"]:
        wall, cpu = found["wall_s"][name], found["cpu_s"][name]
        ratios = [
            statistics.median(a / b for a, b in zip(found[kind]["original"], found[kind][name], strict=True))
            for kind in ("wall_s", "cpu_s")
        ]
        difference = f"{found['largest_difference'][name]:.1e}"
        times = [f"{statistics.median(values):.2f}" for values in (wall, cpu)]
        rows.append([name, *times, f"{min(cpu):.2f}", f"{ratios[0]:.1f}x", f"{ratios[1]:.1f}x", difference])
    header = ["encoder, 128^3", "wall s", "CPU s", "least CPU s", "faster (wall)", "faster (CPU)", "difference"]
    parts = [report.as_text("Largest difference is relative to the largest value", header, rows)]
    click = document["click"]
    rows = [
        ["decoder alone", *(f"{1000 * statistics.median(found[f'decode_{k}_s']):.0f}" for k in ("wall", "cpu"))],
        ["further click, all", *(f"{1000 * statistics.median(click[f'{k}_s']):.0f}" for k in ("wall", "cpu"))],
        *([f"- {name}", f"{1000 * seconds:.0f}", ""] for name, seconds in click["stages_s"].items()),
    ]
    title = f"Click to mask of the volume (aim: {CLICK_TARGET_MS} ms), {click['voxels']} voxels"
    parts.append(report.as_text(title, ["", "wall ms", "CPU ms"], rows))
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="writes OUT.json and OUT.txt as well")
    arguments = parser.parse_args()
    with_allocator_settings()
    import torch

    torch.set_num_threads(arguments.threads)
    network = random_network()
    document = {
        **environment.describe(),
        "torch": torch.__version__,
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "allocator": ALLOCATOR if os.name == "posix" else {},
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "encoder": encoders(network, arguments.repeats),
        "click": clicks(network, 3 * arguments.repeats),
    }
    table = text(document)
    print(table)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.with_suffix(".json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        arguments.out.with_suffix(".txt").write_text(table + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
