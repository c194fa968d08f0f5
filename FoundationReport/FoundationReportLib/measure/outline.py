# SPDX-License-Identifier: Apache-2.0
"""Outlines of flat shapes: half-voxel contour, convex hull, diameter, chord across it, and the ellipse of a shape.

Points are (n, 2) in mm in the plane of the slice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from FoundationSegLib.volume import FloatArray

from .region import BoolArray

_ROUND_NOISE = 1.3


class Ellipse(NamedTuple):
    """The ellipse with a shape's area moments: axes in mm, and how far from it the outline lies.

    Attributes:
        long, short: axes (whole lengths, not halves).
        misfit: of the outline's course around the ellipse (harmonics 3 to 6 of the distance), root mean square in
            voxels; the steps of a digitised ellipse hardly enter it.
    """

    long: float
    short: float
    misfit: float


def contour_points(plane: BoolArray, steps: FloatArray) -> FloatArray:
    """(n, 2): where the outline crosses from an outermost voxel to its empty neighbour, halfway between the centres.

    These are the vertices of marching squares at 0.5, as far as they can be extreme. `plane`: bool (a, b), not empty;
    `steps`: (2, 2), rows are the mm from a voxel to the next along a and b.
    """
    along_b = _line_ends(plane)
    along_a = _line_ends(plane.T)[:, ::-1]
    half = np.array([0.5, 0.5])
    sides = np.repeat([-1.0, 1.0], len(along_b) // 2), np.repeat([-1.0, 1.0], len(along_a) // 2)
    points = np.concatenate([along_b + sides[0][:, None] * half * (0, 1), along_a + sides[1][:, None] * half * (1, 0)])
    return points @ steps


def _line_ends(plane: BoolArray) -> FloatArray:
    """First, then last voxels of all rows of the plane that have any: (2 n, 2) indices (a, b)."""
    rows = np.flatnonzero(plane.any(axis=1))
    lines = plane[rows]
    first = lines.argmax(axis=1)
    last = lines.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack([rows, first]), np.column_stack([rows, last])]).astype(np.float64)


def convex_hull(points: FloatArray) -> FloatArray:
    """Vertices of the convex hull in counter-clockwise order (Andrew's monotone chain)."""
    ordered = sorted(set(map(tuple, points.tolist())))
    if len(ordered) < 3:
        return np.array(ordered)

    def chain(items: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
        kept: list[tuple[float, ...]] = []
        for x, y in items:
            while len(kept) > 1 and (
                (kept[-1][0] - kept[-2][0]) * (y - kept[-2][1]) <= (kept[-1][1] - kept[-2][1]) * (x - kept[-2][0])
            ):
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return np.array(chain(ordered) + chain(ordered[::-1]))


def diameter(hull: FloatArray) -> tuple[float, FloatArray]:
    """The largest distance between two vertices, and the two, (2, 2)."""
    distances = np.linalg.norm(hull[:, None] - hull[None], axis=2)
    a, b = divmod(int(distances.argmax()), len(hull))
    return float(distances[a, b]), hull[[a, b]]


def chord_across(hull: FloatArray, along: FloatArray) -> tuple[float, FloatArray]:
    """The longest chord of the hull at right angles to the direction `along` (2,), and its ends, (2, 2).

    The width of a convex shape is greatest at one of its vertices.
    """
    u = along / np.linalg.norm(along)
    n = np.array([-u[1], u[0]])
    s, t = hull @ u, hull @ n
    order = np.argsort(s, kind="stable")
    low, high = order[0], order[-1]
    # Side of each vertex: above or below the line between the outermost two; these two belong to both.
    line = np.interp(s, [s[low], s[high]], [t[low], t[high]])
    ends = np.isin(np.arange(len(hull)), (low, high))
    upper = [n for n in order if t[n] >= line[n] or ends[n]]
    lower = [n for n in order if t[n] <= line[n] or ends[n]]
    top = np.interp(s, s[upper], t[upper])
    bottom = np.interp(s, s[lower], t[lower])
    best = int((top - bottom).argmax())
    points = np.array([s[best] * u + bottom[best] * n, s[best] * u + top[best] * n])
    return float(top[best] - bottom[best]), points


def moment_ellipse(plane: BoolArray, steps: FloatArray, outline: FloatArray) -> Ellipse | None:
    """The ellipse with the second moments of a plane's voxels (holes filled along the rows).

    Every voxel enters the moments, so that they are known far more finely than where the outermost ones lie.
    None for a shape without two dimensions.
    """
    from_left, from_right = np.maximum.accumulate(plane, axis=1), np.maximum.accumulate(plane[:, ::-1], axis=1)
    centres = np.argwhere(from_left & from_right[:, ::-1]) @ steps
    mean = centres.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(centres.T, bias=True)) if len(centres) > 2 else (np.zeros(2), np.eye(2))
    if values[0] <= 1e-12:
        return None
    half = 2 * np.sqrt(values)
    x, y = ((outline - mean) @ vectors).T
    radius = np.hypot(x / half[0], y / half[1])
    distance = (radius - 1) * radius / np.hypot(x / half[0] ** 2, y / half[1] ** 2)
    angle = np.arctan2(y / half[1], x / half[0])
    waves = np.concatenate([[np.cos(n * angle), np.sin(n * angle)] for n in range(3, 7)])
    amplitudes = 2 * (waves @ distance) / len(distance)
    voxel = float(np.sqrt(abs(np.linalg.det(steps))))
    misfit = float(np.sqrt((amplitudes**2).sum() / 2)) / voxel
    long, short = _without_noise(2 * float(half[1]), 2 * float(half[0]), voxel)
    return Ellipse(long, short, misfit)


def _without_noise(long: float, short: float, voxel: float) -> tuple[float, float]:
    """The axes without the difference that digitising alone makes between those of a round shape.

    Its mean square is 1.3 voxel^3 / diameter, found by simulating discs of 4 to 50 voxels at random places. It adds to
    the true difference in squares; the mean of the axes has no such error.
    """
    mean, difference = (long + short) / 2, long - short
    true = np.sqrt(max(difference**2 - _ROUND_NOISE * voxel**3 / mean, 0.0))
    return float(mean + true / 2), float(mean - true / 2)
