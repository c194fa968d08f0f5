# SPDX-License-Identifier: Apache-2.0
"""The mask decoder of SAM-Med3D: prompts and image look at each other, then mask tokens become masks."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import SamMed3dConfig
from .image_encoder import LayerNorm3d


class CrossAttention(nn.Module):
    """Multi-head attention whose inner width is `width / narrowing`."""

    def __init__(self, width: int, heads: int, narrowing: int = 1) -> None:
        super().__init__()
        self.heads = heads
        inner = width // narrowing
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, N, width) looks at (B, M, width)."""
        q, k, v = (
            projection(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class ReluMlp(nn.Module):
    """Two linear layers with a ReLU in between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayBlock(nn.Module):
    """Tokens look at themselves, at the image, think, and are looked at by the image."""

    def __init__(self, config: SamMed3dConfig, first: bool) -> None:
        super().__init__()
        width, heads = config.channels, config.decoder_heads
        self.first = first
        self.self_attn = CrossAttention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = CrossAttention(width, heads, 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = ReluMlp(width, config.decoder_mlp)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = CrossAttention(width, heads, 2)

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:  # the tokens are their own positions still, and attention replaces them
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_pe
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + image_pe
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, placed_image, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(placed_image, tokens + token_pe, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    def __init__(self, config: SamMed3dConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(config, index == 0) for index in range(config.decoder_depth))
        self.final_attn_token_to_image = CrossAttention(config.channels, config.decoder_heads, 2)
        self.norm_final_attn = nn.LayerNorm(config.channels)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image and its positions (B, voxels, C), tokens (B, N, C); returns tokens and image, both changed."""
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        tokens = tokens + self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens), image


class Perceptron(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, width: int, hidden: int, out: int, depth: int) -> None:
        super().__init__()
        sizes = [width, *[hidden] * (depth - 1), out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Names of its parts are those of the checkpoints."""

    def __init__(self, config: SamMed3dConfig) -> None:
        super().__init__()
        width = config.channels
        self.transformer = TwoWayTransformer(config)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(config.masks, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(width, width // 4, 2, stride=2),
            LayerNorm3d(width // 4),
            nn.GELU(),
            nn.ConvTranspose3d(width // 4, width // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Perceptron(width, width, width // 8, 3) for _ in range(config.masks)
        )
        self.iou_prediction_head = Perceptron(width, config.iou_width, config.masks, config.iou_depth)

    def forward(
        self, embedding: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor, alternatives: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, M, 4 grid, 4 grid, 4 grid) and predicted IoUs (B, M): M is 1, or 3 with `alternatives`.

        `embedding`, `positions` and `dense` are (B or 1, channels, grid, grid, grid), `sparse` (B, N, channels).
        """
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        image = embedding + dense
        shape = image.shape
        tokens, image = self.transformer(image.flatten(2).transpose(1, 2), positions.flatten(2).transpose(1, 2), tokens)
        # Only the masks that are asked for are computed; each depends on its own token alone.
        wanted = range(1, len(self.output_hypernetworks_mlps)) if alternatives else range(1)
        weights = torch.stack([self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in wanted], dim=1)
        upscaled = self.output_upscaling(image.transpose(1, 2).reshape(shape))
        masks = (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:])
        quality = self.iou_prediction_head(tokens[:, 0])
        return masks, quality[:, wanted.start : wanted.stop]
