# SPDX-License-Identifier: Apache-2.0
"""From slice to slice: beyond prompted slices until the structure ends, between them until the two sides meet.

Slices with prompts are *anchors*. They cut the volume into gaps, and only gaps beside an anchor that is new or changed
are worked on: a correction reaches no further than to the next prompted slices, and half-way where that one stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np

from ..predictor import Array
from .judge import SpreadPolicy, Tissue, Verdict, between, judge, overlap
from .layout import Rect
from .plane import bounds_of
from .protocol import BoolArray, Grey


@dataclass(frozen=True, eq=False)
class SliceState:
    """What is known of a slice; immutable and shared by all rounds that leave it alone.

    `guessed`: the mask was made from its neighbours, not by the model.
    """

    logits: Array
    bits: np.ndarray[tuple[int], np.dtype[np.uint8]]
    shape: tuple[int, int]
    predicted_iou: float | None
    guessed: bool = False

    @classmethod
    def of(cls, logits: Array, mask: BoolArray, predicted_iou: float | None, guessed: bool = False) -> SliceState:
        return cls(logits, np.packbits(mask), (mask.shape[0], mask.shape[1]), predicted_iou, guessed)

    @property
    def mask(self) -> BoolArray:
        """bool (h, w)."""
        count = self.shape[0] * self.shape[1]
        return np.unpackbits(self.bits, count=count).view(bool).reshape(self.shape)

    @property
    def filled(self) -> bool:
        return bool(self.bits.any())


class SliceDecoder(Protocol):
    """What spreading needs of the model and the volume."""

    @property
    def uses_masks(self) -> bool: ...

    def grey(self, number: int) -> Grey: ...

    def follow(self, number: int, neighbour: SliceState, box: Rect, with_mask: bool) -> SliceState:
        """The slice decoded with the box, the prompts on it, and, `with_mask`, the neighbour's logits."""

    def guess(self, mask: BoolArray) -> SliceState:
        """A state for a mask that the model did not make."""

    def section(self, number: int) -> Rect | None:
        """Where the boxes of the prompts cut the slice."""


@dataclass
class Spreading:
    """One round's work: `states` is filled slice by slice.

    Attributes:
        anchors: the numbers of all prompted slices; `fresh` those that this round changed.
        limits: first and last slice that may be reached.
        resting: anchors beyond which nothing spreads (those of a mask that was given).
    """

    decoder: SliceDecoder
    policy: SpreadPolicy
    states: dict[int, SliceState]
    anchors: frozenset[int]
    fresh: frozenset[int]
    limits: tuple[int, int]
    resting: frozenset[int]
    old: Mapping[int, SliceState] = field(init=False)
    cut_short: bool = False

    def __post_init__(self) -> None:
        self.old = dict(self.states)

    def run(self) -> dict[int, SliceState]:
        """The states of all slices that belong to the segment now."""
        ordered = sorted(self.anchors)
        for lower, upper in pairwise(ordered):
            if {lower, upper} & self.fresh and upper - lower > 1:
                self._between(lower, upper)
        if ordered[0] in self.fresh:
            self._beyond(ordered[0], -1)
        if ordered[-1] in self.fresh:
            self._beyond(ordered[-1], 1)
        first, last = self.limits
        return {n: s for n, s in sorted(self.states.items()) if n in self.anchors or first <= n <= last}

    def _beyond(self, anchor: int, step: int) -> None:
        """From the outermost anchor until the structure ends, or is again what it was in the round before."""
        stop = self.limits[0] - 1 if step < 0 else self.limits[1] + 1
        old = {number: state for number, state in self.states.items() if (number - anchor) * step > 0}
        for number in old:
            del self.states[number]
        if not self.states[anchor].filled or anchor in self.resting:
            return
        last = self._chain(anchor, step, stop, old)
        if last is not None:  # from here on the round before would come again
            self.states.update({n: s for n, s in old.items() if (n - last) * step > 0})

    def _between(self, lower: int, upper: int) -> None:
        """Each anchor owns the nearer half of the gap; an empty one empties its half."""
        middle = (lower + upper) // 2  # the last slice of the lower half
        halves = ((lower, 1, range(lower + 1, middle + 1)), (upper, -1, range(upper - 1, middle, -1)))
        both = self.states[lower].filled and self.states[upper].filled
        for anchor, step, half in halves:
            if not self.states[anchor].filled:
                for number in half:
                    self.states.pop(number, None)
            elif anchor in self.fresh or both:
                kept = anchor
                if anchor in self.fresh:
                    for number in half:
                        self.states.pop(number, None)
                else:  # what is there stays; what is missing is filled
                    while kept + step in half and kept + step in self.states:
                        kept += step
                if both:
                    self._bridge(kept, step, half, lower, upper)
                else:
                    self._chain(anchor, step, half.stop, {})

    def _bridge(self, start: int, step: int, half: range, lower: int, upper: int) -> None:
        """Towards the middle of a gap between two filled anchors: there is no end, and doubt is settled by both."""
        low, high = self.states[lower].mask, self.states[upper].mask
        reference = self._tissue(lower if step > 0 else upper)
        previous = self.states[start]
        for number in half:
            if (number - start) * step <= 0:
                continue
            shape = between(low, high, (number - lower) / (upper - lower))
            expected = bounds_of(shape) or bounds_of(previous.mask)
            assert expected is not None  # an anchor that is not empty has bounds
            state, verdict = self._step(number, previous, reference, self._enlarged(expected))
            doubtful = verdict is not Verdict.GOOD and overlap(state.mask, shape) < self.policy.inside
            if doubtful or verdict is Verdict.ENDED:
                state = self.decoder.guess(shape if shape.any() else previous.mask)
            self.states[number] = previous = state

    def _chain(self, anchor: int, step: int, stop: int, old: Mapping[int, SliceState]) -> int | None:
        """Slice by slice up to `stop` (not included).

        Returns the slice at which the masks were again those of `old`; None if the structure or the slices ended.
        """
        reference = self._tissue(anchor)
        previous, same = self.states[anchor], 0
        doubtful: list[tuple[int, SliceState, Verdict]] = []
        for number in range(anchor + step, stop, step):
            if self.policy.most_slices is not None and abs(number - anchor) > self.policy.most_slices:
                self.cut_short = True
                break
            box = bounds_of(previous.mask)
            assert box is not None  # a chain goes on from filled slices only
            state, verdict = self._step(number, previous, reference, self._enlarged(box))
            if verdict is Verdict.GOOD:
                self._settle_doubts(doubtful, previous, state)
                doubtful = []
                self.states[number] = previous = state
                before = old.get(number)
                same = same + 1 if before is not None and overlap(before.mask, state.mask) >= self.policy.settled else 0
                if same == 2:
                    return number
            elif verdict is Verdict.ENDED or len(doubtful) == self.policy.most_bad:
                if verdict is Verdict.SHRUNK:
                    doubtful.append((number, state, verdict))
                break
            else:
                doubtful.append((number, state, verdict))
        for number, state, verdict in doubtful:  # a tip is small; anything else behind the last good slice goes
            if verdict is not Verdict.SHRUNK:
                break
            self.states[number] = state
        return None

    def _settle_doubts(
        self, doubtful: list[tuple[int, SliceState, Verdict]], before: SliceState, after: SliceState
    ) -> None:
        """The structure went on behind slices that looked wrong: they were, and become what lies between."""
        for place, (number, _, _) in enumerate(doubtful, 1):
            shape = between(before.mask, after.mask, place / (len(doubtful) + 1))
            self.states[number] = self.decoder.guess(shape if shape.any() else after.mask)

    def _step(self, number: int, previous: SliceState, reference: Tissue, box: Rect) -> tuple[SliceState, Verdict]:
        """One slice from its neighbour; without the neighbour's logits where those lead astray."""
        allowed = self.decoder.section(number)
        if allowed is not None:
            box = _intersection(box, allowed) or allowed
        grey, neighbour = self.decoder.grey(number), previous.mask
        state = self.decoder.follow(number, previous, box, with_mask=True)
        verdict = judge(state.mask, state.predicted_iou, neighbour, grey, reference, self.policy)
        if verdict in (Verdict.BAD, Verdict.ENDED) and self.decoder.uses_masks:
            again = self.decoder.follow(number, previous, box, with_mask=False)
            second = judge(again.mask, again.predicted_iou, neighbour, grey, reference, self.policy)
            if second not in (Verdict.BAD, Verdict.ENDED):
                return again, second
        return state, verdict

    def _tissue(self, anchor: int) -> Tissue:
        return Tissue.of(self.decoder.grey(anchor), self.states[anchor].mask)

    def _enlarged(self, box: Rect) -> Rect:
        r0, c0, r1, c1 = box
        rows = max(self.policy.margin * (r1 - r0), self.policy.least_margin)
        columns = max(self.policy.margin * (c1 - c0), self.policy.least_margin)
        return r0 - rows, c0 - columns, r1 + rows, c1 + columns


def _intersection(a: Rect, b: Rect) -> Rect | None:
    r0, c0, r1, c1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (r0, c0, r1, c1) if r0 < r1 and c0 < c1 else None
