# SPDX-License-Identifier: Apache-2.0
"""The models that can be asked for by name: one card (JSON) each in `Resources/Models`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .errors import ModelError
from .resources import resource_folder
from .segmenter import Model


@dataclass(frozen=True)
class ModelCard:
    """What a user should know of a model before using it; the whole file is in `data`."""

    name: str
    title: str
    family: str
    revision: str
    licence: str
    prompts: tuple[str, ...]
    modalities: tuple[str, ...]
    description: str
    data: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> ModelCard:
        """Raises ModelError if the card is damaged."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                name=data["name"],
                title=data["title"],
                family=data["family"],
                revision=data["revision"],
                licence=data["licence"],
                prompts=tuple(data["prompts"]),
                modalities=tuple(data["modalities"]),
                description=data["description"],
                data=data,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"The model card {path.name} is damaged; install the extension again.") from error


def model_cards() -> list[ModelCard]:
    """All cards, by name."""
    return [
        ModelCard.read(path) for path in sorted(resource_folder("Models").glob("*.json")) if ".schema" not in path.name
    ]


def model_card(name: str) -> ModelCard:
    """The card of one model; ModelError with the names that there are."""
    cards = {card.name: card for card in model_cards()}
    if name not in cards:
        raise ModelError(f"There is no model {name!r}; there are: {', '.join(cards)}.")
    return cards[name]


@cache
def load_model(name: str, device: str = "auto") -> Model:
    """The model on a device, loaded once per process. Raises ModelError."""
    card = model_card(name)
    if card.family != "compact":
        raise ModelError(f"Models of the family {card.family!r} cannot be run by this version.")
    from .compact.predictor import CompactPredictor
    from .region_segmenter import RegionModel

    weights = card.data["weights"]
    return RegionModel(
        CompactPredictor(resource_folder("Weights"), card.revision, weights["grid_size"], device, weights["sha256"])
    )
