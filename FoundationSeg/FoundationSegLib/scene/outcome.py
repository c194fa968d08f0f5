# SPDX-License-Identifier: Apache-2.0
"""From the predictions of a segment's rounds to the voxels that the segment is to have, with hand edits kept exact.

A model gives a mask back coarser than it got it. A hand edit must not be lost by that, so a round that is nothing but
the edited mask M counts as M itself, to the voxel. From there on only those voxels change in which the model changes
its mind: with P the model's rendering of M and Q its mask after the rounds that follow, the segment is Q where P and Q
differ, and M elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..prompts import MaskPrompt, Round
from ..region import Box3
from ..segmenter import Prediction
from .rounds import last_hand_edit

Mask = npt.NDArray[np.bool_]

NOTHING: Box3 = (slice(0, 0), slice(0, 0), slice(0, 0))
_TOUCH = 0.01  # share of a region's face in the mask from which the structure is thought to go on, as in RegionPolicy


@dataclass(frozen=True)
class Patch:
    """A mask, bool (k, j, i), in its box; nothing outside."""

    box: Box3
    mask: Mask

    def within(self, box: Box3) -> Mask:
        """The mask in another box."""
        result = np.zeros([part.stop - part.start for part in box], dtype=bool)
        common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.box, box, strict=True)]
        if all(low < high for low, high in common):
            target = tuple(slice(low - b.start, high - b.start) for (low, high), b in zip(common, box, strict=True))
            source = tuple(
                slice(low - a.start, high - a.start) for (low, high), a in zip(common, self.box, strict=True)
            )
            result[target] = self.mask[source]
        return result


EMPTY = Patch(NOTHING, np.zeros((0, 0, 0), dtype=bool))


def patch_of(prediction: Prediction | None) -> Patch:
    return EMPTY if prediction is None else Patch(prediction.box, prediction.mask)


def patch_of_mask(mask: Mask) -> Patch:
    """The part of a mask (k, j, i) that has voxels set."""
    box = tight(mask)
    return EMPTY if box is None else Patch(box, mask[box])


def outcome(rounds: Sequence[Round], predictions: Sequence[Prediction]) -> Patch:
    """The voxels of a segment after all of its rounds; see the module."""
    if not rounds:
        return EMPTY
    edit = last_hand_edit(tuple(rounds))
    last = patch_of(predictions[-1])
    if edit is None:
        return last
    (prompt,) = rounds[edit]
    assert isinstance(prompt, MaskPrompt)
    drawn, rendered = patch_of_mask(prompt.array), patch_of(predictions[edit])
    box = hull(drawn.box, rendered.box, last.box)
    new = last.within(box)
    return Patch(box, np.where(rendered.within(box) != new, new, drawn.within(box)))


def merged(current: Mask, box: Box3, before: Patch, after: Patch) -> Mask:
    """`current` (the segment in `box`) with the changes from one patch to another; hand edits elsewhere stay."""
    old, new = before.within(box), after.within(box)
    return (current & ~(old & ~new)) | (new & ~old)


def hull(*boxes: Box3) -> Box3:
    """The smallest box around all of them; empty ones do not count."""
    filled = [box for box in boxes if all(part.start < part.stop for part in box)]
    if not filled:
        return NOTHING
    k, j, i = (slice(min(b[n].start for b in filled), max(b[n].stop for b in filled)) for n in range(3))
    return k, j, i


def is_empty(box: Box3) -> bool:
    return any(part.start >= part.stop for part in box)


def tight(mask: Mask) -> Box3 | None:
    """The smallest slices around the voxels that are set; None without any."""
    parts: list[slice] = []
    for _ in range(3):
        # One axis after the other, in what is left: the first look is the only one at everything.
        filled = np.flatnonzero(mask.any(axis=(1, 2)))
        if len(filled) == 0:
            return None
        parts.append(slice(int(filled[0]), int(filled[-1]) + 1))
        mask = mask[parts[-1]].transpose(1, 2, 0)
    k, j, i = parts
    return k, j, i


def shifted(inner: Box3, outer: Box3) -> Box3:
    """A box that is given relative to the corner of `outer`, in the frame of `outer`."""
    k, j, i = (slice(a.start + b.start, a.stop + b.start) for a, b in zip(inner, outer, strict=True))
    return k, j, i


def touches_face(prediction: Prediction, shape: tuple[int, int, int]) -> bool:
    """Whether the mask reaches a face of what the model looked at, beyond which the volume goes on."""
    for axis in range(3):
        region, box = prediction.region_box[axis], prediction.box[axis]
        others = [prediction.region_box[a] for a in range(3) if a != axis]
        area = max(1, int(np.prod([part.stop - part.start for part in others])))
        for at_end, open_beyond in ((0, region.start > 0), (-1, region.stop < shape[axis])):
            meets = box.start <= region.start if at_end == 0 else box.stop >= region.stop
            face = prediction.mask.take([at_end] if open_beyond and meets and prediction.mask.size else [], axis)
            if np.count_nonzero(face) > _TOUCH * area:
                return True
    return False
