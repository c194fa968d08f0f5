# SPDX-License-Identifier: Apache-2.0
"""MedSAM2 behind the session: prompts on slices, followed through the volume both ways, corrected on any slice.

The protocol is the original's (models.md, section 6): the prompts on their slice, a pass upwards, the memory of the
pass forgotten, a pass downwards, logits above 0, and of the result the largest component in 3-D. Beyond it:

- Prompts on several slices are all remembered; passes begin at the lowest of them, so that each slice is passed once.
- A correction on a slice that was followed shows the decoder the mask found there, and all prompts so far on that
  slice, in the light of the other prompted slices; then it is one more prompted slice, and the passes are repeated.
  Slices are encoded once.
- A pass ends after a few slices on which nothing is found, where the original goes on to the last slice.
- Parts that a positive click lies in are kept beside the largest.
- Small holes in slices are not filled, which upstream is done only where its CUDA extension is compiled.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ...cues import Cues, cues_of, inside_box
from ...errors import PromptError
from ...predictor import Array, CancelToken, Embedding, EmbeddingCache, Progress
from ...prompts import MaskPrompt, Round
from ...region import Box3, CanonicalFrame
from ...segmenter import Prediction
from ...volume import Volume
from ..canonical import array_axes
from .frames import GreyScale, Stack, is_ct
from .memory import Memory, Tracker, encode
from .network import Settings
from .prompting import SlicePrompts, choose_axis, slice_prompts

BoolArray = npt.NDArray[np.bool_]
_CHUNK = 32  # slices that are brought to full size at a time


@dataclass(frozen=True)
class StackPolicy:
    """How slices are taken and followed."""

    axis: int | None = None  # 0 axial, 1 coronal, 2 sagittal; None: the plane of the prompts (see `choose_axis`)
    window: tuple[float, float] = (40.0, 400.0)  # CT level and width, as in the original
    dark_window: tuple[float, float] = (-600.0, 1500.0)  # where the box holds nothing but black in the first
    dark: float = 0.9  # share of black pixels in the box from which the second window is taken
    most_empty: int = 3  # slices without a mask after which a pass ends


@dataclass(frozen=True, kw_only=True)
class StackPrediction(Prediction):
    """A prediction with what the next round goes on from.

    Attributes:
        axis, scale: how the slices were taken.
        starts: slices on which the structure was marked before anything was known of it.
        memories: of all prompted slices.
        logits: (low_res, low_res) of each slice that was reached.
        qualities: predicted IoU of each slice that was reached.
        seen: `region_box` as slices, rows and columns of the stack.
    """

    axis: int
    scale: GreyScale
    starts: frozenset[int]
    memories: dict[int, Memory]
    logits: dict[int, Array]
    qualities: dict[int, float]
    seen: Box3


class MedSam2Segmenter:
    """Applies the network to one volume (see `Segmenter`)."""

    def __init__(
        self,
        volume: Volume,
        network: Any,
        settings: Settings,
        device: torch.device,
        cache: EmbeddingCache,
        policy: StackPolicy,
    ) -> None:
        self.volume = volume
        self.network = network
        self.settings = settings
        self.device = device
        self.cache = cache
        self.policy = policy
        self.frame = CanonicalFrame.of(volume)

    def predict(
        self,
        rounds: tuple[Round, ...],
        previous: Prediction | None,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
    ) -> StackPrediction:
        """See `Segmenter`. Cancelling and progress are looked after on every slice."""
        assert previous is None or isinstance(previous, StackPrediction)
        fresh = rounds[-1]
        if _masks(fresh):
            previous = None  # a given mask is a new beginning
        since = max((at for at, round_ in enumerate(rounds) if _masks(round_)), default=0)
        cues = self._cues(rounds[since:])
        masks = _masks(rounds[since])
        if previous is None:
            axis = self.policy.axis if self.policy.axis is not None else choose_axis(cues, masks, self.frame)
        else:
            axis = previous.axis
        stack = Stack(self.volume, self.frame, axis)
        prompts = slice_prompts(cues, masks, stack, self.settings.image_size)
        starts = prompts.starts if previous is None else previous.starts
        if not starts:
            raise PromptError("All prompts are negative; mark the structure itself with at least one positive prompt.")
        scale = self._scale(prompts, stack) if previous is None else previous.scale
        run = _Run(self, stack, scale, cancel or CancelToken(), progress)
        new = set(slice_prompts(self._cues((fresh,)), _masks(fresh), stack, self.settings.image_size).by_slice)
        memories = run.remember(prompts, new, starts, previous)
        if previous is None or new:
            logits, qualities = run.follow(memories, prompts.first, prompts.stop)
        else:
            logits, qualities = previous.logits, previous.qualities
        with run.stage("voxels"):
            box, mask, seen = self._voxels(cues, stack, logits)
        return StackPrediction(
            predicted_iou=_mean_quality(logits, qualities),
            box=box,
            mask=mask,
            region_box=self.frame.array_box(_canonical_box(seen, stack)),
            warnings=cues.warnings,
            timings=run.timings,
            axis=axis,
            scale=scale,
            starts=starts,
            memories=memories,
            logits=logits,
            qualities=qualities,
            seen=seen,
        )

    def uncertainty(self, prediction: Prediction) -> Array:
        """1 - |2p - 1| per voxel of the prediction's `region_box`, (k, j, i), for the model's probability p."""
        assert isinstance(prediction, StackPrediction)
        stack = Stack(self.volume, self.frame, prediction.axis)
        depth, rows, columns = prediction.seen
        shape = (depth.stop - depth.start, rows.stop - rows.start, columns.stop - columns.start)
        block = np.zeros(shape, np.float32)
        for indices, logits in _full_size(prediction.logits, stack.size):
            block[np.array(indices) - depth.start] = 1 - np.abs(np.tanh(logits[:, rows, columns] / 2))
        return array_axes(stack.canonical(block), self.frame)

    def _cues(self, rounds: tuple[Round, ...]) -> Cues:
        return cues_of([prompt for round_ in rounds for prompt in round_], self.volume, self.frame)

    def _scale(self, prompts: SlicePrompts, stack: Stack) -> GreyScale:
        if not is_ct(self.volume):
            return GreyScale.of(self.volume, None)
        scale = GreyScale.of(self.volume, self.policy.window)
        size = np.array(stack.size[::-1]) / self.settings.image_size
        for index, prompted in prompts.by_slice.items():
            if len(prompted.labels) and prompted.labels[0] == 2:
                (left, top), (right, bottom) = np.rint(prompted.coords[:2] * size).astype(int)
                inside = scale.grey(stack.image(index)[top : bottom + 1, left : right + 1])
                if (inside == 0).mean() >= self.policy.dark:
                    return GreyScale.of(self.volume, self.policy.dark_window)
        return scale

    def _voxels(self, cues: Cues, stack: Stack, logits: dict[int, Array]) -> tuple[Box3, BoolArray, Box3]:
        """Box and mask as in `Prediction`, and what was seen as slices, rows and columns of the stack."""
        block = np.zeros((stack.count, *stack.size), dtype=bool)
        for indices, full in _full_size(logits, stack.size):
            block[indices] = full > 0
        seen = _seen(block, logits)
        part = _bounds(block)
        at, pixels = stack.place(cues.positions[cues.labels == 1])
        clicks = np.rint(np.column_stack([at, pixels[:, ::-1]])).astype(int) - [side.start for side in part]
        kept = _kept(block[part], clicks)
        inner = _bounds(kept)
        part = _shifted(inner, part)
        box = _canonical_box(part, stack)
        mask = np.ascontiguousarray(stack.canonical(kept[inner]))
        if mask.size:
            axes = [np.arange(side.start, side.stop) * mm for side, mm in zip(box, self.frame.spacing, strict=True)]
            for exclusion in cues.exclusions:
                for z, height in enumerate(axes[0]):  # by plane, to spare memory
                    plane = np.stack(np.meshgrid([height], axes[1], axes[2], indexing="ij"), axis=-1)[0]
                    mask[z] &= ~inside_box(exclusion, plane)
        return self.frame.array_box(box), array_axes(mask, self.frame), seen


class _Run:
    """One prediction: its stages, their timings, and the places where it can be cancelled."""

    def __init__(
        self, owner: MedSam2Segmenter, stack: Stack, scale: GreyScale, cancel: CancelToken, progress: Progress | None
    ) -> None:
        self.owner, self.stack, self.scale, self.cancel, self.progress = owner, stack, scale, cancel, progress
        self.timings: dict[str, float] = {}
        self.share = 0.0
        self.tracker = Tracker(owner.network, owner.device, stack.count, self._features)

    def stage(self, name: str) -> _Stage:
        self.cancel.check()
        return _Stage(self, name)

    def remember(
        self, prompts: SlicePrompts, new: set[int], starts: frozenset[int], previous: StackPrediction | None
    ) -> dict[int, Memory]:
        """The memories of all prompted slices; only those with new prompts are computed."""
        memories = {} if previous is None else dict(previous.memories)
        # First the slices that stand for themselves, then those that are understood by the others.
        for index in sorted(new, key=lambda at: (at not in starts, at)):
            alone = index in starts
            shown = None
            if previous is not None:
                shown = previous.memories[index].logits if index in previous.memories else previous.logits.get(index)
            prompted = prompts.by_slice[index]
            if shown is not None:
                prompted = replace(prompted, mask=None)  # what was made of the mask is shown
            with self.stage("prompt"):
                memories[index] = self.tracker.condition(index, prompted, {} if alone else memories, shown)
        return memories

    def follow(self, memories: dict[int, Memory], first: int, stop: int) -> tuple[dict[int, Array], dict[int, float]]:
        """Logits and predicted IoU of the slices from `first` to before `stop`, as far as there is something."""
        start, last = min(memories), max(memories)
        first, stop = min(first, start), max(stop, last + 1)
        logits: dict[int, Array] = {}
        qualities: dict[int, float] = {}
        total = stop - first
        for order, reverse in ((range(start, stop), False), (range(start - 1, first - 1, -1), True)):
            empty = 0
            steps = self.tracker.track(memories, order, reverse)
            while True:
                with self.stage("track"):
                    step = next(steps, None)
                if step is None:
                    break
                index, logits[index], qualities[index] = step
                empty = 0 if (logits[index] > 0).any() or (index <= last and not reverse) else empty + 1
                if empty >= self.owner.policy.most_empty:
                    break
                self.share = len(logits) / total
        return dict(sorted(logits.items())), dict(sorted(qualities.items()))

    def _features(self, index: int) -> list[Array]:
        owner, scale = self.owner, self.scale

        def embed() -> Embedding:
            with self.stage("encode"):
                pixels = self.stack.input(index, scale, owner.settings.image_size)
                maps = encode(owner.network, owner.device, pixels)
            return Embedding({f"level{level}": array for level, array in enumerate(maps)})

        key = ("medsam2", self.stack.axis, index, scale)
        tensors = owner.cache.get(key, embed).tensors
        return [tensors[f"level{level}"] for level in range(len(tensors))]


class _Stage:
    """Times one stage; the time of a stage inside of it counts for that one alone."""

    def __init__(self, run: _Run, name: str) -> None:
        self.run, self.name = run, name

    def __enter__(self) -> None:
        if self.run.progress is not None:
            self.run.progress(self.name, min(0.95, self.run.share))
        self.inner = sum(self.run.timings.values())
        self.start = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        timings = self.run.timings
        spent = time.perf_counter() - self.start - (sum(timings.values()) - self.inner)
        timings[self.name] = timings.get(self.name, 0.0) + spent


def _masks(round_: Round) -> list[BoolArray]:
    return [prompt.array for prompt in round_ if isinstance(prompt, MaskPrompt) and prompt.positive]


def _full_size(logits: dict[int, Array], size: tuple[int, int]) -> Iterator[tuple[list[int], Array]]:
    """Slice indices and their logits at full size, a few slices at a time."""
    indices = sorted(logits)
    for start in range(0, len(indices), _CHUNK):
        some = indices[start : start + _CHUNK]
        low = torch.from_numpy(np.stack([logits[index] for index in some]))[:, None]
        yield some, F.interpolate(low, size=size, mode="bilinear", align_corners=False)[:, 0].numpy()


def _kept(mask: BoolArray, clicks: npt.NDArray[np.int_]) -> BoolArray:
    """The largest component (neighbours by corners, as in the original), and those that the clicks (P, 3) lie in."""
    import cc3d

    if not mask.any():
        return mask
    labels = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    sizes = np.bincount(labels.ravel())
    clicks = clicks[((clicks >= 0) & (clicks < mask.shape)).all(axis=1)]
    wanted = {int(np.argmax(sizes[1:])) + 1, *labels[tuple(clicks.T)].tolist()} - {0}
    return np.isin(labels, sorted(wanted))


def _mean_quality(logits: dict[int, Array], qualities: dict[int, float]) -> float | None:
    """The slices' predicted IoU, weighted by the area of their masks; None where nothing was found."""
    areas = {index: int((mask > 0).sum()) for index, mask in logits.items()}
    total = sum(areas.values())
    if total == 0:
        return None
    return float(np.clip(sum(qualities[index] * area for index, area in areas.items()) / total, 0, 1))


def _seen(block: BoolArray, logits: dict[int, Array]) -> Box3:
    """The slices that were reached, and of their pixels those around the mask (all, where there is none)."""
    parts = [slice(min(logits), max(logits) + 1)]
    for axis in (1, 2):
        filled = np.flatnonzero(block.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = (filled[0], filled[-1] + 1) if len(filled) else (0, block.shape[axis])
        margin = 4 + int(high - low) // 4
        parts.append(slice(max(0, int(low) - margin), min(block.shape[axis], int(high) + margin)))
    return parts[0], parts[1], parts[2]


def _canonical_box(seen: Box3, stack: Stack) -> Box3:
    """Slices, rows and columns of a stack as canonical voxels."""
    box = [slice(0, 0)] * 3
    box[stack.axis] = seen[0]
    for axis, part, size in zip(stack.plane, seen[1:], stack.size, strict=True):
        box[axis] = slice(size - part.stop, size - part.start)
    return box[0], box[1], box[2]


def _bounds(mask: BoolArray) -> Box3:
    """The smallest box around a mask; empty slices for an empty one."""
    box = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, 0))
    return box[0], box[1], box[2]


def _shifted(inner: Box3, outer: Box3) -> Box3:
    """A box within a box, counted from where the outer one is counted from."""
    z, y, x = (slice(o.start + i.start, o.start + i.stop) for i, o in zip(inner, outer, strict=True))
    return z, y, x
