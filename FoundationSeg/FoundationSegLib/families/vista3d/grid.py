# SPDX-License-Identifier: Apache-2.0
"""The grid that VISTA3D works on: 1.5 mm, axes to R, A and S, HU scaled to [0, 1].

Intensities are clipped and scaled first, then interpolated linearly, on a grid that begins at the centre of the
volume's first voxel and has as many points as come nearest to its last (models.md, section 8; MONAI's `Spacing`, to
which a test compares). The interpolation is written out plane by plane because MONAI's needs the whole volume, its
coordinates and its result in double precision at once: some 30 bytes for each voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...predictor import Array
from ...region import Box3, CanonicalFrame, Region, to_voxels
from ...volume import Volume

SPACING_MM = 1.5
_HU_LOW, _HU_HIGH = -963.8247715525971, 1053.678477684517

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Grids are (x, y, z), everything else of the package (z, y, x) or (k, j, i); this class changes over."""

    frame: CanonicalFrame
    shape: tuple[int, int, int]  # grid points along x, y, z

    @classmethod
    def of(cls, frame: CanonicalFrame) -> Grid:
        length = np.round((np.array(frame.shape) - 1) * np.array(frame.spacing) / SPACING_MM + 1).astype(int)
        z, y, x = np.maximum(length, 2).tolist()  # interpolation needs two points
        return cls(frame, (x, y, z))

    def image(self, volume: Volume) -> Array:
        """The volume on the grid, float32 in [0, 1]."""
        view = self.frame.canonical_view(volume.array)
        low, part = zip(*(self._neighbours(axis) for axis in range(3)), strict=True)
        out = np.empty(self.shape[::-1], np.float32)
        for z in range(len(out)):
            near = _scaled(view[low[0][z]])
            plane = near if part[0][z] == 0 else near + part[0][z] * (_scaled(view[low[0][z] + 1]) - near)
            for axis in (0, 1):
                index, t = low[axis + 1], part[axis + 1]
                above = np.minimum(index + 1, plane.shape[axis] - 1)
                t = t[:, None] if axis == 0 else t[None, :]
                near = plane.take(index, axis)
                plane = near + t * (plane.take(above, axis) - near)
            out[z] = plane
        return np.ascontiguousarray(out.transpose(2, 1, 0))

    def _neighbours(self, axis: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Per grid point of a canonical axis: the voxel below, and how far it lies towards the next; ends are held."""
        last = self.frame.shape[axis] - 1
        at = np.minimum(np.arange(self.shape[2 - axis]) * SPACING_MM / self.frame.spacing[axis], last)
        low = np.minimum(np.floor(at), max(last - 1, 0)).astype(np.intp)
        return low, (at - low).astype(np.float32)

    def place(self, positions: FloatArray) -> FloatArray:
        """Canonical positions (P, 3) as (z, y, x) in mm to continuous grid coordinates (P, 3) as (x, y, z)."""
        return positions[:, ::-1] / SPACING_MM

    def mask(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask (k, j, i) at the voxel nearest to each grid point."""
        index = []
        for axis in range(3):
            at = np.rint(np.arange(self.shape[2 - axis]) * SPACING_MM / self.frame.spacing[axis])
            index.append(np.minimum(at, self.frame.shape[axis] - 1).astype(np.intp))
        return np.ascontiguousarray(self.frame.canonical_view(mask)[np.ix_(*index)].transpose(2, 1, 0)).astype(bool)

    def voxels(self, logits: Array, box: Box3) -> Array:
        """Logits on the grid at the voxels of a canonical box (z, y, x), linear.

        The original brings its mask back by the nearest grid point; between logits the border is smoother, and the same
        where a voxel meets a grid point.
        """
        return to_voxels(logits.transpose(2, 1, 0), self.frame, _ORIGIN, box)

    def voxel_box(self, part: Box3) -> Box3:
        """The canonical voxels (z, y, x) that lie between the grid points (x, y, z) of `part` or within half a step."""
        low = np.array([side.start for side in part[::-1]], dtype=np.float64) - 0.5
        high = np.array([side.stop - 1 for side in part[::-1]], dtype=np.float64) + 0.5
        return _ORIGIN.voxel_box(self.frame, np.stack([low, high]) * SPACING_MM)


_ORIGIN = Region((0.0, 0.0, 0.0), SPACING_MM, 1)  # of the size only origin and spacing are asked here


def _scaled(hu: npt.NDArray[np.generic]) -> Array:
    return np.clip((hu.astype(np.float32) - np.float32(_HU_LOW)) / np.float32(_HU_HIGH - _HU_LOW), 0, 1)
