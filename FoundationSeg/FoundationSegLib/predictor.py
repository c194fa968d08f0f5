# SPDX-License-Identifier: Apache-2.0
"""What a model family implements: encode a region once, decode it per prompt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import Cancelled
from .region import CanonicalFrame, Region
from .volume import Volume

Array = npt.NDArray[np.float32]
Progress = Callable[[str, float], None]


class CancelToken:
    """Raised from one thread, looked at by another between the stages of a prediction."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raises Cancelled if `cancel` was called."""
        if self._event.is_set():
            raise Cancelled("The prediction was cancelled; the segment is as it was.")


@dataclass(frozen=True)
class GridBox:
    """A box in grid coordinates (z, y, x): centre, unit directions as rows, half extents, all in grid points."""

    centre: npt.NDArray[np.float64]
    directions: npt.NDArray[np.float64]
    half: npt.NDArray[np.float64]


@dataclass(frozen=True)
class GridPrompts:
    """Prompts on a region's grid. Names as in SAM: `point_labels` are 1 (positive) and 0 (negative)."""

    point_coords: Array  # (P, 3) as (z, y, x) in grid points
    point_labels: npt.NDArray[np.int64]  # (P,)
    boxes: tuple[GridBox, ...] = ()


@dataclass(frozen=True)
class Embedding:
    """What an encoder makes of a region; opaque to all but the predictor that made it."""

    tensors: dict[str, npt.NDArray[Any]]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True)
class Decoded:
    """Logits (size, size, size) on the region's grid, positive inside, and the model's own estimate of their IoU."""

    logits: Array
    predicted_iou: float | None


@dataclass(frozen=True)
class ModelIdentity:
    """What provenance says of the model that made a result."""

    name: str
    revision: str
    sha256: str
    device: str
    precision: str
    versions: dict[str, str] = field(default_factory=dict)


class Predictor(Protocol):
    """A model on a device. Deterministic: the same input gives the same bits on the same device."""

    grid_size: int

    @property
    def identity(self) -> ModelIdentity: ...

    def prepare(self, volume: Volume, frame: CanonicalFrame, region: Region) -> Array:
        """The region as the encoder wants it."""

    def encode(self, prepared: Array) -> Embedding:
        """The costly half: once per region."""

    def decode(self, embedding: Embedding, prompts: GridPrompts, previous_logits: Array | None) -> Decoded:
        """The cheap half: once per prompt, refining the mask of the round before where there is one."""


class EmbeddingCache:
    """The embeddings used last, up to a number of bytes, so that a second object in a region costs no encoder run."""

    def __init__(self, capacity_bytes: int = 512 * 2**20) -> None:
        self.capacity_bytes = capacity_bytes
        self.misses = 0
        self._entries: dict[Hashable, Embedding] = {}

    def get(self, key: Hashable, make: Callable[[], Embedding]) -> Embedding:
        """The embedding under `key`, made by `make` if it is not there."""
        embedding = self._entries.pop(key, None)
        if embedding is None:
            self.misses += 1
            embedding = make()
        self._entries[key] = embedding  # the end of the dictionary is the most recent use
        total = sum(entry.nbytes for entry in self._entries.values())
        while total > self.capacity_bytes and len(self._entries) > 1:
            total -= self._entries.pop(next(iter(self._entries))).nbytes
        return embedding

    def clear(self) -> None:
        self._entries.clear()
