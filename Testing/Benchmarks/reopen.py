#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long it takes to an embedding of a volume that was open before.

    python Testing/Benchmarks/reopen.py                # 5 repeats
    python Testing/Benchmarks/reopen.py --out reopen

A first process keeps random embeddings of the families' shapes for a CT of 512 x 512 x 300 voxels. Each repeat is a new
process that opens the volume, waits as long as a user needs for the first click (the volume's hash is computed in the
background meanwhile, its time is a column of its own), and asks for the embedding:

* "first": in a new session, checksum compared, to an array that PyTorch takes; what a click waits for.
* "next": another embedding of the same volume right after, for instance the neighbouring slice.
* "no wait": as the first, but asked for at once, so that the hash is waited for.

"cold" is the first with the file dropped from the system's cache (Linux; the disk decides). Aim: "first" within 50 ms
for SAM-Med3D and SAM; the adapter's embedding is so large that its checksum alone takes longer. A timing never decides
a test.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

AIM_MS = 50
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "sam-med3d": {"image": (384, 8, 8, 8)},
    "sam vit-b, a slice": {"image": (1, 256, 64, 64)},
    "3dsam-adapter": {"fixed": (1, 32, 64, 64, 64), "feature": (1, 256, 32, 64, 64)},
}
MODES = ("first", "cold", "no wait")
VOLUME_SHAPE = (300, 512, 512)


def volume() -> Any:
    from FoundationSegLib import Volume

    slices = np.random.default_rng(0).integers(-1000, 1000, VOLUME_SHAPE[1:], dtype=np.int16)
    return Volume(np.stack([slices + number for number in range(VOLUME_SHAPE[0])]), np.diag([0.8, 0.8, 1.5, 1]), "CT")


def identity(name: str) -> Any:
    from FoundationSegLib.predictor import ModelIdentity

    return ModelIdentity(name, "benchmark", "0" * 64, "cpu", "float32")


def embedding(name: str) -> Any:
    from FoundationSegLib.predictor import Embedding

    rng = np.random.default_rng(1)
    return Embedding({key: rng.standard_normal(shape, dtype=np.float32) for key, shape in SHAPES[name].items()})


def keep(name: str) -> dict[str, float]:
    """Makes and keeps two embeddings. Returns the seconds that keeping one takes, and its bytes."""
    from FoundationSegLib.embedding_store import shelf_of

    made, shelf = embedding(name), shelf_of(volume(), identity(name))
    assert shelf is not None
    shelf.put(0, made)
    start = time.perf_counter()
    shelf.put(1, made)
    return {"keep_s": time.perf_counter() - start, "bytes": made.nbytes}


def reopen(name: str, mode: str) -> dict[str, float]:
    """In a new process: seconds to an embedding."""
    from FoundationSegLib.embedding_store import stored_in
    from FoundationSegLib.predictor import EmbeddingCache

    opened, cache, found = volume(), EmbeddingCache(), {}
    if mode == "cold":
        for path in stored_in().iterdir():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    begin = time.perf_counter()
    cache.keep(opened, identity(name))
    if mode != "no wait":
        found["hash_s"] = _wait_for_hash(opened, begin)
    for number, key in enumerate(("first", "next")):
        start = begin if mode == "no wait" else time.perf_counter()
        embedding_ = cache.get(number, _never)
        found[f"{key}_s"] = time.perf_counter() - start
        assert all(np.isfinite(tensor).all() for tensor in embedding_.tensors.values())
    return found


def _wait_for_hash(opened: Any, begin: float) -> float:
    """Seconds since `begin` until the thread in the background has the hash."""
    while "fingerprint" not in vars(opened):
        time.sleep(0.005)
    seconds = time.perf_counter() - begin
    time.sleep(0.1)
    return seconds


def _never() -> Any:
    raise AssertionError("it is kept already")


def child(home: str, *arguments: str) -> dict[str, float]:
    environment = {**os.environ, "FOUNDATIONSEG_HOME": home, "FOUNDATIONSEG_EMBEDDINGS": "on"}
    done = subprocess.run(
        [sys.executable, __file__, "--one", *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def table(result: dict[str, Any]) -> str:
    """Markdown; medians, in ms."""
    lines = [
        f"| embedding | MB | first ms (aim {AIM_MS}) | worst | next | cold | no wait | hash | keeping one |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in result["rows"].items():
        runs = entry["runs"]

        def median(mode: str, key: str, runs: Any = runs) -> str:
            values = [run[key] for run in runs[mode]]
            return f"{statistics.median(values) * 1e3:.1f}" if values else "-"

        worst = max(run["first_s"] for run in runs["first"]) * 1e3
        lines.append(
            f"| {name} | {entry['kept']['bytes'] / 1e6:.1f} | {median('first', 'first_s')} | {worst:.1f} | "
            f"{median('first', 'next_s')} | {median('cold', 'first_s')} | {median('no wait', 'first_s')} | "
            f"{median('first', 'hash_s')} | {entry['kept']['keep_s'] * 1e3:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="writes OUT.md and OUT.json")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, *mode = arguments.one
        print(json.dumps(reopen(name, *mode) if mode else keep(name)))
        return
    rows: dict[str, Any] = {}
    modes = [mode for mode in MODES if mode != "cold" or hasattr(os, "posix_fadvise")]
    for name in SHAPES:
        with tempfile.TemporaryDirectory() as home:
            kept = child(home, name)
            runs: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
            for _ in range(arguments.repeats):
                for mode in modes:
                    runs[mode].append(child(home, name, mode))
            rows[name] = {"kept": kept, "runs": runs}
    result = {"repeats": arguments.repeats, "load": list(os.getloadavg()), "rows": rows}
    load = ", ".join(f"{value:.1f}" for value in result["load"])
    text = f"To an embedding of a known volume, {arguments.repeats} repeats; load averages {load}\n\n{table(result)}\n"
    print(text)
    if arguments.out:
        arguments.out.with_suffix(".md").write_text(text)
        arguments.out.with_suffix(".json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
