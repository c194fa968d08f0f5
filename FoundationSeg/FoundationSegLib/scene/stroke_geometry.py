# SPDX-License-Identifier: Apache-2.0
"""Geometry of strokes: what remains of a hand-drawn line, and the rectangle of a drag."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


def rectangle(device: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The rectangle between the first and the last position, closed."""
    (x0, y0), (x1, y1) = device[0], device[-1]
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]


def simplified(points: Points, tolerance: float) -> Points:
    """The points, (n, 3), without those that a line through the others passes within `tolerance` (their unit).

    Douglas and Peucker, Cartographica 10(2), 1973: first and last point stay. A hand-drawn stroke has hundreds of
    points, and a markups curve draws every one.
    """
    keep = np.zeros(len(points), dtype=bool)
    keep[[0, -1]] = True
    pending = [(0, len(points) - 1)]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        between, start, along = points[first + 1 : last], points[first], points[last] - points[first]
        length2 = float(along @ along)
        fraction = np.clip((between - start) @ along / length2, 0, 1) if length2 > 0 else np.zeros(len(between))
        distances = np.linalg.norm(between - start - fraction[:, None] * along, axis=1)
        farthest = int(np.argmax(distances))
        if distances[farthest] > tolerance:
            middle = first + 1 + farthest
            keep[middle] = True
            pending += [(first, middle), (middle, last)]
    return points[keep]
