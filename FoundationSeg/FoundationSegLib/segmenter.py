# SPDX-License-Identifier: Apache-2.0
"""What turns prompts into masks, whichever way a model family goes about it: by regions, by slices, by class names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .predictor import Array, CancelToken, EmbeddingCache, ModelIdentity, Progress
from .prompts import Round
from .region import Box3
from .volume import Volume


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The state of a segment after a round, immutable, so that undo is a matter of keeping it.

    A family adds what it needs to go on from: logits on a region's grid, memories of slices, and so on.

    Attributes:
        predicted_iou: the model's own estimate of the overlap with what was meant, in [0, 1]; None without one.
        box: array voxels (k, j, i) around the mask.
        mask: bool, of the box's shape.
        region_box: array voxels (k, j, i) of the tissue that the model looked at.
    """

    predicted_iou: float | None
    box: Box3
    mask: npt.NDArray[np.bool_]
    region_box: Box3
    warnings: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)


class Segmenter(Protocol):
    """A model applied to one volume."""

    def predict(
        self,
        rounds: tuple[Round, ...],
        previous: Prediction | None,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
    ) -> Prediction:
        """The mask after the last of `rounds`, given the prediction after the ones before (of the same segmenter).

        Raises PromptError for prompts that cannot be used, and Cancelled between two stages once `cancel` is set.
        """

    def uncertainty(self, prediction: Prediction) -> Array:
        """float32 in [0, 1] per voxel of the prediction's `region_box`, (k, j, i)."""


class Model(Protocol):
    """A loaded model of any family, ready to be applied to volumes."""

    @property
    def identity(self) -> ModelIdentity: ...

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> Segmenter: ...
