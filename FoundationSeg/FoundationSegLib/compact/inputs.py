# SPDX-License-Identifier: Apache-2.0
"""What the compact network is fed, the same for training and inference: intensities and boxes on the region's grid."""

from __future__ import annotations

import numpy as np

CHANNELS = 2
_BINS = 128


def normalise(region: np.ndarray) -> np.ndarray:
    """Two views of a region (k, j, i) of any unit as float32 (2, k, j, i) in [-1, 1].

    The first is linear between the 0.5 and 99.5 percentiles. The second is a contrast-limited histogram equalisation:
    beside air and bone the soft tissues of a CT occupy a few per cent of the linear range.
    """
    flat = region.astype(np.float32, copy=False)
    low, high = np.percentile(flat[::2, ::2, ::2], (0.5, 99.5))
    span = max(float(high - low), 1e-6)
    unit = np.clip((flat - np.float32(low)) / np.float32(span), 0, 1)
    counts, _ = np.histogram(unit[::2, ::2, ::2], bins=_BINS, range=(0, 1))
    limited = np.minimum(counts, 4 * counts.sum() / _BINS) + 0.02 * counts.sum() / _BINS
    curve = np.concatenate([[0.0], np.cumsum(limited)]) / limited.sum()
    equalised = np.interp(unit.ravel(), np.linspace(0, 1, _BINS + 1), curve).reshape(unit.shape)
    return np.stack([2 * unit - 1, (2 * equalised - 1).astype(np.float32)])


def box_map(centre: np.ndarray, axes: np.ndarray, half: np.ndarray, size: int) -> np.ndarray:
    """Signed depth inside a box at stride 2, (1, size, size, size), in half-resolution voxels over 4, within [-1, 1].

    `centre` (3,) and `half` (3,) are in full-resolution voxels (k, j, i); the rows of `axes` (3, 3) are the box's
    directions.
    """
    axis = 2 * np.arange(size, dtype=np.float32) + 0.5
    depth = None
    for direction, extent in zip(axes, half, strict=True):
        d = axis[:, None, None] * direction[0] + axis[None, :, None] * direction[1] + axis[None, None, :] * direction[2]
        inside = extent - np.abs(d - float(direction @ centre))
        depth = inside if depth is None else np.minimum(depth, inside)
    assert depth is not None
    return np.clip(depth / 8, -1, 1)[None].astype(np.float32)
