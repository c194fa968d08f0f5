# SPDX-License-Identifier: Apache-2.0
"""Volumes and masks whose sizes are known: ellipsoids at any place, in grids that lie in any way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from FoundationSegLib import Volume
from FoundationSegLib.segmentation_io import SegmentRecord

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def rotation(rng: np.random.Generator) -> FloatArray:
    """A random rotation matrix, all directions equally likely."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def turned(axis: int, degrees: float) -> FloatArray:
    """Rotation about R (0), A (1) or S (2)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    a, b = [n for n in range(3) if n != axis]
    result = np.eye(3)
    result[a, a] = result[b, b] = c
    result[a, b], result[b, a] = -s, s
    return result


def grid(
    shape_ijk: Sequence[int],
    spacing: Sequence[float],
    directions: npt.ArrayLike | None = None,
    centre: Sequence[float] = (0, 0, 0),
) -> FloatArray:
    """IJK to RAS of a grid around a centre (RAS mm)."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if directions is None else np.asarray(directions)) * np.asarray(spacing)
    matrix[:3, 3] = np.asarray(centre) - matrix[:3, :3] @ ((np.asarray(shape_ijk) - 1) / 2)
    return matrix


def positions(matrix: FloatArray, shape_ijk: Sequence[int]) -> FloatArray:
    """(k, j, i, 3): RAS mm of every voxel's centre."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in reversed(shape_ijk)), indexing="ij")
    return np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]


def ellipsoid(
    points: FloatArray, centre: Sequence[float], half_axes: Sequence[float], directions: npt.ArrayLike | None = None
) -> BoolArray:
    """Which of the points lie in an ellipsoid; `directions`: columns are its axes in RAS."""
    local = (points - np.asarray(centre)) @ (np.eye(3) if directions is None else np.asarray(directions))
    return np.asarray(((local / np.asarray(half_axes)) ** 2).sum(axis=-1) <= 1)


def section(half_axes: Sequence[float], directions: FloatArray, normal: FloatArray) -> tuple[float, float]:
    """Long and short axis (whole lengths) of the section through an ellipsoid's centre across a normal.

    Sections of an ellipsoid across one normal are similar ellipses, the one through the centre is the largest.
    """
    shape = directions @ np.diag(1 / np.square(half_axes)) @ directions.T
    plane = np.linalg.svd(normal[None])[2][1:]
    short, long = 2 / np.sqrt(np.linalg.eigvalsh(plane @ shape @ plane.T)[::-1])
    return float(long), float(short)


def volume_of(
    shape_ijk: Sequence[int], matrix: FloatArray, modality: str | None = "CT", background: int = -1000
) -> Volume:
    array = np.full(tuple(reversed(shape_ijk)), background, np.int16)
    array[0, 0, 0] += 1  # Volume refuses an image in which every voxel is the same.
    return Volume(array, matrix, modality)


def with_values(volume: Volume, *filled: tuple[BoolArray, Any]) -> Volume:
    """The volume with other values in masks, the later over the earlier."""
    array = volume.array.copy()
    for mask, value in filled:
        array[mask] = value
    return Volume(array, volume.ijk_to_ras, volume.modality)


def record(name: str, mask: BoolArray, **options: Any) -> SegmentRecord:
    return SegmentRecord(name, mask, **options)
