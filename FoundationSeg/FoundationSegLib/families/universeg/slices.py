# SPDX-License-Identifier: Apache-2.0
"""Slices of a volume as a 2-D network sees them, and the way back.

Slices are taken in the canonical frame (see `region.py`), so that the way in which a volume is stored does not matter.
All slices share one square window, in mm, so that tissue keeps its shape in anisotropic volumes: the whole slice, or
what a box leaves of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import PromptError
from ...predictor import Array
from ...prompts import LabelledSlice
from ...region import Box3, CanonicalFrame
from ...volume import Volume

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SliceGrid:
    """A window of `size` x `size` pixels on every slice across one canonical axis.

    Attributes:
        axis: the canonical axis across the slices (0, 1, 2 for z, y, x).
        plane: the other two, in order: rows and columns.
        low, high: outer faces (2,) of the window in canonical mm along rows and columns.
        size: pixels of an edge.
    """

    volume: Volume
    frame: CanonicalFrame
    axis: int
    low: tuple[float, float]
    high: tuple[float, float]
    size: int

    @classmethod
    def across(
        cls, volume: Volume, frame: CanonicalFrame, array_axis: int, size: int, bounds: FloatArray | None = None
    ) -> SliceGrid:
        """The window over the whole slices across an array axis, or over their part in canonical `bounds` (2, 3)."""
        axis = frame.order.index(array_axis)
        plane = [other for other in range(3) if other != axis]
        spacing, shape = np.array(frame.spacing)[plane], np.array(frame.shape)[plane]
        low, high = -0.5 * spacing, (shape - 0.5) * spacing
        if bounds is not None:
            low, high = np.maximum(low, bounds[0, plane]), np.minimum(high, bounds[1, plane])
            high = np.maximum(high, low + spacing)  # a box thinner than a voxel still shows one
        a, b = low.tolist()
        c, d = high.tolist()
        return cls(volume, frame, axis, (a, b), (c, d), size)

    @property
    def plane(self) -> tuple[int, int]:
        rows, columns = (other for other in range(3) if other != self.axis)
        return rows, columns

    @property
    def count(self) -> int:
        """Number of slices."""
        return self.frame.shape[self.axis]

    def place(self, example: LabelledSlice) -> tuple[int, BoolArray]:
        """A labelled slice as (canonical index, mask (rows, columns)). Raises PromptError if it does not fit."""
        array_axis = example.array_axis
        shape = tuple(n for axis, n in enumerate(self.volume.shape) if axis != array_axis)
        if example.index >= self.volume.shape[array_axis]:
            raise PromptError(
                f"The labelled slice {example.index} across {example.axis} is not in the volume, which has "
                f"{self.volume.shape[array_axis]} slices there."
            )
        if example.mask.shape != shape:
            raise PromptError(
                f"The labelled slice {example.index} across {example.axis} has {example.mask.shape} pixels and the "
                f"volume's slices {shape}."
            )
        whole = np.broadcast_to(np.expand_dims(example.mask, array_axis), self.volume.shape)
        mask = np.take(self.frame.canonical_view(whole), 0, self.axis).astype(bool)
        flipped = self.frame.flipped[self.axis]
        return (self.count - 1 - example.index if flipped else example.index), mask

    def image(self, index: int) -> Array:
        """(size, size) float32 in [0, 1]: a slice between its own extremes; its least beyond the volume."""
        rows, columns = self._sampling
        view = np.take(self.frame.canonical_view(self.volume.array), index, self.axis).astype(np.float32)
        values = rows @ view @ columns.T
        known = np.logical_and.outer(_used(rows), _used(columns))
        inside = values[known]
        low, high = float(inside.min()), float(inside.max())
        # The rounding of a slice without contrast must not become its contrast.
        if high - low <= 1e-5 * max(abs(low), abs(high)):
            return np.zeros_like(values)
        unit = (values - low) / (high - low)
        return np.where(known, unit, 0).astype(np.float32)

    def label(self, mask: BoolArray) -> Array:
        """(size, size) float32 of 0 and 1: a mask (rows, columns) on the window; what is thin does not vanish."""
        rows, columns = self._sampling
        share = rows @ mask.astype(np.float32) @ columns.T
        return (share > min(0.5, 0.5 * float(share.max()))).astype(np.float32)

    def to_voxels(self, logits: Array, outside: float) -> Array:
        """Logits (..., size, size) at the voxels (..., rows, columns) of slices; `outside` beyond the window."""
        rows, columns = (self._interpolation(number) for number in range(2))
        values = rows @ logits @ columns.T
        known = np.logical_and.outer(_used(rows), _used(columns))
        return np.where(known, values, np.float32(outside)).astype(np.float32)

    def box(self, first: int, last: int) -> Box3:
        """The canonical voxels of the window on the slices `first` to `last`, both included."""
        parts = [slice(first, last + 1)] * 3
        for number, axis in enumerate(self.plane):
            inside = np.flatnonzero(_used(self._interpolation(number)))
            parts[axis] = slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)
        return parts[0], parts[1], parts[2]

    @property
    def _step(self) -> float:
        """mm between pixels: the same along rows and columns."""
        return max(b - a for a, b in zip(self.low, self.high, strict=True)) / self.size

    @property
    def _sampling(self) -> tuple[Array, Array]:
        """Per plane axis (size, voxels): weights of the voxels under each pixel, zero rows outside of the window."""
        rows, columns = (self._weights(number) for number in range(2))
        return rows, columns

    def _pixels(self, number: int) -> FloatArray:
        """Positions (size,) of pixel centres along a plane axis, in canonical mm."""
        middle = (self.low[number] + self.high[number]) / 2
        steps: FloatArray = np.arange(self.size, dtype=np.float64) - (self.size - 1) / 2
        return middle + steps * self._step

    def _weights(self, number: int) -> Array:
        """Linear interpolation, widened to the pixel where that is larger than a voxel, so that nothing is skipped."""
        axis = self.plane[number]
        spacing, count = self.frame.spacing[axis], self.frame.shape[axis]
        pixels = np.round(self._pixels(number), 6)
        reach = max(1.0, self._step / spacing)
        position = np.clip(pixels / spacing, 0, count - 1)
        weight = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(count)) / reach)
        weight /= weight.sum(1, keepdims=True)
        weight[(pixels < self.low[number] - 1e-6) | (pixels > self.high[number] + 1e-6)] = 0
        return weight.astype(np.float32)

    def _interpolation(self, number: int) -> Array:
        """(voxels, size): linear weights of the pixels around each voxel, zero rows outside of the window."""
        axis = self.plane[number]
        voxels = np.round(np.arange(self.frame.shape[axis]) * self.frame.spacing[axis], 6)
        place = np.clip((voxels - self._pixels(number)[0]) / self._step, 0, self.size - 1)
        weight = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(self.size)))
        weight[(voxels < self.low[number] - 1e-6) | (voxels > self.high[number] + 1e-6)] = 0
        return weight.astype(np.float32)


def _used(weights: Array) -> BoolArray:
    """Which rows of a matrix have a weight at all."""
    return np.asarray(weights.any(axis=1), dtype=bool)
