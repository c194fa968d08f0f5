# SPDX-License-Identifier: Apache-2.0
"""A slice-wise model behind the session: prompts in, a 3-D mask out, corrections, undo and replay as for any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from ..predictor import Array, CancelToken, EmbeddingCache, ModelIdentity, Progress
from ..prompts import MaskPrompt, Point, Round, Scribble
from ..region import Box3, CanonicalFrame
from ..segmenter import Prediction
from ..volume import Volume
from .contrast import Contrast
from .decoding import Decoding
from .judge import SpreadPolicy
from .layout import Layout, lay_out, require_takes, same
from .plane import ORIENTATIONS, SlicePlane
from .protocol import BoolArray, FloatArray, SlicePredictor
from .solid import joined, looked_at, without
from .spread import SliceState, Spreading

_NOTHING: Box3 = (slice(0, 0), slice(0, 0), slice(0, 0))


@dataclass(frozen=True)
class SlicePolicy:
    """How a slice-wise model is applied. `orientation`: "axial", "coronal", "sagittal"; None: as the prompts lie."""

    orientation: str | None = None
    spread: SpreadPolicy = field(default_factory=SpreadPolicy)

    def __post_init__(self) -> None:
        if self.orientation is not None and self.orientation not in ORIENTATIONS:
            raise PromptError(f"There is no orientation {self.orientation!r}; choose {', '.join(ORIENTATIONS)}.")


@dataclass(frozen=True, kw_only=True)
class SlicePrediction(Prediction):
    """A prediction with what the next round goes on from.

    Attributes:
        plane: the orientation that the segment was begun in; it stays.
        contrast: of the pictures that the model sees; it stays.
        slices: per slice number, its state; shared with the round before where nothing changed.
        anchors: slices with prompts that had an effect.
        resting: those anchors that came from a given mask and from which nothing spreads outwards.
        window: first slice, row and column, and the number of each, of the part that `region_box` is.
    """

    plane: SlicePlane
    contrast: Contrast
    slices: Mapping[int, SliceState]
    anchors: frozenset[int]
    resting: frozenset[int]
    window: tuple[tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True)
class SliceModel:
    """A model of a family that sees slices."""

    predictor: SlicePredictor
    policy: SlicePolicy = field(default_factory=SlicePolicy)

    @property
    def identity(self) -> ModelIdentity:
        return self.predictor.identity

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> SliceSegmenter:
        cache.keep(volume, self.identity)
        return SliceSegmenter(volume, self.predictor, cache, self.policy)


class SliceSegmenter:
    """Applies one slice-wise predictor to one volume."""

    def __init__(
        self, volume: Volume, predictor: SlicePredictor, cache: EmbeddingCache, policy: SlicePolicy | None = None
    ) -> None:
        self.volume = volume
        self.predictor = predictor
        self.cache = cache
        self.policy = policy or SlicePolicy()
        self.frame = CanonicalFrame.of(volume)

    def predict(
        self,
        rounds: tuple[Round, ...],
        previous: Prediction | None,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
    ) -> SlicePrediction:
        """See `Segmenter.predict`. `progress` is called, and `cancel` looked at, on every slice."""
        assert previous is None or isinstance(previous, SlicePrediction)  # of the same segmenter
        require_takes(rounds[-1], self.predictor.takes, self.predictor.identity.name)
        layout = lay_out(rounds, self.volume, self.frame, self.predictor.takes, self._plane(previous))
        given = [prompt.array for prompt in rounds[-1] if isinstance(prompt, MaskPrompt) and prompt.positive]
        if previous is None and not given and not any(map(layout.has_positive, layout.slices)):
            raise PromptError("All prompts are negative; mark the structure itself with at least one positive prompt.")
        contrast = previous.contrast if previous else self.predictor.contrast(self.volume, self._clicked(layout, given))
        decoding = Decoding(
            self.volume, self.predictor, self.cache, layout, contrast, cancel or CancelToken(), progress
        )
        start = _Start.after(previous)
        for mask in given:
            start.take_mask(mask, layout.plane, decoding)
        self._decode_prompted(rounds, layout, decoding, start)
        warnings = [*layout.warnings, *start.warnings]
        if start.fresh:
            spreading = Spreading(
                decoder=decoding,
                policy=self.policy.spread,
                states=start.states,
                anchors=frozenset(start.anchors),
                fresh=frozenset(start.fresh),
                limits=_limits(layout, start.anchors),
                resting=frozenset(start.resting),
            )
            start.states = spreading.run()
            if spreading.cut_short:
                warnings.append(
                    f"The mask was carried no further than {self.policy.spread.most_slices} slices from a prompt; give "
                    "a prompt further on to go on from there."
                )
        return self._finish(layout, contrast, decoding, start, tuple(warnings))

    def uncertainty(self, prediction: Prediction) -> Array:
        """1 - |2p - 1| per voxel of the prediction's `region_box`, (k, j, i), for the model's probability p."""
        assert isinstance(prediction, SlicePrediction)
        (first, top, left), (count, height, width) = prediction.window
        block = np.zeros((count, height, width), np.float32)
        for number, state in prediction.slices.items():
            logits = self.predictor.on_pixels(state.logits, prediction.plane.geometry)
            part = logits[top : top + height, left : left + width]
            block[number - first] = 1 - np.abs(np.tanh(part / 2))
        _, result = prediction.plane.array_block(block, (first, top, left))
        return np.asarray(result, np.float32)

    def _plane(self, previous: SlicePrediction | None) -> SlicePlane | None:
        if previous is not None:
            return previous.plane
        name = self.policy.orientation
        return None if name is None else SlicePlane(self.frame, ORIENTATIONS.index(name))

    def _clicked(self, layout: Layout, given: list[BoolArray]) -> FloatArray:
        """Intensities of what was pointed at: positive points, else around the middle of boxes, else in masks."""
        stack = layout.plane.stack(self.volume.array)
        height, width = layout.plane.geometry.shape
        values: list[npt.NDArray[np.generic]] = []
        for number, prompts in layout.slices.items():
            at = prompts.points[prompts.labels == 1]
            if len(at) == 0 and prompts.box is not None:
                r0, c0, r1, c1 = prompts.box
                ticks = np.linspace(0.35, 0.65, 5)
                at = np.array([(r0 + a * (r1 - r0), c0 + b * (c1 - c0)) for a in ticks for b in ticks])
            row, column = np.clip(np.rint(at), 0, [height - 1, width - 1]).astype(int).T
            values.append(stack[number, row, column])
        if not any(map(len, values)):
            values += [self.volume.array[mask] for mask in given]
        return np.concatenate(values).astype(np.float64) if values else np.zeros(0)

    def _decode_prompted(self, rounds: tuple[Round, ...], layout: Layout, decoding: Decoding, start: _Start) -> None:
        """The slices whose prompts this round changed."""
        before = lay_out(rounds[:-1], self.volume, self.frame, self.predictor.takes, layout.plane)
        signs = {prompt.positive if isinstance(prompt, Point | Scribble) else None for prompt in rounds[-1]}
        one_way = next(iter(signs)) if len(signs) == 1 else None
        for number, prompts in sorted(layout.slices.items()):
            if same(prompts, before.slices.get(number)):
                continue
            old = start.states.get(number)
            if not layout.has_positive(number) and (old is None or not old.filled):
                start.warnings.append(
                    f"A negative prompt on {layout.plane.name} slice {number + 1} changed nothing, since the segment "
                    "does not reach that slice."
                )
                continue
            new = decoding.prompted(number, old, one_way)
            if not new.filled and layout.has_positive(number):
                start.warnings.append(
                    f"The model found nothing at the prompt on {layout.plane.name} slice {number + 1}; move the "
                    "prompt, or draw a box."
                )
            start.states[number] = new
            start.anchors.add(number)
            start.fresh.add(number)
            start.resting.discard(number)

    def _finish(
        self, layout: Layout, contrast: Contrast, decoding: Decoding, start: _Start, warnings: tuple[str, ...]
    ) -> SlicePrediction:
        with decoding.stage("voxels"):
            plane = layout.plane
            window = looked_at(start.states, layout)
            found = joined(start.states, layout, start.anchors)
            box, mask = _NOTHING, np.zeros((0, 0, 0), bool)
            if found is not None:
                corner, block = found
                block = without(block, corner, layout)
                box, mask = plane.array_block(block, corner)
            region_box, _ = plane.array_block(np.zeros(window[1], bool), window[0])
        return SlicePrediction(
            predicted_iou=_mean_iou(start.states),
            box=box,
            mask=mask,
            region_box=region_box,
            warnings=warnings,
            timings=decoding.timings,
            plane=plane,
            contrast=contrast,
            slices=MappingProxyType(start.states),
            anchors=frozenset(start.anchors),
            resting=frozenset(start.resting),
            window=window,
        )


@dataclass
class _Start:
    """What a round begins with, and which of it the round's own prompts changed (`fresh`)."""

    states: dict[int, SliceState] = field(default_factory=dict)
    anchors: set[int] = field(default_factory=set)
    resting: set[int] = field(default_factory=set)
    fresh: set[int] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def after(cls, previous: SlicePrediction | None) -> _Start:
        if previous is None:
            return cls()
        return cls(dict(previous.slices), set(previous.anchors), set(previous.resting))

    def take_mask(self, mask: BoolArray, plane: SlicePlane, decoding: Decoding) -> None:
        """A given mask replaces what there is. On one slice it spreads like a prompt; on several, only between them."""
        stack = plane.stack(mask)
        numbers = np.flatnonzero(stack.any(axis=(1, 2))).tolist()
        self.states = {number: decoding.guess(np.ascontiguousarray(stack[number]).astype(bool)) for number in numbers}
        self.anchors, self.fresh = set(numbers), set(numbers)
        self.resting = set(numbers) if len(numbers) > 1 else set()


def _limits(layout: Layout, anchors: set[int]) -> tuple[int, int]:
    """The slices of the boxes, and those that prompts beyond them reach."""
    first, last = layout.depth
    return min(first, *anchors), max(last, *anchors)


def _mean_iou(states: Mapping[int, SliceState]) -> float | None:
    """The model's estimates for the slices, weighted by the size of their masks."""
    known = [(s.predicted_iou, float(s.mask.sum())) for s in states.values() if s.predicted_iou is not None]
    weight = sum(area for _, area in known)
    if weight == 0:
        return None
    return float(np.clip(sum(iou * area for iou, area in known) / weight, 0.0, 1.0))
