# SPDX-License-Identifier: Apache-2.0
"""A family with a network of a few numbers, and the command `foundation-seg` in a process that knows it.

`python tiny_family.py CARDS ...` runs the command with the cards of the folder CARDS instead of those of Resources.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from FoundationSegLib import catalogue, families
from FoundationSegLib.catalogue import ModelCard
from FoundationSegLib.predictor import EmbeddingCache, ModelIdentity
from FoundationSegLib.volume import Volume

CARD: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny",
    "family": "tiny",
    "revision": "main",
    "licence": "CC-BY-NC-SA-4.0",
    "task": "tests",
    "dimension": "3-D",
    "prompts": ["point"],
    "modalities": ["CT"],
    "description": "For tests.",
    "intended_use": "Tests.",
    "limits": ["It does nothing."],
    "terms": {"kinds": ["non-commercial", "share-alike"], "source": "made up", "page": "https://example.org/tiny"},
    "weights": {
        "source": "hub",
        "repo": "someone/tiny",
        "file": "folder/tiny.pth",
        "revision": "main",
        "size_bytes": 1_000_000,
        "checkpoint_key": "model_state_dict",
        "drop": ["*.computable"],
    },
    "architecture": {"width": 300},
}


class TinyModel:
    """Carries its identity and nothing else."""

    def __init__(self, card: ModelCard, weights: Path, device: str) -> None:
        from safetensors.torch import load_file

        self.tensors = load_file(weights)
        self.identity = ModelIdentity(card.name, card.revision, card.sha256, device, "float32")

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> Any:
        raise NotImplementedError


def load(card: ModelCard, weights: Path, device: str) -> TinyModel:
    return TinyModel(card, weights, device)


def expected_tensors(card: ModelCard) -> dict[str, tuple[int, ...]]:
    width = card.architecture["width"]
    return {"first.weight": (width, 2 * width), "first.bias": (width,), "last.weight": (1, width), "scale": ()}


def rename(state: dict[str, Any]) -> dict[str, Any]:
    """Another writer calls the layers layer_0 and layer_1."""
    return {name.replace("layer_0.", "first.").replace("layer_1.", "last."): value for name, value in state.items()}


def make_state(width: int = 300, seed: int = 1) -> dict[str, Any]:
    """Tensors of the network with drawn values."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    card = ModelCard.from_dict({**CARD, "architecture": {"width": width}})
    return {name: torch.rand(shape, generator=generator) for name, shape in expected_tensors(card).items()}


def write_cards(folder: Path, *cards: dict[str, Any]) -> Path:
    """A folder of cards; the usual one where none is given."""
    folder.mkdir(exist_ok=True)
    for card in cards or (CARD,):
        (folder / f"{card['name']}.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def install(cards: Path, setattr: Any = setattr) -> None:
    """Lets this process know the family, and the cards of a folder instead of those of Resources."""
    module = ModuleType("tiny")
    module.__dict__.update(load=load, expected_tensors=expected_tensors, rename=rename)
    real_family, real_folder = families._family, catalogue.resource_folder
    setattr(families, "_family", lambda card: module if card.family == "tiny" else real_family(card))
    setattr(catalogue, "resource_folder", lambda name: cards if name == "Models" else real_folder(name))


if __name__ == "__main__":
    install(Path(sys.argv[1]))
    from FoundationSegLib.cli import main

    sys.exit(main(sys.argv[2:]))
