# SPDX-License-Identifier: Apache-2.0
"""SAM-Med3D at the sizes of the fixtures, and weights drawn by their recipe. Nothing in here was trained."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from FoundationSegLib import Volume
from FoundationSegLib.catalogue import ModelCard, model_card
from FoundationSegLib.families.sam_med3d.config import SamMed3dConfig
from FoundationSegLib.families.sam_med3d.network import SamMed3d

FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "fixtures" / "sam_med3d"
needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="the parity fixtures (../shared/fixtures) are not here"
)
# `reduced_config.json` in the words of a card: several windows per axis, the last of them mostly padding.
MODEL_A: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "width": 48,
    "depth": 4,
    "heads": 4,
    "mlp_ratio": 2.0,
    "window": 3,
    "global_blocks": [1, 3],
    "channels": 48,
    "decoder_mlp": 64,
    "iou_width": 32,
}
# `reduced_b_config.json`: one window, larger than the grid, as in the published model. Only its encoder is used.
MODEL_B: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "width": 24,
    "depth": 3,
    "heads": 2,
    "mlp_ratio": 2.0,
    "window": 7,
    "global_blocks": [2],
    "channels": 24,
}
_SMALL = ("pos_embed", "rel_pos", "_embed.weight", "point_embeddings", "iou_token", "mask_tokens")


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / name) as file:
        return dict(file)


def drawn_state(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """Weights by the recipe in the fixtures' README."""
    return {name: _drawn(name, shape, seed) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed((seed * 1000003 + zlib.crc32(name.encode())) % 2**31)
    r = torch.randn(shape, generator=generator)
    if "gaussian_matrix" in name:
        return r
    if any(part in name for part in _SMALL):
        return 0.3 * r
    if len(shape) >= 2:
        fan = shape[0] * max(1, r[0][0].numel() // 4) if "output_upscaling" in name else r[0].numel()
        return 1.3 * r / fan**0.5
    return 1 + 0.15 * r if name.endswith("weight") else 0.1 * r


def drawn_network(config: SamMed3dConfig, seed: int) -> SamMed3d:
    network = SamMed3d(config)
    network.load_state_dict(drawn_state({k: tuple(v.shape) for k, v in network.state_dict().items()}, seed))
    return network.eval().requires_grad_(False)


def card(architecture: dict[str, Any] | None = None) -> ModelCard:
    """The shipped card of the turbo weights, for a network of other sizes."""
    shipped = model_card("sam-med3d-turbo")
    data = dict(shipped.data)
    if architecture is not None:
        data["architecture"] = architecture
    return replace(shipped, data=data, sha256="0" * 64)


def assert_close(found: Any, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    """Largest absolute difference, relative to the largest absolute value that was wanted."""
    found = np.asarray(found)
    assert found.shape == wanted.shape
    if wanted.size:
        assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


def oblique_volume(shape: tuple[int, int, int] = (30, 70, 64), modality: str | None = "MR") -> Volume:
    """Two bright balls in noise, voxels of 0.9 x 0.8 x 2.5 mm, rotated about two axes, the first axis flipped."""
    rng = np.random.default_rng(5)
    spacing = np.array([0.9, 0.8, 2.5])
    a, b = np.radians(25), np.radians(-15)
    turn_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn_z @ turn_x @ np.diag([-1, 1, 1]) @ np.diag(spacing)
    matrix[:3, 3] = (31, -44, 12)
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    image = rng.normal(100, 15, shape)
    for centre in ((14, 24, 22), (16, 46, 44)):
        distance = np.sqrt(((k - centre[0]) * 2.5) ** 2 + ((j - centre[1]) * 0.8) ** 2 + ((i - centre[2]) * 0.9) ** 2)
        image += 250 * (distance < 8)
    return Volume(image.astype(np.int16), matrix, modality)
