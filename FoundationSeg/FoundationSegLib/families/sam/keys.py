# SPDX-License-Identifier: Apache-2.0
"""Names of tensors: those of transformers' SamModel to those of segment-anything's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

# transformers keeps the matrix of the positional encoding once for the image, once for the prompts; they are the same.
_SHARED = "shared_image_embedding.positional_embedding"
_SHARED_AGAIN = "prompt_encoder.shared_embedding.positional_embedding"
_PE = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"

# In order; every rule is applied.
_RULES = (
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.", "image_encoder."),
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
    (r"^(image_encoder\.blocks\.\d+)\.layer_norm([12])\.", r"\1.norm\2."),
    (r"^image_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
    (r"^image_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
    (r"^image_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
    (r"^image_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
    (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"^(mask_decoder\.transformer\.layers\.\d+)\.layer_norm([1-4])\.", r"\1.norm\2."),
    (r"^mask_decoder\.transformer\.layer_norm_final_attn\.", "mask_decoder.transformer.norm_final_attn."),
    (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
)
# The heads are three and more linear layers: proj_in, layers.0, ..., proj_out there; layers.0, .1, ... here.
_HEAD = re.compile(r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.(.+)\.(weight|bias)$")


def is_transformers(names: Iterable[str]) -> bool:
    """Whether tensors are named as transformers does."""
    return any(name.startswith("vision_encoder.") for name in names)


def rename(state: Mapping[str, T]) -> dict[str, T]:
    """Tensors under the names of segment-anything; names that are not transformers' stay as they are."""
    if not is_transformers(state):
        return dict(state)
    last = _last_layers(state)
    renamed: dict[str, T] = {}
    for name, tensor in state.items():
        if name == _SHARED or (name == _SHARED_AGAIN and _SHARED not in state):
            renamed[_PE] = tensor
        elif name != _SHARED_AGAIN:
            renamed[_renamed(name, last)] = tensor
    return renamed


def _renamed(name: str, last: Mapping[str, int]) -> str:
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    if head := _HEAD.match(name):
        stem, part, kind = head.groups()
        if part == "proj_in":
            number = 0
        elif part == "proj_out":
            number = last[stem]
        else:
            number = int(part.removeprefix("layers.")) + 1
        return f"{stem}.layers.{number}.{kind}"
    return name


def _last_layers(names: Iterable[str]) -> dict[str, int]:
    """Per head, the number of its last layer: that of the layers between, and one."""
    last: dict[str, int] = {}
    for name in names:
        if head := _HEAD.match(name):
            between = re.fullmatch(r"layers\.(\d+)", head[2])
            last[head[1]] = max(last.get(head[1], 1), int(between[1]) + 2 if between else 1)
    return last
