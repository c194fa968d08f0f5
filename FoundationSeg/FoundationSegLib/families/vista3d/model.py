# SPDX-License-Identifier: Apache-2.0
"""A loaded VISTA3D, ready to be applied to volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...catalogue import ModelCard
from ...predictor import EmbeddingCache, ModelIdentity
from ...volume import Volume
from ..torch_device import torch_device, versions
from .inference import Inference
from .network import Settings, load_network
from .segmenter import Vista3dSegmenter


@dataclass(frozen=True)
class Vista3dModel:
    """See `Model`."""

    inference: Inference
    identity: ModelIdentity

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> Vista3dSegmenter:
        cache.keep(volume, self.identity)
        return Vista3dSegmenter(volume, self.inference, cache)


def load_model(card: ModelCard, weights: Path, device: str) -> Vista3dModel:
    """The model of a card. Raises ModelError for weights of another network, and for a device that is not there."""
    where = torch_device(device)
    settings = Settings.from_dict(card.architecture)
    network = load_network(settings, weights, where)
    import monai

    identity = ModelIdentity(
        card.name, card.revision, card.sha256, str(where), "float32", {**versions(), "monai": monai.__version__}
    )
    return Vista3dModel(Inference(network, settings, where), identity)
