# SPDX-License-Identifier: Apache-2.0
"""Which number format a network's encoder runs in on this machine: measured once, not looked up.

What a processor claims to support says little about speed: one with bfloat16 instructions but without matrix units
takes longer for it than for float32. So a small transformer block, which is what these encoders are made of, runs in
each format, and the result is remembered for this machine and this PyTorch in "precision.json" of `home()`.

* On the CPU the choice is float32, without a measurement: masks there are the same from machine to machine but for
  rounding, agree with the originals, and a correction or a replay years later starts from the same numbers. Who prefers
  speed says so ("fastest").
* On CUDA the half-precision formats are allowed; they are what such models are usually run in. One of them is chosen if
  it is clearly faster than float32, and bfloat16 before float16, whose largest number is 65504.

`precision` of a model card's architecture decides first, then the environment variable FOUNDATIONSEG_PRECISION: a
format, "auto" (the rule above) or "fastest" (measured on the CPU, too). Only the encoders of sam, medsam and sam-med3d
ask here; decoders and the other families run in float32.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import atomic_output
from .errors import ModelError, OutputError
from .hub.home import home, made

if TYPE_CHECKING:
    import torch

Block = Callable[[str], Any]
"""Runs the block once in a format, and waits until it is done."""

VARIABLE = "FOUNDATIONSEG_PRECISION"
FLOAT32, BFLOAT16, FLOAT16 = "float32", "bfloat16", "float16"
FORMATS = (FLOAT32, BFLOAT16, FLOAT16)
AUTO, FASTEST = "auto", "fastest"

_logger = logging.getLogger(__name__)
_FILE = "precision.json"
_FILE_FORMAT = 1
_BUDGET_S = 0.25
_MOST_ROUNDS = 15
_HOPELESS_S = 0.1  # a first run of that length, and many times that of float32, is enough to know
_HOPELESS_TIMES = 10
_CLEARLY = 1.15  # times as fast as float32, or the digits are not given up
_FLOAT16_OVER_BFLOAT16 = 1.1


def choose(device: torch.device, asked: str | None = None) -> str:
    """The format for an encoder on a device.

    Args:
        asked: a format, "auto" or "fastest"; None leaves it to the environment variable, then to "auto".

    Raises:
        ModelError: for any other word.
    """
    wanted = asked or os.environ.get(VARIABLE, "").strip().lower() or AUTO
    if wanted in FORMATS:
        return wanted
    if wanted not in (AUTO, FASTEST):
        raise ModelError(f"The precision {wanted!r} is not known; choose {AUTO}, {FASTEST}, or {', '.join(FORMATS)}.")
    if device.type == "cpu" and wanted == AUTO:
        return FLOAT32
    key = machine(device)
    seconds = _remembered().get(key)
    if seconds is None:
        seconds = measure(transformer_block(device), FORMATS)
        _remember(key, seconds)
    return fastest(seconds)


def fastest(seconds: dict[str, float]) -> str:
    """The format to take, given the seconds per run of each that works; never one that is slower than float32."""
    exact = seconds[FLOAT32]
    worth = {name: time_ for name, time_ in seconds.items() if name != FLOAT32 and time_ * _CLEARLY <= exact}
    if not worth:
        return FLOAT32
    if BFLOAT16 in worth and worth[BFLOAT16] <= worth.get(FLOAT16, worth[BFLOAT16]) * _FLOAT16_OVER_BFLOAT16:
        return BFLOAT16
    return min(worth, key=lambda name: worth[name])


def measure(run: Block, formats: Sequence[str], budget_s: float = _BUDGET_S) -> dict[str, float]:
    """Seconds of the quickest run in each format, in turns, so that a busy moment of the machine meets them all.

    Stops after `budget_s`, with one counted run each at least. The first run in each, which loads libraries, does not
    count. float32 comes first and must work; others that the device cannot do, or emulates slowly, are left out.
    """
    seconds: dict[str, float] = {}
    first: dict[str, float] = {}
    for name in formats:
        start = time.perf_counter()
        try:
            run(name)
        except (RuntimeError, NotImplementedError) as error:
            if name == FLOAT32:
                raise
            _logger.info("%s does not work here: %s", name, error)
            continue
        first[name] = time.perf_counter() - start
        if first[name] < max(_HOPELESS_S, _HOPELESS_TIMES * first[FLOAT32]) or name == FLOAT32:
            seconds[name] = float("inf")
    deadline = time.perf_counter() + budget_s
    for _ in range(_MOST_ROUNDS):
        for name in seconds:
            start = time.perf_counter()
            run(name)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
        if time.perf_counter() > deadline:
            break
    return seconds


def computing_in(name: str, device: torch.device) -> AbstractContextManager[Any]:
    """In the block, the matrix products of a network with float32 weights are computed in one of the half-precision
    formats; any other name changes nothing."""
    if name not in (BFLOAT16, FLOAT16):
        return nullcontext()
    import torch

    return torch.autocast(device.type, getattr(torch, name))


def encoded(run: Callable[[], torch.Tensor], name: str, device: torch.device) -> torch.Tensor:
    """What `run` makes, computed in a format, as float32.

    Values beyond the range of float16 come out as infinite, or not as numbers; then it is computed again in float32.
    """
    with computing_in(name, device):
        result = run().float()
    if name == FLOAT16 and not bool(result.isfinite().all()):
        result = run().float()
    return result


def transformer_block(device: torch.device) -> Block:
    """A block like an encoder's: 512 tokens of 384 numbers on the CPU, 4096 of 768 on a GPU."""
    import torch
    import torch.nn.functional as F

    tokens, width = (512, 384) if device.type == "cpu" else (4096, 768)
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * shape[-1] ** -0.5).to(device)

    x, qkv = drawn(1, tokens, width), drawn(3 * width, width)
    up, down = drawn(4 * width, width), drawn(width, 4 * width)

    def step() -> None:
        q, k, v = F.linear(x, qkv).view(1, tokens, 3, width // 64, 64).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, tokens, width)
        F.linear(F.gelu(F.linear(attended, up)), down)

    def run(name: str) -> None:
        with torch.inference_mode(), computing_in(name, device):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def machine(device: torch.device) -> str:
    """What a measurement depends on: processor or GPU, threads, and PyTorch's build. Nothing that names a computer."""
    import torch

    if device.type == "cuda":
        where = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        where = f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return f"{where}, torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _remembered() -> dict[str, dict[str, float]]:
    """Earlier measurements; a file that is damaged, or of another version, counts as none: they are soon made again."""
    try:
        data = json.loads((home() / _FILE).read_text(encoding="utf-8"))
        if data["format"] != _FILE_FORMAT:
            return {}
        found = {
            key: {name: float(value) for name, value in seconds.items() if name in FORMATS}
            for key, seconds in data["seconds"].items()
        }
        return {key: seconds for key, seconds in found.items() if FLOAT32 in seconds}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remember(key: str, seconds: dict[str, float]) -> None:
    known = {**_remembered(), key: {name: round(value, 9) for name, value in seconds.items()}}
    text = json.dumps({"format": _FILE_FORMAT, "seconds": known}, indent=2, sort_keys=True)
    try:
        made(home())
        with atomic_output(home() / _FILE) as file:
            file.write(text.encode() + b"\n")
    except OutputError as error:
        _logger.warning("The measured precision cannot be remembered: %s", error)
