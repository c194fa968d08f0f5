# SPDX-License-Identifier: Apache-2.0
"""Simulated clicks and boxes, exactly as the tables mean them.

* **First click**: the voxel of the target that is deepest, i.e. farthest in mm from the nearest voxel outside the
  target (Euclidean distance transform with the spacing; beyond the border of the volume is outside).
* **Every further click**: the false negatives and the false positives are each split into 26-connected components;
  of all of them, from both masks, the one with the largest volume is taken (a tie goes to the false negatives); the
  click is that component's deepest voxel (depth inside that component alone), positive for a false negative and
  negative for a false positive. No error left: no further click, and the scores stay as they are.
* **Ties** in depth go to the first voxel in (k, j, i) order: what `argmax` gives, so anyone can repeat it.
* **Untidy clicks**: in the same region, a random voxel whose depth is between 40 % and 60 % of the deepest voxel's;
  where there is none, a random one of those whose depth is nearest to 50 %.
* **Box**: the tight axis-aligned box in RAS around the target's voxels, their full extent included. **Jittered
  box**: each of the six faces moves by its own random amount, up to 10 % of the box's extent along that axis,
  inwards or outwards.

Randomness is seeded from a text (case, structure, click number, seed), never from a global generator: one row can be
measured alone and gives the same figure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .metrics import BoolArray, bounding_box

CONNECTIVITY = 26
UNTIDY_BAND = (0.4, 0.6)
BOX_JITTER = 0.10
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Click:
    """One simulated click: voxel index (k, j, i), its sign, and the depth in mm at that voxel."""

    kji: tuple[int, int, int]
    positive: bool
    depth_mm: float


def generator(*key: object) -> np.random.Generator:
    """A random generator that depends on the key alone."""
    digest = hashlib.sha256("/".join(str(part) for part in key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def region_click(
    region: BoolArray, spacing_kji: Sequence[float], positive: bool, rng: np.random.Generator | None = None
) -> Click:
    """Deepest voxel of a region, or with a generator one at about half that depth. Raises ValueError when empty."""
    box = bounding_box(region)
    if box is None:
        raise ValueError("a click was asked for in an empty region")
    depth = ndimage.distance_transform_edt(np.pad(region[box], 1), sampling=tuple(spacing_kji))[1:-1, 1:-1, 1:-1]
    if rng is None:
        at = int(np.argmax(depth))
    else:
        share = depth.ravel() / depth.max()
        wanted = np.flatnonzero((share >= UNTIDY_BAND[0]) & (share <= UNTIDY_BAND[1]))
        if wanted.size == 0:
            off = np.where(share > 0, np.abs(share - 0.5), np.inf)
            wanted = np.flatnonzero(off <= off.min() + 1e-9)
        at = int(rng.choice(wanted))
    place = np.unravel_index(at, depth.shape)
    k, j, i = (int(index) + part.start for index, part in zip(place, box, strict=True))
    return Click((k, j, i), positive, float(depth[place]))


def first_click(target: BoolArray, spacing_kji: Sequence[float], rng: np.random.Generator | None = None) -> Click:
    """The first positive click; `rng` makes it untidy. Raises ValueError when the target is empty."""
    return region_click(target, spacing_kji, True, rng)


def largest_error(target: BoolArray, prediction: BoolArray) -> tuple[Box, BoolArray, bool] | None:
    """The largest 26-connected error: slices around all errors, its mask inside them, whether it is missing.

    None when the masks agree. Raises ValueError when the shapes differ.
    """
    if target.shape != prediction.shape:
        raise ValueError(f"largest_error: the shapes differ, {target.shape} and {prediction.shape}")
    box = bounding_box(target ^ prediction)
    if box is None:
        return None
    split: Any = cc3d  # its overloads do not know bool arrays
    inside, predicted = target[box], prediction[box]
    best: tuple[int, BoolArray, bool] | None = None
    for error, positive in ((inside & ~predicted, True), (predicted & ~inside, False)):
        labels, count = split.connected_components(error, connectivity=CONNECTIVITY, return_N=True)
        if count == 0:
            continue
        sizes = np.bincount(labels.ravel())[1:]
        largest = int(np.argmax(sizes)) + 1
        if best is None or int(sizes[largest - 1]) > best[0]:
            best = (int(sizes[largest - 1]), labels == largest, positive)
    assert best is not None  # the two masks differ somewhere
    return box, best[1], best[2]


def next_click(
    target: BoolArray, prediction: BoolArray, spacing_kji: Sequence[float], rng: np.random.Generator | None = None
) -> Click | None:
    """The click that corrects the largest error, None when there is no error; `rng` makes it untidy."""
    found = largest_error(target, prediction)
    if found is None:
        return None
    box, region, positive = found
    click = region_click(region, spacing_kji, positive, rng)
    k, j, i = (index + part.start for index, part in zip(click.kji, box, strict=True))
    return Click((k, j, i), click.positive, click.depth_mm)


def tight_box(target: BoolArray, ijk_to_ras: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest RAS corner (mm) of the axis-aligned box around the target's voxels, full voxels included.

    The volume may be oblique or sheared: a voxel's half extent along a RAS axis is half the sum of the absolute
    entries of that row of the matrix.
    """
    kji = np.argwhere(target)
    if not len(kji):
        raise ValueError("a box was asked for around an empty target")
    matrix = np.asarray(ijk_to_ras, float)
    points = kji[:, ::-1] @ matrix[:3, :3].T + matrix[:3, 3]
    half = np.abs(matrix[:3, :3]).sum(axis=1) / 2
    return points.min(axis=0) - half, points.max(axis=0) + half


def jitter_box(
    low: NDArray[np.float64], high: NDArray[np.float64], rng: np.random.Generator, share: float = BOX_JITTER
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same box with each face moved by up to `share` of the extent along its axis, either way."""
    extent = high - low
    return low + rng.uniform(-share, share, 3) * extent, high + rng.uniform(-share, share, 3) * extent
