# SPDX-License-Identifier: Apache-2.0
"""A MedSAM2 small enough for tests: the published network's parts, with weights drawn by the fixtures' recipe."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from FoundationSegLib.catalogue import ModelCard
from FoundationSegLib.families.medsam2.keys import checkpoint_shapes, library_state
from FoundationSegLib.families.medsam2.network import Settings, build

ARCHITECTURE = {
    "image_size": 128,
    "width": 16,
    "blocks": [1, 2, 3, 1],
    "global_blocks": [5],
    "memory_layers": 2,
    "feed_forward": 64,
}
SETTINGS = Settings.from_dict(ARCHITECTURE)
SEED = 71
_EMBEDDINGS = ("pos_embed", "tpos_enc", "_embed", "_token", "mask_tokens", "no_obj", "no_mem")


def card(**changes: Any) -> ModelCard:
    data = {
        "name": "medsam2-small",
        "title": "MedSAM2, small, drawn weights",
        "family": "medsam2",
        "revision": "test",
        "licence": "Apache-2.0",
        "prompts": ["box", "point"],
        "modalities": ["CT", "MR"],
        "description": "For tests only.",
        "architecture": ARCHITECTURE,
        "weights": {"source": "user"},
        **changes,
    }
    return ModelCard.from_dict(data)


def drawn(shapes: dict[str, tuple[int, ...]], seed: int = SEED) -> dict[str, torch.Tensor]:
    """Weights that depend on name, shape and seed alone."""
    state = {}
    for name, shape in shapes.items():
        generator = torch.Generator().manual_seed((seed * 1000003 + zlib.crc32(name.encode())) % 2**31)
        r = torch.randn(shape, generator=generator)
        if "gaussian_matrix" in name:
            state[name] = r
        elif any(part in name for part in _EMBEDDINGS) or name.endswith("gamma"):
            state[name] = 0.3 * r
        elif len(shape) >= 2:
            state[name] = 1.3 * r / r[0].numel() ** 0.5
        else:
            state[name] = 1 + 0.15 * r if name.endswith("weight") else 0.1 * r
    return state


def checkpoint() -> dict[str, torch.Tensor]:
    """In the checkpoint's naming."""
    with torch.device("meta"):
        network = build(SETTINGS)
    return drawn(checkpoint_shapes({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}))


def network() -> Any:
    model = build(SETTINGS)
    model.load_state_dict(library_state(checkpoint(), model.state_dict()), strict=True)
    return model.requires_grad_(False)


def frames(count: int = 6) -> torch.Tensor:
    """(count, 3, size, size)."""
    size = SETTINGS.image_size
    return torch.randn((count, 3, size, size), generator=torch.Generator().manual_seed(5))
