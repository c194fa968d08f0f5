# SPDX-License-Identifier: Apache-2.0
"""One target, one method, one row of the table: prompts are given one at a time, and each mask is scored."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import clicks, strokes
from .methods import Method
from .metrics import BoolArray, SurfaceScore, dice, iou
from .regions import FloatArray, Grid

SERIES = ("clicks", "box", "strokes")
VARIANTS = ("tidy", "untidy")


@dataclass(frozen=True)
class Target:
    """A reference mask on its grid, and its prepared surface score. `key` seeds what is random about it."""

    key: tuple[str, str]
    mask: BoolArray
    grid: Grid
    surface: SurfaceScore


@dataclass
class Series:
    """Scores after each prompt. `at` counts the clicks or strokes: 1, 2, ... or with a box first 0, 1, 2, ...

    `predicted` is the IoU that the method itself expects, None where it expects none; `iou` is what it reached.
    Where nothing was left to correct the lists go on with their last value: only the first `len(prompts)` were made.

    A failed prediction leaves the mask as it was (as the product promises), so its score is the one before, or that
    of an empty mask; `error` says what failed first, and `failures` how many predictions did.
    """

    at: list[int] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)
    nsd: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    predicted: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    failures: int = 0
    error: str | None = None


def run_series(
    method: Method, target: Target, series: str, variant: str, count: int, seed: int, log: Callable[[str], None] = print
) -> Series:
    """Segment `target` by `count` simulated clicks, after a box when `series` is "box", or by as many strokes."""
    if series not in SERIES or variant not in VARIANTS:
        raise ValueError(f"unknown series {series!r} or variant {variant!r}")
    untidy = variant == "untidy"
    result = Series()
    mask: BoolArray = np.zeros(target.mask.shape, bool)

    def attempt(call: Callable[[], BoolArray], at: int) -> None:
        nonlocal mask
        start = time.perf_counter()
        expected: float | None = None
        try:
            new = call()
            if new.shape != mask.shape or new.dtype != bool:
                raise TypeError(f"{method.name} gave {new.dtype} {new.shape} for a bool mask of {mask.shape}")
            mask = new.copy()
            expected = method.predicted_iou()
        except Exception as error:  # one method's defect must not end the run of all: it is counted and reported
            result.failures += 1
            result.error = result.error or f"{type(error).__name__}: {error}"
            log("".join(traceback.format_exception(error)))
        result.at.append(at)
        result.seconds.append(round(time.perf_counter() - start, 4))
        result.dice.append(dice(target.mask, mask))
        result.nsd.append(target.surface(mask))
        result.iou.append(iou(target.mask, mask))
        result.predicted.append(expected)

    method.begin()
    try:
        if series == "box":
            low, high = clicks.tight_box(target.mask, target.grid.ijk_to_ras)
            if untidy:
                low, high = clicks.jitter_box(low, high, clicks.generator(seed, *target.key, "box"))
            result.prompts.append({"box": [_rounded(low), _rounded(high)]})
            attempt(lambda: method.box(low, high), 0)
        for number in range(1, count + 1):
            rng = clicks.generator(seed, *target.key, series, number) if untidy else None
            if series == "strokes":
                prompt = _stroke(method, target, mask if number > 1 else None, rng)
            else:
                prompt = _click(method, target, mask if number > 1 or series == "box" else None, rng)
            if prompt is None:
                # Nothing left to correct: a person stops here, and the scores stay.
                for values in (result.dice, result.nsd, result.iou):
                    values.extend([values[-1]] * (count + 1 - number))
                result.predicted.extend(result.predicted[-1:] * (count + 1 - number))
                result.at.extend(range(number, count + 1))
                break
            result.prompts.append(prompt[0])
            attempt(prompt[1], number)
    finally:
        method.end()
    return result


Prompt = tuple[dict[str, Any], Callable[[], BoolArray]]


def _click(method: Method, target: Target, mask: BoolArray | None, rng: np.random.Generator | None) -> Prompt | None:
    """The next click (the first one without a mask) as JSON and as a call; None when nothing is left to correct."""
    spacing = target.grid.spacing_kji.tolist()
    if mask is None:
        click: clicks.Click | None = clicks.first_click(target.mask, spacing, rng)
    else:
        click = clicks.next_click(target.mask, mask, spacing, rng)
    if click is None:
        return None
    ras, positive = target.grid.to_ras(np.array(click.kji, float))[0], click.positive
    return {"ras": _rounded(ras), "positive": positive}, lambda: method.click(ras, positive)


def _stroke(method: Method, target: Target, mask: BoolArray | None, rng: np.random.Generator | None) -> Prompt | None:
    """The same for a stroke."""
    spacing = target.grid.spacing_kji.tolist()
    if mask is None:
        stroke: strokes.Stroke | None = strokes.first_stroke(target.mask, spacing, rng)
    else:
        stroke = strokes.next_stroke(target.mask, mask, spacing, rng)
    if stroke is None:
        return None
    points, positive = target.grid.to_ras(stroke.kji), stroke.positive
    return {"stroke": [_rounded(point) for point in points], "positive": positive}, (
        lambda: method.stroke(points, positive)
    )


def _rounded(values: FloatArray) -> list[float]:
    return [round(float(value), 3) for value in values]
