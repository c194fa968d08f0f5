# SPDX-License-Identifier: Apache-2.0
"""Whether the mask of a slice goes on from that of its neighbour, or the structure has ended, or the model has erred.

A 2-D model finds something in every box it is given. So the end of a structure is not seen by the model but by this
comparison: with the neighbour's mask (a structure does not jump, nor double in size from one slice to the next) and
with the tissue of the prompted slice (what lies behind the end of an organ looks different).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from .protocol import BoolArray, Grey


class Verdict(Enum):
    """What a candidate is."""

    GOOD = "good"
    SHRUNK = "shrunk"  # in the right place, but much smaller: a tip, or an error
    BAD = "bad"
    ENDED = "ended"


@dataclass(frozen=True)
class SpreadPolicy:
    """How masks spread from slice to slice. Areas are pixels, grey values 0 to 255."""

    inside: float = 0.6  # share of the smaller of two neighbouring masks that lies in the larger
    grow: float = 1.8  # largest ratio of a mask's area to its neighbour's
    slack: float = 30.0  # pixels that any mask may grow by
    shrink: float = 0.3  # smallest ratio that is believed at once
    least_area: int = 3
    least_iou: float | None = 0.5  # of the model's own estimate; None: not looked at
    tissue_spreads: float = 3.0  # how many standard deviations the median may stray from the prompted slice's
    tissue_slack: float = 15.0  # grey values that it may stray in any case
    most_bad: int = 1  # slices in a row that are bridged before the structure counts as ended
    settled: float = 0.98  # overlap (Dice) with the round before at which spreading anew stops
    margin: float = 0.08  # of the neighbour's box, on each side
    least_margin: float = 2.0  # pixels
    most_slices: int | None = None  # per direction from a prompted slice; None: to the end


@dataclass(frozen=True)
class Tissue:
    """Grey values in a mask."""

    median: float
    spread: float

    @classmethod
    def of(cls, image: Grey, mask: BoolArray) -> Tissue:
        """Spread: the standard deviation that a normal distribution with these quartiles would have."""
        values = image[mask]
        low, median, high = np.percentile(values, (25, 50, 75))
        return cls(float(median), float(high - low) / 1.35)


def judge(
    candidate: BoolArray,
    predicted_iou: float | None,
    neighbour: BoolArray,
    image: Grey,
    reference: Tissue,
    policy: SpreadPolicy,
) -> Verdict:
    """The verdict on a candidate mask (h, w) of a slice with grey values `image`, beside a slice with `neighbour`.

    `reference` is the tissue of the prompted slice that the chain began at.
    """
    area, before = int(candidate.sum()), int(neighbour.sum())
    if area < policy.least_area:
        return Verdict.ENDED
    tissue = Tissue.of(image, candidate)
    strays = abs(tissue.median - reference.median)
    if strays > policy.tissue_spreads * reference.spread + policy.tissue_slack:
        return Verdict.ENDED
    common = int((candidate & neighbour).sum())
    if common < policy.inside * min(area, before) or area > policy.grow * before + policy.slack:
        return Verdict.BAD
    if policy.least_iou is not None and predicted_iou is not None and predicted_iou < policy.least_iou:
        return Verdict.BAD
    return Verdict.SHRUNK if area < policy.shrink * before else Verdict.GOOD


def overlap(a: BoolArray, b: BoolArray) -> float:
    """Dice coefficient; 1 for two empty masks."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def between(a: BoolArray, b: BoolArray, t: float) -> BoolArray:
    """The shape at fraction `t` of the way from mask `a` (0) to mask `b` (1), neither of them empty.

    Signed distances are interpolated after the centres were brought together, so that a structure that runs slantwise
    through the slices moves instead of vanishing half-way.
    """
    from scipy.ndimage import shift

    centre_a, centre_b = (np.argwhere(mask).mean(axis=0) for mask in (a, b))
    way = centre_b - centre_a
    moved_a = shift(_signed_distance(a), t * way, order=1, mode="nearest")
    moved_b = shift(_signed_distance(b), (t - 1) * way, order=1, mode="nearest")
    mixed: npt.NDArray[np.float64] = (1 - t) * moved_a + t * moved_b
    return mixed < 0


def _signed_distance(mask: BoolArray) -> npt.NDArray[np.float64]:
    """Pixels to the border of a mask, negative inside; beyond the edge of the slice counts as outside."""
    from scipy.ndimage import distance_transform_edt

    result: npt.NDArray[np.float64] = (
        distance_transform_edt(~mask) - distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    )
    return result
