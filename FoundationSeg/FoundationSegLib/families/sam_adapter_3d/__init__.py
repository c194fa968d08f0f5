# SPDX-License-Identifier: Apache-2.0
"""3DSAM-adapter (Gong et al., Medical Image Analysis 2024): SAM ViT-B made volumetric, prompted by clicks.

A card's `architecture` may say

- `intensity`: how intensities are normalised, see `intensity.py`: "region" (the default, and what own training makes)
  or the published task "kits", "lits", "pancreas" or "colon";
- `sizes`: what differs from the published network, by field of `layers.AdapterConfig`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...catalogue import ModelCard
    from ...segmenter import Model


def load(card: ModelCard, weights: Path, device: str) -> Model:
    """The model of a card. Raises ModelError if the device is not there."""
    from .predictor import load_model

    return load_model(card, weights, device)


def expected_tensors(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Names and shapes; `encoder.`, `prompt_encoder.` and `mask_decoder.` stand before the published ones."""
    from .network import config_of, empty_network

    state = empty_network(config_of(card.architecture)).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
