# SPDX-License-Identifier: Apache-2.0
"""Which slices a model is shown, in which orientation, and how their values become pictures.

Every picture is radiological axial: anterior at the top, the patient's right at the picture's left. Slices are ordered
by position from head to feet, not by what a file says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
from FoundationSegLib.volume import Volume

BoolArray = npt.NDArray[np.bool_]
Picture = npt.NDArray[np.uint8]
Window = tuple[float, float]

# MedGemma 1.5's published CT packing: wide, soft tissue and brain as red, green and blue
# (Google-Health/medgemma, notebooks/high_dimensional_ct_hugging_face.ipynb). Least and greatest HU of each.
CT_WINDOWS: tuple[Window, ...] = ((-1024.0, 1024.0), (-135.0, 215.0), (0.0, 80.0))
SOFT_TISSUE: tuple[Window, ...] = ((-160.0, 240.0),)
_PERCENTILES = (1.0, 99.0)
_SAMPLES = 200_000
_AIR_HU = -500.0
_BODY_SHARE = 0.05
# Slices of segments take at most this share of the budget, so that the model sees the rest as well.
_KEY_SHARE = 0.75


@dataclass(frozen=True, eq=False)
class Axial:
    """The volume's voxels as a stack of axial slices: a view, nothing is interpolated.

    Attributes:
        array: (slice, row, column): head to feet, anterior to posterior, the patient's right to left.
        axis: which axis of the volume's (k, j, i) array the slices are counted along: 0 for k, the usual case.
        indices: the volume's index along `axis` of each slice.
        pixel_mm: height and width of a pixel.
        tilt_degrees: angle between the slices' normal and the patient's long axis; no slice is turned by it.
    """

    array: npt.NDArray[Any]
    axis: int
    indices: tuple[int, ...]
    pixel_mm: tuple[float, float]
    tilt_degrees: float

    def oriented(self, array: npt.NDArray[Any], volume: Volume) -> npt.NDArray[Any]:
        """Another array of the volume's shape, such as a mask, in the same order."""
        order, signs = _orientation(volume)
        return _turned(array, order, signs)


@dataclass(frozen=True, eq=False)
class Shown:
    """What a model is shown of a volume.

    Attributes:
        pictures: head to feet.
        indices: the volume's index of each, along the array axis `along`: "k", the usual case, "j" or "i".
        windows: that the pictures were made with.
    """

    pictures: list[Picture]
    indices: tuple[int, ...]
    along: str
    windows: tuple[Window, ...]


def show(
    volume: Volume,
    modality: str,
    masks: Sequence[BoolArray],
    budget: int,
    packing: str,
    each: Callable[[float], None],
) -> Shown:
    """At most `budget` slices of a volume as pictures; `each` is told the fraction before every one of them.

    Raises what `each` raises, and ValueError for a budget below 1.
    """
    stack = axial(volume)
    chosen = choose(stack, key_slices(stack, volume, masks), budget, modality)
    windows = windows_for(volume, modality, packing)
    pictures = []
    for number, position in enumerate(chosen):
        each(number / len(chosen))
        pictures.append(picture(stack, position, windows))
    return Shown(pictures, tuple(stack.indices[position] for position in chosen), "kji"[stack.axis], windows)


def axial(volume: Volume) -> Axial:
    """The stack of slices nearest to axial, whatever plane the volume was acquired in."""
    order, signs = _orientation(volume)
    spacing = volume.spacing_mm[::-1]  # along k, j, i
    slices = range(volume.shape[order[0]])
    normal = volume.ijk_to_ras[:3, 2 - order[0]] / spacing[order[0]]
    return Axial(
        array=_turned(volume.array, order, signs),
        axis=order[0],
        indices=tuple(slices if signs[0] > 0 else reversed(slices)),
        pixel_mm=(spacing[order[1]], spacing[order[2]]),
        tilt_degrees=float(np.degrees(np.arccos(min(1.0, abs(normal[2]))))),
    )


def _orientation(volume: Volume) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Array axes that run along S, A and R, and +1 where their index grows towards feet, back and left."""
    directions = volume.ijk_to_ras[:3, :3] / volume.spacing_mm  # columns i, j, k

    def fit(order: tuple[int, ...]) -> float:
        return sum(abs(float(directions[ras, 2 - axis])) for axis, ras in zip(order, (2, 1, 0), strict=True))

    s, a, r = max(permutations(range(3)), key=fit)
    signs = [1 if directions[ras, 2 - axis] < 0 else -1 for axis, ras in zip((s, a, r), (2, 1, 0), strict=True)]
    return (s, a, r), (signs[0], signs[1], signs[2])


def _turned(array: npt.NDArray[Any], order: tuple[int, int, int], signs: tuple[int, int, int]) -> npt.NDArray[Any]:
    return array.transpose(order)[:: signs[0], :: signs[1], :: signs[2]]


def key_slices(stack: Axial, volume: Volume, masks: Sequence[BoolArray]) -> list[int]:
    """Positions in the stack that show each segment best: its largest section first, then its ends; [] if empty.

    The largest section of every segment comes before the second of any.
    """
    ranked: list[list[int]] = []
    for mask in masks:
        areas = np.count_nonzero(stack.oriented(mask, volume), axis=(1, 2))
        inside = np.flatnonzero(areas)
        if inside.size:
            ranked.append([int(areas.argmax()), int(inside[0]), int(inside[-1])])
    firsts = [positions[0] for positions in ranked]
    return list(dict.fromkeys([*firsts, *(p for positions in ranked for p in positions[1:])]))


def choose(stack: Axial, keys: Sequence[int], budget: int, modality: str = "") -> tuple[int, ...]:
    """Positions in the stack, ascending: the union of slices of the segments and slices spread evenly over the body.

    There are `min(budget, number of slices)` of them. Raises ValueError for a budget below 1.
    """
    if budget < 1:
        raise ValueError("a budget of no slices shows nothing")
    if len(stack.array) <= budget:
        return tuple(range(len(stack.array)))
    chosen = set(list(dict.fromkeys(keys))[: max(1, int(budget * _KEY_SHARE))])
    low, high = _body(stack, modality)
    # Evenly spaced as in MedGemma's notebook: round(i / n * (last - first)), i = 1..n.
    spread = budget - len(chosen)
    chosen |= {low + round(i / spread * (high - low)) for i in range(1, spread + 1)}
    while len(chosen) < budget:  # some fell together: fill where least is shown, in the body while there is room
        inside = [p for p in range(low, high + 1) if p not in chosen]
        free = inside or [p for p in range(len(stack.array)) if p not in chosen]
        chosen.add(max(free, key=lambda p: (min(abs(p - c) for c in chosen), -p)))
    return tuple(sorted(chosen))


def _body(stack: Axial, modality: str) -> tuple[int, int]:
    """First and last slice that show a body; on other than CT, of all slices."""
    last = len(stack.array) - 1
    if modality != "CT":
        return 0, last
    step = max(1, min(stack.array.shape[1:]) // 64)
    coarse = stack.array[:, ::step, ::step] > _AIR_HU
    found = np.flatnonzero(coarse.mean(axis=(1, 2)) >= _BODY_SHARE)
    return (int(found[0]), int(found[-1])) if found.size else (0, last)


def windows_for(volume: Volume, modality: str, packing: str) -> tuple[Window, ...]:
    """The windows that pictures of a volume are made with: three (red, green, blue), or one (grey).

    `packing` is the card's: "ct-3-window" or "grey". Other modalities than CT have no absolute scale: their window is
    the 1st to 99th percentile. How MedGemma 1.5 was shown MR is not published, so that is experimental.
    """
    if modality == "CT":
        return CT_WINDOWS if packing == "ct-3-window" else SOFT_TISSUE
    values = volume.array.ravel()
    values = values[:: max(1, values.size // _SAMPLES)]
    low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
    return ((low, high if high > low else low + 1.0),)


def picture(stack: Axial, position: int, windows: Sequence[Window]) -> Picture:
    """One slice as (row, column, 3) uint8, square pixels, padded to a square with black.

    A value x becomes round((clip(x, low, high) - low) / (high - low) * 255) in each window's channel; one window
    fills all three.
    """
    values = stack.array[position].astype(np.float32)
    channels = [np.rint((np.clip(values, low, high) - low) / (high - low) * 255.0) for low, high in windows]
    shown = np.stack([channels[0]] * 3 if len(channels) == 1 else channels, axis=-1).astype(np.uint8)
    return _square(shown, stack.pixel_mm)


def _square(shown: Picture, pixel_mm: tuple[float, float]) -> Picture:
    height, width = shown.shape[:2]
    fine = min(pixel_mm)
    wanted = (max(1, round(height * pixel_mm[0] / fine)), max(1, round(width * pixel_mm[1] / fine)))
    if wanted != (height, width):
        from PIL import Image

        resized = Image.fromarray(shown).resize((wanted[1], wanted[0]), Image.Resampling.BILINEAR)
        shown = np.asarray(resized)
    side = max(wanted)
    if wanted == (side, side):
        return shown
    out = np.zeros((side, side, 3), np.uint8)
    top, left = (side - wanted[0]) // 2, (side - wanted[1]) // 2
    out[top : top + wanted[0], left : left + wanted[1]] = shown
    return out
