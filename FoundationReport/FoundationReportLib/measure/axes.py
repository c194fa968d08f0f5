# SPDX-License-Identifier: Apache-2.0
"""Longest diameter and short axis of a lesion or node in the plane of acquisition, as RECIST 1.1 asks for.

Eisenhauer et al., Eur J Cancer 2009;45:228-247: the longest diameter in the plane of acquisition (axial for CT); for
nodes the longest diameter perpendicular to it. The outline of a slice is its half-voxel contour: it passes halfway
between the outermost voxel centres and their empty neighbours, which on average neither adds to nor takes from a
smooth shape as much as voxel corners or centres do. Where the outline is that of an ellipse, to within what the voxels
can tell, the axes are those of the ellipse with the same area moments, which all voxels determine instead of the few
outermost ones; in between the two are blended, so that no small change of a mask makes a jump.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from FoundationSegLib.volume import FloatArray

from .outline import Ellipse, chord_across, contour_points, convex_hull, diameter, moment_ellipse
from .region import BoolArray, Region, directions_mm, plane_name, slice_axis

Point3 = tuple[float, float, float]

# Misfit in voxels up to which an outline counts as an ellipse, and from which it does not.
_ELLIPSE, _NO_ELLIPSE = 0.15, 0.35


@dataclass(frozen=True)
class Axes:
    """The two diameters of one slice.

    Attributes:
        long_mm, short_mm: longest diameter, and longest chord at right angles to it.
        long_ends, short_ends: RAS mm, two points each, as far apart as the length says.
        slice_k: index k of the slice; None where the planes of acquisition do not lie across the array's first axis.
        plane: "axial", "coronal", "sagittal" or "oblique".
    """

    long_mm: float
    short_mm: float
    long_ends: tuple[Point3, Point3]
    short_ends: tuple[Point3, Point3]
    slice_k: int | None
    plane: str

    @property
    def method(self) -> str:
        return f"half-voxel contour in the {self.plane} plane of acquisition"


@dataclass(frozen=True)
class _SliceAxes:
    """Of one slice, in the plane's own coordinates (mm)."""

    long: float
    short: float
    long_ends: FloatArray
    short_ends: FloatArray


def axes_of(region: Region) -> Axes:
    """The axes in the slice with the longest diameter."""
    axis = slice_axis(region.volume)
    steps = np.delete(directions_mm(region.volume), axis, axis=0)
    basis = _plane_basis(steps)
    flat = steps @ basis.T
    planes = np.moveaxis(region.mask, axis, 0)
    best, index = _longest(planes, flat)
    start = np.delete(region.start, axis)
    to_index = np.linalg.inv(flat)

    def in_space(points: FloatArray) -> tuple[Point3, Point3]:
        within = points @ to_index + start
        kji = np.insert(within, axis, region.start[axis] + index, axis=1)
        (r, a, s), (r2, a2, s2) = region.volume.kji_to_ras(kji).tolist()
        return (r, a, s), (r2, a2, s2)

    return Axes(
        best.long,
        best.short,
        in_space(best.long_ends),
        in_space(best.short_ends),
        int(region.start[0]) + index if axis == 0 else None,
        plane_name(region.volume, axis),
    )


def _plane_basis(steps: FloatArray) -> FloatArray:
    """(2, 3): two unit vectors at right angles in the plane that the two steps span (which need not be at right)."""
    first = steps[1] / np.linalg.norm(steps[1])
    second = steps[0] - (steps[0] @ first) * first
    return np.stack([second / np.linalg.norm(second), first])


def _longest(planes: BoolArray, steps: FloatArray) -> tuple[_SliceAxes, int]:
    """The slice with the longest diameter and its index. `planes`: bool (slices, a, b)."""
    filled = np.flatnonzero(planes.reshape(len(planes), -1).any(axis=1))
    outlines = {int(n): contour_points(planes[n], steps) for n in filled}
    # No diameter exceeds the diagonal of the box around the outline, so that most slices need not be looked at.
    bounds = {n: float(np.linalg.norm(np.ptp(points, axis=0))) for n, points in outlines.items()}
    slack = float(np.linalg.norm(steps, axis=1).max())
    best: tuple[_SliceAxes, int] | None = None
    for n in sorted(outlines, key=lambda n: (-bounds[n], n)):
        if best is not None and bounds[n] + slack < best[0].long:
            break
        found = _axes_of_slice(planes[n], steps, outlines[n])
        if best is None or found.long > best[0].long:
            best = found, n
    assert best is not None
    return best


def _axes_of_slice(plane: BoolArray, steps: FloatArray, outline: FloatArray) -> _SliceAxes:
    hull = convex_hull(outline)
    long, long_ends = diameter(hull)
    short, short_ends = chord_across(hull, long_ends[1] - long_ends[0])
    ellipse = moment_ellipse(plane, steps, outline)
    weight = 0.0 if ellipse is None else _trust(ellipse, long)
    if ellipse is None or weight == 0:
        return _SliceAxes(long, short, long_ends, short_ends)
    new_long = (1 - weight) * long + weight * ellipse.long
    new_short = (1 - weight) * short + weight * ellipse.short
    return _SliceAxes(new_long, new_short, _scaled(long_ends, new_long), _scaled(short_ends, new_short))


def _trust(ellipse: Ellipse, long: float) -> float:
    """How much the ellipse counts, 0 to 1."""
    return float(np.clip((_NO_ELLIPSE - ellipse.misfit) / (_NO_ELLIPSE - _ELLIPSE), 0, 1))


def _scaled(ends: FloatArray, length: float) -> FloatArray:
    """The two ends moved along their line until they are `length` apart."""
    middle = ends.mean(axis=0)
    return np.asarray(middle + (ends - middle) * (length / np.linalg.norm(ends[1] - ends[0])))
