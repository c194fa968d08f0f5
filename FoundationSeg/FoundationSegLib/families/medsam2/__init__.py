# SPDX-License-Identifier: Apache-2.0
"""MedSAM2: SAM 2.1 (tiny) fine-tuned on medical volumes; prompts on a slice are followed through the others."""

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
    import torch

    from .keys import checkpoint_shapes
    from .network import Settings, build

    with torch.device("meta"):
        network = build(Settings.from_dict(card.architecture))
    return checkpoint_shapes({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
