# SPDX-License-Identifier: Apache-2.0
"""The image encoder of SAM-Med3D: a vision transformer over cubes of voxels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..onednn import linear
from .attention import Attention
from .config import SamMed3dConfig

_EPS = 1e-6


class LayerNorm3d(nn.Module):
    """Normalises (B, C, D, H, W) over its channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(1, keepdim=True) + _EPS)
        return scaled * self.weight[:, None, None, None] + self.bias[:, None, None, None]


class Mlp(nn.Module):
    """Two linear layers with a GELU in between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, plain: bool) -> Tensor:
        if plain:
            return self.lin2(F.gelu(self.lin1(x)))
        return linear(self.lin2, F.gelu(linear(self.lin1, x)))


class Block(nn.Module):
    """Attention within windows (or, with `window` 0, over the whole grid) and an MLP, both residual."""

    def __init__(self, config: SamMed3dConfig, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(config.width, eps=_EPS)
        self.attn = Attention(config.width, config.heads, window or config.grid)
        self.norm2 = nn.LayerNorm(config.width, eps=_EPS)
        self.mlp = Mlp(config.width, int(config.width * config.mlp_ratio))

    def forward(self, x: Tensor, plain: bool = False) -> Tensor:
        """(B, D, H, W, width) to the same. `plain` pads and computes as the original does."""
        tokens = self.norm1(x)
        x = x + (self._plain(tokens) if plain else self.attn.on_grid(tokens))
        return x + self.mlp(self.norm2(x), plain)

    def _plain(self, tokens: Tensor) -> Tensor:
        if not self.window:
            return self.attn(tokens)
        k, (batch, d, h, w, width) = self.window, tokens.shape
        filled = F.pad(tokens, (0, 0, 0, -w % k, 0, -h % k, 0, -d % k))
        cd, ch, cw = (size // k for size in filled.shape[1:4])
        cubes = filled.view(batch, cd, k, ch, k, cw, k, width).permute(0, 1, 3, 5, 2, 4, 6, 7)
        cubes = self.attn(cubes.reshape(-1, k, k, k, width)).view(batch, cd, ch, cw, k, k, k, width)
        return cubes.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(filled.shape)[:, :d, :h, :w]


class PatchEmbedding(nn.Module):
    """One token per cube of `patch_size`^3 voxels."""

    def __init__(self, config: SamMed3dConfig) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, config.width, config.patch_size, stride=config.patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, S, S, S) to (B, grid, grid, grid, width)."""
        return self.proj(image).permute(0, 2, 3, 4, 1)


class ImageEncoder(nn.Module):
    """Images (B, 1, S, S, S) to embeddings (B, channels, grid, grid, grid)."""

    def __init__(self, config: SamMed3dConfig) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, config.grid, config.width))
        self.patch_embed = PatchEmbedding(config)
        self.blocks = nn.ModuleList(
            Block(config, 0 if index in config.global_blocks else config.window) for index in range(config.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv3d(config.width, config.channels, 1, bias=False),
            LayerNorm3d(config.channels),
            nn.Conv3d(config.channels, config.channels, 3, padding=1, bias=False),
            LayerNorm3d(config.channels),
        )

    def forward(self, image: Tensor, plain: bool = False) -> Tensor:
        """`plain` computes attention as the original does, with all its padding: the reference for tests."""
        x = self.patch_embed(image) + self.pos_embed
        for block in self.blocks:
            x = block(x, plain)
        return self.neck(x.permute(0, 4, 1, 2, 3))
