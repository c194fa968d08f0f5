# SPDX-License-Identifier: Apache-2.0
"""How many slices fit into the memory that is free."""

from __future__ import annotations

from typing import Any

from FoundationSegLib.hub.home import megabytes

from ..errors import EngineError

# What MedGemma 1.5 was shown at most, and halves of it.
STEPS = (85, 64, 32, 16, 8, 4, 2, 1)
_SPARE_BYTES = 512 * 2**20


def bytes_per_slice(config: Any, item_bytes: int, caches: int = 1) -> int:
    """Roughly what one more slice takes while the model reads, from the sizes in its configuration.

    Keys and values of its tokens in every layer (none of them shortened by a sliding window), the picture, and the
    widest activations of picture encoder and language model. MedGemma 1.5 4B in bfloat16: about 130 MB. `caches`: how
    many sets of keys and values there are at once.
    """
    text = getattr(config, "text_config", config)
    vision = getattr(config, "vision_config", None)
    heads = int(getattr(text, "num_attention_heads", 1))
    head = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    tokens = tokens_per_slice(config)
    cache = tokens * 2 * int(text.num_hidden_layers) * int(getattr(text, "num_key_value_heads", None) or heads) * head
    wide = tokens * 3 * int(text.intermediate_size)
    seen = 0
    if vision is not None:
        size, patch = int(getattr(vision, "image_size", None) or 512), int(vision.patch_size)
        seen = (size // patch) ** 2 * 2 * int(
            getattr(vision, "intermediate_size", 4 * vision.hidden_size)
        ) + 3 * size**2
    return item_bytes * (caches * cache + wide + seen)


def tokens_per_slice(config: Any) -> int:
    """Tokens of one picture in the prompt, with its label and delimiters."""
    fixed = getattr(config, "mm_tokens_per_image", None)
    vision = getattr(config, "vision_config", None)
    if fixed is None and vision is not None:
        size = int(getattr(vision, "image_size", None) or 512)
        merged = int(vision.patch_size) * int(getattr(vision, "spatial_merge_size", 1) or 1)
        fixed = (size // merged) ** 2
    return int(fixed or 256) + 12


def slices_that_fit(free_bytes: int | None, per_slice: int, most: int, room: int | None = None) -> int:
    """The largest step up to `most` that fits; `room` is how many slices of tokens the model's context holds.

    Where the free memory is not known, 16 at most. Raises EngineError if not even one slice fits.
    """
    most = min(most, room) if room is not None else most
    if free_bytes is None:
        return max(1, min(most, 16))
    fit = (free_bytes - _SPARE_BYTES) // max(1, per_slice)
    for step in (most, *STEPS):
        if 1 <= step <= min(most, fit):
            return step
    raise EngineError(
        f"{megabytes(max(0, free_bytes))} of memory are free beside the model, and one slice needs "
        f"{megabytes(per_slice + _SPARE_BYTES)}; close other programs, quantise the model, or choose a smaller one."
    )
