# SPDX-License-Identifier: Apache-2.0
"""A region: the cube of tissue that a model looks at, as a regular grid, and the way there and back.

Regions live in the *canonical index frame* of a volume: its own axes, permuted and flipped so that they point as nearly
as possible to S, A and R, scaled to millimetres. The grid therefore never needs a rotation, sampling is separable, and
the same voxels give the same region however they are stored (flipped, permuted) and wherever the header places them
(oblique, sheared).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
import numpy.typing as npt

from .volume import Volume

FloatArray = npt.NDArray[np.float64]
Box3 = tuple[slice, slice, slice]
# Positions are rounded so that a flipped volume is sampled at the same places to the last bit that matters.
_DIGITS = 6


@dataclass(frozen=True)
class CanonicalFrame:
    """How canonical axes (z, y, x), pointing roughly to S, A and R, follow from a volume's array axes (k, j, i)."""

    order: tuple[int, int, int]  # order[z] is the array axis that runs along canonical axis z
    flipped: tuple[bool, bool, bool]  # per canonical axis: does the array axis run the other way?
    spacing: tuple[float, float, float]  # mm per voxel along canonical z, y, x
    shape: tuple[int, int, int]  # voxels along canonical z, y, x

    @classmethod
    def of(cls, volume: Volume) -> CanonicalFrame:
        columns = volume.ijk_to_ras[:3, :3] / np.array(volume.spacing_mm)
        toward = columns[::-1, ::-1]  # rows S, A, R; columns k, j, i
        # Rounded: rotations by a quarter turn leave 1e-17 where 0 was, and must not decide between equal assignments.
        best = max(permutations(range(3)), key=lambda p: round(float(sum(abs(toward[z, p[z]]) for z in range(3))), 9))
        k, j, i = best
        # In a sheared volume a voxel's height counts across its base, not along the slanted edge: the diagonal of a QR
        # decomposition, taken in the patient's order so that the way of storage does not matter.
        by_axis = volume.ijk_to_ras[:3, :3][:, [2 - i, 2 - j, 2 - k]]
        x, y, z = np.round(np.abs(np.diag(np.linalg.qr(by_axis).R)), 9).tolist()
        return cls(
            order=(k, j, i),
            flipped=(bool(toward[0, k] < 0), bool(toward[1, j] < 0), bool(toward[2, i] < 0)),
            spacing=(z, y, x),
            shape=(volume.shape[k], volume.shape[j], volume.shape[i]),
        )

    @property
    def extent_mm(self) -> FloatArray:
        """Size (3,) of the volume along canonical z, y, x in mm, outer face to outer face."""
        return np.array(self.shape) * np.array(self.spacing)

    def from_kji(self, kji: npt.ArrayLike) -> FloatArray:
        """Continuous array indices (..., 3) as (k, j, i) to canonical positions (z, y, x) in mm."""
        index = np.asarray(kji, dtype=np.float64)[..., list(self.order)]
        last = np.array(self.shape) - 1
        index = np.where(self.flipped, last - index, index)
        return index * np.array(self.spacing)

    def to_kji(self, position: npt.ArrayLike) -> FloatArray:
        """The inverse of `from_kji`."""
        index = np.asarray(position, dtype=np.float64) / np.array(self.spacing)
        index = np.where(self.flipped, np.array(self.shape) - 1 - index, index)
        kji = np.empty_like(index)
        kji[..., list(self.order)] = index
        return kji

    def canonical_view(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A view of an array (k, j, i) with axes (z, y, x)."""
        view = array.transpose(self.order)
        return view[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]

    def array_box(self, box: Box3) -> Box3:
        """A canonical voxel box (z, y, x) as slices of the array (k, j, i)."""
        result = [slice(0, 0)] * 3
        for axis, flip, size, part in zip(self.order, self.flipped, self.shape, box, strict=True):
            result[axis] = slice(size - part.stop, size - part.start) if flip else part
        return result[0], result[1], result[2]


@dataclass(frozen=True)
class Region:
    """A cubic grid of `size`³ points, `spacing` mm apart, around `centre` (canonical z, y, x in mm)."""

    centre: tuple[float, float, float]
    spacing: float
    size: int

    @property
    def side(self) -> float:
        """Length of an edge in mm."""
        return self.size * self.spacing

    @cached_property
    def origin(self) -> FloatArray:
        """Position (3,) of grid point (0, 0, 0) in canonical mm."""
        return np.array(self.centre) - (self.size - 1) / 2 * self.spacing

    def with_size(self, size: int) -> Region:
        """The same cube with another number of grid points per edge."""
        return self if size == self.size else Region(self.centre, self.side / size, size)

    def to_grid(self, position: npt.ArrayLike) -> FloatArray:
        """Canonical positions (..., 3) in mm to continuous grid coordinates (z, y, x)."""
        return (np.asarray(position, dtype=np.float64) - self.origin) / self.spacing

    def contains(self, position: npt.ArrayLike, margin: float = 0.0) -> bool:
        """Whether all canonical positions (..., 3) lie inside, `margin` mm away from the faces."""
        grid = self.to_grid(position) * self.spacing
        return bool((grid >= margin).all() and (grid <= self.side - self.spacing - margin).all())

    def voxel_box(self, frame: CanonicalFrame, bounds: FloatArray | None = None) -> Box3:
        """The canonical voxels whose centres lie in the region, or in canonical bounds (2, 3) of a part of it."""
        if bounds is None:
            bounds = np.stack([self.origin, self.origin + self.side]) - self.spacing / 2
        low = np.ceil(np.round(bounds[0] / frame.spacing, _DIGITS)).astype(int)
        high = np.floor(np.round(bounds[1] / frame.spacing, _DIGITS)).astype(int) + 1
        start, last = np.clip(low, 0, None), np.minimum(high, frame.shape)
        z, y, x = (slice(a, max(a, b)) for a, b in zip(start.tolist(), last.tolist(), strict=True))
        return z, y, x


def sample(volume: Volume, frame: CanonicalFrame, region: Region) -> npt.NDArray[np.float32]:
    """The region's intensities, float32 (size, size, size), canonical axes; the least of them beyond the volume.

    Linear where the grid is as fine as the voxels; where it is coarser, each point is the mean over up to 3 voxels per
    axis, so that noise and thin structures do not alias.
    """
    view = frame.canonical_view(volume.array)
    taps, inside = [], []
    for axis in range(3):
        step = region.spacing / frame.spacing[axis]
        position = np.round(region.origin[axis] / frame.spacing[axis] + np.arange(region.size) * step, _DIGITS)
        inside.append((position >= -0.5) & (position <= frame.shape[axis] - 0.5))
        taps.append(_taps(position, step, frame.shape[axis]))
    # One gather of just the voxels that are needed, then the weighted sums.
    gathered = view[np.ix_(*[index.ravel() for index, _ in taps])].astype(np.float32)
    for axis, (index, weight) in enumerate(taps):
        shape = [*gathered.shape[:axis], *index.shape, *gathered.shape[axis + 1 :]]
        spread = [1] * len(shape)
        spread[axis], spread[axis + 1] = weight.shape
        gathered = (gathered.reshape(shape) * weight.reshape(spread)).sum(axis=axis + 1)
    out: npt.NDArray[np.float32] = gathered
    outside = ~(inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :])
    if outside.all():
        return np.zeros_like(out)
    out[outside] = out[~outside].min()
    return out


def _taps(position: FloatArray, step: float, length: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Voxel indices and weights, both (n, taps), for sampling at `position`, `step` voxels apart."""
    count = int(np.clip(round(step), 1, 3))
    if count == 1:
        low = np.clip(np.floor(position), 0, max(length - 2, 0))
        t = np.clip(position - low, 0, 1)
        index = np.stack([low, np.minimum(low + 1, length - 1)], axis=1)
        weight = np.stack([1 - t, t], axis=1)
    else:
        offsets = (np.arange(count) - (count - 1) / 2) * step / count
        place = position[:, None] + offsets
        # Ties go outwards: rounding half to even would pick other voxels of a flipped volume.
        index = np.clip(np.rint(place + 1e-4 * np.sign(place - (length - 1) / 2)), 0, length - 1)
        weight = np.full(index.shape, 1 / count)
    return index.astype(np.intp), weight.astype(np.float32)


def sample_mask(mask: npt.NDArray[np.bool_], frame: CanonicalFrame, region: Region) -> npt.NDArray[np.bool_]:
    """A mask (k, j, i) at the nearest voxel of each grid point, canonical axes; False beyond the volume."""
    view = frame.canonical_view(mask)
    index, inside = [], []
    for axis in range(3):
        position = (region.origin[axis] + np.arange(region.size) * region.spacing) / frame.spacing[axis]
        inside.append((position >= -0.5) & (position <= frame.shape[axis] - 0.5))
        index.append(np.clip(np.rint(position), 0, frame.shape[axis] - 1).astype(np.intp))
    known = inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
    result: npt.NDArray[np.bool_] = view[np.ix_(*index)] & known
    return result


def to_voxels(
    logits: npt.NDArray[np.float32], frame: CanonicalFrame, region: Region, box: Box3
) -> npt.NDArray[np.float32]:
    """Logits of a region at the voxel centres of a canonical voxel box inside of it, float32 of the box's shape."""
    out = logits
    # The axis that shrinks most goes first, so that the arrays in between stay small.
    for axis in sorted(range(3), key=lambda axis: box[axis].stop - box[axis].start):
        position = np.arange(box[axis].start, box[axis].stop) * frame.spacing[axis]
        out = _interpolate(out, np.round((position - region.origin[axis]) / region.spacing, _DIGITS), axis)
    return out


def regrid(logits: npt.NDArray[np.float32], source: Region, target: Region, outside: float) -> npt.NDArray[np.float32]:
    """Logits of one region on the grid of another; `outside` where the source says nothing."""
    out = logits
    covered = []
    for axis in range(3):
        position = np.round(
            (target.origin[axis] + np.arange(target.size) * target.spacing - source.origin[axis]) / source.spacing,
            _DIGITS,
        )
        covered.append((position >= -0.5) & (position <= source.size - 0.5))
        out = _interpolate(out, position, axis)
    known = covered[0][:, None, None] & covered[1][None, :, None] & covered[2][None, None, :]
    return np.where(known, out, np.float32(outside))


def squared_distances(size: int, coordinate: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Squared distance (size, size, size) of each grid point to a coordinate (3,), in grid units."""
    z, y, x = ((np.arange(size, dtype=np.float32) - c) ** 2 for c in coordinate)
    result: npt.NDArray[np.float32] = z[:, None, None] + y[None, :, None] + x[None, None, :]
    return result


def _interpolate(array: npt.NDArray[np.float32], position: FloatArray, axis: int) -> npt.NDArray[np.float32]:
    """Linear interpolation at `position` along one axis, constant beyond the ends."""
    length = array.shape[axis]
    low = np.clip(np.floor(position), 0, length - 2).astype(np.intp)
    shape = [1, 1, 1]
    shape[axis] = len(position)
    t = np.clip(position - low, 0, 1).astype(np.float32).reshape(shape)
    return np.take(array, low, axis) * (1 - t) + np.take(array, low + 1, axis) * t
