# SPDX-License-Identifier: Apache-2.0
"""A model that is simple enough to reason about, for tests of everything around a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from FoundationSegLib.predictor import Array, Decoded, Embedding, GridPrompts, ModelIdentity
from FoundationSegLib.region import sample
from FoundationSegLib.region_segmenter import RegionModel


class BrightPredictor:
    """What is bright and nearer to a positive point than to any negative one. It has no weights and takes no time."""

    grid_size = 32
    identity = ModelIdentity("compact", "test", "0" * 64, "cpu", "float32")

    def prepare(self, volume: Any, frame: Any, region: Any) -> Array:
        return sample(volume, frame, region)

    def encode(self, prepared: Array) -> Embedding:
        return Embedding({"image": prepared})

    def decode(self, embedding: Embedding, prompts: GridPrompts, previous_logits: Array | None) -> Decoded:
        image = embedding.tensors["image"]
        logits = np.where(image > (image.min() + image.max()) / 2, np.float32(4), np.float32(-4))
        if len(prompts.point_coords):
            grid = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
            distances = np.linalg.norm(grid[..., None, :] - prompts.point_coords, axis=-1)
            logits = np.where(prompts.point_labels[distances.argmin(axis=-1)] == 1, logits, np.float32(-4))
        for box in prompts.boxes:
            logits[tuple(np.round(box.centre).astype(int))] = 4
        return Decoded(logits, 0.5)


def bright_model(*_: Any, **__: Any) -> RegionModel:
    """Takes the place of `load_model`."""
    return RegionModel(BrightPredictor())
