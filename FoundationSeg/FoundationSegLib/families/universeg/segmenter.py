# SPDX-License-Identifier: Apache-2.0
"""UniverSeg behind the session: labelled slices are the prompt, and correcting a slice adds it to the examples.

All examples of a segment lie across one axis. Every slice between the outermost that show the structure is segmented,
and further on until the structure was not found on a few slices in a row, or an example says that it ends. A positive
box says instead where to look: on which slices, and where on them. Labelled slices keep the labels that they were
given. Of the result, what is not connected to any label in 3-D is left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from ...catalogue import ModelCard
from ...cues import Cues, cues_of, inside_box
from ...errors import PromptError
from ...predictor import Array, CancelToken, EmbeddingCache, ModelIdentity, Progress
from ...prompts import Box, LabelledSlice, Prompt, Round
from ...region import Box3, CanonicalFrame
from ...segmenter import Prediction
from ...volume import Volume
from ..canonical import array_axes
from ..torch_device import torch_device, versions
from .network import Memory, UniverSeg, empty_network
from .slices import SliceGrid

BoolArray = npt.NDArray[np.bool_]
SIZE = 128
_CERTAIN = 20.0  # logit of a label that was given, and of its opposite


@dataclass(frozen=True)
class SlicePolicy:
    """How far beyond the examples to look."""

    empty_slices: int = 3  # in a row without the structure end the search in their direction


@dataclass(frozen=True, kw_only=True)
class SlicePrediction(Prediction):
    """A prediction with its `logits` (slices, size, size), from the slice `first` on, on the windows of `grid`."""

    grid: SliceGrid
    first: int
    logits: Array


@dataclass(frozen=True)
class UniverSegModel:
    """A network on a device (see `Model`)."""

    network: UniverSeg
    identity: ModelIdentity
    device: torch.device
    policy: SlicePolicy = field(default_factory=SlicePolicy)

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> UniverSegSegmenter:
        """The cache has no part in it: what can be kept depends on the examples, and they change with every round."""
        return UniverSegSegmenter(volume, self)


def load_model(card: ModelCard, weights: Path, device: str) -> UniverSegModel:
    """Raises ModelError if the device is not there."""
    place = torch_device(device)
    network = empty_network(card.architecture)
    network.load_state_dict(load_file(weights), strict=True, assign=True)
    identity = ModelIdentity(card.name, card.revision, card.sha256, str(place), "float32", versions())
    return UniverSegModel(network.to(place).eval(), identity, place)


class UniverSegSegmenter:
    """Applies UniverSeg to one volume (see `Segmenter`)."""

    def __init__(self, volume: Volume, model: UniverSegModel) -> None:
        self.volume = volume
        self.model = model
        self.frame = CanonicalFrame.of(volume)

    def predict(
        self,
        rounds: tuple[Round, ...],
        previous: Prediction | None,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
    ) -> SlicePrediction:
        """See `Segmenter`. A slice that is labelled anew replaces its earlier label; looks at `cancel` per slice."""
        started = time.perf_counter()
        cancel = cancel or CancelToken()
        given = [prompt for round_ in rounds for prompt in round_]
        cues = self._boxes(given)
        bounds = cues.bounds()
        grid, labels = self._examples(given, bounds)
        run = _Run(self.model, grid, labels, cancel, progress)
        remembered = time.perf_counter()
        logits = run.within(self._range(grid, bounds)) if bounds is not None else run.outward(self.model.policy)
        looked = time.perf_counter()
        first, last = min(logits), max(logits)
        stacked = np.stack([logits[index] for index in range(first, last + 1)])
        box, mask = self._mask(grid, first, stacked, labels, cues)
        timings = {
            "examples": remembered - started,
            "slices": looked - remembered,
            "voxels": time.perf_counter() - looked,
        }
        return SlicePrediction(
            predicted_iou=None,
            box=self.frame.array_box(box),
            mask=array_axes(mask, self.frame),
            region_box=self.frame.array_box(grid.box(first, last)),
            warnings=cues.warnings,
            timings=timings,
            grid=grid,
            first=first,
            logits=stacked,
        )

    def uncertainty(self, prediction: Prediction) -> Array:
        """1 - |2p - 1| per voxel of the prediction's `region_box`, (k, j, i); 0 on labelled slices."""
        assert isinstance(prediction, SlicePrediction)
        grid = prediction.grid
        values = np.moveaxis(grid.to_voxels(prediction.logits, -_CERTAIN), 0, grid.axis)
        box = grid.box(prediction.first, prediction.first + len(prediction.logits) - 1)
        cut = tuple(slice(None) if axis == grid.axis else part for axis, part in enumerate(box))
        return array_axes(1 - np.abs(np.tanh(values[cut] / 2)), self.frame)

    def _boxes(self, given: list[Prompt]) -> Cues:
        """Boxes as canonical cues. Raises PromptError for every prompt that is neither a box nor a labelled slice."""
        boxes = []
        for prompt in given:
            if isinstance(prompt, Box):
                boxes.append(prompt)
            elif not isinstance(prompt, LabelledSlice):
                raise PromptError(
                    "UniverSeg has no clicks: it learns from labelled slices; label a slice, or correct one, and give "
                    "it as a prompt, or choose another model."
                )
        return cues_of(boxes, self.volume, self.frame)

    def _examples(
        self, given: list[Prompt], bounds: npt.NDArray[np.float64] | None
    ) -> tuple[SliceGrid, dict[int, BoolArray]]:
        """The window and the labels by slice. Raises PromptError where they do not fit together or to the volume."""
        examples = [prompt for prompt in given if isinstance(prompt, LabelledSlice)]
        axes = sorted({example.axis for example in examples})
        if len(axes) > 1:
            raise PromptError(
                f"The labelled slices lie across the axes {' and '.join(axes)}; label across one of them."
            )
        if not any(example.mask.any() for example in examples):
            raise PromptError("UniverSeg needs an example: label the structure on at least one slice.")
        grid = SliceGrid.across(self.volume, self.frame, examples[0].array_axis, SIZE, bounds)
        return grid, dict(grid.place(example) for example in examples)

    def _range(self, grid: SliceGrid, bounds: npt.NDArray[np.float64]) -> range:
        spacing = self.frame.spacing[grid.axis]
        low, high = (np.round(bounds[:, grid.axis] / spacing, 6)).tolist()
        first = int(np.clip(np.ceil(low), 0, grid.count - 1))
        return range(first, int(np.clip(np.floor(high), first, grid.count - 1)) + 1)

    def _mask(
        self, grid: SliceGrid, first: int, logits: Array, labels: dict[int, BoolArray], cues: Cues
    ) -> tuple[Box3, BoolArray]:
        """The canonical box around the mask, and the mask in it."""
        import cc3d

        found = grid.to_voxels(logits, -_CERTAIN) > 0  # (slices, rows, columns)
        known = np.zeros_like(found)
        for index, label in labels.items():
            if first <= index < first + len(found):
                found[index - first] = known[index - first] = label
        mask = found
        if known.any():  # a box may leave out all slices that show the structure
            pieces = cc3d.connected_components(found.astype(np.uint8), connectivity=18)
            mask = np.isin(pieces, sorted(set(np.unique(pieces[known]).tolist()) - {0}))
        mask = np.moveaxis(mask, 0, grid.axis)
        offset = [0, 0, 0]
        offset[grid.axis] = first
        parts = []
        for axis in range(3):
            filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
            parts.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, 0))
        mask = mask[tuple(parts)].copy()
        z, y, x = (slice(part.start + o, part.stop + o) for part, o in zip(parts, offset, strict=True))
        for exclusion in cues.exclusions:
            along = [np.arange(p.start, p.stop) * mm for p, mm in zip((z, y, x), self.frame.spacing, strict=True)]
            mask &= ~inside_box(exclusion, np.stack(np.meshgrid(*along, indexing="ij"), axis=-1))
        return (z, y, x), mask


class _Run:
    """One prediction: the examples in memory, and slice after slice."""

    def __init__(
        self,
        model: UniverSegModel,
        grid: SliceGrid,
        labels: dict[int, BoolArray],
        cancel: CancelToken,
        progress: Progress | None,
    ) -> None:
        self.model, self.grid, self.labels, self.cancel, self.progress = model, grid, labels, cancel, progress
        self.done = 0
        self.given = {index: grid.label(mask) for index, mask in labels.items()}
        self._tell("examples", 0.0)
        images = np.stack([grid.image(index) for index in sorted(self.given)])
        masks = np.stack([self.given[index] for index in sorted(self.given)])
        with torch.inference_mode():
            self.memory: Memory = model.network.remember(self._tensor(images), self._tensor(masks))

    def within(self, wanted: range) -> dict[int, Array]:
        """Logits (size, size) of every slice of a range."""
        return {index: self._slice(index, len(wanted)) for index in wanted}

    def outward(self, policy: SlicePolicy) -> dict[int, Array]:
        """From the outermost examples with the structure in, then out until it ends, both ways."""
        shown = [index for index, mask in self.given.items() if mask.any()]
        logits = self.within(range(min(shown), max(shown) + 1))
        for steps in (range(max(shown) + 1, self.grid.count), range(min(shown) - 1, -1, -1)):
            logits.update(self._until_it_ends(iter(steps), policy))
        return logits

    def _until_it_ends(self, steps: Iterator[int], policy: SlicePolicy) -> dict[int, Array]:
        logits: dict[int, Array] = {}
        empty = 0
        for index in steps:
            logits[index] = self._slice(index, self.grid.count)
            empty = 0 if (logits[index] > 0).any() else empty + 1
            if index in self.given or empty == policy.empty_slices:  # an example out here has no structure on it
                break
        return logits

    def _slice(self, index: int, total: int) -> Array:
        self._tell("slices", min(0.95, self.done / max(total, 1)))
        self.done += 1
        if index in self.given:
            return np.where(self.given[index] > 0, np.float32(_CERTAIN), np.float32(-_CERTAIN))
        with torch.inference_mode():
            target = self._tensor(self.grid.image(index)[None])[0]
            result: Array = self.model.network.answer(target, self.memory)[0, 0].cpu().numpy()
        return result

    def _tell(self, stage: str, fraction: float) -> None:
        self.cancel.check()
        if self.progress is not None:
            self.progress(stage, fraction)

    def _tensor(self, images: Array) -> torch.Tensor:
        """(n, size, size) as (1, n, 1, size, size)."""
        return torch.from_numpy(np.ascontiguousarray(images))[None, :, None].to(self.model.device)
