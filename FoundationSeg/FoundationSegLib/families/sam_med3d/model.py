# SPDX-License-Identifier: Apache-2.0
"""A loaded SAM-Med3D, ready to be applied to volumes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...catalogue import ModelCard
from ...precision import choose
from ...predictor import EmbeddingCache, ModelIdentity
from ...volume import Volume
from ..torch_device import torch_device, versions
from .config import SamMed3dConfig
from .network import load_network
from .predictor import SamMed3dPredictor
from .segmenter import SamMed3dSegmenter
from .tiling import TilePolicy


@dataclass(frozen=True)
class SamMed3dModel:
    """See `Model`."""

    predictor: SamMed3dPredictor
    policy: TilePolicy = field(default_factory=TilePolicy)

    @property
    def identity(self) -> ModelIdentity:
        return self.predictor.identity

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> SamMed3dSegmenter:
        cache.keep(volume, self.identity)
        return SamMed3dSegmenter(volume, self.predictor, cache, self.policy)


def load_model(card: ModelCard, weights: Path, device: str) -> SamMed3dModel:
    """The model of a card. Raises ModelError for weights of another network, and for a device that is not there."""
    where = torch_device(device)
    network = load_network(SamMed3dConfig.from_dict(card.architecture), weights, str(where))
    precision = choose(where, card.architecture.get("precision"))
    identity = ModelIdentity(card.name, card.revision, card.sha256, str(where), precision, versions())
    return SamMed3dModel(SamMed3dPredictor(network, where, identity))
