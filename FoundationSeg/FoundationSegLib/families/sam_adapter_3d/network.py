# SPDX-License-Identifier: Apache-2.0
"""The 3DSAM-adapter as one module: image encoder, prompt encoder, mask decoder.

A crop is (1, D, H, W): slices, rows, columns, 1 mm apart, intensities normalised as the checkpoint wants them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ModelError
from .encoder import Check, ImageEncoder
from .layers import AdapterConfig
from .mask_decoder import MaskDecoder
from .prompt_encoder import PromptEncoder


class SamAdapter3d(nn.Module):
    """Children carry the prefixes of the converted checkpoints: `encoder.`, `prompt_encoder.`, `mask_decoder.`."""

    def __init__(self, config: AdapterConfig | None = None) -> None:
        super().__init__()
        self.config = config or AdapterConfig()
        self.encoder = ImageEncoder(self.config)
        self.prompt_encoder = PromptEncoder(self.config)
        self.mask_decoder = MaskDecoder(self.config)

    def embed(self, image: Tensor, check: Check | None = None) -> tuple[Tensor, Tensor]:
        """Once per region: what clicks do not change, and the feature map that they do."""
        *features, last = self.encoder(image, check)
        return self.mask_decoder.fixed(features, image), last

    def answer(self, fixed: Tensor, feature: Tensor, points: Tensor) -> Tensor:
        """Logits (1, 2, D, H, W) for clicks (1, P, 3) as (d, h, w) voxels of the crop."""
        return self.mask_decoder(fixed, self.prompt_encoder(feature, points[..., [0, 2, 1]]))

    def forward(self, image: Tensor, points: Tensor) -> Tensor:
        return self.answer(*self.embed(image), points)


def difference(logits: Tensor) -> Tensor:
    """One logit per voxel (1, D, H, W), positive where the structure wins: its sigmoid is the softmax's second part."""
    return logits[:, 1] - logits[:, 0]


def config_of(architecture: Mapping[str, Any]) -> AdapterConfig:
    """The sizes that a card's `architecture` asks for. Raises ModelError."""
    sizes = architecture.get("sizes", {})
    known = {field.name for field in fields(AdapterConfig)}
    if not isinstance(sizes, Mapping) or not set(sizes) <= known:
        raise ModelError(f"The model card's sizes are not among {', '.join(sorted(known))}; correct the card.")
    return AdapterConfig(**sizes)


def empty_network(config: AdapterConfig | None = None) -> SamAdapter3d:
    """The network on the meta device: names and shapes without memory."""
    with torch.device("meta"):
        return SamAdapter3d(config)
