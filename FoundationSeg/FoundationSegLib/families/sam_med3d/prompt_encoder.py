# SPDX-License-Identifier: Apache-2.0
"""The prompt encoder of SAM-Med3D: clicks and the mask of the round before become tokens and a dense map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .config import SamMed3dConfig
from .image_encoder import LayerNorm3d

PADDING = -1  # label of the slot that stands for "no more points"


class RandomPositions(nn.Module):
    """Random Fourier features of positions in [0, 1]^3: sine, cosine and sine again of the same projection."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(3, features))

    def forward(self, positions: Tensor) -> Tensor:
        """(..., 3) to (..., 3 * features)."""
        angle = 2 * math.pi * ((2 * positions - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angle.sin(), angle.cos(), angle.sin()], dim=-1)


class PromptEncoder(nn.Module):
    """Names of its parts are those of the checkpoints."""

    def __init__(self, config: SamMed3dConfig) -> None:
        super().__init__()
        self.config = config
        middle = config.mask_channels
        self.pe_layer = RandomPositions(config.channels // 3)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, config.channels) for _ in range(config.point_kinds))
        self.not_a_point_embed = nn.Embedding(1, config.channels)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, middle // 4, 2, stride=2),
            LayerNorm3d(middle // 4),
            nn.GELU(),
            nn.Conv3d(middle // 4, middle, 2, stride=2),
            LayerNorm3d(middle),
            nn.GELU(),
            nn.Conv3d(middle, config.channels, 1),
        )
        self.no_mask_embed = nn.Embedding(1, config.channels)

    def dense_positions(self) -> Tensor:
        """Encoded positions of the tokens, (1, channels, grid, grid, grid).

        The first two axes change places: component 0 of a position runs along array axis 1 and component 1 along
        axis 0, unlike in clicks. The published weights were trained with it.
        """
        grid = self.config.grid
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        axis = (torch.arange(grid, device=matrix.device, dtype=matrix.dtype) + 0.5) / grid
        first, second, third = torch.meshgrid(axis, axis, axis, indexing="ij")
        return self.pe_layer(torch.stack([second, first, third], dim=-1)).permute(3, 0, 1, 2)[None]

    def points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Tokens (B, P + 1, channels) of clicks: `coords` (B, P, 3) in voxels in the order of the image's axes,
        `labels` (B, P) 1 positive, 0 negative, -1 unused. A last, unused slot is always there, as in training."""
        coords = torch.cat([coords + 0.5, coords.new_zeros(len(coords), 1, 3)], dim=1)
        labels = torch.cat([labels, labels.new_full((len(labels), 1), PADDING)], dim=1)[..., None]
        tokens = self.pe_layer(coords / self.config.image_size)
        tokens = torch.where(labels == PADDING, self.not_a_point_embed.weight, tokens)
        for label in (0, 1):
            tokens = torch.where(labels == label, tokens + self.point_embeddings[label].weight, tokens)
        return tokens

    def forward(self, coords: Tensor | None, labels: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sparse tokens (B, P + 1, channels) ((B, 0, channels) without `coords`), and the dense map
        (B, channels, grid, grid, grid) of a mask prompt: logits (B, 1, M, M, M), M = `mask_size`."""
        batch = len(coords) if coords is not None else 1 if mask is None else len(mask)
        if coords is not None and labels is not None:
            sparse = self.points(coords, labels)
        else:
            sparse = self.no_mask_embed.weight.new_empty(batch, 0, self.config.channels)
        if mask is not None:
            return sparse, self.mask_downscaling(mask)
        grid = self.config.grid
        return sparse, self.no_mask_embed.weight.view(1, -1, 1, 1, 1).expand(batch, -1, grid, grid, grid)
