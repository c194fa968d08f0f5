# SPDX-License-Identifier: Apache-2.0
"""Intensities to grey values. 2-D models learned from 8-bit pictures: a CT window, or percentiles of an MR.

The arithmetic is that of MedSAM's preparation of data (clip, then 0 to 255 over what the clipped *volume* holds, cut to
whole numbers), so that its published weights see what they were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..volume import Volume

_CT_SOFT_TISSUE = (-160.0, 240.0)
# For what the soft-tissue window shows as plain black or white: lung below, bone above.
_CT_LUNG = (-1350.0, 150.0)
_CT_BONE = (-500.0, 1300.0)
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Contrast:
    """`low` becomes 0 and `high` 255. With `zero_stays`, voxels of 0 (cleared background) become 0 in any case."""

    low: float
    high: float
    zero_stays: bool = False

    def grey(self, pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
        """uint8 of the same shape."""
        values = np.clip(pixels.astype(np.float64), self.low, self.high)
        scaled = (values - self.low) / (self.high - self.low) * 255
        if self.zero_stays:
            scaled[pixels == 0] = 0
        return scaled.astype(np.uint8)


def is_ct(volume: Volume) -> bool:
    """As the file says; where it does not, only CT has air at -1000."""
    return volume.modality == "CT" or (volume.modality is None and float(volume.array.min()) <= -900)


def contrast_of(volume: Volume, clicked: npt.NDArray[np.float64]) -> Contrast:
    """The contrast in which what was clicked (its intensities, may be empty) can be seen.

    CT: the soft-tissue window 40/400, or that of lung or bone where the clicked tissue would be out of it. Others:
    from the 0.5th to the 99.5th percentile of the voxels above 0 (of all, where values are negative).
    """
    array = volume.array
    least, most = float(array.min()), float(array.max())
    if is_ct(volume):
        low, high = _CT_SOFT_TISSUE
        if len(clicked):
            value = float(np.median(clicked))
            low, high = _CT_LUNG if value < low else _CT_BONE if value > high else (low, high)
        zero_stays = False
    else:
        zero_stays = least >= 0
        shown = array[array > 0] if zero_stays else array
        low, high = (float(value) for value in np.percentile(shown, _PERCENTILES))
    low, high = max(low, min(least, high)), min(high, max(most, low))
    return Contrast(low, high if high > low else low + 1.0, zero_stays)
