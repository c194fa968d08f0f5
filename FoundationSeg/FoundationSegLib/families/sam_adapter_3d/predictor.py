# SPDX-License-Identifier: Apache-2.0
"""The 3DSAM-adapter behind the session: regions of 128³ points, 1 mm apart, and clicks on the structure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from ...catalogue import ModelCard
from ...errors import PromptError
from ...predictor import (
    Array,
    CancelToken,
    Decoded,
    Embedding,
    EmbeddingCache,
    GridPrompts,
    ModelIdentity,
    Progress,
)
from ...prompts import Lasso, MaskPrompt, Point, Round, Scribble
from ...region import CanonicalFrame, Region
from ...region_segmenter import RegionPolicy, RegionPrediction, RegionSegmenter
from ...segmenter import Prediction
from ...volume import Volume
from ..torch_device import torch_device, versions
from .intensity import REGION, crop, require_intensity
from .network import SamAdapter3d, config_of, difference, empty_network

SPACING_MM = 1.0


class AdapterPredictor:
    """A network on a device (see `Predictor`). An embedding takes 168 MB at the published size."""

    def __init__(self, network: SamAdapter3d, identity: ModelIdentity, device: torch.device, intensity: str) -> None:
        self._network = network.to(device).eval()
        self._device = device
        self._identity = identity
        self._intensity = intensity
        self.grid_size = network.config.crop

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    def prepare(self, volume: Volume, frame: CanonicalFrame, region: Region) -> Array:
        """(size, size, size) float32, normalised."""
        return crop(volume, frame, region, self._intensity)

    def encode(self, prepared: Array) -> Embedding:
        with torch.inference_mode():
            fixed, feature = self._network.embed(torch.from_numpy(prepared)[None].to(self._device))
        return Embedding({"fixed": fixed.cpu().numpy(), "feature": feature.cpu().numpy()})

    def decode(self, embedding: Embedding, prompts: GridPrompts, previous_logits: Array | None) -> Decoded:
        """All clicks at once; the mask of the round before plays no part, as the network has no place for it.

        A box counts as a click on its centre where there is no click. Raises PromptError without either.
        """
        points = prompts.point_coords[prompts.point_labels == 1]
        if len(points) == 0:
            points = np.array([box.centre for box in prompts.boxes], dtype=np.float32).reshape(-1, 3)
        if len(points) == 0:
            raise PromptError("This model needs a click on the structure; add a positive point.")
        with torch.inference_mode():
            fixed, feature = (
                torch.from_numpy(embedding.tensors[name]).to(self._device) for name in ("fixed", "feature")
            )
            clicks = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32))[None].to(self._device)
            logits = difference(self._network.answer(fixed, feature, clicks))[0]
        return Decoded(logits.float().cpu().numpy(), None)


class AdapterSegmenter(RegionSegmenter):
    """Refuses at once what the network has no notion of, before it is encoded for minutes."""

    def predict(
        self,
        rounds: tuple[Round, ...],
        previous: Prediction | None,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
    ) -> RegionPrediction:
        """See `Segmenter`."""
        for prompt in rounds[-1]:
            match prompt:
                case Point(positive=False) | Scribble(positive=False):
                    raise PromptError(
                        "This model has no clicks beside the structure (negative clicks); add clicks on the structure, "
                        "exclude a box, or choose another model."
                    )
                case Lasso():
                    raise PromptError("This model has no lasso; click on the structure, or choose another model.")
                case MaskPrompt():
                    raise PromptError(
                        "This model cannot start from a mask; click on the structure, or choose another model."
                    )
        return super().predict(rounds, previous, cancel, progress)


@dataclass(frozen=True)
class AdapterModel:
    """See `Model`."""

    predictor: AdapterPredictor
    policy: RegionPolicy

    @property
    def identity(self) -> ModelIdentity:
        return self.predictor.identity

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> AdapterSegmenter:
        cache.keep(volume, self.identity)
        return AdapterSegmenter(volume, self.predictor, cache, self.policy)


def load_model(card: ModelCard, weights: Path, device: str) -> AdapterModel:
    """Raises ModelError if the device is not there or the card asks for an unknown intensity."""
    place = torch_device(device)
    intensity = require_intensity(card.architecture.get("intensity", REGION))
    network = empty_network(config_of(card.architecture))
    network.load_state_dict(load_file(weights), strict=True, assign=True)
    network.encoder.make_mask()
    identity = ModelIdentity(card.name, card.revision, card.sha256, str(place), "float32", versions())
    return AdapterModel(AdapterPredictor(network, identity, place, intensity), RegionPolicy(spacing_mm=SPACING_MM))
