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


class Shelf(Protocol):
    """Where a volume's embeddings outlive the session."""

    def get(self, key: Hashable) -> Embedding | None: ...

    def put(self, key: Hashable, embedding: Embedding) -> None: ...


class EmbeddingCache:
    """The embeddings used last, up to a number of bytes, so that a second object in a region costs no encoder run.

    `misses` counts encoder runs. With `on_disk` False nothing is kept beyond the session, whatever the family.
    """

    def __init__(self, capacity_bytes: int = 512 * 2**20, on_disk: bool = True) -> None:
        self.capacity_bytes = capacity_bytes
        self.on_disk = on_disk
        self.misses = 0
        self._entries: dict[Hashable, Embedding] = {}
        self._shelf: Shelf | None = None

    def keep(self, volume: Volume, identity: ModelIdentity) -> None:
        """From now on, embeddings (all of this volume and model) are looked for and kept on disk, if the user allows.

        For families whose encoder takes longer than reading a file; see `embedding_store`.
        """
        if self.on_disk:
            from .embedding_store import shelf_of

            self._shelf = shelf_of(volume, identity)

    def get(self, key: Hashable, make: Callable[[], Embedding]) -> Embedding:
        """The embedding under `key`, made by `make` if it is not there."""
        embedding = self._entries.pop(key, None)
        if embedding is None and self._shelf is not None:
            embedding = self._shelf.get(key)
        if embedding is None:
            self.misses += 1
            embedding = make()
            if self._shelf is not None:
                self._shelf.put(key, embedding)
        self._entries[key] = embedding  # the end of the dictionary is the most recent use
        total = sum(entry.nbytes for entry in self._entries.values())
        while total > self.capacity_bytes and len(self._entries) > 1:
            total -= self._entries.pop(next(iter(self._entries))).nbytes
        return embedding

    def clear(self) -> None:
        self._entries.clear()
