# SPDX-License-Identifier: Apache-2.0
"""Grey slices to what SAM and MedSAM were trained on, and their masks back, as the originals compute them.

SAM: the longest side becomes S pixels (PIL, bilinear, on 8 bits), mean and deviation of ImageNet, zeros below and to
the right. MedSAM: both sides become S pixels (cubic spline, smoothed before shrinking, cut to 8 bits), then 0 to 1 by
the slice's own extremes; masks come back as probabilities.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from ...predictor import Array
from ...slicewise.protocol import BoolArray, Grey, SliceGeometry

# ImageNet, in units of 8-bit values.
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
_PROBABILITY = 1e-6


def fitted_size(geometry: SliceGeometry, side: int) -> tuple[int, int]:
    """Rows and columns of a slice on a picture of `side` pixels, true to scale.

    With square pixels this is the original's rule; slices across the acquisition have oblong ones, and are stretched.
    """
    ratio = round(geometry.spacing[0] / geometry.spacing[1], 3)
    height, width = geometry.shape[0] * ratio, float(geometry.shape[1])
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def sam_picture(image: Grey, size: tuple[int, int], side: int) -> Array:
    """uint8 (h, w) or (h, w, 3) to float32 (3, side, side), the slice in the upper left `size` of it."""
    resized = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    if resized.ndim == 2:
        resized = np.repeat(resized[..., None], 3, axis=2)
    picture = np.zeros((3, side, side), np.float32)
    picture[:, : size[0], : size[1]] = ((resized - _MEAN) / _DEVIATION).transpose(2, 0, 1)
    return picture


def medsam_picture(image: Grey, side: int) -> Array:
    """uint8 (h, w) to float32 (3, side, side)."""
    resized = cubic(image, side)
    low, high = int(resized.min()), int(resized.max())
    picture = ((resized - np.float64(low)) / max(high - low, 1e-8)).astype(np.float32)
    return np.repeat(picture[None], 3, axis=0)


def cubic(image: Grey, side: int) -> Grey:
    """uint8 (h, w) to (side, side): what scikit-image's `resize` of order 3 with anti-aliasing gives, cut to 8 bits."""
    values = image.astype(np.float64)
    shrink = np.array(values.shape) / side
    blur = np.maximum(0.0, (shrink - 1) / 2)
    if blur.any():
        values = ndimage.gaussian_filter(values, blur, mode="mirror")
    zoomed = ndimage.zoom(values, 1 / shrink, order=3, mode="mirror", grid_mode=True)
    return np.clip(zoomed, image.min(), image.max()).astype(np.uint8)


def sam_scores(logits: Tensor, size: tuple[int, int], shape: tuple[int, int], side: int) -> Tensor:
    """(1, M, m, m) logits to (1, M, h, w): to the picture, without its padding, to the slice."""
    whole = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
    return F.interpolate(whole[..., : size[0], : size[1]], shape, mode="bilinear", align_corners=False)


def medsam_probabilities(logits: Tensor, shape: tuple[int, int]) -> Tensor:
    """(1, 1, m, m) logits to probabilities (1, 1, h, w); these are interpolated, not the logits."""
    return F.interpolate(torch.sigmoid(logits), shape, mode="bilinear", align_corners=False)


def as_scores(probabilities: Tensor) -> Tensor:
    """Logits of probabilities, finite, positive exactly where the probability exceeds one half."""
    p = probabilities.clamp(_PROBABILITY, 1 - _PROBABILITY)
    return torch.log(p / (1 - p))


def mask_raster(mask: BoolArray, size: tuple[int, int], raster: int, side: int, strength: float) -> Array:
    """A mask (h, w) as logits (raster, raster) of a picture on which the slice takes up `size`; outside: -strength."""
    rows, columns = (max(1, round(n * raster / side)) for n in size)
    share = F.interpolate(
        torch.from_numpy(mask.astype(np.float32))[None, None], (rows, columns), mode="bilinear", antialias=True
    )
    out: npt.NDArray[np.float32] = np.full((raster, raster), -strength, np.float32)
    out[:rows, :columns] = strength * (2 * share[0, 0].numpy() - 1)
    return out
