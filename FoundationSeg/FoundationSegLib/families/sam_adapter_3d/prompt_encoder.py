# SPDX-License-Identifier: Apache-2.0
"""The 3DSAM-adapter's prompt encoder: features at the clicks, mixed with learned queries, change the feature map.

Names of parameters are those of an item of the published `feature_dict`. The published network owns a cross-attention
from tokens to image and a position encoding that its forward pass never uses; they are here so that its checkpoints
load strictly. It has no notion of a negative click.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import AdapterConfig, Mlp

QUERIES = 10


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of its inputs."""

    def __init__(self, width: int, heads: int, shrink: int = 1) -> None:
        super().__init__()
        self.heads, inner = heads, width // shrink
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class PromptLayer(nn.Module):
    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        width, heads = config.feature_channels, config.prompt_heads
        self.global_query = nn.Parameter(0.1 * torch.randn(1, QUERIES, width))
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, shrink=2)  # unused, see above
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, config.prompt_mlp, nn.ReLU())
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, shrink=2)

    def forward(self, image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Image (1, N, C) and points (1, P, C) to the same."""
        tokens = torch.cat([self.global_query, points], dim=1)
        # The attention's output is normalised before it is added, unlike in SAM.
        tokens = self.norm2(tokens + self.norm1(self.self_attn(tokens, tokens, tokens)))
        queries, points = tokens[:, :QUERIES], tokens[:, QUERIES:]
        queries = self.norm3(queries + self.mlp(queries))
        return self.norm4(image + self.cross_attn_image_to_token(image, queries, queries)), points


class PromptTransformer(nn.Module):
    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PromptLayer(config) for _ in range(2))


class PromptEncoder(nn.Module):
    """Feature map (1, C, H, W, D) and clicks (1, P, 3) to a feature map of the same shape."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.crop = config.crop
        self.transformer = PromptTransformer(config)
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, config.feature_channels // 2))

    def forward(self, feature: Tensor, points: Tensor) -> Tensor:
        """`points` are voxels of the crop along (D, W, H), the order that the published network was trained with."""
        place = (2 * points + 1) / self.crop - 1
        # grid_sample's components run from the last axis to the first: (D, W, H) for a map (H, W, D).
        sampled = F.grid_sample(feature, place[:, :, None, None], align_corners=False)
        image, tokens = feature.flatten(2).transpose(1, 2), sampled[..., 0, 0].transpose(1, 2)
        for layer in self.transformer.layers:
            image, tokens = layer(image, tokens)
        return image.transpose(1, 2).reshape(feature.shape)

    def position_encoding(self, size: int) -> Tensor:
        """(1, C, size, size, size), sines before cosines, components in the order (W, H, D); for comparisons only."""
        along = (torch.arange(size, device=self.positional_encoding_gaussian_matrix.device) + 0.5) / size
        h, w, d = torch.meshgrid(along, along, along, indexing="ij")
        angle = 3 * math.pi * ((2 * torch.stack([w, h, d], dim=-1) - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angle.sin(), angle.cos()], dim=-1).permute(3, 0, 1, 2)[None]
