# SPDX-License-Identifier: Apache-2.0
"""Sizes of SAM's networks: the three published ones, and those that the tensors of a checkpoint speak of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import ModelError


@dataclass(frozen=True)
class SamConfig:
    """A vision transformer on square images, with SAM's prompt encoder and mask decoder on top."""

    img_size: int = 1024
    patch_size: int = 16
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    window_size: int = 14
    global_attn_indexes: tuple[int, ...] = (2, 5, 8, 11)
    out_chans: int = 256
    mask_in_chans: int = 16
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048
    num_multimask_outputs: int = 3
    iou_head_depth: int = 3
    iou_head_hidden_dim: int = 256

    @property
    def grid(self) -> int:
        """Tokens along a side of the image."""
        return self.img_size // self.patch_size


VARIANTS = {
    "vit_b": SamConfig(),
    "vit_l": SamConfig(embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23)),
    "vit_h": SamConfig(embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31)),
}


def variant_named(name: str) -> SamConfig:
    """The published network called `name`; "ViT-B", "vit_b" and "b" mean the same. Raises ModelError."""
    key = "vit_" + name.lower().replace("-", "_").removeprefix("vit").strip("_")
    if key not in VARIANTS:
        raise ModelError(f"There is no SAM network {name!r}; there are {', '.join(VARIANTS)}.")
    return VARIANTS[key]


def config_of(shapes: Mapping[str, tuple[int, ...]], decoder_heads: int = 8) -> SamConfig:
    """The configuration that tensors with these names and shapes belong to, so that any size of network loads.

    The decoder's number of heads leaves no trace in the shapes. Raises ModelError for tensors that are not SAM's.
    """
    try:
        _, grid, _, dim = shapes["image_encoder.pos_embed"]
        hidden, _, patch, _ = shapes["image_encoder.patch_embed.proj.weight"]
        rel_pos = {
            int(found[1]): shape
            for name, shape in shapes.items()
            if (found := re.fullmatch(r"image_encoder\.blocks\.(\d+)\.attn\.rel_pos_h", name))
        }
        depth = len(rel_pos)
        is_global = {index: shape[0] == 2 * grid - 1 for index, shape in rel_pos.items()}
        windows = {(shape[0] + 1) // 2 for index, shape in rel_pos.items() if not is_global[index]}
        layers = {
            found[1] for name in shapes if (found := re.match(r"mask_decoder\.transformer\.layers\.(\d+)\.", name))
        }
        heads = {
            found[1]
            for name in shapes
            if (found := re.match(r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\.", name))
        }
        (window,) = windows
        return SamConfig(
            img_size=grid * patch,
            patch_size=patch,
            embed_dim=dim,
            depth=depth,
            num_heads=dim // rel_pos[0][1],
            mlp_ratio=shapes["image_encoder.blocks.0.mlp.lin1.weight"][0] / hidden,
            window_size=window,
            global_attn_indexes=tuple(sorted(index for index, whole in is_global.items() if whole)),
            out_chans=shapes["image_encoder.neck.0.weight"][0],
            mask_in_chans=shapes["prompt_encoder.mask_downscaling.3.weight"][0],
            decoder_depth=len(layers),
            decoder_heads=decoder_heads,
            decoder_mlp_dim=shapes["mask_decoder.transformer.layers.0.mlp.lin1.weight"][0],
            num_multimask_outputs=shapes["mask_decoder.mask_tokens.weight"][0] - 1,
            iou_head_depth=len(heads),
            iou_head_hidden_dim=shapes["mask_decoder.iou_prediction_head.layers.0.weight"][0],
        )
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise ModelError(
            f"The weights are not those of a SAM network ({error}); give a checkpoint of SAM or MedSAM."
        ) from None
