# SPDX-License-Identifier: Apache-2.0
"""Prompts in RAS millimetres to points and boxes on slices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product

import numpy as np
import numpy.typing as npt

from ..cues import Cues, cues_of
from ..errors import PromptError
from ..predictor import GridBox
from ..prompts import Box, Lasso, MaskPrompt, Point, Prompt, Round, Scribble
from ..region import CanonicalFrame
from ..volume import Volume
from .plane import SlicePlane, choose_plane
from .protocol import BOX, NEGATIVE_POINT, POINT, FloatArray, SlicePrompts

Rect = tuple[float, float, float, float]
# A box not thicker than this many slices was drawn on one, and says nothing of how deep the structure is.
_FLAT = 1.5


@dataclass(frozen=True)
class Layout:
    """The prompts of a segment on the slices of one orientation.

    Attributes:
        slices: per slice with prompts, the prompts on it.
        boxes: those boxes that have a depth, in canonical mm.
        exclusions: negative boxes, in canonical mm.
        positives: canonical positions (P, 3) in mm of the positive points.
    """

    plane: SlicePlane
    slices: dict[int, SlicePrompts]
    boxes: tuple[GridBox, ...]
    exclusions: tuple[GridBox, ...]
    positives: FloatArray
    warnings: tuple[str, ...] = ()

    @property
    def depth(self) -> tuple[int, int]:
        """First and last slice that the structure may reach: those of the boxes, else of the volume."""
        if not self.boxes:
            return 0, self.plane.count - 1
        ends = np.array([_reach(box, self.plane) for box in self.boxes])
        first, last = int(np.ceil(ends[:, 0].min() - 0.5)), int(np.floor(ends[:, 1].max() + 0.5))
        return max(first, 0), min(last, self.plane.count - 1)

    def section(self, number: int) -> Rect | None:
        """The rectangle around the boxes with a depth where they cut a slice; None where no box does."""
        rects = [rect for box in self.boxes if (rect := _section(box, self.plane, number)) is not None]
        return _union(rects)

    def has_positive(self, number: int) -> bool:
        prompts = self.slices[number]
        return prompts.box is not None or bool((prompts.labels == 1).any())


def lay_out(
    rounds: Sequence[Round], volume: Volume, frame: CanonicalFrame, takes: frozenset[str], plane: SlicePlane | None
) -> Layout:
    """Checks the prompts of all rounds and brings them onto slices: of `plane`, or of the one that suits them.

    Raises PromptError as `cues_of` does, and for a lasso that the model cannot take in this orientation.
    """
    prompts = [prompt for round_ in rounds for prompt in round_]
    cues = cues_of(prompts, volume, frame)  # what is wrong with prompts is said for all of them together
    single = [(prompt, cues_of([prompt], volume, frame)) for prompt in prompts]
    if plane is None:
        plane = choose_plane(frame, _touched(single, volume, frame))
    gathered = _Gathered(plane)
    for prompt, own in single:
        match prompt:
            case Lasso():
                gathered.add_lasso(prompt, own, volume, takes)
            case Box() if prompt.positive:
                gathered.add_box(own.boxes[0])
            case _:
                gathered.add_points(own.positions, own.labels)
    positives = cues.positions[cues.labels == 1]
    return Layout(plane, gathered.slices, tuple(gathered.boxes), cues.exclusions, positives, cues.warnings)


def require_takes(round_: Round, takes: frozenset[str], name: str) -> None:
    """Raises PromptError, naming what the model takes, for a prompt that it does not."""
    for prompt in round_:
        needed: tuple[str, ...] = ()
        match prompt:
            case Point() | Scribble():
                needed = (POINT,) if prompt.positive else (NEGATIVE_POINT,)
            case Lasso():
                needed = (BOX, POINT) if prompt.positive else (NEGATIVE_POINT,)
            case Box() if prompt.positive:
                needed = (BOX,)
        if needed and not takes & set(needed):
            what = type(prompt).__name__.lower()
            sign = "" if prompt.positive else "negative "
            raise PromptError(
                f"The model {name} cannot use a {sign}{what}; it takes {_listed(takes)}. Draw a new one of these on "
                "the slice that is wrong, or choose another model."
            )


def _listed(takes: frozenset[str]) -> str:
    words = [kind for kind in (POINT, NEGATIVE_POINT, BOX) if kind in takes]
    if BOX in takes:
        words += ["lassos (as the box around them)"]
    words += ["negative boxes", "masks to start from"]
    return ", ".join(words[:-1]) + " and " + words[-1]


def _touched(single: Iterable[tuple[Prompt, Cues]], volume: Volume, frame: CanonicalFrame) -> list[int]:
    """Per canonical axis, how many slices hold a prompt; a box that is deep along an axis counts as all of them."""
    counts = []
    for axis in range(3):
        plane = SlicePlane(frame, axis)
        numbers: set[int] = set()
        deep = 0
        for prompt, cues in single:
            if isinstance(prompt, MaskPrompt):
                filled = plane.stack(prompt.array).any(axis=(1, 2))
                numbers.update(np.flatnonzero(filled).tolist())
            elif isinstance(prompt, Lasso):
                numbers.update(_numbers(plane, _lasso_positions(prompt, volume, frame)).tolist())
            else:
                numbers.update(_numbers(plane, cues.positions).tolist())
            for box in cues.boxes:
                low, high = _reach(box, plane)
                deep += high - low > _FLAT
                numbers.add(_middle(box, plane))
        counts.append(len(numbers) + deep * max(frame.shape))
    return counts


@dataclass
class _Gathered:
    plane: SlicePlane
    slices: dict[int, SlicePrompts] = field(default_factory=dict)
    boxes: list[GridBox] = field(default_factory=list)

    def add_points(self, positions: FloatArray, labels: npt.NDArray[np.int64]) -> None:
        numbers = _numbers(self.plane, positions)
        _, pixels = self.plane.locate(positions)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            known = self._at(number)
            self.slices[number] = replace(
                known,
                points=np.concatenate([known.points, pixels[here]]),
                labels=np.concatenate([known.labels, labels[here]]),
            )

    def add_box(self, box: GridBox) -> None:
        low, high = _reach(box, self.plane)
        number = _middle(box, self.plane)
        if high - low > _FLAT:
            self.boxes.append(box)
        rect = _section(box, self.plane, number)
        if rect is None:  # flat, and between two slices
            _, pixels = self.plane.locate(_corners(box))
            rect = (*pixels.min(0).tolist(), *pixels.max(0).tolist())
        self._add_rect(number, rect)

    def add_lasso(self, lasso: Lasso, cues: Cues, volume: Volume, takes: frozenset[str]) -> None:
        positions = _lasso_positions(lasso, volume, self.plane.frame)
        index, pixels = self.plane.locate(positions)
        flat = bool(index.max() - index.min() <= _FLAT)
        if lasso.positive and flat and BOX in takes:
            number = int(np.clip(np.rint(index.mean()), 0, self.plane.count - 1))
            self._add_rect(number, (*pixels.min(0).tolist(), *pixels.max(0).tolist()))
            if POINT in takes:  # the deepest point inside says which of the two sides of the outline is meant
                _, inside = self.plane.locate(cues.positions[cues.labels == 1][:1])
                known = self._at(number)
                self.slices[number] = replace(
                    known,
                    points=np.concatenate([known.points, inside]),
                    labels=np.concatenate([known.labels, np.ones(1, np.int64)]),
                )
        elif POINT in takes:
            self.add_points(cues.positions, cues.labels)
        else:
            raise PromptError(
                f"The lasso crosses {self.plane.name} slices, in which this segment was begun, and the model takes "
                f"only boxes there; draw it on one {self.plane.name} slice."
            )

    def _add_rect(self, number: int, rect: Rect) -> None:
        height, width = self.plane.geometry.shape
        r0, c0, r1, c1 = rect
        inside = (max(r0, -0.5), max(c0, -0.5), min(r1, height - 0.5), min(c1, width - 0.5))
        known = self._at(number)
        self.slices[number] = replace(known, box=_union([inside, *([known.box] if known.box else [])]))

    def _at(self, number: int) -> SlicePrompts:
        return self.slices.get(number, SlicePrompts())


def same(a: SlicePrompts | None, b: SlicePrompts | None) -> bool:
    """Whether two slices have the same prompts."""
    if a is None or b is None:
        return a is b
    return a.box == b.box and np.array_equal(a.points, b.points) and np.array_equal(a.labels, b.labels)


def _numbers(plane: SlicePlane, positions: FloatArray) -> npt.NDArray[np.int64]:
    index, _ = plane.locate(positions)
    return np.clip(np.rint(np.round(index, 6)), 0, plane.count - 1).astype(np.int64)


def _lasso_positions(lasso: Lasso, volume: Volume, frame: CanonicalFrame) -> FloatArray:
    return frame.from_kji(volume.ras_to_kji(np.array(lasso.points)))


def _corners(box: GridBox) -> FloatArray:
    signs = np.array(list(product((-1.0, 1.0), repeat=3)))
    return box.centre + (signs * box.half) @ np.linalg.inv(box.directions).T


def _reach(box: GridBox, plane: SlicePlane) -> tuple[float, float]:
    """Slice numbers, not rounded, between which a box lies."""
    index, _ = plane.locate(_corners(box))
    return float(index.min()), float(index.max())


def _middle(box: GridBox, plane: SlicePlane) -> int:
    """The slice through the middle of that part of the box that lies in the volume."""
    low, high = _reach(box, plane)
    low, high = max(low, -0.5), min(high, plane.count - 0.5)
    return int(np.clip(np.rint(round((low + high) / 2, 6)), 0, plane.count - 1))


def _section(box: GridBox, plane: SlicePlane, number: int) -> Rect | None:
    """The rectangle in pixels around the cut of a slice through a box of any direction; None where they do not meet."""
    index, pixels = plane.locate(_corners(box))
    above = index - number
    met = []
    for a, b in combinations(range(8), 2):
        if bin(a ^ b).count("1") == 1 and above[a] * above[b] <= 0:  # an edge that crosses the slice
            t = 0.0 if above[a] == above[b] else above[a] / (above[a] - above[b])
            met += [pixels[a] + t * (pixels[b] - pixels[a])]
    if not met:
        return None
    points = np.array(met)
    return (*points.min(0).tolist(), *points.max(0).tolist())


def _union(rects: Sequence[Rect]) -> Rect | None:
    if not rects:
        return None
    array = np.array(rects)
    r0, c0 = array[:, :2].min(0).tolist()
    r1, c1 = array[:, 2:].max(0).tolist()
    return r0, c0, r1, c1
