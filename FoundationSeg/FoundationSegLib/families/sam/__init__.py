# SPDX-License-Identifier: Apache-2.0
"""SAM (ViT-B, -L and -H) and MedSAM: 2-D models, made volumetric slice by slice (see `slicewise`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...catalogue import ModelCard
    from ...segmenter import Model


def load(card: ModelCard, weights: Path, device: str) -> Model:
    """The model of a card; `weights` is a verified safetensors file with the names of `expected_tensors`."""
    from .model import load_model

    return load_model(card, weights, device)


def expected_tensors(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the card's network, in the naming of segment-anything's checkpoints."""
    from .model import expected

    return expected(card)


def rename(state: dict[str, Any]) -> dict[str, Any]:
    """The names of transformers' SamModel to those of segment-anything; others stay as they are."""
    from .keys import rename as renamed

    return renamed(state)
