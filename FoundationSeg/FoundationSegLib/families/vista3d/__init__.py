# SPDX-License-Identifier: Apache-2.0
"""VISTA3D: structures of CT by their names, corrected (or drawn anew) by clicks."""

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

    from .network import Settings, build

    with torch.device("meta"):
        network = build(Settings.from_dict(card.architecture))
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def names() -> tuple[str, ...]:
    """The structures that can be asked for."""
    from .classes import structures

    return tuple(structure.name for structure in structures())


def name_of(text: str) -> str:
    """The network's name of a structure, in any case and word order, with synonyms. Raises PromptError."""
    from .classes import find

    return find(text).name
