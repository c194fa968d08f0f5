# SPDX-License-Identifier: Apache-2.0
"""A volume as the stack of pictures that MedSAM2 sees: which plane, which grey values, which pixels.

Pictures are laid out as radiologists look at them, which is how the files of the training data store them: the left of
the patient (or, sagittal, the back) at the right edge, the feet (or, axial, the back) at the lower edge. So both axes
of a picture run against the canonical axes of the volume, which point to S, A and R.

Grey values follow models.md, section 6: a window, then the least and greatest value of the whole volume to 0 and 255
(fractions are cut off), each slice squeezed to the network's square by Pillow's bicubic filter whatever its
proportions, then ImageNet's mean and deviation per channel. Without CT there is no window: the 0.5 and 99.5 percentile
of the positive voxels take its place and zeros stay black, as MedSAM prepares MR.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ...region import CanonicalFrame
from ...volume import Volume

FloatArray = npt.NDArray[np.float64]
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
# What each grey value becomes in each channel (3, 256), with the original's roundings.
_PIXEL_VALUES = ((np.arange(256) / 255.0 - _MEAN[:, None]) / _DEVIATION[:, None]).astype(np.float32)
_SAMPLE = 2_000_000  # voxels that percentiles are taken from; more change nothing that shows


@dataclass(frozen=True)
class GreyScale:
    """Intensities that become black and white."""

    low: float
    high: float
    zero_is_black: bool = False  # voxels of exactly 0 lie outside of what was scanned

    @classmethod
    def of(cls, volume: Volume, window: tuple[float, float] | None) -> GreyScale:
        """`window` is (level, width) for CT; None stands for percentiles."""
        values = volume.array
        if window is not None:
            level, width = window
            bottom, top = np.clip([values.min(), values.max()], level - width / 2, level + width / 2)
            return cls(float(bottom), float(top))
        positive = values[values > 0]
        if positive.size == 0:
            return cls(float(values.min()), float(values.max()))
        # Every n-th voxel of a large volume, the same ones each time.
        low, high = np.percentile(positive[:: max(1, positive.size // _SAMPLE)], (0.5, 99.5))
        return cls(float(low), float(high), True)

    def grey(self, image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Intensities as grey values, uint8 of the same shape."""
        clipped = np.clip(image.astype(np.float64), self.low, self.high)
        if self.high <= self.low:
            return np.zeros(image.shape, np.uint8)
        scaled = (clipped - self.low) / (self.high - self.low) * 255.0
        if self.zero_is_black:
            scaled[image == 0] = 0
        return scaled.astype(np.uint8)


def is_ct(volume: Volume) -> bool:
    """Only CT has air near -1000; where the file does not name the modality, that decides."""
    return volume.modality == "CT" or (volume.modality is None and float(volume.array.min()) <= -900)


@dataclass(frozen=True)
class Stack:
    """The slices of a volume across canonical axis `axis` (0 axial, 1 coronal, 2 sagittal)."""

    volume: Volume
    frame: CanonicalFrame
    axis: int

    @cached_property
    def _view(self) -> npt.NDArray[np.generic]:
        return np.moveaxis(self.frame.canonical_view(self.volume.array), self.axis, 0)[:, ::-1, ::-1]

    @property
    def count(self) -> int:
        return self.frame.shape[self.axis]

    @property
    def plane(self) -> tuple[int, int]:
        """The canonical axes along the rows' and the columns' index."""
        first, second = (axis for axis in range(3) if axis != self.axis)
        return first, second

    @property
    def size(self) -> tuple[int, int]:
        """Pixels (rows, columns) of a slice."""
        return self.frame.shape[self.plane[0]], self.frame.shape[self.plane[1]]

    def image(self, index: int) -> npt.NDArray[Any]:
        """Intensities (rows, columns) of one slice."""
        return self._view[index]

    def input(self, index: int, scale: GreyScale, size: int) -> npt.NDArray[np.float32]:
        """What the network sees of one slice: (3, size, size)."""
        from PIL import Image

        picture = Image.fromarray(scale.grey(self.image(index)))
        # One channel does for three: the filter treats channels alike.
        grey = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
        return _PIXEL_VALUES[:, grey]

    def place(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Canonical positions (P, 3) in mm as slice (P,) and pixel (P, 2) as (column, row), all continuous indices."""
        index = positions / np.array(self.frame.spacing)
        rows, columns = self.plane
        last = np.array(self.frame.shape) - 1
        pixels = np.stack([last[columns] - index[:, columns], last[rows] - index[:, rows]], axis=1)
        return index[:, self.axis], pixels

    def canonical(self, slices: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A block (slices, rows, columns), whole slices of this stack, with canonical axes (z, y, x)."""
        return np.moveaxis(slices[:, ::-1, ::-1], 0, self.axis)

    def slices(self, mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array (k, j, i) of the volume as slices (count, rows, columns) of this stack."""
        return np.moveaxis(self.frame.canonical_view(mask), self.axis, 0)[:, ::-1, ::-1]
