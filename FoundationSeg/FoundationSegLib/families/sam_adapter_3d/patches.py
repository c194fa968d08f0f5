# SPDX-License-Identifier: Apache-2.0
"""From voxels to tokens, without ever making the enlarged image.

The original enlarges a 128³ crop to 512³ (trilinear), repeats it to three channels, embeds 512 slices in patches of
16² and joins 16 slices by a depthwise convolution: 1.6 GB of input and 618 GFLOP. All of it is linear, so the weights
can be folded through the enlargement instead: a patch of 16² enlarged pixels depends on 6² voxels, 16 enlarged slices
on 6 slices, and the result is the same up to rounding for about one eightieth of the arithmetic.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLICES_AT_ONCE = 8  # tokens along the depth per pass; bounds the memory in between


def enlargement(scale: int, patch: int) -> Tensor:
    """(patch, taps): how `patch` enlarged samples depend on the samples around them, `scale` times coarser.

    Linear interpolation between sample centres (align_corners=False). Beyond `patch / scale` samples there is one more
    on either side, because the first and last enlarged samples lie before the first and after the last centre.
    """
    if scale == 1:
        return torch.eye(patch)
    taps = patch // scale + 2
    place = (torch.arange(patch, dtype=torch.float64) + 0.5) / scale - 0.5 + 1  # 1: the extra sample before
    low = place.floor().long()
    weight = torch.zeros(patch, taps, dtype=torch.float64)
    row = torch.arange(patch)
    weight[row, low] = 1 - (place - low)
    weight[row, low + 1] += place - low
    return weight.float()


def embed_patches(image: Tensor, patch: nn.Conv2d, slices: nn.Conv3d, scale: int) -> Tensor:
    """Tokens (1, H, W, D, C) of a crop (1, D, H, W); `patch` is SAM's embedding, `slices` joins its results.

    At the crop's faces interpolation repeats the outermost voxel, hence the padding. The patch embedding is frozen, as
    in the original: no gradient reaches its weights.
    """
    size = patch.kernel_size[0]
    spread = enlargement(scale, size).to(image)
    margin = 1 if scale > 1 else 0
    step = size // scale
    with torch.no_grad():
        flat = patch.weight.sum(1)  # the three channels are the same image
        kernel = torch.einsum("chw,hy,wx->cyx", flat, spread, spread)[:, None]
    along = slices.weight[:, 0, 0, 0] @ spread  # (C, taps)
    bias = slices.bias + patch.bias.detach() * slices.weight.sum((1, 2, 3, 4))
    padded = F.pad(image[:, None], (margin,) * 6, mode="replicate")[0, 0]  # (D, H, W)
    tokens = image.shape[1] // step
    parts = []
    for start in range(0, tokens, _SLICES_AT_ONCE):
        stop = min(start + _SLICES_AT_ONCE, tokens)
        with torch.no_grad():
            rows = padded[start * step : stop * step + 2 * margin, None]
            embedded = F.conv2d(rows, kernel, stride=step)  # (slices, C, H, W)
        joined = sum(
            embedded[tap : tap + (stop - start - 1) * step + 1 : step] * along[:, tap, None, None]
            for tap in range(along.shape[1])
        )
        parts.append(joined)
    return (torch.cat(parts) + bias[:, None, None]).permute(2, 3, 0, 1)[None]
