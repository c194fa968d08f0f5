# SPDX-License-Identifier: Apache-2.0
"""SAM-Med3D (turbo, the CVPR25 files, and others of the same architecture): promptable segmentation in 3-D."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...catalogue import ModelCard
    from ...segmenter import Model


def load(card: ModelCard, weights: Path, device: str) -> Model:
    """The model with the weights of a safetensors file, on a device. Raises ModelError."""
    from .model import load_model

    return load_model(card, weights, device)


def expected_tensors(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the checkpoint's tensors. Raises ModelError if the card describes an unknown network."""
    from .config import SamMed3dConfig
    from .network import empty_network

    network = empty_network(SamMed3dConfig.from_dict(card.architecture))
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
