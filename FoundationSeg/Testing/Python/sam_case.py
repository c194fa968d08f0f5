# SPDX-License-Identifier: Apache-2.0
"""SAM at the size of the fixtures, and weights drawn by their recipe. Nothing in here was trained."""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from FoundationSegLib.families.sam.config import SamConfig, config_of
from FoundationSegLib.families.sam.network import SamNetwork
from safetensors.torch import load_file

FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "fixtures"
SAM, MEDSAM = FIXTURES / "sam_vit_b", FIXTURES / "medsam"
needs_fixtures = pytest.mark.skipif(not SAM.is_dir(), reason="the parity fixtures (../shared/fixtures) are not here")
REDUCED_WEIGHTS = SAM / "reduced_state_dict.safetensors"
# What a card would say of the reduced network.
REDUCED = {
    "variant": "vit_b",
    "sizes": {
        "img_size": 128,
        "embed_dim": 48,
        "depth": 4,
        "num_heads": 4,
        "mlp_ratio": 2,
        "window_size": 5,
        "global_attn_indexes": [1, 3],
        "out_chans": 32,
        "decoder_heads": 4,
        "decoder_mlp_dim": 64,
        "iou_head_hidden_dim": 32,
    },
}
_SMALL = ("pos_embed", "rel_pos", "_embed.weight", "point_embeddings", "iou_token", "mask_tokens")


def reduced_network() -> SamNetwork:
    state = load_file(REDUCED_WEIGHTS)
    config = json.loads((SAM / "reduced_config.json").read_text())
    network = SamNetwork(
        config_of({name: tuple(tensor.shape) for name, tensor in state.items()}, config["decoder"]["num_heads"])
    )
    network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def drawn_network(config: SamConfig, seed: int) -> SamNetwork:
    """A network with the weights of the recipe in the fixtures' README."""
    network = SamNetwork(config)
    network.load_state_dict({name: _drawn(name, tuple(t.shape), seed) for name, t in network.state_dict().items()})
    return network.eval().requires_grad_(False)


def _drawn(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed((seed * 1000003 + zlib.crc32(name.encode())) % 2**31)
    r = torch.randn(shape, generator=generator)
    if "gaussian_matrix" in name:
        return r
    if any(part in name for part in _SMALL):
        return 0.3 * r
    if len(shape) >= 2:
        fan = r[0].numel()
        if "output_upscaling" in name:
            fan = shape[0] * max(1, r[0][0].numel() // 4)
        return 1.3 * r / fan**0.5
    return 1 + 0.15 * r if name.endswith("weight") else 0.1 * r


@cache
def golden(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def assert_close(found: Any, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    """Largest absolute difference, relative to the largest absolute value that was wanted."""
    found = np.asarray(found)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()
