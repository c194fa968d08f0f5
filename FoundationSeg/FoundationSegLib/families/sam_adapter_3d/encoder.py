# SPDX-License-Identifier: Apache-2.0
"""The 3DSAM-adapter's image encoder: SAM's ViT with an adapter in each block and attention in 8³ windows.

Tokens are (B, H, W, D, C): rows, columns, slices. Names of parameters are those of the published `encoder_dict`; the
six `attn_mask` buffers stored there are computed here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .layers import AdapterConfig, LayerNorm3d, Mlp
from .patches import embed_patches

Check = Callable[[], None]
_MASKED = -100.0  # added to the attention between tokens that only the cyclic shift made neighbours


class PatchEmbed(nn.Module):
    """SAM's: a convolution without overlap. Used through `embed_patches`."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch, stride=config.patch)


class Adapter(nn.Module):
    """A bottleneck with a depthwise 3³ convolution between its two linear layers, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width // 2)
        self.conv = nn.Conv3d(width // 2, width // 2, 3, padding=1, groups=width // 2)
        self.linear2 = nn.Linear(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        # Tokens with their channels last are already in the layout that convolves fastest.
        y = F.relu(self.linear1(x)).permute(0, 4, 1, 2, 3)
        y = F.relu(self.conv(y)).permute(0, 2, 3, 4, 1)
        return x + F.relu(self.linear2(y))


def relative_table(table: Tensor, window: int) -> Tensor:
    """(window, window, C): the entry for query q and key k, of a table that may have been made for another length."""
    length = 2 * window - 1
    if table.shape[0] != length:
        table = F.interpolate(table.T[None], size=length, mode="linear")[0].T
    place = torch.arange(window, device=table.device)
    return table[place[:, None] - place[None, :] + window - 1]


class WindowAttention(nn.Module):
    """Attention within windows, with decomposed relative positions along three axes, scaled by the learned `lr`."""

    def __init__(self, config: AdapterConfig, table_size: int) -> None:
        super().__init__()
        self.heads, self.window = config.heads, config.window
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)
        shape = (2 * table_size - 1, config.width // config.heads)
        self.rel_pos_h = nn.Parameter(torch.zeros(shape))
        self.rel_pos_w = nn.Parameter(torch.zeros(shape))
        self.rel_pos_d = nn.Parameter(torch.zeros(shape))
        self.lr = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, mask: Tensor | None, windows_at_once: int) -> Tensor:
        """Windows (N, window³, C) to the same; `mask` (N, window³, window³) is added to the scores.

        A few windows at a time: all scores together would take 0.8 GB at the published size.
        """
        tables = [relative_table(table, self.window) for table in (self.rel_pos_h, self.rel_pos_w, self.rel_pos_d)]
        parts = []
        for start in range(0, x.shape[0], windows_at_once):
            stop = start + windows_at_once
            part_mask = None if mask is None else mask[start:stop]
            parts.append(self._attend(x[start:stop], tables, part_mask))
        return self.proj(torch.cat(parts))

    def _attend(self, x: Tensor, tables: list[Tensor], mask: Tensor | None) -> Tensor:
        n, length, width = x.shape
        k = self.window
        q, keys, values = self.qkv(x).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        queries = q.reshape(n * self.heads, k, k, k, -1)
        height, across, depth = (self.lr * table for table in tables)
        # In place and axis by axis: the scores are by far the largest array here.
        by_axis = scores.view(n * self.heads, k, k, k, k, k, k)
        by_axis += torch.einsum("nhwdc,hkc->nhwdk", queries, height)[..., :, None, None]
        by_axis += torch.einsum("nhwdc,wkc->nhwdk", queries, across)[..., None, :, None]
        by_axis += torch.einsum("nhwdc,dkc->nhwdk", queries, depth)[..., None, None, :]
        if mask is not None:
            scores += mask[:, None]
        return (scores.softmax(-1) @ values).transpose(1, 2).reshape(n, length, width)


class Block(nn.Module):
    """Adapter, then shifted-window attention and MLP, each with a residual connection."""

    def __init__(self, config: AdapterConfig, index: int) -> None:
        super().__init__()
        self.window = config.window
        self.shift = config.window // 2 if index % 2 == 0 else 0
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = WindowAttention(config, config.sam_grid if index in config.sam_global else config.sam_window)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width, config.mlp_ratio * config.width, nn.GELU())
        self.adapter = Adapter(config.width)

    def forward(self, x: Tensor, mask: Tensor, windows_at_once: int) -> Tensor:
        x = self.adapter(x)
        y = self.norm1(x)
        axes = (1, 2, 3)
        if self.shift:
            y = torch.roll(y, (-self.shift,) * 3, axes)
        windows = self.attn(partition(y, self.window), mask if self.shift else None, windows_at_once)
        y = unpartition(windows, self.window, x.shape[1])
        if self.shift:
            y = torch.roll(y, (self.shift,) * 3, axes)
        x = x + y
        return x + self.mlp(self.norm2(x))


def partition(x: Tensor, window: int) -> Tensor:
    """(1, n, n, n, C) to (windows, window³, C), without padding."""
    m = x.shape[1] // window
    x = x.view(m, window, m, window, m, window, -1).permute(0, 2, 4, 1, 3, 5, 6)
    return x.reshape(m**3, window**3, -1)


def unpartition(windows: Tensor, window: int, size: int) -> Tensor:
    """The inverse of `partition`."""
    m = size // window
    x = windows.view(m, m, m, window, window, window, -1).permute(0, 3, 1, 4, 2, 5, 6)
    return x.reshape(1, size, size, size, -1)


def shift_mask(size: int, window: int) -> Tensor:
    """(windows, window³, window³): 0 between tokens of the same part of the unshifted grid, else `_MASKED`."""
    shift = window // 2
    part = torch.zeros(size)
    part[-window:-shift], part[-shift:] = 1, 2
    label = part[:, None, None] * 9 + part[None, :, None] * 3 + part
    windows = partition(label[None, ..., None], window)[..., 0]
    return torch.where(windows[:, :, None] == windows[:, None, :], 0.0, _MASKED)


def make_neck(width: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(width, channels, 1, bias=False),
        LayerNorm3d(channels),
        nn.Conv3d(channels, channels, 3, padding=1, bias=False),
        LayerNorm3d(channels),
    )


class ImageEncoder(nn.Module):
    """(1, D, H, W) intensities to four feature maps (1, C, H, W, D), after the blocks 3, 6, 9 and 12."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.pos_embed = nn.Parameter(torch.zeros(1, config.sam_grid, config.sam_grid, config.width))
        self.depth_embed = nn.Parameter(torch.ones(1, config.tokens, config.width))
        self.patch_embed = PatchEmbed(config)
        self.slice_embed = nn.Conv3d(
            config.width, config.width, (1, 1, config.patch), stride=(1, 1, config.patch), groups=config.width
        )
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.neck_3d = nn.ModuleList(make_neck(config.width, config.feature_channels) for _ in range(4))
        self.make_mask()
        self.windows_at_once = 4
        self.checkpointing = False  # recompute blocks in the backward pass instead of keeping what is inside of them

    def make_mask(self) -> None:
        """The shift mask, which is no part of the weights; again after the network was on the meta device."""
        self.register_buffer("mask", shift_mask(self.config.tokens, self.config.window), persistent=False)

    def tokens(self, image: Tensor) -> Tensor:
        """Tokens (1, H, W, D, C) of a crop (1, D, H, W), with their positions."""
        x = embed_patches(image, self.patch_embed.proj, self.slice_embed, self.config.scale)
        factor = self.config.sam_grid // self.config.tokens
        position = F.avg_pool2d(self.pos_embed.permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1)
        return x + position[:, :, :, None] + self.depth_embed[:, None, None]

    def forward(self, image: Tensor, check: Check | None = None) -> list[Tensor]:
        """`check` is called before each block and may raise."""
        x = self.tokens(image)
        features = []
        for index, block in enumerate(self.blocks):
            if check is not None:
                check()
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, self.mask, self.windows_at_once, use_reentrant=False)
            else:
                x = block(x, self.mask, self.windows_at_once)
            if index % 3 == 2:
                features.append(self.neck_3d[index // 3](x.permute(0, 4, 1, 2, 3)))
        return features
