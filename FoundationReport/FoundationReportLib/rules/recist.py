# SPDX-License-Identifier: Apache-2.0
"""RECIST 1.1: which lesions can be targets, and what a change of their sum means (Eisenhauer 2009).

The thresholds are data, `Resources/ReportRules/recist-1.1.json`. Lengths are mm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..model import Kind
from .catalogue import rule
from .tables import Decision

RULE = "recist-1.1"


@dataclass(frozen=True)
class Candidate:
    """A lesion or node that may become a target. `organ` is what the limit per organ counts."""

    id: str
    kind: Kind
    organ: str
    long_axis: float
    short_axis: float


def diameter(kind: Kind, long_axis: float, short_axis: float) -> float:
    """What goes into the sum: the short axis of a node, the longest diameter of anything else."""
    return short_axis if kind == Kind.NODE else long_axis


def measurable(kind: Kind, long_axis: float, short_axis: float, slice_thickness: float | None) -> bool:
    """Whether it is large enough for a target at baseline. Unknown slice thickness counts as thin."""
    limits = _thresholds()
    if kind == Kind.NODE:
        return short_axis >= limits["node_short_axis_mm"]
    least = limits["lesion_long_axis_mm"]
    if slice_thickness is not None and slice_thickness > limits["slice_thickness_mm"]:
        least = max(least, limits["slice_thickness_factor"] * slice_thickness)
    return bool(long_axis >= least)


def select_targets(candidates: Iterable[Candidate], slice_thickness: float | None = None) -> tuple[str, ...]:
    """Ids of the targets at baseline: the largest, within the limits in all and per organ.

    RECIST also asks for lesions that can be measured again well; a person may choose others for that.
    """
    limits = _thresholds()
    chosen: list[Candidate] = []
    large = (c for c in candidates if measurable(c.kind, c.long_axis, c.short_axis, slice_thickness))
    for candidate in sorted(large, key=lambda c: (-diameter(c.kind, c.long_axis, c.short_axis), c.id)):
        same = sum(other.organ == candidate.organ for other in chosen)
        if len(chosen) < limits["targets"] and same < limits["targets_per_organ"]:
            chosen.append(candidate)
    return tuple(candidate.id for candidate in chosen)


def target_response(
    current: float, baseline: float, nadir: float | None = None, *, all_resolved: bool | None = None
) -> str:
    """ "CR", "PR", "SD" or "PD" of the target lesions from the sums of their diameters.

    Args:
        current, baseline: sums, mm.
        nadir: smallest sum so far, baseline included; the baseline where it is not given.
        all_resolved: whether every lesion is gone and every node below 10 mm short axis; where nodes are targets the
            sum does not tell. None: a sum of 0 says so.
    """
    limits = _thresholds()
    smallest = baseline if nadir is None else min(nadir, baseline)
    if all_resolved if all_resolved is not None else current == 0:
        return "CR"
    growth = current - smallest
    # A sum that comes back from nothing has grown by any percentage.
    percent = 100 * growth / smallest if smallest > 0 else float("inf")
    if percent >= limits["progression_percent"] and growth >= limits["progression_mm"]:
        return "PD"
    if baseline > 0 and 100 * (current - baseline) / baseline <= limits["partial_response_percent"]:
        return "PR"
    return "SD"


def overall_response(target: str, new_lesion: bool | None, non_target: str | None) -> Decision:
    """The response of the patient at this time (Eisenhauer 2009, table 1); several where something is not known.

    Args:
        target: "CR", "PR", "SD" or "PD" of the target lesions.
        new_lesion: whether there is one; None: not known.
        non_target: "complete", "incomplete" or "progression" response, "none" if there are none; None: not known.
    """
    if target == "PD" or new_lesion is True or non_target == "progression":
        return Decision(("PD",))
    possible = {target}
    needs = []
    if new_lesion is None:
        possible.add("PD")
        needs.append("new_lesion")
    if non_target is None:
        possible.add("PD")
        needs.append("non_target")
    if target == "CR" and non_target not in ("complete", "none"):
        possible.add("PR")
        if non_target is not None:
            possible.discard("CR")
    order = rule(RULE).order
    return Decision(tuple(sorted(possible, key=order.index)), tuple(needs))


def _thresholds() -> Mapping[str, Any]:
    thresholds: Mapping[str, Any] = rule(RULE).data["thresholds"]
    return thresholds
