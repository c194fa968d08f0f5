# SPDX-License-Identifier: Apache-2.0
"""A segment's voxels within the smallest box around them, and where they lie.

Everything that is measured looks at this box only: a volume of 512 x 512 x 300 voxels is passed over once per segment,
to find it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from FoundationSegLib.volume import FloatArray, Volume

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]
Box3 = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Region:
    """The voxels of one subject.

    Attributes:
        volume: the image that they lie in.
        box: slices (k, j, i) of the volume's grid; the smallest that hold all voxels.
        mask: bool (k, j, i), the voxels within the box; at least one is true.
    """

    volume: Volume
    box: Box3
    mask: BoolArray

    @cached_property
    def voxels(self) -> int:
        return int(np.count_nonzero(self.mask))

    @property
    def volume_ml(self) -> float:
        return self.voxels * self.volume.voxel_volume_ml

    @property
    def start(self) -> FloatArray:
        """Index (k, j, i) of the box's first voxel in the volume, (3,)."""
        return np.array([part.start for part in self.box], dtype=np.float64)

    @cached_property
    def ends(self) -> IntArray:
        """(n, 3) indices (k, j, i) within the box of the first and last voxel of every row along i.

        Every extreme of a linear function over the voxels is taken by one of them.
        """
        return np.concatenate(line_ends(self.mask, 2))

    @cached_property
    def centroid_ras(self) -> tuple[float, float, float]:
        """Mean position of the voxel centres, RAS mm."""
        counts = [self.mask.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
        kji = [float(count @ np.arange(len(count))) / self.voxels for count in counts]
        r, a, s = self.volume.kji_to_ras(self.start + kji).tolist()
        return r, a, s

    @property
    def cut(self) -> tuple[bool, bool, bool]:
        """Whether the voxels touch a first or last plane of the volume along (k, j, i)."""
        k, j, i = (p.start == 0 or p.stop == n for p, n in zip(self.box, self.volume.shape, strict=True))
        return k, j, i

    def values(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The voxels' values in an array of the volume's shape, (n,)."""
        return array[self.box][self.mask]


def region_of(volume: Volume, mask: BoolArray) -> Region | None:
    """The region of a mask, bool (k, j, i) of the volume's shape; None if it is empty."""
    return region_at(volume, mask, (0, 0, 0))


def region_at(volume: Volume, mask: BoolArray, start: tuple[int, ...]) -> Region | None:
    """The region of a mask that begins at index `start` (k, j, i) of the volume's grid; None if it is empty."""
    inner = bounding_box(mask)
    if inner is None:
        return None
    k, j, i = (slice(p.start + first, p.stop + first) for p, first in zip(inner, start, strict=True))
    return Region(volume, (k, j, i), np.ascontiguousarray(mask[inner]))


def bounding_box(mask: BoolArray) -> Box3 | None:
    """Slices (k, j, i) of the smallest box around the true voxels; None if there are none."""
    k = _span(np.any(mask.reshape(len(mask), -1), axis=1))
    if k is None:
        return None
    plane: BoolArray = np.any(mask[k], axis=0)
    j, i = _span(np.any(plane, axis=1)), _span(np.any(plane, axis=0))
    assert j is not None and i is not None
    return k, j, i


def _span(hits: BoolArray) -> slice | None:
    found = np.flatnonzero(hits)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else None


def line_ends(mask: BoolArray, axis: int) -> tuple[IntArray, IntArray]:
    """Indices (n, 3) (k, j, i) of the first and of the last voxel of every line along an array axis that has any."""
    turned = np.moveaxis(mask, axis, 2)
    lines = np.argwhere(turned.any(axis=2))
    values = turned[lines[:, 0], lines[:, 1]]
    first = values.argmax(axis=1)
    last = values.shape[1] - 1 - values[:, ::-1].argmax(axis=1)
    return np.insert(lines, axis, first, axis=1), np.insert(lines, axis, last, axis=1)


def directions_mm(volume: Volume) -> FloatArray:
    """(3, 3): rows are the steps in RAS mm from a voxel to the next along k, j and i."""
    return np.ascontiguousarray(volume.ijk_to_ras[:3, 2::-1].T)


def slice_axis(volume: Volume) -> int:
    """Array axis (0: k, 1: j, 2: i) across the planes in which the image was acquired.

    The axis with distinctly the largest spacing; where there is none, the one whose planes are nearest to axial ones:
    RECIST 1.1 measures in the plane of acquisition, which is axial for CT.
    """
    steps = directions_mm(volume)
    spacing = np.linalg.norm(steps, axis=1)
    order = np.argsort(spacing)
    if spacing[order[2]] > 1.2 * spacing[order[1]]:
        return int(order[2])
    return int(np.argmax(np.abs(_normals(steps)[:, 2])))


def plane_name(volume: Volume, axis: int) -> str:
    """ "axial", "coronal" or "sagittal" of the planes across an array axis; "oblique" beyond 45 degrees from any."""
    normal = np.abs(_normals(directions_mm(volume))[axis])
    names = ("sagittal", "coronal", "axial")
    return names[int(normal.argmax())] if normal.max() > np.sqrt(0.5) else "oblique"


def plane_distance_mm(volume: Volume, axis: int) -> float:
    """Distance between neighbouring planes across an array axis, at right angles to them (they may be sheared)."""
    steps = directions_mm(volume)
    return float(abs(steps[axis] @ _normals(steps)[axis]))


def _normals(steps: FloatArray) -> FloatArray:
    """Unit normals of the planes across each axis, as rows."""
    normals = np.array([np.cross(steps[1], steps[2]), np.cross(steps[2], steps[0]), np.cross(steps[0], steps[1])])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
