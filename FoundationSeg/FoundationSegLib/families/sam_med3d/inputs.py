# SPDX-License-Identifier: Apache-2.0
"""What SAM-Med3D is shown: a region of the volume on its 1.5 mm grid, normalised as its training images were.

The original resamples whole volumes with torchio 0.20.4, which leaves the work to ITK. Here only the region is sampled,
with the same values: linear between voxel centres, the outermost voxel up to its face, zero beyond; whole numbers stay
whole, cut towards zero (ITK casts back to the volume's own type). A grid that is coarser than the voxels is not
smoothed, since the original does not smooth either.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...region import CanonicalFrame, Region
from ...volume import Volume

# Training clamped what lay in folders of CT; MR and ultrasound have no scale to clamp on.
CT_RANGE = (-1000.0, 1000.0)


def sample_linear(volume: Volume, frame: CanonicalFrame, region: Region) -> npt.NDArray[np.float32]:
    """The region's intensities (size, size, size), canonical axes (z, y, x); zero beyond the volume's faces."""
    view = frame.canonical_view(volume.array)
    index, weights, inside = [], [], []
    for axis in range(3):
        length = frame.shape[axis]
        position = (region.origin[axis] + np.arange(region.size) * region.spacing) / frame.spacing[axis]
        inside.append((position >= -0.5) & (position <= length - 0.5))
        low = np.clip(np.floor(position), 0, max(length - 2, 0)).astype(np.intp)
        index.append(np.stack([low, np.minimum(low + 1, length - 1)]))
        weights.append(np.clip(position - low, 0, 1))
    # Only the slabs of voxels that are needed; each axis takes the two neighbours of every grid point.
    values = view[np.ix_(*[np.unique(pair) for pair in index])].astype(np.float64)
    for axis in range(3):
        known = np.unique(index[axis])
        low, high = (np.searchsorted(known, side) for side in index[axis])
        shape = [1, 1, 1]
        shape[axis] = region.size
        t = weights[axis].reshape(shape)
        first = values.take(low, axis)
        values = first + (values.take(high, axis) - first) * t
    if volume.array.dtype.kind in "iu":
        values = np.trunc(values)
    values *= inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
    return values.astype(np.float32)


def normalise(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Zero mean and unit (unbiased) deviation of the voxels above zero, applied to all.

    Where fewer than two voxels are above zero, or all of those are equal, the statistics are those of all voxels, and a
    constant region becomes zero: the original fails there.
    """
    chosen = values[values > 0].astype(np.float64)
    if chosen.size < 2 or chosen.std(ddof=1) == 0:
        chosen = values.ravel().astype(np.float64)
    deviation = float(chosen.std(ddof=1)) or 1.0
    return ((values - chosen.mean()) / deviation).astype(np.float32)


def network_image(volume: Volume, frame: CanonicalFrame, region: Region) -> npt.NDArray[np.float32]:
    """A region as the encoder wants it: (1, size, size, size) float32, axes (x, y, z) running to R, A and S."""
    values = sample_linear(volume, frame, region)
    if volume.modality == "CT":
        np.clip(values, *CT_RANGE, out=values)
    return np.ascontiguousarray(normalise(values).transpose(2, 1, 0))[None]
