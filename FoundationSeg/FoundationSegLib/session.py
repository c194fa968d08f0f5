# SPDX-License-Identifier: Apache-2.0
"""The one interface to interactive segmentation: prompts in, masks out, with undo, redo and provenance."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import __version__
from .catalogue import load_model
from .errors import FoundationSegError, PromptError
from .predictor import CancelToken, EmbeddingCache, Progress
from .prompts import Prompt, Round, rounds_to_list
from .region import Box3
from .segmentation_io import SegmentRecord, write_segmentation
from .segmenter import Model, Prediction
from .terminology import lookup
from .volume import Volume

PROMPTS_TAG = "FoundationSeg.Prompts"
PROVENANCE_TAG = "FoundationSeg.Provenance"


@dataclass(frozen=True)
class Result:
    """What one call changed.

    Attributes:
        segment: its name.
        box: slices (k, j, i) around all voxels that changed; empty slices when none did.
        region_box: slices (k, j, i) of the tissue that the model looked at.
        voxels, volume_ml: size of the segment now.
        predicted_iou: the model's own estimate of the overlap with what was meant, in [0, 1]; None without one.
        timings: seconds per stage.
        warnings: sentences for the user.
    """

    segment: str
    box: Box3
    region_box: Box3
    voxels: int
    volume_ml: float
    predicted_iou: float | None
    timings: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass
class History:
    """The rounds of a segment with what each led to; everything from `done` on was undone and can be redone."""

    rounds: list[Round] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    done: int = 0

    @property
    def current(self) -> Prediction | None:
        return self.predictions[self.done - 1] if self.done else None


class SegmentationSession:
    """Segments of one volume, made from prompts by one model.

    >>> session = SegmentationSession(Volume.read("ct.nrrd"))
    >>> result = session.add("Left kidney", Point((60.0, -30.0, 120.0)))
    >>> mask = session.mask("Left kidney")  # bool (k, j, i)

    A failed or cancelled call leaves every segment as it was. Not thread-safe; `CancelToken.cancel` may be called from
    any thread.
    """

    def __init__(self, volume: Volume, model: str | Model = "compact", device: str = "auto") -> None:
        """`model` is the name of a card, or a model that is loaded already.

        Raises ModelError if the model is unknown, absent or damaged, or the device not available.
        """
        self.volume = volume
        self.model = load_model(model, device) if isinstance(model, str) else model
        self.cache = EmbeddingCache()
        self._segmenter = self.model.segmenter(volume, self.cache)
        self._histories: dict[str, History] = {}

    def add(
        self, segment: str, *prompts: Prompt, cancel: CancelToken | None = None, progress: Progress | None = None
    ) -> Result:
        """Refines a segment (new names begin one) with prompts that are given together.

        `progress` is called with the stage's name and a fraction in [0, 1]. Raises PromptError for prompts that cannot
        be used, Cancelled after `cancel.cancel()`.
        """
        if not prompts:
            raise PromptError("No prompt was given; add at least one point, box, scribble, lasso or mask.")
        history = self._histories.get(segment, History())
        rounds = (*history.rounds[: history.done], tuple(prompts))
        before = history.current
        after = self._segmenter.predict(rounds, before, cancel, progress)
        self._histories[segment] = History(list(rounds), [*history.predictions[: history.done], after], len(rounds))
        if progress is not None:
            progress("done", 1.0)
        return self._result(segment, before, after)

    def undo(self, segment: str) -> Result | None:
        """Takes the last round back; None if there is none."""
        history = self._histories.get(segment)
        if history is None or history.done == 0:
            return None
        before = history.current
        history.done -= 1
        return self._result(segment, before, history.current)

    def redo(self, segment: str) -> Result | None:
        """Brings back the round that was undone last; None if there is none."""
        history = self._histories.get(segment)
        if history is None or history.done == len(history.predictions):
            return None
        before = history.current
        history.done += 1
        return self._result(segment, before, history.current)

    def reset(self, segment: str) -> Result | None:
        """Takes all rounds back (redo brings them again); None if there are none."""
        history = self._histories.get(segment)
        if history is None or history.done == 0:
            return None
        before = history.current
        history.done = 0
        return self._result(segment, before, None)

    def remove(self, segment: str) -> None:
        """Forgets a segment and its history."""
        self._histories.pop(segment, None)

    def replay(self, segment: str, rounds: Sequence[Round], cancel: CancelToken | None = None) -> Result:
        """Makes a segment anew from stored rounds; with the same model and volume the result is the same to the bit."""
        if not rounds:
            raise PromptError("There are no rounds of prompts to replay.")
        self.remove(segment)
        for round_ in rounds:
            result = self.add(segment, *round_, cancel=cancel)
        return result

    def segments(self) -> list[str]:
        """Names in the order in which the segments were begun."""
        return list(self._histories)

    def rounds(self, segment: str) -> tuple[Round, ...]:
        """The prompts that are in force, round by round."""
        history = self._known(segment)
        return tuple(history.rounds[: history.done])

    def mask(self, segment: str) -> npt.NDArray[np.bool_]:
        """bool (k, j, i), the volume's shape."""
        full = np.zeros(self.volume.shape, dtype=bool)
        if (prediction := self._known(segment).current) is not None:
            full[prediction.box] = prediction.mask
        return full

    def predictions(self, segment: str) -> tuple[Prediction, ...]:
        """What each of the rounds in force led to: masks in their boxes, quality, warnings. Do not change them."""
        history = self._known(segment)
        return tuple(history.predictions[: history.done])

    def uncertainty(self, segment: str) -> npt.NDArray[np.float32]:
        """float32 in [0, 1] per voxel of the segment's `region_box`, (k, j, i).

        1 - |2p - 1| for the model's probability p of belonging to the structure: 1 where it could be either, near 0
        where the model is sure. It says where to look, not how often the model errs there.
        """
        prediction = self._known(segment).current
        return np.zeros((0, 0, 0), np.float32) if prediction is None else self._segmenter.uncertainty(prediction)

    def provenance(self, segment: str) -> dict[str, Any]:
        """Where the segment came from, fit for JSON. Holds no name, path or identifier of a patient."""
        identity = self.model.identity
        prediction = self._known(segment).current
        return {
            "software": f"FoundationSeg {__version__}",
            "model": identity.name,
            "revision": identity.revision,
            "sha256": identity.sha256,
            "device": identity.device,
            "precision": identity.precision,
            "versions": {"python": platform.python_version(), "numpy": np.__version__, **identity.versions},
            "volume": self.volume.fingerprint,
            "predicted_iou": None if prediction is None else prediction.predicted_iou,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def tags(self, segment: str) -> dict[str, str]:
        """What is stored with the segment in files and scenes: prompts, provenance, DICOM's tags."""
        identity = self.model.identity
        return {
            PROMPTS_TAG: json.dumps(rounds_to_list(self.rounds(segment))),
            PROVENANCE_TAG: json.dumps(self.provenance(segment)),
            "DICOM.SegmentAlgorithmType": "SEMIAUTOMATIC",
            "DICOM.SegmentAlgorithmName": f"FoundationSeg {identity.name} {identity.revision}",
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes all segments as `.seg.nrrd`. Raises OutputError; an older file stays until the new one is whole."""
        if not self._histories:
            raise FoundationSegError("There is no segment to save; add prompts first.")
        return write_segmentation(path, self.volume, [self._record(name) for name in self._histories])

    def _record(self, segment: str) -> SegmentRecord:
        term = lookup(segment)
        return SegmentRecord(
            name=segment,
            mask=self.mask(segment),
            color=term.color if term is not None else None,
            terminology=term.entry if term is not None else None,
            tags=self.tags(segment),
        )

    def _known(self, segment: str) -> History:
        try:
            return self._histories[segment]
        except KeyError:
            raise FoundationSegError(f"There is no segment {segment!r}; there are {self.segments()}.") from None

    def _result(self, segment: str, before: Prediction | None, after: Prediction | None) -> Result:
        voxels = 0 if after is None else int(after.mask.sum())
        nothing = (slice(0, 0),) * 3
        return Result(
            segment=segment,
            box=changed_box(before, after),
            region_box=nothing if after is None else after.region_box,
            voxels=voxels,
            volume_ml=voxels * self.volume.voxel_volume_ml,
            predicted_iou=None if after is None else after.predicted_iou,
            timings={} if after is None else after.timings,
            warnings=() if after is None else after.warnings,
        )


def changed_box(before: Prediction | None, after: Prediction | None) -> Box3:
    """The smallest slices (k, j, i) around the voxels in which two predictions differ."""
    predictions = [p for p in (before, after) if p is not None]
    if not predictions:
        return (slice(0, 0),) * 3
    hull = [(min(p.box[a].start for p in predictions), max(p.box[a].stop for p in predictions)) for a in range(3)]
    changed = np.zeros([stop - start for start, stop in hull], dtype=bool)
    for prediction in predictions:
        window = tuple(
            slice(b.start - start, b.stop - start) for b, (start, _) in zip(prediction.box, hull, strict=True)
        )
        changed[window] ^= prediction.mask
    slices = []
    for axis, (start, _) in enumerate(hull):
        filled = np.flatnonzero(changed.any(axis=tuple(a for a in range(3) if a != axis)))
        if len(filled) == 0:
            return (slice(0, 0),) * 3
        slices.append(slice(start + int(filled[0]), start + int(filled[-1]) + 1))
    return slices[0], slices[1], slices[2]
