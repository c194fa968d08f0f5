# SPDX-License-Identifier: Apache-2.0
"""Axial, coronal and sagittal planes through any volume, however it is stored: sampled in space, so true to scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .surface import interpolate
from .volume import Volume

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_SMALLEST_HALF_MM = 40.0  # a small lesion is shown with what is around it
_MOST_POINTS = 400_000  # of a mask are looked at to place the planes

# Level and width of the display for a CT, by what the mean of the segment says it is.
_CT_WINDOWS = ((-400.0, (-600.0, 1500.0)), (200.0, (40.0, 400.0)), (np.inf, (400.0, 1800.0)))


@dataclass(frozen=True)
class Orientation:
    """One of the three standard views in radiological convention; axes count R, A, S as 0, 1, 2.

    `horizontal` grows towards the left edge of the picture, `vertical` towards its top. `labels`: left, right, top and
    bottom.
    """

    name: str
    normal: int
    horizontal: int
    vertical: int
    labels: tuple[str, str, str, str]
    color: str  # of this view in 3D Slicer


AXIAL = Orientation("Axial", 2, 0, 1, ("R", "L", "A", "P"), "#f34a4a")
CORONAL = Orientation("Coronal", 1, 0, 2, ("R", "L", "S", "I"), "#6eb04b")
SAGITTAL = Orientation("Sagittal", 0, 1, 2, ("A", "P", "S", "I"), "#edd54c")
ORIENTATIONS = (AXIAL, CORONAL, SAGITTAL)


@dataclass(frozen=True)
class View:
    """The three planes through `centre` (RAS mm), each shown as a square of 2 x `half` mm around `middle`."""

    centre: FloatArray
    middle: FloatArray
    half: float

    def extent(self, orientation: Orientation) -> tuple[float, float, float, float]:
        """Least and greatest horizontal, then vertical coordinate in mm."""
        h, v = self.middle[orientation.horizontal], self.middle[orientation.vertical]
        return h - self.half, h + self.half, v - self.half, v + self.half

    def points(self, orientation: Orientation, size: int) -> FloatArray:
        """RAS mm (size * size, 3) of the pixels' centres; rows along the vertical, both coordinates growing."""
        ticks = ((np.arange(size) + 0.5) / size * 2 - 1) * self.half
        vertical, horizontal = np.meshgrid(ticks, ticks, indexing="ij")
        points = np.empty((size * size, 3))
        points[:, orientation.normal] = self.centre[orientation.normal]
        points[:, orientation.horizontal] = self.middle[orientation.horizontal] + horizontal.ravel()
        points[:, orientation.vertical] = self.middle[orientation.vertical] + vertical.ravel()
        return points


def choose_view(volume: Volume, masks: Sequence[BoolArray], prompts_ras: FloatArray) -> View:
    """Planes that show as much of as many segments as there is, preferring those on which prompts lie.

    `masks`: bool (k, j, i); `prompts_ras`: (n, 3), may be empty. Without both, the middle of the volume.
    """
    clouds = [_cloud(volume, mask) for mask in masks if mask.any()]
    shown = [*clouds, *([prompts_ras] if len(prompts_ras) else [])]
    if not shown:
        low, high = volume.bounds_ras
        return View((low + high) / 2, (low + high) / 2, float((high - low).max()) / 2)
    low, high = np.min([c.min(axis=0) for c in shown], axis=0), np.max([c.max(axis=0) for c in shown], axis=0)
    thickness = np.abs(volume.ijk_to_ras[:3, :3]).sum(axis=1)  # how far one voxel reaches along R, A, S
    middle = (low + high) / 2
    half = max(0.65 * float((high - low + thickness).max()), _SMALLEST_HALF_MM)
    # No more than the volume itself: the rest would be black.
    half = min(half, float((volume.bounds_ras[1] - volume.bounds_ras[0]).max()) / 2)
    centre = np.array([_best_plane(clouds, prompts_ras, axis, low, high, thickness[axis]) for axis in range(3)])
    return View(centre, middle, half)


def sample_plane(volume: Volume, array: npt.NDArray[np.generic], points: FloatArray, outside: float) -> Image:
    """(n,) float32 of an array (k, j, i) of the volume at RAS points (n, 3), linear; `outside` beyond the grid."""
    index = volume.ras_to_kji(points)
    last = np.array(volume.shape) - 1
    # The outer halves of the outermost voxels belong to the volume too.
    reached = ((index >= -0.5) & (index <= last + 0.5)).all(axis=1)
    values = interpolate(array, np.clip(index, 0, last))
    values[~reached] = outside
    return values


def display_range(volume: Volume, masks: Sequence[BoolArray], shown: Image) -> tuple[float, float]:
    """Intensities to show as black and as white: a CT window that suits the segments, else percentiles of `shown`."""
    filled = [mask for mask in masks if mask.any()]
    # Only CT has air at -1000; where the file does not name the modality, that decides.
    is_ct = volume.modality == "CT" or (volume.modality is None and volume.array.min() <= -900)
    if is_ct and filled:
        mean = float(volume.array[filled[0]].mean())
        level, width = next(window for limit, window in _CT_WINDOWS if mean < limit)
        return level - width / 2, level + width / 2
    low, high = np.percentile(shown, (0.5, 99.5)) if shown.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def _cloud(volume: Volume, mask: BoolArray) -> FloatArray:
    kji = np.argwhere(mask)
    return volume.kji_to_ras(kji[:: max(1, len(kji) // _MOST_POINTS)])


def _best_plane(
    clouds: Sequence[FloatArray], prompts: FloatArray, axis: int, low: FloatArray, high: FloatArray, width: float
) -> float:
    """Where along R, A or S the segments' cross sections, each relative to its largest, add up to most."""
    count = round((high[axis] - low[axis]) / width) + 1
    places = low[axis] + width * np.arange(count)

    def profile(points: FloatArray) -> FloatArray:
        found = np.clip(np.rint((points[:, axis] - low[axis]) / width).astype(int), 0, count - 1)
        counts = np.bincount(found, minlength=count).astype(np.float64)
        result: FloatArray = counts / max(counts.max(), 1.0)
        return result

    merit = np.sum([profile(cloud) for cloud in clouds], axis=0) if clouds else np.zeros(count)
    if len(prompts):
        merit = merit + 0.3 * (profile(prompts) > 0)
    # Of equally good ones, the one nearest to the middle.
    return float(places[np.argmax(merit - 1e-6 * np.abs(np.arange(count) - count / 2))])
