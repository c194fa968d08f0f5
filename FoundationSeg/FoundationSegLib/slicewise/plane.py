# SPDX-License-Identifier: Apache-2.0
"""The slices of a volume in one of its three canonical orientations, as pictures a radiologist would recognise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..region import Box3, CanonicalFrame
from .protocol import BoolArray, FloatArray, SliceGeometry

ORIENTATIONS = ("axial", "coronal", "sagittal")  # slices across canonical axis 0 (z), 1 (y), 2 (x)


@dataclass(frozen=True)
class SlicePlane:
    """Slices across the canonical axis `axis`. A slice's number counts along that axis, towards S, A or R.

    The other two axes are turned round: rows run to the feet (axial: to the back), columns to the left (sagittal: to
    the back). That is how pictures are shown, and how 2-D models saw them in training.
    """

    frame: CanonicalFrame
    axis: int

    @property
    def name(self) -> str:
        return ORIENTATIONS[self.axis]

    @property
    def count(self) -> int:
        return self.frame.shape[self.axis]

    @property
    def thickness(self) -> float:
        """mm from slice to slice."""
        return self.frame.spacing[self.axis]

    @cached_property
    def _across(self) -> tuple[int, int]:
        first, second = (axis for axis in range(3) if axis != self.axis)
        return first, second

    @cached_property
    def geometry(self) -> SliceGeometry:
        rows, columns = self._across
        shape, spacing = self.frame.shape, self.frame.spacing
        return SliceGeometry((shape[rows], shape[columns]), (spacing[rows], spacing[columns]))

    def pixels(self, array: npt.NDArray[np.generic], number: int) -> npt.NDArray[np.generic]:
        """The view (h, w) of one slice of an array (k, j, i)."""
        return self.stack(array)[number]

    def stack(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The view (slices, h, w) of an array (k, j, i)."""
        return np.moveaxis(self.frame.canonical_view(array), self.axis, 0)[:, ::-1, ::-1]

    def locate(self, positions: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Canonical positions (P, 3) in mm to slice numbers (P,), not rounded, and pixels (P, 2)."""
        index = np.reshape(np.asarray(positions, np.float64), (-1, 3)) / np.array(self.frame.spacing)
        rows, columns = self._across
        height, width = self.geometry.shape
        pixel = np.stack([height - 1 - index[:, rows], width - 1 - index[:, columns]], axis=1)
        return index[:, self.axis], pixel

    def array_block(
        self, block: npt.NDArray[np.generic], start: tuple[int, int, int]
    ) -> tuple[Box3, npt.NDArray[np.generic]]:
        """A block (slices, rows, columns) that begins at `start`, as a box (k, j, i) and the block with those axes."""
        rows, columns = self._across
        height, width = self.geometry.shape
        part: list[slice] = [slice(0, 0)] * 3
        part[self.axis] = slice(start[0], start[0] + block.shape[0])
        part[rows] = slice(height - start[1] - block.shape[1], height - start[1])
        part[columns] = slice(width - start[2] - block.shape[2], width - start[2])
        canonical = np.moveaxis(block[:, ::-1, ::-1], 0, self.axis)
        turned = canonical[tuple(slice(None, None, -1 if flip else 1) for flip in self.frame.flipped)]
        in_array = np.ascontiguousarray(turned.transpose(np.argsort(self.frame.order)))
        return self.frame.array_box((part[0], part[1], part[2])), in_array


def choose_plane(frame: CanonicalFrame, touched: Sequence[int]) -> SlicePlane:
    """The orientation in which the prompts lie: where they touch the fewest slices.

    `touched`: per canonical axis, the number of slices that hold a prompt. Of equals, the one whose pixels are finest
    (that in which the volume was acquired), then axial, coronal, sagittal.
    """
    axis = min(range(3), key=lambda a: (touched[a], -round(frame.spacing[a], 3), a))
    return SlicePlane(frame, axis)


def bounds_of(mask: BoolArray) -> tuple[float, float, float, float] | None:
    """First row, first column, last row and last column of a mask (h, w); None when it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return float(rows[0]), float(columns[0]), float(rows[-1]), float(columns[-1])
