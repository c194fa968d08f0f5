# SPDX-License-Identifier: Apache-2.0
"""Two spellings of one network: tensor names in MedSAM2's checkpoints and in transformers' `Sam2VideoModel`.

Every tensor of the library's model has exactly one name in the checkpoint, but for two places where the library is
built differently: the four point embeddings of the checkpoint are the rows of one table, and the positional matrix of
the prompts is kept a second time for the image. That the pairs are the right ones, not merely of equal shapes, is
shown by running both implementations on the same drawn weights (test_medsam2_parity.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_POINT_TABLE = "prompt_encoder.point_embed.weight"
_POINT_ROWS = 4  # negative, positive, and the two corners of a box
_COPIES = {"shared_image_embedding.positional_embedding": "prompt_encoder.shared_embedding.positional_embedding"}

# From the library's names to the checkpoint's; each name is rewritten by all rules that match, in this order.
_RULES: tuple[tuple[str, str], ...] = (
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
    (r"^no_object_pointer$", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
    (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
    # Feed-forward networks: the library names the ends, the checkpoint counts the layers.
    (r"^((?:vision_encoder|mask_decoder\.transformer).*\.mlp)\.proj_out\.", r"\1.layers.1."),
    (r"^(.*(?:hypernetworks_mlps\.\d+|_head|object_pointer_proj))\.layers\.0\.", r"\1.layers.1."),
    (r"^(.*(?:hypernetworks_mlps\.\d+|_head|object_pointer_proj))\.proj_out\.", r"\1.layers.2."),
    (r"\.proj_in\.", ".layers.0."),
    (r"^object_pointer_proj\.", "obj_ptr_proj."),
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
    (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^prompt_encoder\.shared_embedding\.positional_embedding$",
     "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "sam_prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "sam_prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "sam_prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "sam_prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "sam_prompt_encoder.mask_downscaling.6."),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    (r"^mask_decoder\.upscale_conv1\.", "sam_mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "sam_mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "sam_mask_decoder.output_upscaling.3."),
    (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    (r"^memory_encoder\.feature_projection\.", "memory_encoder.pix_feat_proj."),
    (r"^memory_encoder\.projection\.", "memory_encoder.out_proj."),
    (r"^memory_encoder\.memory_fuser\.layers\.(\d+)\.scale$", r"memory_encoder.fuser.layers.\1.gamma"),
    (r"^memory_encoder\.memory_fuser\.", "memory_encoder.fuser."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.layer_norm(\d?)\.", r".norm\1."),
)  # fmt: skip
_DOWNSAMPLER = re.compile(r"^memory_encoder\.mask_downsampler\.layers\.(\d+)\.(conv|layer_norm)\.(\w+)$")


def checkpoint_names(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """For each name in the library's state dict its names in the checkpoint: one, none for a copy, or one per row."""
    names = list(names)
    # Convolution, norm and activation are counted as one sequence, so the last convolution comes after all of them.
    steps = 3 * sum(bool(_DOWNSAMPLER.match(name)) for name in names) // 4
    return {name: _checkpoint_names(name, steps) for name in names}


def _checkpoint_names(name: str, steps: int) -> tuple[str, ...]:
    if name in _COPIES:
        return ()
    if name == _POINT_TABLE:
        return tuple(f"sam_prompt_encoder.point_embeddings.{row}.weight" for row in range(_POINT_ROWS))
    if match := _DOWNSAMPLER.match(name):
        place = 3 * int(match[1]) + (match[2] == "layer_norm")
        return (f"memory_encoder.mask_downsampler.encoder.{place}.{match[3]}",)
    name = name.replace("mask_downsampler.final_conv.", f"mask_downsampler.encoder.{steps}.")
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return (name,)


def checkpoint_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the checkpoint for those of the library's state dict."""
    result: dict[str, tuple[int, ...]] = {}
    for name, old in checkpoint_names(shapes).items():
        shape = shapes[name] if len(old) == 1 else (1, *shapes[name][1:])
        result.update(dict.fromkeys(old, shape))
    return result


def library_state(tensors: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The library's state dict (`names`) from the checkpoint's torch tensors; KeyError names one that is missing."""
    import torch

    result: dict[str, Any] = {}
    for name, old in checkpoint_names(names).items():
        if old:
            result[name] = tensors[old[0]] if len(old) == 1 else torch.cat([tensors[row] for row in old])
    for copy, source in _COPIES.items():
        result[copy] = result[source]
    return result
