# SPDX-License-Identifier: Apache-2.0
"""VISTA3D behind the session: a name first, clicks after it, or clicks alone.

- A name (`TextPrompt`) is segmented throughout the volume, by windows that slide.
- Clicks refine what is there, in windows around the new ones: what they change is what hangs together with them.
- Clicks without a name, or with the name "other", draw a structure from nothing, and what does not hang together with
  a positive one is dropped.
- A name that is changed later starts anew, and all clicks so far are applied to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ...cues import Cues, cues_of, inside_box
from ...errors import PromptError
from ...predictor import Array, CancelToken, Embedding, EmbeddingCache, Progress
from ...prompts import MaskPrompt, Round, TextPrompt
from ...region import Box3, CanonicalFrame
from ...segmenter import Prediction
from ...volume import Volume
from ..canonical import array_axes
from .classes import SPECIAL, Structure, find
from .grid import Grid
from .inference import Inference, hull

BoolArray = npt.NDArray[np.bool_]
_GIVEN_LOGIT = 4.0  # of a mask that was given


@dataclass(frozen=True, kw_only=True)
class VistaPrediction(Prediction):
    """A prediction with what the next round goes on from.

    Attributes:
        structure: what was asked for by name.
        logits: (x, y, z) on the grid, finite.
        seen: the part of the grid that the network looked at.
    """

    structure: Structure | None
    logits: Array
    seen: Box3


class Vista3dSegmenter:
    """Applies the network to one volume (see `Segmenter`)."""

    def __init__(self, volume: Volume, inference: Inference, cache: EmbeddingCache) -> None:
        self.volume = volume
        self.inference = inference
        self.cache = cache
        self.frame = CanonicalFrame.of(volume)
        self.grid = Grid.of(self.frame)

    @cached_property
    def _image(self) -> Array:
        return self.grid.image(self.volume)

    def _resampled(self, run: _Run) -> Array:
        with run.stage("resample"):
            return self._image

    def predict(
        self,
        rounds: tuple[Round, ...],
        previous: Prediction | None,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
    ) -> VistaPrediction:
        """See `Segmenter`. Cancelling and progress are looked after before every window."""
        assert previous is None or isinstance(previous, VistaPrediction)
        run = _Run(cancel or CancelToken(), progress)
        structure = _named(rounds)
        cues, before = self._cues(rounds), len(self._cues(rounds[:-1]).positions)
        if cues.boxes:
            raise PromptError("VISTA3D takes names and clicks; use a click inside the structure in place of the box.")
        x, y, z = (slice(0, length) for length in self.grid.shape)
        logits: Array | None = None
        seen: Box3 | None = None
        first = before
        if masks := [prompt.array for prompt in rounds[-1] if isinstance(prompt, MaskPrompt) and prompt.positive]:
            given = self.grid.mask(np.logical_or.reduce(masks))
            logits = np.where(given, np.float32(_GIVEN_LOGIT), np.float32(-_GIVEN_LOGIT))
            seen = (x, y, z)
        elif structure is not None and structure.classes and (previous is None or previous.structure != structure):
            logits, seen, first = self._automatic(structure, run), (x, y, z), 0
        elif previous is not None and previous.structure in (None, structure):
            logits, seen = previous.logits, previous.seen
        elif previous is not None:  # another name, of nothing that is found by itself: all clicks count anew
            first = 0
        if logits is None and not cues.has_positive:
            raise PromptError(
                "There is nothing to start from; give the name of a structure, or click on it with a positive click."
            )
        if len(cues.positions) > first:
            logits, looked = self._clicked(structure, cues, logits, first, run)
            seen = looked if seen is None else hull([seen, looked])
        assert logits is not None and seen is not None
        with run.stage("voxels"):
            box, mask = self._voxels(cues, logits, drawn=structure is None or not structure.classes)
        return VistaPrediction(
            predicted_iou=None,
            box=box,
            mask=mask,
            region_box=self.frame.array_box(self.grid.voxel_box(seen)),
            warnings=(*cues.warnings, *self._warnings(structure, mask)),
            timings=run.timings,
            structure=structure,
            logits=logits,
            seen=seen,
        )

    def uncertainty(self, prediction: Prediction) -> Array:
        """1 - |2p - 1| per voxel of the prediction's `region_box`, (k, j, i), for the model's probability p."""
        assert isinstance(prediction, VistaPrediction)
        logits = self.grid.voxels(prediction.logits, self.grid.voxel_box(prediction.seen))
        return array_axes(1 - np.abs(np.tanh(logits / 2)), self.frame)

    def _cues(self, rounds: tuple[Round, ...]) -> Cues:
        prompts = [prompt for round_ in rounds for prompt in round_ if not isinstance(prompt, TextPrompt)]
        return cues_of(prompts, self.volume, self.frame)

    def _automatic(self, structure: Structure, run: _Run) -> Array:
        def segment() -> Embedding:
            image = self._resampled(run)
            with run.stage("segment"):
                logits = self.inference.named(image, structure.classes, run.cancel, run.told("segment"))
            return Embedding({"logits": logits})

        return self.cache.get(("vista3d", structure.classes), segment).tensors["logits"].astype(np.float32)

    def _clicked(
        self, structure: Structure | None, cues: Cues, logits: Array | None, first: int, run: _Run
    ) -> tuple[Array, Box3]:
        coords = np.clip(self.grid.place(cues.positions), 0, np.array(self.grid.shape) - 1)
        labels = cues.labels
        prompt_class = None if structure is None else structure.prompt_class
        if prompt_class in SPECIAL:
            labels = labels + 2
        image = self._resampled(run)
        with run.stage("clicks"):
            return self.inference.clicked(
                image, coords, labels, prompt_class, logits, first, run.cancel, run.told("clicks")
            )

    def _voxels(self, cues: Cues, logits: Array, drawn: bool) -> tuple[Box3, BoolArray]:
        mask = logits > 0
        if drawn:
            kept = _touched(mask, self.grid.place(cues.positions[cues.labels == 1]))
            logits = np.where(mask & ~kept, np.float32(-_GIVEN_LOGIT), logits)
            mask = kept
        nothing = (slice(0, 0), slice(0, 0), slice(0, 0))
        bounds = _bounds(mask)
        if bounds is None:
            return nothing, np.zeros((0, 0, 0), dtype=bool)
        # Between a grid point inside and one outside the border may lie anywhere.
        reach = [slice(max(side.start - 1, 0), side.stop + 1) for side in bounds]
        box = self.grid.voxel_box((reach[0], reach[1], reach[2]))
        inside = self.grid.voxels(logits, box) > 0
        axes = [np.arange(side.start, side.stop) * mm for side, mm in zip(box, self.frame.spacing, strict=True)]
        for exclusion in cues.exclusions:
            for z, height in enumerate(axes[0]):  # by plane, to spare memory
                plane = np.stack(np.meshgrid([height], axes[1], axes[2], indexing="ij"), axis=-1)[0]
                inside[z] &= ~inside_box(exclusion, plane)
        return self.frame.array_box(box), array_axes(inside, self.frame)

    def _warnings(self, structure: Structure | None, mask: BoolArray) -> Iterator[str]:
        modality = self.volume.modality
        if modality not in (None, "CT"):
            yield f"VISTA3D knows CT only; on {modality} its result means nothing unless you see that it is right."
        elif modality is None and float(self.volume.array.min()) > -500:
            yield "VISTA3D knows CT only, and this volume has no air as a CT has; look at the result with care."
        if not mask.any():
            name = "the structure at the clicks" if structure is None else structure.name
            yield f"VISTA3D found nothing of {name} in this volume."


class _Run:
    """One prediction: its stages, their timings, and the places where it can be cancelled."""

    def __init__(self, cancel: CancelToken, progress: Progress | None) -> None:
        self.cancel, self.progress = cancel, progress
        self.timings: dict[str, float] = {}
        self.share = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.cancel.check()
        self._tell(name)
        start = time.perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def told(self, name: str) -> _Told:
        return _Told(self, name)

    def _tell(self, name: str) -> None:
        if self.progress is not None:
            self.progress(name, self.share)


@dataclass(frozen=True)
class _Told:
    """Progress within a stage: the first of possibly two takes the larger part of the time."""

    run: _Run
    name: str

    def __call__(self, share: float) -> None:
        low, high = (0.02, 0.8) if self.name == "segment" else (0.8, 0.95)
        self.run.share = max(self.run.share, low + share * (high - low))
        self.run._tell(self.name)


def _named(rounds: tuple[Round, ...]) -> Structure | None:
    """The structure that was named last."""
    texts = [prompt for round_ in rounds for prompt in round_ if isinstance(prompt, TextPrompt)]
    if any(not text.positive for text in texts):
        raise PromptError("A name says what the structure is; remove the negative name, and click where it is not.")
    if len({find(prompt.text) for prompt in rounds[-1] if isinstance(prompt, TextPrompt)}) > 1:
        raise PromptError("A segment is one structure; give each name a segment of its own.")
    return find(texts[-1].text) if texts else None


def _touched(mask: BoolArray, coords: npt.NDArray[np.float64]) -> BoolArray:
    """The components (neighbours by corners, as in the original) in which points (P, 3) lie."""
    import cc3d

    labels = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    index = np.clip(np.rint(coords).astype(int), 0, np.array(mask.shape) - 1)
    return np.isin(labels, sorted(set(labels[tuple(index.T)].tolist()) - {0}))


def _bounds(mask: BoolArray) -> Box3 | None:
    sides = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if len(filled) == 0:
            return None
        sides.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return sides[0], sides[1], sides[2]
