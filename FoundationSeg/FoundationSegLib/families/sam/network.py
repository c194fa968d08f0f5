# SPDX-License-Identifier: Apache-2.0
"""SAM's network: our image encoder, and segment-anything's own prompt encoder and mask decoder.

State-dict names are those of the published checkpoints. The encoder is ours because it takes nearly all of the time and
memory; the two small parts are the original modules, so that there is nothing to get wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import SamConfig
from .encoder import ImageEncoder
from .upstream import modeling


@dataclass(frozen=True)
class TorchPrompts:
    """Prompts in pixels of the model's image, (x, y); None where there are none."""

    points: Tensor | None = None  # (1, P, 2)
    labels: Tensor | None = None  # (1, P): 1 positive, 0 negative
    box: Tensor | None = None  # (1, 4): x0, y0, x1, y1
    mask: Tensor | None = None  # (1, 1, 4g, 4g): logits that an earlier decode gave


class SamNetwork(nn.Module):
    """Encode once per image, decode once per prompt."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        parts = modeling()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.prompt_encoder = parts.PromptEncoder(
            embed_dim=config.out_chans,
            image_embedding_size=(config.grid, config.grid),
            input_image_size=(config.img_size, config.img_size),
            mask_in_chans=config.mask_in_chans,
        )
        self.mask_decoder = parts.MaskDecoder(
            transformer_dim=config.out_chans,
            transformer=parts.TwoWayTransformer(
                depth=config.decoder_depth,
                embedding_dim=config.out_chans,
                num_heads=config.decoder_heads,
                mlp_dim=config.decoder_mlp_dim,
            ),
            num_multimask_outputs=config.num_multimask_outputs,
            iou_head_depth=config.iou_head_depth,
            iou_head_hidden_dim=config.iou_head_hidden_dim,
        )

    def encode(self, images: Tensor, check: Callable[[], None] | None = None) -> Tensor:
        """(B, 3, S, S) prepared images to (B, C, g, g); `check` may raise between blocks."""
        with torch.inference_mode():
            result: Tensor = self.image_encoder(images, check)
        return result

    def decode(self, embedding: Tensor, prompts: TorchPrompts, multimask: bool) -> tuple[Tensor, Tensor]:
        """Logits (1, M, 4g, 4g) and predicted IoUs (1, M) for an embedding (1, C, g, g); M is 3 or 1."""
        points = None if prompts.points is None else (prompts.points, prompts.labels)
        with torch.inference_mode():
            sparse, dense = self.prompt_encoder(points=points, boxes=prompts.box, masks=prompts.mask)
            logits, iou = self.mask_decoder(
                image_embeddings=embedding,
                image_pe=self.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
            )
        return logits, iou


def tensor_shapes(config: SamConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's tensors, in state-dict order; nothing is allocated."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in SamNetwork(config).state_dict().items()}
