# SPDX-License-Identifier: Apache-2.0
"""How far a region reaches: along R, A and S, and its largest diameter in any direction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from FoundationSegLib.volume import FloatArray

from .region import Region, line_ends

_DIRECTIONS = 192
_STARTS = 8
_SCANNED = 20_000


class Diameter3d(NamedTuple):
    """Largest diameter in mm and its ends in RAS mm."""

    length: float
    ends: tuple[tuple[float, float, float], tuple[float, float, float]]


def extents_ras(region: Region) -> tuple[float, float, float]:
    """Edges in mm of the box along R, A and S around all voxels, outer faces included.

    The same numbers as `FoundationSegLib.measure_table.extents_mm`, from the ends of the rows alone.
    """
    centres = region.volume.kji_to_ras(region.ends + region.start)
    # A voxel is a parallelepiped: this is how far it reaches along each of R, A and S.
    reach = np.abs(region.volume.ijk_to_ras[:3, :3]).sum(axis=1)
    r, a, s = (np.ptp(centres, axis=0) + reach).tolist()
    return r, a, s


def diameter_3d(region: Region) -> Diameter3d:
    """The largest distance between two points of the half-voxel surface (halfway to the empty neighbours).

    The farthest points along many directions start searches that go from a point to the one farthest from it, until
    none is farther. Each search can only grow, and the best of them is taken.
    """
    points = _surface_points(region)
    centre = points.mean(axis=0)
    offsets = points - centre
    directions = _half_sphere(_DIRECTIONS)
    # Where to start from, a part of the points tells; the searches look at all of them.
    stride = max(1, len(offsets) // _SCANNED)
    heights = offsets[::stride] @ directions.T
    widths = np.ptp(heights, axis=0)
    best = 0.0
    ends = (0, 0)
    for n in np.argsort(-widths)[:_STARTS]:
        a = int(heights[:, n].argmax()) * stride
        length, b = _farthest(offsets, a)
        while True:
            longer, c = _farthest(offsets, b)
            if longer <= length * (1 + 1e-12):
                break
            length, a, b = longer, b, c
        if length > best:
            best, ends = length, (a, b)
    (r, a_, s), (r2, a2, s2) = points[list(ends)].tolist()
    return Diameter3d(best, ((r, a_, s), (r2, a2, s2)))


def _farthest(points: FloatArray, index: int) -> tuple[float, int]:
    difference = points - points[index]
    squares = np.einsum("na,na->n", difference, difference)
    farthest = int(squares.argmax())
    return float(np.sqrt(squares[farthest])), farthest


def _surface_points(region: Region) -> FloatArray:
    """(n, 3) RAS mm: half a voxel beyond the first and the last voxel of every line along i, j and k."""
    found: list[FloatArray] = []
    for axis, half in enumerate(0.5 * np.eye(3)):
        first, last = line_ends(region.mask, axis)
        found += [first - half, last + half]
    return region.volume.kji_to_ras(np.concatenate(found) + region.start)


def _half_sphere(count: int) -> FloatArray:
    """(count, 3) unit vectors spread evenly over half a sphere (a Fibonacci spiral)."""
    n = np.arange(count) + 0.5
    z = n / count
    angle = np.pi * (1 + np.sqrt(5)) * n
    radius = np.sqrt(1 - z**2)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), z])
