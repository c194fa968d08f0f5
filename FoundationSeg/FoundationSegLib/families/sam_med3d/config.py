# SPDX-License-Identifier: Apache-2.0
"""Sizes of a SAM-Med3D network; the defaults are those of the published checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...errors import ModelError


@dataclass(frozen=True)
class SamMed3dConfig:
    """Everything that the shapes of the tensors follow from. `sam_med3d_turbo` is `SamMed3dConfig()`."""

    image_size: int = 128  # voxels per edge of the region
    patch_size: int = 16  # voxels per edge of a token
    width: int = 768  # channels of the image encoder
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    window: int = 14  # tokens per edge of an attention window; larger than the grid in the published model
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)  # these attend to the whole grid
    channels: int = 384  # of the embedding, and of prompts and mask tokens
    mask_channels: int = 16  # of the mask prompt before it is widened to `channels`
    point_kinds: int = 2  # negative and positive; the CVPR25 files have two more, for corners of boxes
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    masks: int = 4  # the single mask and three alternatives
    iou_depth: int = 3
    iou_width: int = 256

    @property
    def grid(self) -> int:
        """Tokens per edge of the region."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Voxels per edge of a mask prompt and of the logits that come out."""
        return 4 * self.grid

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SamMed3dConfig:
        """The defaults with the values of `data` in their place. Raises ModelError for what no field is named like.

        `precision` is no size but the way to run the network (see `precision`), and passed over.
        """
        data = {name: value for name, value in data.items() if name != "precision"}
        unknown = sorted(set(data) - {field.name for field in fields(cls)})
        if unknown:
            raise ModelError(f"The model card describes a SAM-Med3D network with unknown sizes: {', '.join(unknown)}.")
        values = dict(data)
        if "global_blocks" in values:
            values["global_blocks"] = tuple(values["global_blocks"])
        return cls(**values)
