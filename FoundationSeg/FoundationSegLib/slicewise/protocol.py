# SPDX-License-Identifier: Apache-2.0
"""What a model that sees single slices has to offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..predictor import Array, Embedding, ModelIdentity
from ..volume import Volume
from .contrast import Contrast

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.uint8]

POINT, NEGATIVE_POINT, BOX, MASK = "points", "negative points", "boxes", "masks"


@dataclass(frozen=True)
class SliceGeometry:
    """Rows and columns of a slice, and mm between them."""

    shape: tuple[int, int]
    spacing: tuple[float, float]


@dataclass(frozen=True)
class SlicePrompts:
    """Prompts on one slice, in pixels (row, column); a pixel's centre is a whole number.

    Attributes:
        points: (P, 2).
        labels: (P,), 1 positive, 0 negative.
        box: first row, first column, last row, last column; None without one.
        mask: logits that this model gave for the slice before, or for its neighbour; None without.
    """

    points: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    labels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    box: tuple[float, float, float, float] | None = None
    mask: Array | None = None


@dataclass(frozen=True)
class SliceDecoded:
    """Logits on the model's own raster (the engine only keeps them), and its own estimate of their IoU."""

    logits: Array
    predicted_iou: float | None


class SlicePredictor(Protocol):
    """A 2-D model on a device. Deterministic: the same input gives the same bits on the same device."""

    takes: frozenset[str]  # of POINT, NEGATIVE_POINT, BOX, MASK

    @property
    def identity(self) -> ModelIdentity: ...

    def contrast(self, volume: Volume, clicked: FloatArray) -> Contrast:
        """How the volume is turned into grey values, given the intensities at the positive prompts (may be empty)."""

    def prepare_slice(self, image: Grey, geometry: SliceGeometry) -> Array:
        """A slice, uint8 (h, w), turned as `SlicePlane` says, as the encoder wants it."""

    def encode_slice(self, prepared: Array, check: Callable[[], None]) -> Embedding:
        """The costly half: once per slice. Calls `check` (which may raise) as often as it can."""

    def decode_slice(self, embedding: Embedding, geometry: SliceGeometry, prompts: SlicePrompts) -> SliceDecoded:
        """The cheap half: once per prompt."""

    def on_pixels(self, logits: Array, geometry: SliceGeometry) -> Array:
        """float32 (h, w), positive inside; its sigmoid is the probability of belonging to the structure."""

    def as_logits(self, mask: BoolArray, geometry: SliceGeometry, strength: float) -> Array:
        """The model's raster for a mask (h, w) that came from elsewhere: about +strength inside, -strength outside."""
