# SPDX-License-Identifier: Apache-2.0
"""Crops as the 3DSAM-adapter's encoder wants them: linear on a grid, normalised, zero beyond the volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...predictor import Array
from ...region import CanonicalFrame, Region
from ...volume import Volume

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Window:
    """Clipping and standardisation with the figures of a training set, in HU."""

    low: float
    high: float
    mean: float
    std: float


# The published tasks: kidney, liver, pancreas and colon tumours on CT.
WINDOWS = {
    "kits": Window(-54, 247, 59.53867, 55.457336),
    "lits": Window(-48, 163, 60.057533, 40.198017),
    "pancreas": Window(-39, 204, 68.45214, 63.422806),
    "colon": Window(-57, 175, 65.175035, 32.651197),
}
REGION = "region"  # by the crop itself: percentiles 0.5 and 99.5, then mean 0 and deviation 1; any modality
INTENSITIES = (REGION, *WINDOWS)


def require_intensity(name: str) -> str:
    """Raises ModelError for a name that is not in `INTENSITIES`."""
    if name not in INTENSITIES:
        raise ModelError(f"The intensity {name!r} is not known; use one of {', '.join(INTENSITIES)}.")
    return name


def crop(volume: Volume, frame: CanonicalFrame, region: Region, intensity: str) -> Array:
    """float32 (size, size, size), canonical axes (z, y, x), which are the published (D, H, W)."""
    values, known = resample(volume, frame, region)
    return normalise(values, known, intensity)


def normalise(values: Array, known: BoolArray, intensity: str) -> Array:
    """Normalised where `known`, zero elsewhere: the original pads after it has normalised."""
    window = WINDOWS.get(intensity)
    if window is None:
        inside = values[known]
        if inside.size == 0:
            return np.zeros_like(values)
        low, high = np.percentile(inside, (0.5, 99.5))
        inside = np.clip(inside, low, high)
        window = Window(float(low), float(high), float(inside.mean()), max(float(inside.std()), 1e-6))
    result = (np.clip(values, window.low, window.high) - window.mean) / window.std
    return np.where(known, result, 0).astype(np.float32)


def resample(volume: Volume, frame: CanonicalFrame, region: Region) -> tuple[Array, BoolArray]:
    """Linear interpolation at a region's grid points, without smoothing as in the original, and which are inside."""
    view = frame.canonical_view(volume.array)
    positions, inside, box = [], [], []
    for axis in range(3):
        place = region.origin[axis] + np.arange(region.size) * region.spacing
        position = np.round(place / frame.spacing[axis], 6)
        last = frame.shape[axis] - 1
        inside.append((position >= -0.5) & (position <= last + 0.5))
        position = np.clip(position, 0, last)
        start = int(position.min())
        stop = int(min(np.floor(position.max()) + 1, last)) + 1
        positions.append(position - start)
        box.append(slice(start, stop))
    values = view[tuple(box)].astype(np.float32)
    for axis, position in enumerate(positions):
        values = _linear(values, position, axis)
    known = inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
    return values, known


def _linear(values: Array, position: npt.NDArray[np.float64], axis: int) -> Array:
    last = values.shape[axis] - 1
    low = np.clip(np.floor(position), 0, max(last - 1, 0)).astype(np.intp)
    shape = [1, 1, 1]
    shape[axis] = len(position)
    t = (position - low).astype(np.float32).reshape(shape)
    result: Array = np.take(values, low, axis) * (1 - t) + np.take(values, np.minimum(low + 1, last), axis) * t
    return result
