# SPDX-License-Identifier: Apache-2.0
"""MedSAM2's network: SAM 2.1 with the tiny Hiera encoder at 512 x 512 pixels, as transformers implements it.

The settings are those of the published `sam2.1_hiera_t512.yaml` with the overrides that its video predictor makes
(multimask by stability, memories of prompted frames from binary masks). What differs from the library's defaults
follows from the image size: features of 128, 64 and 32 points per side, and rotary positions for 32 x 32 tokens. The
filling of small holes in the masks is a CUDA extension upstream and not part of the network; it is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ...errors import ModelError
from .keys import library_state


@dataclass(frozen=True)
class Settings:
    """What scales the network; the defaults are the published one, smaller ones serve tests."""

    image_size: int = 512
    width: int = 96  # channels of the first stage; each further stage has twice as many
    heads: int = 1  # of the first stage; each further stage has twice as many
    blocks: tuple[int, int, int, int] = (1, 2, 7, 2)
    global_blocks: tuple[int, ...] = (5, 7, 9)
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    memory_layers: int = 4
    feed_forward: int = 2048  # of the memory attention

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Settings:
        """The settings of a card's `architecture`, which says what differs from the published network.

        Raises ModelError for settings that this family does not have.
        """
        try:
            values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
            return cls(**values)
        except TypeError as error:
            raise ModelError(
                f"The card describes a network that MedSAM2 cannot be ({error}); correct the card."
            ) from error

    @property
    def tokens(self) -> int:
        """Per side of the feature map that memories and prompts meet on."""
        return self.image_size // 16

    @property
    def low_res(self) -> int:
        """Pixels per side of the decoder's masks."""
        return self.image_size // 4


def build(settings: Settings) -> torch.nn.Module:
    """The network with weights that the library draws, in eval mode, on torch's default device."""
    from transformers import Sam2VideoConfig, Sam2VideoModel

    widths = [settings.width * 2**stage for stage in range(4)]
    size = settings.image_size
    config = Sam2VideoConfig(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "image_size": [size, size],
                "hidden_size": settings.width,
                "num_attention_heads": settings.heads,
                "blocks_per_stage": list(settings.blocks),
                "embed_dim_per_stage": widths,
                "num_attention_heads_per_stage": [settings.heads * 2**stage for stage in range(4)],
                "window_size_per_stage": list(settings.windows),
                "global_attention_blocks": list(settings.global_blocks),
            },
            "backbone_channel_list": widths[::-1],
            "backbone_feature_sizes": [[size // step, size // step] for step in (4, 8, 16)],
        },
        prompt_encoder_config={"image_size": size},
        image_size=size,
        memory_attention_rope_feat_sizes=[settings.tokens, settings.tokens],
        memory_attention_num_layers=settings.memory_layers,
        memory_attention_feed_forward_hidden_size=settings.feed_forward,
    )
    model: torch.nn.Module = Sam2VideoModel(config)
    return model.eval()


def load_network(settings: Settings, weights: Path, device: torch.device) -> torch.nn.Module:
    """The network with the weights of a safetensors file in the checkpoint's naming. Raises ModelError."""
    model = build(settings)
    try:
        state = library_state(load_file(weights), model.state_dict())
        model.load_state_dict(state, strict=True)
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"The file {weights.name} does not hold the tensors of MedSAM2 ({error}); "
            "choose a checkpoint of this family."
        ) from error
    return model.to(device).requires_grad_(False)
