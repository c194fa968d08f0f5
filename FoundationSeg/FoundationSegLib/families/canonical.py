# SPDX-License-Identifier: Apache-2.0
"""From canonical axes back to those of the stored array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..region import CanonicalFrame


def array_axes(block: npt.NDArray[Any], frame: CanonicalFrame) -> npt.NDArray[Any]:
    """A canonical block (z, y, x) with the axes of the array (k, j, i), C-contiguous.

    The inverse of `CanonicalFrame.canonical_view` for a part of the volume; `frame.array_box` says where it lies.
    """
    flipped = block[tuple(slice(None, None, -1 if flip else 1) for flip in frame.flipped)]
    return np.ascontiguousarray(flipped.transpose(np.argsort(frame.order)))
