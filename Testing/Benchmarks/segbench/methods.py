# SPDX-License-Identifier: Apache-2.0
"""One interface for all that is compared: the project's own models through the public calls, and the peers."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from . import baselines
from .metrics import BoolArray
from .regions import FloatArray

if TYPE_CHECKING:
    from FoundationSegLib.volume import Volume

OWN = ("compact",)
PEERS = ("grow-from-seeds", "random-walker", "region-growing")
REFERENCES = ("balls-15mm", "box")
NAMES = OWN + PEERS + REFERENCES
_NEEDS = {
    "compact": ("FoundationSegLib", "onnxruntime"),
    "grow-from-seeds": ("slicer_core",),
    "random-walker": ("skimage",),
    "region-growing": ("skimage", "SimpleITK"),
}


class Method(Protocol):
    """A way to segment from prompts. `open` once per volume; `begin` once per target; then prompts, one at a time."""

    name: str
    needs_box: bool
    cacheable: bool

    def settings(self) -> dict[str, Any]: ...
    def open(self, volume: Volume) -> None: ...
    def begin(self) -> None: ...
    def box(self, low: FloatArray, high: FloatArray) -> BoolArray: ...
    def click(self, ras: FloatArray, positive: bool) -> BoolArray: ...
    def stroke(self, points: FloatArray, positive: bool) -> BoolArray: ...
    def predicted_iou(self) -> float | None: ...
    def end(self) -> None: ...


class OwnModel:
    """A model of this project, used exactly as a script would: `SegmentationSession`, `add`, `mask`."""

    needs_box = False
    # Weights, runtime and package change between runs: what is being judged is measured every time.
    cacheable = False

    def __init__(self, name: str, model: Any = None) -> None:
        """A model of the catalogue, or with `model` one that is loaded already and only goes by this name."""
        self.name = name
        self._model = name if model is None else model
        self._expected: float | None = None
        self._session: Any = None
        self._number = 0
        self._provenance: dict[str, Any] = {}

    def settings(self) -> dict[str, Any]:
        """Model, revision, checksum, device, precision, as the session's own provenance says (after the first mask)."""
        return {"model": self.name, **self._provenance}

    def open(self, volume: Volume) -> None:
        from FoundationSegLib import SegmentationSession

        self._session = SegmentationSession(volume, model=self._model)

    @property
    def _segment(self) -> str:
        return f"target {self._number}"

    def begin(self) -> None:
        self._number += 1

    def _add(self, prompt: Any) -> BoolArray:
        self._expected = self._session.add(self._segment, prompt).predicted_iou
        mask = np.asarray(self._session.mask(self._segment))
        if not self._provenance:
            said = self._session.provenance(self._segment)
            # Only what tells which model this was: no prompts, no volume, no time.
            keys = ("model", "revision", "sha256", "device", "precision", "software", "versions")
            self._provenance = {key: said[key] for key in keys if key in said}
        return mask

    def box(self, low: FloatArray, high: FloatArray) -> BoolArray:
        from FoundationSegLib import Box

        return self._add(Box(ras_min=_vector(low), ras_max=_vector(high)))

    def click(self, ras: FloatArray, positive: bool) -> BoolArray:
        from FoundationSegLib import Point

        return self._add(Point(ras=_vector(ras), positive=positive))

    def stroke(self, points: FloatArray, positive: bool) -> BoolArray:
        from FoundationSegLib import Scribble

        return self._add(Scribble(points=tuple(_vector(point) for point in points), positive=positive))

    def predicted_iou(self) -> float | None:
        """The IoU with what was meant that the model expected of the mask it gave last."""
        return self._expected

    def end(self) -> None:
        if self._segment in self._session.segments():
            self._session.remove(self._segment)


def _vector(values: FloatArray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def missing(name: str) -> str | None:
    """Why a method cannot run here, as a sentence; None when it can."""
    lacking = [package for package in _NEEDS.get(name, ()) if importlib.util.find_spec(package) is None]
    if not lacking:
        return None
    return f"{name} needs {' and '.join(lacking)}, which cannot be imported here"


def make(name: str) -> Method:
    """The method of that name; any name that is no peer's is taken for a model of the project's catalogue."""
    function = baselines.BASELINES.get(name)
    return baselines.Peer(name, function) if function is not None else OwnModel(name)
