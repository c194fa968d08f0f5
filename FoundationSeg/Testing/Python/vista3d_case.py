# SPDX-License-Identifier: Apache-2.0
"""A VISTA3D small enough for tests (8 channels in place of 48, windows of 32), with weights drawn from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from FoundationSegLib.catalogue import ModelCard
from FoundationSegLib.families.vista3d.network import Settings, build
from FoundationSegLib.volume import Volume

ARCHITECTURE = {"width": 8, "window": 32}
SETTINGS = Settings.from_dict(ARCHITECTURE)
SHAPE = (12, 50, 60)
SPACING = np.array([1.2, 1.0, 4.0])  # i, j, k


def card(**changes: Any) -> ModelCard:
    data = {
        "name": "vista3d-small",
        "title": "VISTA3D, small, drawn weights",
        "family": "vista3d",
        "revision": "test",
        "licence": "Apache-2.0",
        "prompts": ["text", "point"],
        "modalities": ["CT"],
        "description": "For tests only.",
        "architecture": ARCHITECTURE,
        "weights": {"source": "user"},
        **changes,
    }
    return ModelCard.from_dict(data)


def network() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build(SETTINGS).requires_grad_(False)


def oblique(modality: str | None = "CT", shape: tuple[int, int, int] = SHAPE) -> Volume:
    """Thick slices, turned by 20 degrees about R, columns of the matrix along L, P and S; a ball in air."""
    angle = np.deg2rad(20)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([-1, -1, 1]) @ np.diag(SPACING)
    matrix[:3, 3] = (15, 20, -30)
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    ball = ((k - 5) * 4) ** 2 + ((j - 25) * 1.0) ** 2 + ((i - 30) * 1.2) ** 2 < 200
    noise = np.random.default_rng(1).normal(0, 20, shape)
    return Volume((np.where(ball, 80, -1000) + noise).astype(np.int16), matrix, modality, "volume")
