# SPDX-License-Identifier: Apache-2.0
"""A 3DSAM-adapter small enough for tests, on the weights of a SAM of the same sizes, drawn at random."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from FoundationSegLib import Volume
from FoundationSegLib.catalogue import ModelCard, model_card
from FoundationSegLib.families.sam_adapter_3d.layers import AdapterConfig
from FoundationSegLib.families.sam_adapter_3d.network import SamAdapter3d

SIZES: dict[str, Any] = {
    "crop": 32,
    "scale": 2,
    "patch": 8,
    "width": 16,
    "heads": 2,
    "mlp_ratio": 2,
    "feature_channels": 8,
    "head_channels": 4,
    "prompt_heads": 2,
    "prompt_mlp": 16,
    "tokens": 8,
    "window": 4,
    "sam_grid": 16,
    "sam_window": 6,
    "decoder_size": 16,
}
CONFIG = AdapterConfig(**SIZES)


def card(intensity: str | None = None) -> ModelCard:
    """The card of the shipped catalogue, for a network of these sizes."""
    shipped = model_card("sam-adapter-3d")
    architecture = {"sizes": SIZES} | ({} if intensity is None else {"intensity": intensity})
    return replace(shipped, data={**shipped.data, "architecture": architecture}, sha256="0" * 64)


def random_network(seed: int = 0) -> SamAdapter3d:
    torch.manual_seed(seed)
    network = SamAdapter3d(CONFIG)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                parameter.normal_(0, 0.3)
    return network


def sam_state(seed: int = 1) -> dict[str, torch.Tensor]:
    """What a SAM of these sizes would hold, under its names."""
    own = random_network(seed).encoder.state_dict()
    new = ("depth_embed", "slice_embed", "neck_3d", "adapter", "attn.lr", "rel_pos_d")
    state = {f"image_encoder.{name}": value for name, value in own.items() if not any(part in name for part in new)}
    state["image_encoder.neck.0.weight"] = torch.zeros(8, 16, 1, 1)
    state["mask_decoder.iou_token.weight"] = torch.zeros(1, 8)
    return state


def oblique_volume() -> tuple[Volume, np.ndarray]:
    """(k, j, i) = (16, 60, 50), 2.5 x 0.7 x 0.9 mm, oblique, noise and a bright ellipsoid; and its mask."""
    angle = np.radians(17)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([-0.9, 0.7, 2.5])
    matrix[:3, 3] = (30, -70, 12)
    k, j, i = np.meshgrid(*map(np.arange, (16, 60, 50)), indexing="ij")
    mask = ((k - 8) * 2.5 / 9) ** 2 + ((j - 28) * 0.7 / 8) ** 2 + ((i - 24) * 0.9 / 10) ** 2 < 1
    noise = np.random.default_rng(5).normal(0, 12, mask.shape)
    return Volume((40 + 90 * mask + noise).astype(np.int16), matrix), mask
