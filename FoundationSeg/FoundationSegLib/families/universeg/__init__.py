# SPDX-License-Identifier: Apache-2.0
"""UniverSeg (Butoi et al., ICCV 2023): segments slices in the way of labelled example slices, without clicks.

A card's `architecture` may say `widths`: the features per level, four of 64 in the published network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...catalogue import ModelCard
    from ...segmenter import Model


def load(card: ModelCard, weights: Path, device: str) -> Model:
    """The model of a card. Raises ModelError if the device is not there."""
    from .segmenter import load_model

    return load_model(card, weights, device)


def expected_tensors(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published state dict."""
    from .network import empty_network

    return {name: tuple(tensor.shape) for name, tensor in empty_network(card.architecture).state_dict().items()}
