# SPDX-License-Identifier: Apache-2.0
"""Which subject of an earlier study is which of this one. What cannot be told apart is left unmatched and said."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..model import Facts, Kind, Side, Subject

# In one frame of reference a finding is taken for the same one if the centres are nearer than this, or than the mean of
# the two diameters.
_NEAR_MM = 10.0
_GENERAL = ("", "lesion")


@dataclass(frozen=True)
class Matches:
    """Result of `match`.

    Attributes:
        pairs: id in this study to id in the earlier one.
        unclear: ids of this study for which several earlier subjects come into question, or share theirs with others.
        left_over: ids of the earlier study that nothing was matched to.
    """

    pairs: dict[str, str]
    unclear: tuple[str, ...]
    left_over: tuple[str, ...]


def match(current: Facts, earlier: Facts) -> Matches:
    """Matches findings with findings and organs with organs.

    In this order: the same tracking UID; the same name; in one frame of reference the nearest; the only one of its
    kind in the same place in both studies.
    """
    now = [s for s in current.subjects if is_finding(s)]
    then = [s for s in earlier.subjects if is_finding(s) and not _is_resolved(earlier, s)]
    pairs: dict[str, str] = {}

    def free(subjects: Iterable[Subject], taken: Iterable[str]) -> list[Subject]:
        used = set(taken)
        return [subject for subject in subjects if subject.id not in used]

    def pair(same: Callable[[Subject, Subject], bool]) -> None:
        for subject in free(now, pairs):
            found = [other for other in free(then, pairs.values()) if same(subject, other)]
            rivals = [rival for rival in free(now, pairs) if found and same(rival, found[0])]
            if len(found) == 1 and len(rivals) == 1:
                pairs[subject.id] = found[0].id

    pair(lambda a, b: bool(a.tracking_uid) and a.tracking_uid == b.tracking_uid)
    pair(lambda a, b: _plain(a.name) == _plain(b.name) and compatible(a, b))
    if (frame := current.study.get("frame_uid")) and frame == earlier.study.get("frame_uid"):
        pairs |= _nearest(current, free(now, pairs), earlier, free(then, pairs.values()))
    pair(lambda a, b: _same_place(a, b) and compatible(a, b))
    rest = free(then, pairs.values())
    unclear = tuple(subject.id for subject in free(now, pairs) if any(compatible(subject, other) for other in rest))
    left_over = tuple(subject.id for subject in rest)
    for subject in current.subjects:
        if subject.kind == Kind.ORGAN and subject.segment:
            same = [s for s in earlier.subjects if s.kind == Kind.ORGAN and s.segment and _same_organ(s, subject)]
            if len(same) == 1:
                pairs[subject.id] = same[0].id
    return Matches(pairs, unclear, left_over)


def is_finding(subject: Subject) -> bool:
    """A lesion or node that was measured."""
    return subject.kind in (Kind.LESION, Kind.NODE)


def compatible(a: Subject, b: Subject) -> bool:
    """Whether two findings can be the same one: nothing that is known of both differs."""
    findings = a.finding == b.finding or a.finding in _GENERAL or b.finding in _GENERAL
    return (
        a.kind == b.kind
        and findings
        and _agree(a.organ, b.organ)
        and _agree(a.region, b.region)
        and (_agree(a.side.value, b.side.value) or Side.BOTH in (a.side, b.side))
    )


def _agree(a: str, b: str) -> bool:
    return not a or not b or a == b


def _same_place(a: Subject, b: Subject) -> bool:
    return bool(a.organ) and a.organ == b.organ and _agree(a.side, b.side) and _agree(a.region, b.region)


def _same_organ(a: Subject, b: Subject) -> bool:
    return (a.organ, a.side, a.region) == (b.organ, b.side, b.region) and bool(a.organ)


def _is_resolved(facts: Facts, subject: Subject) -> bool:
    return any(fact.value == "resolved" for fact in facts.of(subject.id, "trend"))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def _nearest(current: Facts, now: Sequence[Subject], earlier: Facts, then: Sequence[Subject]) -> dict[str, str]:
    """Pairs by distance, the nearest first."""
    candidates = []
    for a in now:
        for b in then:
            here, there = _place(current, a), _place(earlier, b)
            if here is None or there is None or not compatible(a, b):
                continue
            distance = float(np.linalg.norm(np.subtract(here[0], there[0])))
            if distance <= max(_NEAR_MM, (here[1] + there[1]) / 2):
                candidates.append((distance, a.id, b.id))
    pairs: dict[str, str] = {}
    for _, a_id, b_id in sorted(candidates):
        if a_id not in pairs and b_id not in pairs.values():
            pairs[a_id] = b_id
    return pairs


def _place(facts: Facts, subject: Subject) -> tuple[tuple[float, float, float], float] | None:
    """Centre (RAS mm) and longest diameter (mm)."""
    volume = next(iter(facts.of(subject.id, "volume")), None)
    long = next(iter(facts.of(subject.id, "long_axis")), None)
    if volume is None or volume.source is None or not volume.source.points or long is None:
        return None
    return volume.source.points[0], float(long.value)
