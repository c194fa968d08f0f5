# SPDX-License-Identifier: Apache-2.0
"""The region the peers work in, and the seeds they start from.

The peers (grow from seeds, random walker, region growing) need a region: on a whole CT they are slow and leak. None
of them may know the target, so the region follows from the prompts alone, by one fixed rule:

* clicks: the box around all clicks so far, 40 mm more on every side (so at least an 80 mm cube), cut to the volume;
* with a box: that box and a margin of 5 % of its extent (at least two voxels); what lies outside the box is
  background for certain, so more margin would only cost resolution.

The region is resampled to cubic voxels (axes coarser than that are left as they are, nothing is upsampled) so that it
has no more than the method's budget of voxels; the result comes back by linear interpolation at a half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .metrics import BoolArray

FloatArray = NDArray[np.float64]

CLICK_MARGIN_MM = 40.0
BOX_MARGIN_SHARE = 0.05
BOX_MARGIN_VOXELS = 2
FOREGROUND, BACKGROUND = 1, 2


@dataclass
class Prompts:
    """What a person has given so far for one target: clicks in order (RAS mm, sign) and at most one box (RAS mm)."""

    clicks: list[tuple[FloatArray, bool]] = field(default_factory=list)
    box: tuple[FloatArray, FloatArray] | None = None


@dataclass(frozen=True)
class Grid:
    """Geometry of a volume: shape (k, j, i), IJK-to-RAS; what the peers need besides voxels."""

    shape: tuple[int, int, int]
    ijk_to_ras: FloatArray

    @property
    def spacing_kji(self) -> FloatArray:
        """Voxel size in mm along (k, j, i)."""
        return np.asarray(np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)[::-1])

    def to_kji(self, ras: FloatArray) -> FloatArray:
        """RAS points (n, 3) in mm to continuous array indices (n, 3)."""
        homogeneous = np.c_[np.atleast_2d(ras), np.ones(len(np.atleast_2d(ras)))]
        return np.asarray((np.linalg.inv(self.ijk_to_ras) @ homogeneous.T).T[:, 2::-1])

    def to_ras(self, kji: FloatArray) -> FloatArray:
        """Array indices (n, 3) to RAS points (n, 3) in mm."""
        homogeneous = np.c_[np.atleast_2d(kji)[:, ::-1], np.ones(len(np.atleast_2d(kji)))]
        return np.asarray((self.ijk_to_ras @ homogeneous.T).T[:, :3])

    def within(
        self,
        box: tuple[FloatArray, FloatArray],
        shape: tuple[int, ...],
        start: FloatArray | Sequence[float],
        step: FloatArray | Sequence[float],
    ) -> BoolArray:
        """Which points of a sub-grid (index `start + n * step` along k, j, i) lie in an axis-aligned RAS box."""
        k, j, i = np.ogrid[tuple(slice(0, size) for size in shape)]
        k, j, i = (index * factor + first for index, factor, first in zip((k, j, i), step, start, strict=True))
        result = np.ones(shape, bool)
        for row, low, high in zip(self.ijk_to_ras[:3], box[0], box[1], strict=True):
            at = row[0] * i + row[1] * j + row[2] * k + row[3]
            result &= (at >= low - 1e-6) & (at <= high + 1e-6)
        return result

    def inside_box(self, box: tuple[FloatArray, FloatArray]) -> BoolArray:
        """Voxels of the whole volume whose centre lies in an axis-aligned RAS box."""
        result: BoolArray = np.zeros(self.shape, bool)
        part = _box_extent(self, box, 0.0, 0)
        size = tuple(span.stop - span.start for span in part)
        result[part] = self.within(box, size, [span.start for span in part], (1.0, 1.0, 1.0))
        return result


Slices = tuple[slice, slice, slice]


def _clip(low: FloatArray, high: FloatArray, shape: Sequence[int]) -> Slices:
    """Slices of the voxels from `low` to `high` (continuous indices, inclusive), cut to the volume, never empty."""
    parts = []
    for least, most, size in zip(low, high, shape, strict=True):
        start = int(np.clip(np.floor(least), 0, size - 1))
        parts.append(slice(start, int(np.clip(np.ceil(most) + 1, start + 1, size))))
    return parts[0], parts[1], parts[2]


def _box_extent(grid: Grid, box: tuple[FloatArray, FloatArray], share: float, voxels: int) -> Slices:
    low, high = box
    margin = (high - low) * share
    bounds = np.stack([low - margin, high + margin])
    corners = np.array([[bounds[a, 0], bounds[b, 1], bounds[c, 2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    kji = grid.to_kji(corners)
    return _clip(kji.min(axis=0) - voxels, kji.max(axis=0) + voxels, grid.shape)


def region_of(grid: Grid, prompts: Prompts) -> Slices:
    """The voxels a peer may look at, by the rule above. Raises ValueError without a prompt."""
    if prompts.box is not None:
        return _box_extent(grid, prompts.box, BOX_MARGIN_SHARE, BOX_MARGIN_VOXELS)
    if not prompts.clicks:
        raise ValueError("a region was asked for without a prompt")
    kji = grid.to_kji(np.array([ras for ras, _ in prompts.clicks]))
    margin = CLICK_MARGIN_MM / grid.spacing_kji
    return _clip(kji.min(axis=0) - margin, kji.max(axis=0) + margin, grid.shape)


def working_spacing(shape: Sequence[int], spacing: FloatArray, budget: int) -> FloatArray:
    """Voxel size in mm per axis that brings a region within `budget` voxels; never finer than the volume's own."""
    extent = np.asarray(shape) * spacing
    if np.prod(np.asarray(shape, float)) <= budget:
        return np.asarray(spacing, float)
    low, high = float(spacing.min()), float(extent.max())
    for _ in range(50):
        middle = (low + high) / 2
        if np.prod(np.ceil(extent / np.maximum(spacing, middle))) > budget:
            low = middle
        else:
            high = middle
    return np.maximum(spacing, high)


class Workspace:
    """One region of a volume on its working grid: the intensities there, seeds, and the way back."""

    def __init__(self, array: NDArray[Any], grid: Grid, prompts: Prompts, budget: int) -> None:
        self.grid, self.prompts = grid, prompts
        self.part = region_of(grid, prompts)
        crop = array[self.part].astype(np.float32)
        wanted = working_spacing(crop.shape, grid.spacing_kji, budget)
        factor = wanted / grid.spacing_kji
        self.shape = tuple(max(1, round(size / step)) for size, step in zip(crop.shape, factor, strict=True))
        self._step = np.array(crop.shape) / np.array(self.shape)
        self.spacing = grid.spacing_kji * self._step
        if self.shape != crop.shape:
            # Half a step of smoothing keeps fine texture from aliasing into the coarse grid.
            sigma = [0.5 * step if step > 1.01 else 0.0 for step in self._step]
            crop = ndimage.gaussian_filter(crop, sigma) if max(sigma) else crop
            crop = ndimage.affine_transform(
                crop, self._step, (self._step - 1) / 2, output_shape=self.shape, order=1, mode="nearest"
            )
        self.image = crop

    def index(self, ras: FloatArray) -> FloatArray:
        """Continuous working-grid indices (n, 3) of RAS points (n, 3)."""
        start = np.array([span.start for span in self.part])
        return np.asarray((self.grid.to_kji(ras) - start + 0.5) / self._step - 0.5)

    def _within(self, low: FloatArray, high: FloatArray) -> BoolArray:
        """Working voxels whose centre lies in an axis-aligned RAS box."""
        start = np.array([span.start for span in self.part])
        return self.grid.within((low, high), self.shape, 0.5 * self._step - 0.5 + start, self._step)

    def nearest(self, ras: FloatArray) -> tuple[int, int, int]:
        """The working voxel (k, j, i) that holds a RAS point, moved into the region when it lies outside."""
        k, j, i = np.clip(np.round(self.index(ras)[0]), 0, np.array(self.shape) - 1).astype(int)
        return int(k), int(j), int(i)

    def outside_box(self) -> BoolArray | None:
        """Working voxels whose centre is outside the given box; None when no box was given."""
        return None if self.prompts.box is None else ~self._within(*self.prompts.box)

    def border(self) -> BoolArray:
        """The outermost layer of the region, where it is thicker than two voxels."""
        shell = np.zeros(self.shape, bool)
        for axis, size in enumerate(self.shape):
            if size > 2:
                faces = np.moveaxis(shell, axis, 0)
                faces[0] = faces[-1] = True
        return shell

    def _core(self, low: FloatArray, high: FloatArray) -> BoolArray:
        """The middle third of a RAS box along each of its axes; at least the voxel at its centre."""
        middle, reach = (low + high) / 2, (high - low) / 6
        core = self._within(middle - reach, middle + reach)
        core[self.nearest(middle)] = True
        return core

    def seeds(self, radius_mm: float) -> NDArray[np.uint8]:
        """Seed map: 0 free, 1 target, 2 background.

        Background is the outside of the box, or without one the region's border, and a ball at each negative click;
        target is a ball at each positive click; where balls meet, the nearer click decides. A box is also seeded at
        its centre (a third of its extent along each axis, the usual start of a box-prompted cut) until a negative
        click says that this guess was wrong. (Keeping what is left of it wins the next click and loses the rest.)
        """
        outside = self.outside_box()
        background = self.border() if outside is None else outside | self.border()
        seeds = np.where(background, BACKGROUND, 0).astype(np.uint8)
        if self.prompts.box is not None:
            core = self._core(*self.prompts.box)
            if not any(core[self.nearest(ras)] for ras, positive in self.prompts.clicks if not positive):
                seeds[core] = FOREGROUND
        best = np.full(self.shape, np.inf)
        for ras, positive in self.prompts.clicks:
            at = self.index(ras)[0]
            axes = [((np.arange(n) - c) * s) ** 2 for n, c, s in zip(self.shape, at, self.spacing, strict=True)]
            squared = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
            squared[self.nearest(ras)] = 0.0  # the click's own voxel always counts, however coarse the grid
            take = (squared <= radius_mm**2) & (squared < best)
            best[take] = squared[take]
            seeds[take] = FOREGROUND if positive else BACKGROUND
        return seeds

    def back(self, soft: NDArray[Any]) -> BoolArray:
        """The whole volume's mask (k, j, i) from values in [0, 1] on the working grid: linear, true above a half."""
        result: BoolArray = np.zeros(self.grid.shape, bool)
        size = [span.stop - span.start for span in self.part]
        values = np.asarray(soft, np.float32)
        if tuple(size) != self.shape:
            inverse = 1 / self._step
            values = ndimage.affine_transform(
                values, inverse, (inverse - 1) / 2, output_shape=tuple(size), order=1, mode="nearest"
            )
        result[self.part] = values > 0.5
        return result
