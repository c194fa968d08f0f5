# SPDX-License-Identifier: Apache-2.0
"""One round's use of the model: slices encoded when they are needed, timings, progress, and places to stop at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from ..predictor import CancelToken, Embedding, EmbeddingCache, Progress
from ..volume import Volume
from .contrast import Contrast
from .layout import Layout, Rect
from .protocol import MASK, BoolArray, Grey, SlicePredictor, SlicePrompts
from .spread import SliceState

# Given and interpolated masks, as logits: sure enough to lead, and marked as uncertain.
_GUESS = 1.5
_GREY_KEPT = 4


@dataclass(frozen=True)
class SliceKey:
    """What an embedding of a slice depends on, within a session."""

    axis: int
    number: int
    contrast: Contrast


@dataclass
class Decoding:
    """Decodes slices of one orientation. Every call looks at `cancel` (and raises Cancelled)."""

    volume: Volume
    predictor: SlicePredictor
    cache: EmbeddingCache
    layout: Layout
    contrast: Contrast
    cancel: CancelToken
    progress: Progress | None
    timings: dict[str, float] = field(default_factory=dict)
    decoded: int = 0
    _grey: dict[int, Grey] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage, after telling of it. Nobody knows how far a structure reaches: the fraction only grows."""
        self.cancel.check()
        if self.progress is not None:
            self.progress(name, min(0.95, self.decoded / (self.decoded + 10)))
        start = time.perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    @property
    def uses_masks(self) -> bool:
        """Whether the model looks at the logits of a neighbour."""
        return MASK in self.predictor.takes

    def grey(self, number: int) -> Grey:
        """The picture of a slice, uint8 (h, w)."""
        if number not in self._grey:
            while len(self._grey) >= _GREY_KEPT:
                self._grey.pop(next(iter(self._grey)))
            pixels = self.layout.plane.pixels(self.volume.array, number)
            self._grey[number] = self.contrast.grey(np.ascontiguousarray(pixels))
        return self._grey[number]

    def prompted(self, number: int, old: SliceState | None, one_way: bool | None) -> SliceState:
        """A slice with prompts of its own, refining the state of the round before where there is one.

        `one_way`: True if all prompts of the round are clicks on the structure, which then only add; False if all are
        clicks beside it, which only take away.
        """
        prompts = self.layout.slices[number]
        if old is not None and self.uses_masks:
            prompts = replace(prompts, mask=old.logits)
        state = self._decode(number, prompts)
        if old is None or one_way is None:
            return state
        mask = (state.mask | old.mask) if one_way else (state.mask & old.mask)
        logits = (np.maximum if one_way else np.minimum)(state.logits, old.logits)
        return SliceState.of(logits, mask, state.predicted_iou)

    def follow(self, number: int, neighbour: SliceState, box: Rect, with_mask: bool) -> SliceState:
        """See `SliceDecoder`."""
        own = self.layout.slices.get(number, SlicePrompts())
        mask = neighbour.logits if with_mask and self.uses_masks else None
        return self._decode(number, replace(own, box=box, mask=mask))

    def guess(self, mask: BoolArray) -> SliceState:
        """See `SliceDecoder`."""
        logits = self.predictor.as_logits(mask, self.layout.plane.geometry, _GUESS)
        return SliceState.of(logits, mask, None, guessed=True)

    def section(self, number: int) -> Rect | None:
        """See `SliceDecoder`."""
        return self.layout.section(number)

    def _decode(self, number: int, prompts: SlicePrompts) -> SliceState:
        geometry = self.layout.plane.geometry
        key = SliceKey(self.layout.plane.axis, number, self.contrast)
        embedding = self.cache.get(key, lambda: self._embed(number))
        with self.stage("decode"):
            decoded = self.predictor.decode_slice(embedding, geometry, prompts)
            mask = self.predictor.on_pixels(decoded.logits, geometry) > 0
        self.decoded += 1
        return SliceState.of(decoded.logits, mask, decoded.predicted_iou)

    def _embed(self, number: int) -> Embedding:
        with self.stage("slice"):
            prepared = self.predictor.prepare_slice(self.grey(number), self.layout.plane.geometry)
        with self.stage("encode"):
            return self.predictor.encode_slice(prepared, self.cancel.check)
