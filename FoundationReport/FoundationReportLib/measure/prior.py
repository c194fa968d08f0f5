# SPDX-License-Identifier: Apache-2.0
"""Change against earlier studies: matched sizes, trend, new and resolved findings, the sums that RECIST 1.1 compares.

"Unchanged" is within max(2 mm, 10%). The volume doubling time is interval x ln 2 / ln(V2 / V1) (Schwartz, Cancer
1961;14:1272). The response that follows from the sums is a rule's (`rules.recist`), not a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ..errors import MeasurementError
from ..model import Fact, Facts, Kind, Subject
from ..rules.recist import Candidate, diameter, select_targets
from .builder import Builder, listed
from .counts import Search, search_for
from .matching import Matches, compatible, is_finding, match
from .subjects import IMAGE_ID, unique_id

AUTO = "auto"
TARGETS_ID = "targets"

_COMPARED = ("long_axis", "short_axis", "mean_diameter", "volume", "suv_max", "mean")
_COMPARED_ORGANS = ("volume",)
_SAME_MM, _SAME_SHARE = 2.0, 0.1
_TARGET_FINDINGS = frozenset({"mass", "nodule", "metastasis", "tumor", "lesion", "lymph node"})


@dataclass(frozen=True)
class _Study:
    """An earlier study and what of it was matched."""

    facts: Facts
    matches: Matches


@dataclass(frozen=True)
class _Targets:
    """RECIST's target lesions.

    Attributes:
        ids: in this study.
        lost: names of those of an earlier study that were not matched in this one.
        method, by: who chose them, and how.
    """

    ids: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    method: str = "RECIST 1.1: as stated"
    by: str = "human"


def add_changes(
    builder: Builder,
    earlier: Sequence[Facts],
    targets: Sequence[str] | None,
    date: str,
    searched: Sequence[Search],
) -> None:
    """Adds what changed since the last of the earlier studies (oldest first), and RECIST's sums over all of them.

    Args:
        targets: names or ids of the target lesions; ("auto",) for the largest measurable ones at baseline; None for
            those of the last study, if it has any.
        date: of this study, YYYYMMDD; empty if unknown.
        searched: what was searched for in this study: a finding that was searched for and is gone has resolved.
    """
    builder.add(IMAGE_ID, "comparison", bool(earlier), "facts of an earlier study" if earlier else "none was given")
    now = builder.build("", {"frame_uid": builder.frame_uid})
    studies = [_Study(facts, match(now, facts)) for facts in earlier]
    if studies:
        last = studies[-1]
        days = _days(last.facts.study.get("date", ""), date)
        if days is not None and days < 0:
            builder.warn(
                "The earlier study is dated after this one, so no interval was computed; see whether the two were "
                "exchanged, and give earlier studies from the oldest to the newest."
            )
            days = None
        if days is not None:
            builder.add(IMAGE_ID, "interval", days, "dates of the two studies", by="header")
        for subject in list(builder.subjects.values()):
            _add_subject(builder, subject, last, days)
        _add_gone(builder, last, searched)
    chosen = _targets(builder, studies, targets)
    for name in chosen.ids:
        builder.add(name, "target", True, chosen.method, by=chosen.by)
    if chosen.lost:
        what, them = ("Target lesion", "it") if len(chosen.lost) == 1 else ("Target lesions", "them")
        has, is_gone = ("has", "it is gone") if len(chosen.lost) == 1 else ("have", "they are gone")
        builder.warn(
            f"{what} {listed(chosen.lost)} of the earlier study {has} no match in this one, so the sum of diameters "
            f"was left out; draw {them}, or state that the organ was searched for {them} and {is_gone}."
        )
    if chosen.ids and not chosen.lost:
        _add_sums(builder, chosen.ids, studies)


def _add_subject(builder: Builder, subject: Subject, last: _Study, days: int | None) -> None:
    old_id = last.matches.pairs.get(subject.id)
    if old_id is None:
        if is_finding(subject):
            _add_new(builder, subject, last)
        return
    for quantity in _COMPARED if is_finding(subject) else _COMPARED_ORGANS:
        new, old = builder.find(subject.id, quantity), _number(last.facts, old_id, quantity)
        if new is not None and old is not None and new.unit == old.unit:
            _add_change(builder, subject.id, quantity, new, float(old.value), last.facts)
    decisive = "volume" if not is_finding(subject) else "short_axis" if subject.kind == Kind.NODE else "long_axis"
    new, old = builder.find(subject.id, decisive), _number(last.facts, old_id, decisive)
    if new is not None and old is not None:
        _add_trend(builder, subject.id, decisive, new, float(old.value), last.facts)
    volume, before = builder.find(subject.id, "volume"), _number(last.facts, old_id, "volume")
    if is_finding(subject) and days and volume is not None and before is not None:
        ratio = float(volume.value) / float(before.value) if float(before.value) > 0 else 0.0
        if ratio > 1.0:
            doubling = days * math.log(2) / math.log(ratio)
            method = "interval x ln 2 / ln(volume ratio)"
            builder.add(
                subject.id, "doubling_time", doubling, method, because=[volume.id], prior=_fingerprint(last.facts)
            )


def _add_change(builder: Builder, subject: str, quantity: str, new: Fact, old: float, prior: Facts) -> None:
    stamp = _fingerprint(prior)
    method = "the same measurement of the earlier study"
    before = builder.add(subject, "prior", old, method, unit=new.unit, of=quantity, prior=stamp)
    because = [new.id, before]
    change = float(new.value) - old
    builder.add(subject, "change", change, "difference", unit=new.unit, of=quantity, because=because, prior=stamp)
    if old > 0:
        share = 100 * change / old
        builder.add(subject, "change_percent", share, "difference", of=quantity, because=because, prior=stamp)


def _add_trend(builder: Builder, subject: str, quantity: str, new: Fact, old: float, prior: Facts) -> None:
    change = float(new.value) - old
    least = _SAME_SHARE * old if quantity == "volume" else max(_SAME_MM, _SAME_SHARE * old)
    word = "unchanged" if abs(change) <= least + 1e-9 else "larger" if change > 0 else "smaller"
    limit = "10%" if quantity == "volume" else "2 mm or 10%"
    method = f"change of {quantity.replace('_', ' ')}; unchanged within {limit}"
    before = builder.find(subject, "prior", quantity)
    because = [new.id, *([before.id] if before is not None else [])]
    builder.add(subject, "trend", word, method, because=because, prior=_fingerprint(prior))


def _add_new(builder: Builder, subject: Subject, last: _Study) -> None:
    """New, if the earlier study was looked through for findings where this one lies; else only a warning."""
    if subject.id in last.matches.unclear:
        names = [s.name for s in last.facts.subjects if s.id in last.matches.left_over and compatible(subject, s)]
        builder.warn(
            f'"{subject.name}" was not compared, since it cannot be told whether it is {listed(names, "or")} of '
            "the earlier study; give the same finding the same name in both."
        )
        return
    if _was_looked_for(last.facts, subject):
        method = "not among the findings of the earlier study, which was looked through for such"
        builder.add(subject.id, "trend", "new", method, prior=_fingerprint(last.facts))
        return
    builder.warn(
        f'"{subject.name}" has no match in the earlier study, which does not say whether it was looked for there; '
        "whether it is new has to be judged from the images."
    )


def _was_looked_for(facts: Facts, subject: Subject) -> bool:
    organs = [s for s in facts.subjects if s.kind == Kind.ORGAN and s.organ == subject.organ and s.organ]
    organs = [s for s in organs if not subject.side or s.side in (subject.side, "", "both")]
    states = {str(fact.value) for s in organs for fact in facts.of(s.id, "coverage")}
    if states & {"outside_view", "partly_in_view"}:
        return False
    searched = any(
        fact.exhaustive or fact.value == "searched_not_found"
        for s in organs
        for quantity in ("count", "presence")
        for fact in facts.of(s.id, quantity)
    )
    # Whoever drew findings there would have drawn this one.
    return searched or any(is_finding(s) for s in facts.subjects)


def _add_gone(builder: Builder, last: _Study, searched: Sequence[Search]) -> None:
    """Earlier findings without a match: resolved if their organ was searched, else only a warning."""
    lost: dict[str, list[str]] = {}
    for old in (last.facts.subject(name) for name in last.matches.left_over):
        unclear = [builder.subjects[name] for name in last.matches.unclear]
        if any(compatible(subject, old) for subject in unclear):
            continue
        search = search_for(searched, old.organ, old.side, old.finding)
        if search is None:
            lost.setdefault(old.organ or "place", []).append(old.name)
            continue
        name = unique_id(old.name, builder.subjects)
        builder.subjects[name] = Subject(
            name, old.name, old.kind, old.organ, old.side, old.finding, old.region, "", old.tracking_uid, old.code
        )
        last.matches.pairs[name] = old.id
        stamp = _fingerprint(last.facts)
        method = f"the {old.organ} was searched for it"
        builder.add(name, "presence", "searched_not_found", method, of=old.finding, by=search.source_by)
        for quantity in ("long_axis", "short_axis", "volume"):
            if (fact := _number(last.facts, old.id, quantity)) is not None:
                method = "the same measurement of the earlier study"
                builder.add(name, "prior", fact.value, method, unit=fact.unit, of=quantity, prior=stamp)
        builder.add(name, "trend", "resolved", "searched for and not found", prior=stamp)
    for place, names in lost.items():
        has, it, is_gone = ("has", "it", "it is gone") if len(names) == 1 else ("have", "them", "they are gone")
        builder.warn(
            f"{listed(names)} of the earlier study {has} no match in this one; draw {it}, or state that the {place} "
            f"was searched for {it} and {is_gone}."
        )


def _targets(builder: Builder, studies: Sequence[_Study], wanted: Sequence[str] | None) -> _Targets:
    findings = [s for s in builder.subjects.values() if is_finding(s)]
    if wanted is None:
        if not studies:
            return _Targets()
        facts = studies[-1].facts
        marked = [f for f in facts.facts if f.quantity == "target" and f.value is True]
        by = "algorithm" if any(f.source is not None and f.source.by == "algorithm" for f in marked) else "human"
        old = [f.subject for f in marked]
        return _followed(findings, studies[-1], old, "RECIST 1.1: those of the earlier study", by)
    if tuple(wanted) == (AUTO,):
        return _largest(builder, studies, findings)
    chosen = []
    for name in wanted:
        found = [s.id for s in findings if name in (s.id, s.name)]
        if not found:
            raise MeasurementError(f'There is no lesion "{name}" to be a target; name one of the drawn segments.')
        chosen += found
    return _Targets(tuple(dict.fromkeys(chosen)))


def _largest(builder: Builder, studies: Sequence[_Study], findings: Sequence[Subject]) -> _Targets:
    """RECIST's choice at baseline, which is the oldest study; followed to this one."""
    baseline = studies[0].facts if studies else builder.build("", {})
    candidates = []
    for subject in baseline.subjects:
        long, short = (_number(baseline, subject.id, quantity) for quantity in ("long_axis", "short_axis"))
        if is_finding(subject) and subject.finding in _TARGET_FINDINGS and long is not None and short is not None:
            # All lymph nodes count as one organ, as the RECIST working group reads its limit of two per organ.
            organ = subject.finding if subject.kind == Kind.NODE else subject.organ
            candidates.append(Candidate(subject.id, subject.kind, organ, float(long.value), float(short.value)))
    thickness = _number(baseline, IMAGE_ID, "slice_thickness")
    chosen = select_targets(candidates, float(thickness.value) if thickness is not None else None)
    if candidates and not chosen:
        builder.warn(
            "No lesion was large enough at baseline for a RECIST 1.1 target (10 mm or twice the slice thickness, lymph "
            "nodes 15 mm short axis), so none was chosen."
        )
    method = "RECIST 1.1: the largest measurable lesions at baseline"
    if not studies:
        return _Targets(chosen, (), method, "algorithm")
    return _followed(findings, studies[0], chosen, method, "algorithm")


def _followed(findings: Sequence[Subject], study: _Study, old: Sequence[str], method: str, by: str) -> _Targets:
    """Targets of an earlier study in this one."""
    ids = tuple(s.id for s in findings if study.matches.pairs.get(s.id) in old)
    found = {study.matches.pairs[name] for name in ids}
    lost = tuple(study.facts.subject(name).name for name in old if name not in found)
    return _Targets(ids, lost, method, by)


def _add_sums(builder: Builder, targets: Sequence[str], studies: Sequence[_Study]) -> None:
    builder.subjects[TARGETS_ID] = Subject(TARGETS_ID, "Target lesions", Kind.OTHER)
    because = []
    total = 0.0
    for name in targets:
        axis = "short_axis" if builder.subjects[name].kind == Kind.NODE else "long_axis"
        fact = builder.find(name, axis)
        if fact is not None:
            total += float(fact.value)
            because.append(fact.id)
    method = "longest diameters of lesions and short axes of nodes, added"
    current = builder.add(TARGETS_ID, "sum_of_diameters", total, method, because=because)
    sums = [(study, _sum(builder, targets, study)) for study in studies]
    whole = [(study, value) for study, value in sums if value is not None]
    if len(whole) < len(sums):
        builder.warn(
            "Not every target lesion was matched in every earlier study, so the sums of those studies were left out; "
            "give the same lesion the same name in all of them."
        )
    if not sums or sums[0][1] is None:
        return
    base = sums[0][1]
    nadir_study, nadir = min(whole, key=lambda item: item[1])
    for quantity, value, study in (("baseline_sum", base, studies[0]), ("nadir_sum", nadir, nadir_study)):
        stamp = _fingerprint(study.facts)
        found = builder.add(TARGETS_ID, quantity, value, method, prior=stamp)
        builder.add(TARGETS_ID, "change", total - value, "difference", unit="mm", of=quantity, because=[current, found])
        if value > 0:
            share = 100 * (total - value) / value
            builder.add(TARGETS_ID, "change_percent", share, "difference", of=quantity, because=[current, found])


def _sum(builder: Builder, targets: Sequence[str], study: _Study) -> float | None:
    """The sum over the same lesions in an earlier study; None if one of them was not matched there."""
    total = 0.0
    for name in targets:
        old = study.matches.pairs.get(name)
        if old is None:
            return None
        axes = [_number(study.facts, old, quantity) for quantity in ("long_axis", "short_axis")]
        if axes[0] is None or axes[1] is None:
            return None
        total += diameter(builder.subjects[name].kind, float(axes[0].value), float(axes[1].value))
    return total


def _number(facts: Facts, subject: str, quantity: str) -> Fact | None:
    return next((f for f in facts.of(subject, quantity) if isinstance(f.value, int | float)), None)


def _fingerprint(facts: Facts) -> str:
    return facts.study.get("fingerprint", "")


def _days(earlier: str, later: str) -> int | None:
    try:
        return (datetime.strptime(later, "%Y%m%d") - datetime.strptime(earlier, "%Y%m%d")).days
    except ValueError:
        return None
