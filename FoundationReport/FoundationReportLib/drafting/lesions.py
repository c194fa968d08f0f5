# SPDX-License-Identifier: Apache-2.0
"""Findings: size, place, what else was measured of them, and how they changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..model import Fact, Kind, Side, Subject
from .pen import Pen

FINDINGS = (Kind.LESION, Kind.NODE, Kind.OTHER)
_DEFAULT_DETAILS = ("volume", "mean", "suv_max")
_DESCRIBED = 10  # findings of one kind in an organ that get sentences of their own
_TOUCHED = 4  # structures that are named


def write_findings(pen: Pen, subjects: Iterable[Subject], details: Sequence[str] | None = None) -> None:
    """Sentences on findings, the largest first; those that are gone come last.

    Of many alike the largest are described and what has grown or is new; the others are one sentence.
    """
    many: dict[tuple[str, str], list[Subject]] = {}
    for subject in by_size(pen, subjects):
        pen.written.add(subject.id)
        if resolved(pen, subject):
            _write_resolved(pen, subject)
            continue
        if gone(pen, subject):
            write_absence(pen, _absences(pen, subject))
            continue
        alike = many.setdefault((subject.organ, subject.finding), [])
        alike.append(subject)
        if len(alike) <= _DESCRIBED or has_grown(pen, subject) or not axes_of(pen, subject):
            _write_finding(pen, subject, _DEFAULT_DETAILS if details is None else details)
    for alike in many.values():
        others = [s for s in alike[_DESCRIBED:] if not has_grown(pen, s) and axes_of(pen, s)]
        if len(others) == 1:
            _write_finding(pen, others[0], _DEFAULT_DETAILS if details is None else details)
        else:
            write_further(pen, others)


def trend_of(pen: Pen, subject: Subject) -> str:
    """The value of its trend fact; empty where there is none."""
    fact = pen.text(subject, "trend")
    return str(fact.value) if fact is not None else ""


def has_grown(pen: Pen, subject: Subject) -> bool:
    """Whether it is new or larger than before."""
    return trend_of(pen, subject) in ("new", "larger")


def write_further(pen: Pen, subjects: Sequence[Subject]) -> None:
    """How many others of one kind there are, and how large they are at most."""
    if not subjects:
        return
    words = pen.language
    node = subjects[0].kind == Kind.NODE
    lengths = [axes_of(pen, subject)[-1 if node else 0] for subject in subjects]
    largest = max(lengths, key=lambda fact: float(fact.value))
    further = words.finding_named(subjects[0].finding or "lesion", "further", len(subjects))
    key = "further_node" if node else "further"
    text = words.sentence(key, further=further, place=common_place(pen, subjects), value=words.value(largest))
    trends = [pen.text(subject, "trend") for subject in subjects]
    pen.say(text, [*lengths, *trends], exact=True)


def common_place(pen: Pen, subjects: Sequence[Subject]) -> str:
    """Where findings of one organ are; empty for lymph nodes, which have no organ."""
    organs = {subject.organ for subject in subjects}
    if len(organs) != 1 or not subjects[0].organ or subjects[0].kind == Kind.NODE:
        return ""
    sides = {subject.side for subject in subjects}
    regions = {subject.region for subject in subjects}
    return pen.language.organ(
        subjects[0].organ,
        sides.pop() if len(sides) == 1 else Side.BOTH,
        "in",
        regions.pop() if len(regions) == 1 else "",
    )


def by_size(pen: Pen, subjects: Iterable[Subject]) -> list[Subject]:
    """Largest first, by the diameter that counts; those without one by volume, then those that are gone."""

    def key(subject: Subject) -> tuple[bool, float, float]:
        axes = axes_of(pen, subject)
        volume = pen.number(subject, "volume")
        return (
            resolved(pen, subject),
            -(float(axes[-1 if subject.kind == Kind.NODE else 0].value) if axes else 0.0),
            -float(volume.value) if volume is not None else 0.0,
        )

    return sorted(subjects, key=key)


def axes_of(pen: Pen, subject: Subject) -> list[Fact]:
    """Long and short axis, as far as they are known."""
    return [axis for name in ("long_axis", "short_axis") if (axis := pen.number(subject, name)) is not None]


def resolved(pen: Pen, subject: Subject) -> bool:
    return trend_of(pen, subject) == "resolved"


def gone(pen: Pen, subject: Subject) -> bool:
    """Whether the finding is not there: resolved, or searched for and not found."""
    return resolved(pen, subject) or bool(_absences(pen, subject))


def _absences(pen: Pen, subject: Subject) -> list[Fact]:
    return [fact for fact in pen.of(subject.id, "presence") if fact.value == "searched_not_found"]


def write_absence(pen: Pen, facts: Sequence[Fact]) -> None:
    """ "No ... was found": of an organ in which it was searched for, or of a finding that is a subject itself."""
    words = pen.language
    if any(fact.id in pen.absences for fact in facts):
        return
    pen.absences |= {fact.id for fact in facts}
    subject = pen.facts.subject(facts[0].subject)
    finding = facts[0].of or subject.finding or "lesion"
    nothing = words.finding_named(finding, "no")
    side = Side.BOTH if len(facts) > 1 else subject.side
    place = words.organ(subject.organ, side, "in", subject.region) if subject.organ else ""
    if subject.kind in FINDINGS:
        place = words.place(subject)
        if not facts[0].of:
            nothing = words.finding(subject, "no")  # a node's station stands before it
    if any(coverage_of(pen, pen.facts.subject(fact.subject)) == "partly_in_view" for fact in facts):
        place = words.part("in_part", of=words.organ(subject.organ, side, "of", subject.region))
    if words.is_placed(finding):
        place = words.on_side(side) if side != Side.BOTH else ""
    key = "not_found" if place else "not_found_anywhere"
    pen.say(words.sentence(key, no=nothing, place=place), facts)


def coverage_of(pen: Pen, subject: Subject) -> str:
    """The value of its coverage fact; empty where there is none."""
    fact = pen.coverage(subject)
    return str(fact.value) if fact is not None else ""


def size_of(pen: Pen, subject: Subject) -> tuple[str, list[Fact]]:
    """The diameters in words ("24 x 18 mm") with their facts; both empty if there are none."""
    axes = axes_of(pen, subject)
    return (pen.language.size(axes), axes) if axes else ("", [])


def named(pen: Pen, subject: Subject) -> tuple[str, list[Fact]]:
    """A finding as it is spoken of again: "the 24 x 18 mm nodule in the right upper lobe"."""
    size, facts = size_of(pen, subject)
    name = pen.language.finding(subject, "the_sized", size)
    place = pen.language.place(subject)
    return f"{name} {place}".strip(), facts


def _write_finding(pen: Pen, subject: Subject, quantities: Sequence[str]) -> None:
    words = pen.language
    size, facts = size_of(pen, subject)
    measured = pen.details(subject, quantities)
    if not size:
        # Without axes the other diameters say how large it is.
        measured = pen.details(subject, dict.fromkeys(["max_diameter_3d", *quantities, "volume"])) or measured
    trend = pen.text(subject, "trend")
    is_new = trend is not None and trend.value == "new"
    name = words.finding(subject, "sized_new" if is_new else "sized", size)
    place = words.place(subject)
    level = pen.text(subject, "level") if "level" in quantities else None
    if level is not None:
        place = f"{place}{words.part('lesion_level', level=str(level.value))}"
    near, neighbours = _neighbours(pen, subject, "distance" in quantities)
    key = "lesion_details" if measured else "lesion"
    fields = {"details": words.joined([words.detail(fact) for fact in measured])} if measured else {}
    text = words.sentence(key if place else f"{key}_nowhere", a=name, place=place, near=near, **fields)
    stated = [pen.text(subject, "presence"), *facts, *measured, level, *neighbours, trend if is_new else None]
    pen.say(text, stated)
    _write_contacts(pen, subject)
    _write_change(pen, subject)


def _neighbours(pen: Pen, subject: Subject, with_distance: bool) -> tuple[str, list[Fact]]:
    """The first structure that it touches, else, if that is wanted, the distance to the nearest one, in words."""
    words = pen.language
    touching = _named_structures(pen, subject, "adjacent")
    if touching:
        fact, other = touching[0]
        return words.part("adjacent", at=words.organ(other.organ, other.side, "at", other.region)), [fact]
    distant = _named_structures(pen, subject, "distance")
    if distant and with_distance:
        fact, other = min(distant, key=lambda pair: float(pair[0].value))
        where = words.organ(other.organ, other.side, "from", other.region)
        return words.part("distance", value=words.value(fact), **{"from": where}), [fact]
    return "", []


def _write_contacts(pen: Pen, subject: Subject) -> None:
    """What else it touches, a sentence for each."""
    words = pen.language
    name, size = named(pen, subject)
    for fact, other in _named_structures(pen, subject, "adjacent")[1:_TOUCHED]:
        at = words.organ(other.organ, other.side, "at", other.region)
        pen.say(words.sentence("adjacent_too", the=name, at=at), [*size, fact])


def _named_structures(pen: Pen, subject: Subject, quantity: str) -> list[tuple[Fact, Subject]]:
    """Organs other than its own that facts of "adjacent" or "distance" name, each once."""
    names = {other.id: other for other in pen.facts.subjects if other.kind == Kind.ORGAN}
    found: dict[str, tuple[Fact, Subject]] = {}
    for fact in pen.of(subject.id, quantity):
        other = names.get(fact.of)
        far = isinstance(fact.value, int | float) and fact.value > 0  # a touching one is True, which is 1
        if other is not None and other.organ not in ("", subject.organ) and far:
            found.setdefault(fact.of, (fact, other))
    return list(found.values())


def _write_change(pen: Pen, subject: Subject) -> None:
    words = pen.language
    trend = pen.text(subject, "trend")
    if trend is None or trend.value not in ("larger", "smaller", "unchanged"):
        return
    name, size = named(pen, subject)
    doubling = pen.number(subject, "doubling_time") if trend.value == "larger" else None
    behind = words.part("doubling_time", value=words.value(doubling)) if doubling is not None else ""
    change, facts = _change(pen, subject, with_percent=trend.value != "unchanged")
    key = str(trend.value) if change else f"{trend.value}_plain"
    pen.say(words.sentence(key, the=name, change=change, doubling=behind), [*size, trend, *facts, doubling])


def _change(pen: Pen, subject: Subject, with_percent: bool) -> tuple[str, list[Fact]]:
    """The earlier diameter and the change in percent, in words."""
    words = pen.language
    of = "short_axis" if subject.kind == Kind.NODE else "long_axis"
    prior, percent = pen.number(subject, "prior", of), pen.number(subject, "change_percent", of)
    node = "_node" if subject.kind == Kind.NODE else ""
    if prior is None:
        return "", []
    if percent is None or not with_percent:
        return words.part(f"change_prior{node}", prior=words.value(prior)), [prior]
    return words.part(f"change{node}", prior=words.value(prior), percent=words.signed(percent)), [prior, percent]


def _write_resolved(pen: Pen, subject: Subject) -> None:
    words = pen.language
    of = "short_axis" if subject.kind == Kind.NODE else "long_axis"
    prior = pen.number(subject, "prior", of)
    place = words.place(subject)
    name = words.finding(subject, "the_one")
    text = words.sentence("resolved", the=f"{name} {place}".strip())
    absent = _absences(pen, subject)
    pen.absences |= {fact.id for fact in absent}
    pen.say(text, [pen.text(subject, "trend"), prior, *absent])
