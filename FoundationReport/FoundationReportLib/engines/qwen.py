# SPDX-License-Identifier: Apache-2.0
"""Input of Qwen-VL models without torchvision, which their processors need for videos only.

Each picture becomes temporal x height x width patches, of which `merge_size`^2 are one token; the chat template writes
one placeholder for each picture, which is repeated so often here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import EngineError

_PAD = "<|image_pad|>"


def inputs(
    config: Any, tokenizer: Any, image_processor: Any, messages: Sequence[dict[str, Any]], images: Sequence[Any]
) -> dict[str, Any]:
    """input_ids, attention_mask, pixel_values, image_grid_thw, mm_token_type_ids. Raises EngineError."""
    import torch

    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    parts = text.split(_PAD)
    if len(parts) != len(images) + 1:
        raise EngineError(
            f"The model's chat template has {len(parts) - 1} places for {len(images)} pictures; choose another model."
        )
    pictures = image_processor(images=list(images), return_tensors="pt")
    grids = pictures["image_grid_thw"]
    merged = int(image_processor.merge_size) ** 2
    for number, grid in enumerate(grids):
        parts[number] += _PAD * (int(grid.prod()) // merged)
    tokens = tokenizer("".join(parts), add_special_tokens=False, return_tensors="pt")
    ids = tokens["input_ids"]
    pad = tokenizer.convert_tokens_to_ids(_PAD)
    return {
        "input_ids": ids,
        "attention_mask": tokens["attention_mask"],
        "pixel_values": pictures["pixel_values"],
        "image_grid_thw": grids,
        "mm_token_type_ids": (ids == pad).to(torch.int32),
    }
