#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast, and in how much memory, is SAM's image encoder here, beside the original's own modules?

    python Testing/Benchmarks/speed_2d.py                      # ViT-B on 1024 x 1024, two repeats
    python Testing/Benchmarks/speed_2d.py --variant vit_l --repeats 1 --threads 2 --out speed_2d

Weights are drawn: they say nothing of masks, and all of speed. Every repeat runs all ways one after the other in one
process, so that a load on the machine falls on all of them; ratios are taken within a repeat, and the table gives their
median. Memory is measured in a process of its own for each way: the peak of the resident memory less what was resident
before the encode. "CPU" is seconds of processor time of all threads, which suffers less from other work on the machine.
A timing never decides a test.

- original: segment-anything's ImageEncoderViT, as it is.
- original, malloc: the same in a process whose allocator keeps large blocks (environment variables of glibc).
- ours: no padding in windows, queries of global attention in chunks; the same numbers.
- ours, int8: linear layers of the blocks in 8 bits, opt-in; not the same numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "FoundationSeg"))

WAYS = ("original", "ours", "ours, int8")
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
AIMS = {"ours": "encode >= 1.5x, memory <= 1/8, difference <= 1e-4", "ours, int8": "encode >= 2.4x"}


def encoder(way: str, variant: str) -> Any:
    """An encoder with drawn weights, the same for all ways."""
    import torch
    from FoundationSegLib.families.sam.config import VARIANTS
    from FoundationSegLib.families.sam.encoder import ImageEncoder
    from FoundationSegLib.families.sam.quantised import quantise
    from FoundationSegLib.families.sam.upstream import modeling

    config = VARIANTS[variant]
    if way.startswith("original"):
        made = modeling().ImageEncoderViT(
            img_size=config.img_size,
            patch_size=config.patch_size,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_ratio,
            out_chans=config.out_chans,
            qkv_bias=True,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=config.window_size,
            global_attn_indexes=config.global_attn_indexes,
        )
    else:
        made = ImageEncoder(config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(made.named_parameters()):
        drawn = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2 and "pos" not in name:
            drawn *= 1.3 / parameter[0].numel() ** 0.5
        elif name.endswith("weight"):
            drawn = 1 + 0.15 * drawn
        else:
            drawn *= 0.3
        parameter.data.copy_(drawn)
    made = made.eval().requires_grad_(False)
    return quantise(made) if way.endswith("int8") else made


def image(variant: str) -> Any:
    import torch
    from FoundationSegLib.families.sam.config import VARIANTS

    side = VARIANTS[variant].img_size
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def memory(way: str, variant: str) -> dict[str, float]:
    """In this process: seconds of one encode, and MiB that it needs beyond what was resident before."""
    import torch

    made, given = encoder(way, variant), image(variant)
    before = _resident_mib()
    # The peak so far includes making the encoder; it is set back where the system allows it.
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    wall, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        made(given)
    return {
        "first_wall_s": time.perf_counter() - wall,
        "first_cpu_s": time.process_time() - cpu,
        "before_mib": before,
        "activations_mib": _peak_mib() - before,
        "minor_faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt,
    }


def speed(variant: str, repeats: int) -> dict[str, Any]:
    """In this process: seconds of every way, repeat by repeat, and how far the results are apart."""
    import torch

    made = {way: encoder(way, variant) for way in WAYS}
    given = image(variant)
    rows: list[dict[str, dict[str, float]]] = []
    results: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for way in WAYS:  # the first run of a process pays for threads and for finding kernels
            made[way].blocks[0](
                torch.zeros(*((1,) if way == "original" else ()), 28, 28, made[way].pos_embed.shape[-1])
            )
        for _ in range(repeats):
            row = {}
            for way in WAYS:
                wall, cpu = time.perf_counter(), time.process_time()
                results[way] = made[way](given)
                row[way] = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
                print(f"{way}: {row[way]['wall_s']:.1f} s wall, {row[way]['cpu_s']:.1f} s CPU", file=sys.stderr)
            rows.append(row)
    exact = results["original"]
    agreement = {
        way: {
            "largest_difference": float((result - exact).abs().max()),
            "largest_value": float(exact.abs().max()),
            "cosine": float(torch.cosine_similarity(result.flatten().double(), exact.flatten().double(), dim=0)),
        }
        for way, result in results.items()
    }
    return {"rows": rows, "agreement": agreement}


def _resident_mib() -> float:
    return _status("VmRSS")


def _peak_mib() -> float:
    return _status("VmHWM")


def _status(key: str) -> float:
    """MiB of a figure of this process, from Linux; the peak alone elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def _child(arguments: list[str], threads: int, extra: dict[str, str] | None = None) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **(extra or {})}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(result: dict[str, Any]) -> str:
    """Markdown; ratios are the original's figure over that of the way."""
    rows, memories = result["speed"]["rows"], result["memory"]
    lines = [
        "| way | wall s | CPU s | times as fast: wall | CPU | activations MiB | of the original's | agreement | aim |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    base = memories["original"]["activations_mib"]
    for way in (*WAYS, "original, malloc"):
        needed = memories[way]
        share = f"1/{base / needed['activations_mib']:.1f}"
        if way in WAYS:
            wall, cpu = ([row[way][key] for row in rows] for key in ("wall_s", "cpu_s"))
            ratios = [
                statistics.median(row["original"][key] / row[way][key] for row in rows) for key in ("wall_s", "cpu_s")
            ]
            fit = result["speed"]["agreement"][way]
            close = f"{fit['largest_difference']:.1e} of {fit['largest_value']:.1f}; cosine {fit['cosine']:.5f}"
            seconds = (
                f"{statistics.median(wall):.2f} | {statistics.median(cpu):.2f} | {ratios[0]:.2f} | {ratios[1]:.2f}"
            )
        else:  # a process of its own: no ratio within a repeat
            seconds, close = f"({needed['first_wall_s']:.2f}) | ({needed['first_cpu_s']:.2f}) | - | -", ""
        lines.append(
            f"| {way} | {seconds} | {needed['activations_mib']:.0f} | {share} | {close} | {AIMS.get(way, '')} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="vit_b", choices=("vit_b", "vit_l", "vit_h"))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="writes OUT.md and OUT.json")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "WAY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        kind, way = arguments.one
        found = memory(way, arguments.variant) if kind == "memory" else speed(arguments.variant, arguments.repeats)
        print(json.dumps(found))
        return
    common = ["--variant", arguments.variant, "--repeats", str(arguments.repeats)]
    memories = {way: _child([*common, "--one", "memory", way], arguments.threads) for way in WAYS}
    memories["original, malloc"] = _child([*common, "--one", "memory", "original"], arguments.threads, MALLOC)
    result = {
        "variant": arguments.variant,
        "threads": arguments.threads,
        "load": list(os.getloadavg()),
        "memory": memories,
        "speed": _child([*common, "--one", "speed", "all"], arguments.threads),
    }
    load = ", ".join(f"{value:.1f}" for value in result["load"])
    text = f"SAM {arguments.variant} encode, {arguments.threads} threads; load averages {load}\n\n{table(result)}\n"
    print(text)
    if arguments.out:
        arguments.out.with_suffix(".md").write_text(text)
        arguments.out.with_suffix(".json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
