# SPDX-License-Identifier: Apache-2.0
"""SAM's image encoder: a plain vision transformer on square images, with names and results of the original."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import RelativeAttention
from .config import SamConfig

_EPS = 1e-6
# Tokens whose hidden layer exists at once; all 4096 tokens of ViT-B would take 50 MB, twice.
_MLP_TOKENS = 2048


class ChannelNorm(nn.Module):
    """Normalises the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, _EPS)
        return last.permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) to (N, C)."""
        return self.lin2(F.gelu(self.lin1(x)))


class Block(nn.Module):
    """Attention and MLP, each added to what came in. (H, W, C) to (H, W, C); overwrites its input at inference."""

    def __init__(self, config: SamConfig, index: int) -> None:
        super().__init__()
        dim = config.embed_dim
        window = 0 if index in config.global_attn_indexes else config.window_size
        self.norm1 = nn.LayerNorm(dim, eps=_EPS)
        self.attn = RelativeAttention(dim, config.num_heads, window or config.grid, window)
        self.norm2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        tokens = x.view(-1, x.shape[-1])
        for part in tokens.split(len(tokens) if x.is_cuda else _MLP_TOKENS):
            part += self.mlp(self.norm2(part))
        return x


class PatchEmbed(nn.Module):
    """Square patches of the image as tokens."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, h, w, C)."""
        return self.proj(x).permute(0, 2, 3, 1)


class ImageEncoder(nn.Module):
    """(B, 3, S, S) to (B, out_chans, S/p, S/p)."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, config.embed_dim))
        self.patch_embed = PatchEmbed(config.patch_size, config.embed_dim)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.neck = nn.Sequential(
            nn.Conv2d(config.embed_dim, config.out_chans, kernel_size=1, bias=False),
            ChannelNorm(config.out_chans),
            nn.Conv2d(config.out_chans, config.out_chans, kernel_size=3, padding=1, bias=False),
            ChannelNorm(config.out_chans),
        )

    def forward(self, images: Tensor, check: Callable[[], None] | None = None) -> Tensor:
        """`check` is called between blocks and may raise, so that a long run can be left."""
        return torch.cat([self._one(image[None], check) for image in images])

    def _one(self, image: Tensor, check: Callable[[], None] | None) -> Tensor:
        x = (self.patch_embed(image) + self.pos_embed)[0]
        for block in self.blocks:
            if check is not None:
                check()
            x = block(x)
        result: Tensor = self.neck(x.permute(2, 0, 1)[None])
        return result
