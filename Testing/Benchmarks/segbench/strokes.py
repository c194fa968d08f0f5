# SPDX-License-Identifier: Apache-2.0
"""Simulated strokes: a short scribble on one slice, where a person would draw it.

* **Where**: through the voxel that a click would have gone to (`clicks`): the deepest one of the target, then of the
  largest error; untidy: one at about half that depth.
* **On which slice**: of the volume's three slice directions the one in which the region's piece around that voxel has
  the largest area; untidy: any of the three, drawn at random.
* **How**: straight, along the direction in which that piece is longest; to either side 60 % of the way to the piece's
  edge, at most 10 mm, so a stroke is never longer than 20 mm and never leaves the region. Untidy: turned by up to 45
  degrees. A piece of one voxel gets a stroke of one point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from .clicks import largest_error, region_click
from .metrics import BoolArray

REACH_MM = 10.0
REACH_SHARE = 0.6
TURN = np.pi / 4


@dataclass(frozen=True)
class Stroke:
    """Voxel indices (n, 3) as (k, j, i), in order, all inside the region and on one slice; and the sign."""

    kji: NDArray[np.float64]
    positive: bool


def _piece(
    region: BoolArray, at: Sequence[int], spacing: NDArray[np.float64], rng: np.random.Generator | None
) -> tuple[int, BoolArray]:
    """The slice direction, and on that slice the region's piece (8-connected) that holds the voxel."""
    split: Any = cc3d
    pieces = []
    for axis in range(3):
        labels = split.connected_components(region.take(at[axis], axis).astype(np.uint8), connectivity=8)
        own = labels[tuple(index for other, index in enumerate(at) if other != axis)]
        pieces.append(np.asarray(labels == own))
    if rng is not None:
        axis = int(rng.integers(3))
    else:
        areas = [np.count_nonzero(piece) * np.prod(np.delete(spacing, axis)) for axis, piece in enumerate(pieces)]
        axis = int(np.argmax(areas))
    return axis, pieces[axis]


def _straight(
    piece: BoolArray, start: NDArray[np.float64], spacing: NDArray[np.float64], rng: np.random.Generator | None
) -> NDArray[np.float64]:
    """Pixel indices (n, 2) of the stroke through `start` on one slice."""
    pixels = np.argwhere(piece) * spacing
    centred = pixels - pixels.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    direction = vectors[:, -1]
    direction = direction * np.sign(direction[np.argmax(np.abs(direction))])  # the sign of a direction is arbitrary
    if rng is not None:
        turn = rng.uniform(-TURN, TURN)
        direction = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ direction
    step = 0.5 * float(spacing.min())

    def way(sign: int) -> NDArray[np.float64]:
        """Places in mm from the start outwards, until the piece ends."""
        distance = step * np.arange(1, int(REACH_MM / REACH_SHARE / step) + 1)
        places = start * spacing + sign * direction * distance[:, None]
        index = np.round(places / spacing).astype(int)
        inside = ((index >= 0) & (index < piece.shape)).all(axis=1)
        inside[inside] = piece[tuple(index[inside].T)]
        free = len(inside) if inside.all() else int(np.argmin(inside))
        return places[: int(min(free * REACH_SHARE, REACH_MM / step))]

    line = np.concatenate([way(-1)[::-1], [start * spacing], way(1)])
    return np.asarray(line / spacing)


def stroke_in(
    region: BoolArray, spacing_kji: Sequence[float], positive: bool, rng: np.random.Generator | None = None
) -> Stroke:
    """A stroke in a region (one component of the target or of an error). Raises ValueError when it is empty."""
    spacing = np.asarray(spacing_kji, float)
    click = region_click(region, spacing_kji, positive, rng)
    axis, piece = _piece(region, click.kji, spacing, rng)
    flat = _straight(piece, np.delete(np.array(click.kji, float), axis), np.delete(spacing, axis), rng)
    return Stroke(np.insert(flat, axis, click.kji[axis], axis=1), positive)


def first_stroke(target: BoolArray, spacing_kji: Sequence[float], rng: np.random.Generator | None = None) -> Stroke:
    """The first positive stroke; `rng` makes it untidy."""
    return stroke_in(target, spacing_kji, True, rng)


def next_stroke(
    target: BoolArray, prediction: BoolArray, spacing_kji: Sequence[float], rng: np.random.Generator | None = None
) -> Stroke | None:
    """The stroke that corrects the largest error, None when there is no error; `rng` makes it untidy."""
    found = largest_error(target, prediction)
    if found is None:
        return None
    box, region, positive = found
    stroke = stroke_in(region, spacing_kji, positive, rng)
    return Stroke(stroke.kji + [part.start for part in box], positive)
