# SPDX-License-Identifier: Apache-2.0
"""A loaded MedSAM2, ready to be applied to volumes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...catalogue import ModelCard
from ...predictor import EmbeddingCache, ModelIdentity
from ...volume import Volume
from ..torch_device import torch_device, versions
from .network import Settings, load_network
from .segmenter import MedSam2Segmenter, StackPolicy


@dataclass(frozen=True)
class MedSam2Model:
    """See `Model`."""

    network: Any  # transformers' Sam2VideoModel
    settings: Settings
    device: torch.device
    identity: ModelIdentity
    policy: StackPolicy = field(default_factory=StackPolicy)

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> MedSam2Segmenter:
        cache.keep(volume, self.identity)
        return MedSam2Segmenter(volume, self.network, self.settings, self.device, cache, self.policy)


def load_model(card: ModelCard, weights: Path, device: str) -> MedSam2Model:
    """The model of a card. Raises ModelError for weights of another network, and for a device that is not there."""
    import transformers

    where = torch_device(device)
    settings = Settings.from_dict(card.architecture)
    network = load_network(settings, weights, where)
    identity = ModelIdentity(
        card.name,
        card.revision,
        card.sha256,
        str(where),
        "float32",  # where the original runs in bfloat16 on a GPU: the network is small enough to be exact
        {**versions(), "transformers": transformers.__version__},
    )
    return MedSam2Model(network, settings, where, identity)
