# SPDX-License-Identifier: Apache-2.0
"""Organs: whether they were in view, what was measured of them, what was searched for and not found, their findings.

An organ without facts is a field to be filled. So is "focal lesions" of an organ in which nothing searched for them,
and "further lesions" where it is not known that the measured ones are all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..model import Fact, Kind, Side, Subject
from .lesions import FINDINGS, coverage_of, gone, write_absence, write_findings
from .pen import Pen, label_of

_EVERYTHING = ("volume", "mean", "suv_max", "suv_mean")


def write_organ(pen: Pen, item: Mapping[str, Any]) -> None:
    """A template's item of one or more organs."""
    words = pen.language
    silent: list[Subject] = []
    asked = []
    sides = (item["side"], Side.BOTH) if "side" in item else tuple(Side)
    for organ in item["organs"]:
        own = [s for s in pen.subjects([Kind.ORGAN, *FINDINGS]) if s.organ == organ and s.side in sides]
        organs = pen.by_side(s for s in own if s.kind == Kind.ORGAN)
        findings = [s for s in own if s.kind not in (Kind.ORGAN, Kind.NODE)]
        known = [s for s in pen.facts.subjects if s.organ == organ and s.side in sides]
        lesions = [s for s in known if _is_current_lesion(pen, s)]  # those among the targets included
        if not organs and not findings and not lesions:
            continue
        _write_one(pen, organs, findings, item.get("quantities", ()), item.get("details"))
        silent += _silent(pen, organs)
        in_view = [s for s in known if s.kind == Kind.ORGAN and coverage_of(pen, s) != "outside_view"]
        if item.get("lesions") and (in_view or lesions or not organs) and not _all_searched(in_view, pen):
            further = words.part("further_missing", of=_of(pen, organ))
            asked.append(further if lesions else label_of(item, "lesions", words))
    members = [s for s in pen.facts.subjects if s.organ in item["organs"] and s.side in sides]
    if not any(_says_something(pen, subject.id) for subject in members):
        pen.ask(label_of(item, "label", words), [pen.coverage(s) for s in members if s.kind == Kind.ORGAN])
        return
    for subject in silent:
        pen.ask(_label(pen, subject), [pen.coverage(subject)])
    for label in asked:
        pen.ask(label)


def write_nodes(pen: Pen, item: Mapping[str, Any]) -> None:
    """All lymph nodes; a field to be filled where none was measured and nothing searched for them."""
    nodes = list(pen.subjects([Kind.NODE]))
    absent = [
        fact
        for fact in pen.facts.facts
        if fact.quantity == "presence" and fact.value == "searched_not_found" and "node" in fact.of
    ]
    write_findings(pen, nodes, ("suv_max",))
    for fact in absent:
        write_absence(pen, [fact])
    mentioned = any(subject.kind == Kind.NODE for subject in pen.facts.subjects)
    counted = any(fact.quantity == "count" and fact.exhaustive and "node" in fact.of for fact in pen.facts.facts)
    if not mentioned and not absent:
        pen.ask(label_of(item, "label", pen.language))
    elif not absent and not counted:
        pen.ask(pen.language.part("further_nodes"))


def write_other(pen: Pen) -> None:
    """Everything that the template has no place for, organ by organ; in one line what was in view and not assessed."""
    organs: dict[str, list[Subject]] = {}
    for subject in pen.subjects([Kind.ORGAN, *FINDINGS]):
        if subject.organ and subject.kind != Kind.NODE:
            organs.setdefault(subject.organ, []).append(subject)
    silent: list[Subject] = []
    for members in organs.values():
        own = pen.by_side(s for s in members if s.kind == Kind.ORGAN)
        findings = [s for s in members if s.kind != Kind.ORGAN]
        if findings or any(fact.quantity != "coverage" for s in own for fact in pen.of(s.id)):
            _write_one(pen, own, findings, _EVERYTHING, None)
        silent += [s for s in _silent(pen, own) if coverage_of(pen, s) != "outside_view"]
        pen.written |= {subject.id for subject in own}
    write_findings(pen, list(pen.subjects([Kind.LESION, Kind.NODE])))
    write_segments(pen)
    for fact in pen.facts.facts:
        if fact.quantity == "presence" and fact.value == "searched_not_found":
            write_absence(pen, [fact])
    if silent:
        label = pen.language.data["join"]["comma"].join(_labels(pen, silent))
        pen.ask(label, [pen.coverage(subject) for subject in silent])


def write_segments(pen: Pen) -> None:
    """Segments of which nobody knows what they are, by the names that the user gave them."""
    for subject in list(pen.subjects([Kind.OTHER, Kind.ORGAN])):
        if subject.organ and subject.kind == Kind.ORGAN:
            continue
        details = pen.details(subject, _EVERYTHING)
        pen.written.add(subject.id)
        if subject.finding:
            write_findings(pen, [subject])
        elif details:
            text = pen.language.joined([pen.language.detail(fact) for fact in details])
            pen.say(pen.language.sentence("segment", name=subject.name, details=text), details)


def _write_one(
    pen: Pen,
    organs: Sequence[Subject],
    findings: Sequence[Subject],
    quantities: Sequence[str],
    details: Sequence[str] | None,
) -> None:
    """All sentences on one organ, which may have two sides."""
    _write_coverage(pen, organs)
    for subject in organs:
        _write_details(pen, subject, quantities)
    _write_absences(pen, organs)
    _write_counts(pen, organs, findings)
    write_findings(pen, findings, details)
    pen.written |= {subject.id for subject in organs}


def _silent(pen: Pen, organs: Sequence[Subject]) -> list[Subject]:
    """Organs of which nothing was said, and of which no finding was described either."""
    described = {
        (s.organ, s.side) for s in pen.facts.subjects if s.kind not in (Kind.ORGAN, Kind.NODE) and s.id in pen.written
    }
    return [
        subject
        for subject in organs
        if not _says_something(pen, subject.id)
        and not {(subject.organ, side) for side in (subject.side, Side.BOTH, Side.NONE)} & described
    ]


def _label(pen: Pen, subject: Subject) -> str:
    return pen.language.organ(subject.organ, subject.side, "label", subject.region)


def _labels(pen: Pen, subjects: Sequence[Subject]) -> list[str]:
    """Their names, a pair in one word; capital letters only at the beginning of the line."""
    names = []
    for subject in subjects:
        sides = {s.side for s in subjects if s.organ == subject.organ and not s.region}
        pair = not subject.region and sides == {Side.LEFT, Side.RIGHT}
        names.append(pen.language.organ(subject.organ, Side.BOTH, "label") if pair else _label(pen, subject))
    return list(dict.fromkeys(names))


def _write_coverage(pen: Pen, organs: Iterable[Subject]) -> None:
    """Which of them lie outside the field of view, and which partly."""
    words = pen.language
    for value, one, many in (
        ("outside_view", "organ_outside", "organs_outside"),
        ("partly_in_view", "organ_partly", "organs_partly"),
    ):
        found = [subject for subject in organs if coverage_of(pen, subject) == value]
        facts = [pen.coverage(subject) for subject in found]
        whole = [subject for subject in found if not subject.region]
        if len(whole) == 2 and {subject.side for subject in whole} == {Side.LEFT, Side.RIGHT}:
            pen.say(words.sentence(many, the=words.organ(whole[0].organ, Side.BOTH)), facts, _is_name(pen, whole[0]))
            found = [subject for subject in found if subject.region]
        for subject in found:
            key = many if words.is_plural(subject.organ, subject.side, subject.region) else one
            pen.say(
                words.sentence(key, the=words.organ(subject.organ, subject.side, "the", subject.region)),
                [pen.coverage(subject)],
                _is_name(pen, subject),
            )


def _is_name(pen: Pen, subject: Subject) -> bool:
    """Whether a sentence says no more of it than its name in the segmentation, which no lexicon has to know."""
    return not pen.language.knows(subject.organ)


def _write_details(pen: Pen, subject: Subject, quantities: Sequence[str]) -> None:
    words = pen.language
    details = pen.details(subject, quantities)
    if not details or coverage_of(pen, subject) == "outside_view":
        return
    text = words.joined([words.detail(fact) for fact in details])
    if coverage_of(pen, subject) == "partly_in_view":
        of = words.organ(subject.organ, subject.side, "of", subject.region)
        pen.say(words.sentence("organ_part_details", of=of, details=text), details, _is_name(pen, subject))
    else:
        plural = words.is_plural(subject.organ, subject.side, subject.region)
        key = "organs_details" if plural else "organ_details"
        the = words.organ(subject.organ, subject.side, "the", subject.region)
        pen.say(words.sentence(key, the=the, details=text), details, _is_name(pen, subject))


def _write_absences(pen: Pen, organs: Sequence[Subject]) -> None:
    """What was searched for and not found; once for both sides where it holds for both."""
    found: dict[str, list[Fact]] = {}
    for subject in organs:
        for fact in pen.of(subject.id, "presence"):
            if fact.value == "searched_not_found" and fact.id not in pen.absences:
                found.setdefault(fact.of, []).append(fact)
    for facts in found.values():
        sides = {pen.facts.subject(fact.subject).side for fact in facts}
        whole = not any(pen.facts.subject(fact.subject).region for fact in facts)
        if sides == {Side.LEFT, Side.RIGHT} and len(facts) == 2 and whole:
            write_absence(pen, facts)
        else:
            for fact in facts:
                write_absence(pen, [fact])


def _write_counts(pen: Pen, organs: Iterable[Subject], findings: Sequence[Subject]) -> None:
    """How many there are, where a count says that these are all."""
    words = pen.language
    for subject in organs:
        for fact in pen.of(subject.id, "count"):
            if not fact.exhaustive or not isinstance(fact.value, int | float) or fact.value < 1:
                continue
            if fact.of in ("", "lesion") and any(other.finding not in ("", "lesion") for other in findings):
                continue  # "two lesions" beside a cyst would leave open whether that is one of them
            number = round(fact.value)
            place = words.organ(subject.organ, subject.side, "in", subject.region)
            if number > 1:
                many = words.finding_named(fact.of or "lesion", "many", number)
                pen.say(words.sentence("count_many", many=many, place=place), [fact])
            elif not any(_is_only(pen, other, subject) for other in findings):
                single = words.finding_named(fact.of or "lesion", "single")
                pen.say(words.sentence("count_single", single=single, place=place), [fact])


def _is_only(pen: Pen, finding: Subject, organ: Subject) -> bool:
    """Whether a sentence on the finding itself will say that there is one."""
    return finding.organ == organ.organ and organ.side in (finding.side, Side.NONE) and not gone(pen, finding)


def _is_current_lesion(pen: Pen, subject: Subject) -> bool:
    return subject.kind == Kind.LESION and not gone(pen, subject)


def _all_searched(organs: Sequence[Subject], pen: Pen) -> bool:
    return bool(organs) and all(_searched(pen, subject) for subject in organs)


def _searched(pen: Pen, organ: Subject) -> bool:
    """Whether something looked for lesions in all of it: a count of all, or a search without result."""
    counted = any(fact.exhaustive for fact in pen.of(organ.id, "count"))
    general = ("lesion", "nodule", "mass", "tumor", "metastasis")
    absent = any(fact.value == "searched_not_found" and fact.of in general for fact in pen.of(organ.id, "presence"))
    return counted or absent


def _says_something(pen: Pen, subject_id: str) -> bool:
    """Whether a sentence of the draft rests on a fact about the subject that says more than that it was in view."""
    facts = {fact.id for fact in pen.of(subject_id) if fact.quantity != "coverage" or fact.value == "outside_view"}
    return any(facts & set(line.facts) for line in pen.lines)


def _of(pen: Pen, organ: str) -> str:
    sides = {s.side for s in pen.facts.subjects if s.organ == organ}
    both = sides & {Side.LEFT, Side.RIGHT, Side.BOTH}
    return pen.language.organ(organ, Side.BOTH if both else Side.NONE, "of")
