# SPDX-License-Identifier: Apache-2.0
"""What the encoder and the prompt encoder of the 3DSAM-adapter share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AdapterConfig:
    """Sizes of a network; the defaults are the published ones, from SAM's ViT-B.

    A crop of `crop`³ voxels, 1 mm apart, is seen enlarged `scale` times, in patches of `patch`² pixels on each of
    `patch` slices: `tokens`³ tokens. The grid of tokens, the windows and the depth are fixed by the checkpoints.
    """

    crop: int = 128
    scale: int = 4
    patch: int = 16
    width: int = 768
    heads: int = 12
    mlp_ratio: int = 4
    feature_channels: int = 256
    head_channels: int = 128
    prompt_heads: int = 8
    prompt_mlp: int = 2048
    tokens: int = 32
    window: int = 8
    depth: int = 12
    sam_grid: int = 64  # SAM's own grid of tokens, which its position embedding has
    sam_window: int = 14  # and its window, which the tables of all but four blocks have
    sam_global: tuple[int, ...] = (2, 5, 8, 11)
    decoder_size: int = 64

    def __post_init__(self) -> None:
        assert self.crop * self.scale == self.tokens * self.patch and self.tokens % self.window == 0


class LayerNorm3d(nn.Module):
    """Normalises the channels of (B, C, H, W, D)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(1, keepdim=True) + 1e-6)
        return centred * scale * self.weight[:, None, None, None] + self.bias[:, None, None, None]


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.activation(self.lin1(x)))
