# SPDX-License-Identifier: Apache-2.0
"""Target lesions, impression and suggested categories."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from ..model import Fact, Facts, Kind, Source, Subject
from ..rules import Rule, Suggestion, recist, rule, rules, suggest
from ..wording import capital
from .lesions import (
    axes_of,
    by_size,
    common_place,
    gone,
    has_grown,
    named,
    resolved,
    size_of,
    trend_of,
    write_findings,
    write_further,
)
from .pen import Pen

_HARMLESS = ("cyst", "hemangioma")  # as a rule; they come last, they are not left out
_LISTED = 6  # findings of an organ that the impression names one by one


def write_targets(pen: Pen) -> None:
    """RECIST's target lesions and the sum of their diameters."""
    words = pen.language
    marks = [fact for fact in pen.facts.facts if fact.quantity == "target" and fact.value is True]
    marked = {fact.subject for fact in marks}
    targets = [s for s in pen.subjects([Kind.LESION, Kind.NODE]) if s.id in marked]
    write_findings(pen, targets, ())
    chosen = [fact for fact in marks if fact.source is not None and fact.source.by == "algorithm"]
    if chosen:
        # A person may choose others; RECIST asks for lesions that can be measured again well, which no size tells.
        key = "target_automatic" if len(chosen) == 1 else "targets_automatic"
        pen.say(words.sentence(key), chosen, exact=True)
    if not targets:
        pen.ask(words.section("targets"))
    for subject in pen.facts.subjects:
        current = pen.number(subject, "sum_of_diameters")
        if current is None:
            continue
        baseline, nadir = pen.number(subject, "baseline_sum"), pen.number(subject, "nadir_sum")
        if baseline is not None and nadir is not None and words.value(nadir) != words.value(baseline):
            text = words.sentence(
                "sum_nadir", sum=words.value(current), baseline=words.value(baseline), nadir=words.value(nadir)
            )
        elif baseline is not None:
            text = words.sentence("sum_baseline", sum=words.value(current), baseline=words.value(baseline))
        else:
            text = words.sentence("sum", sum=words.value(current))
        pen.say(text, [current, baseline, nadir])


def write_impression(pen: Pen) -> None:
    """The findings in short: a line per group of an organ, and one for each that is new or changed."""
    before = len(pen.lines)
    groups: dict[str, list[Subject]] = {}
    for subject in by_size(pen, (s for s in pen.facts.subjects if _is_finding(s))):
        if not gone(pen, subject) and not _is_small_node(pen, subject):
            groups.setdefault("nodes" if subject.kind == Kind.NODE else subject.organ, []).append(subject)
    for members in sorted(groups.values(), key=lambda members: _rank(pen, members)):
        alike = len({subject.finding for subject in members}) == 1
        nodes = members[0].kind == Kind.NODE
        if len(members) == 1 or not alike or (nodes and len(members) <= _LISTED):
            # "Two lesions, the largest" would leave open whether the cyst beside them is one.
            for subject in members[:_LISTED]:
                _write_short(pen, subject)
            _write_unlisted(pen, members[_LISTED:])
            continue
        if nodes:  # a group counts the small ones too, for what it says is how many were measured
            members = [s for s in by_size(pen, pen.facts.subjects) if s.kind == Kind.NODE and not gone(pen, s)]
        _write_group(pen, members)
        changed = [s for s in members if trend_of(pen, s) in ("new", "larger", "smaller")]
        for subject in changed[:_LISTED]:
            _write_short(pen, subject)
    for subject in pen.facts.subjects:
        if _is_finding(subject) and resolved(pen, subject):
            name, _ = named(pen, subject)
            pen.say(pen.language.sentence("resolved", the=name), [pen.text(subject, "trend")])
    if len(pen.lines) == before:
        pen.ask(pen.language.part("impression_missing"))


def _write_unlisted(pen: Pen, subjects: Sequence[Subject]) -> None:
    """The others of an organ whose findings are of several kinds, kind by kind; what changed is told one by one."""
    kinds: dict[str, list[Subject]] = {}
    for subject in subjects:
        kinds.setdefault(subject.finding, []).append(subject)
    for alike in kinds.values():
        told = [s for s in alike if len(alike) == 1 or not axes_of(pen, s) or has_grown(pen, s)]
        for subject in told:
            _write_short(pen, subject)
        rest = [s for s in alike if s not in told]
        if len(rest) == 1:
            _write_short(pen, rest[0])
        else:
            write_further(pen, rest)


def _rank(pen: Pen, members: Sequence[Subject]) -> tuple[bool, bool]:
    """What is new or has grown comes first, what is only a cyst last; the size decides among the rest."""
    active = any(has_grown(pen, subject) for subject in members)
    return not active, all(subject.finding in _HARMLESS for subject in members)


def write_categories(pen: Pen, names: Sequence[str], only_remarkable: bool = False) -> None:
    """The categories that the facts state or these rules suggest, and what the undecided ones would have to know.

    `only_remarkable`: without those that a rule calls unremarkable ("within the published range"), as an impression
    lists them.
    """
    for name in names:
        each = rule(name)
        usual = {each.outcome(key) for key in each.data.get("unremarkable", ())} if only_remarkable else set()
        for fact in pen.facts.facts:
            if fact.quantity == "category" and fact.of == each.title() and fact.value not in usual:
                _write_category(pen, each, fact)
    for item in suggest(pen.facts, pen.answers, names):
        if not item.decided and not _is_stated(pen, item):
            _write_open(pen, item)


def category_facts(facts: Facts, items: Iterable[Suggestion], version: str) -> list[Fact]:
    """Decided suggestions as facts, so that the cross-check knows them."""
    taken = {fact.id for fact in facts.facts}
    numbers = (f"c{n}" for n in itertools.count(1))
    made = []
    for item in items:
        each = rules()[item.rule]
        if item.decided:
            source = Source(method=f"rule {each.id}, {each.version}", version=version)
            value = item.outcome if each.data.get("fact_value") == "key" else each.outcome(item.outcome)
            fact_id = next(number for number in numbers if number not in taken)
            made.append(
                Fact(
                    fact_id,
                    item.subject,
                    "category",
                    value,
                    "",
                    each.title(),
                    because=item.because,
                    code=each.code,
                    source=source,
                )
            )
    return made


def _write_category(pen: Pen, each: Rule, fact: Fact) -> None:
    words = pen.language
    subject = pen.facts.subject(fact.subject)
    outcome = _outcome_words(each, str(fact.value), words.code)
    the, of = "", ""
    facts: list[Fact] = []
    if subject.kind in (Kind.LESION, Kind.NODE):
        the, facts = named(pen, subject)
        size, _ = size_of(pen, subject)
        of = words.finding(subject, "of_sized", size) + f" {words.place(subject)}"
    elif subject.organ:
        the = words.organ(subject.organ, subject.side, "the", subject.region)
        of = words.organ(subject.organ, subject.side, "of", subject.region)
    text = each.phrase(words.code).format(
        title=each.title(words.code), outcome=outcome, the=the, The=capital(the), of=of.strip()
    )
    pen.say(capital(text), [fact, *facts])


def _outcome_words(each: Rule, value: str, language: str) -> str:
    """The outcome in the report's language, from its key or from its English words."""
    for key in each.order:
        if value in (key, each.outcome(key)):
            return each.outcome(key, language)
    return value


def _write_open(pen: Pen, item: Suggestion) -> None:
    each = rules()[item.rule]
    code = pen.language.code
    questions = pen.language.data["join"]["comma"].join(each.question(name, code) for name in item.needs)
    text = pen.language.part("category_open", title=each.title(code), questions=questions)
    pen.ask_text(text, item.because)


def _is_stated(pen: Pen, item: Suggestion) -> bool:
    """Whether a fact states the category that a rule cannot decide: of the subject, or of the examination."""
    title = rule(item.rule).title()
    stated = [fact for fact in pen.facts.facts if fact.quantity == "category" and fact.of == title]
    return any(item.for_examination or fact.subject == item.subject for fact in stated)


def _write_group(pen: Pen, members: Sequence[Subject]) -> None:
    words = pen.language
    size, facts = size_of(pen, members[0])
    organs = {subject.organ for subject in members}
    place = common_place(pen, members)
    counts = [
        fact
        for fact in pen.facts.facts
        if fact.quantity == "count"
        and fact.exhaustive
        and pen.facts.subject(fact.subject).organ in organs
        and fact.of in (members[0].finding or "lesion", "lesion", "")
    ]
    total = sum(round(float(fact.value)) for fact in counts if not isinstance(fact.value, str))
    form = "many" if total == len(members) else "measured"
    many = words.finding_named(members[0].finding or "lesion", form, len(members))
    if size:
        text = words.sentence("largest", many=many, place=place, size=size)
    else:
        text = words.sentence("impression_one", bare=many, place=place)
    pen.say(text, [*(counts if form == "many" else []), *facts])


def _write_short(pen: Pen, subject: Subject) -> None:
    words = pen.language
    size, facts = size_of(pen, subject)
    place = words.place(subject)
    trend = pen.text(subject, "trend")
    form = "new" if trend is not None and trend.value == "new" else "bare"
    bare = words.finding(subject, form, size)
    if trend is not None and trend.value in ("larger", "smaller", "unchanged"):
        text = words.sentence("impression_trend", bare=bare, place=place, trend=words.part(f"trend_{trend.value}"))
    else:
        text = words.sentence("impression_one", bare=bare, place=place)
    pen.say(text, [pen.text(subject, "presence"), *facts, trend])


def _is_finding(subject: Subject) -> bool:
    return subject.kind in (Kind.LESION, Kind.NODE) or (subject.kind == Kind.OTHER and subject.finding != "")


def _is_small_node(pen: Pen, subject: Subject) -> bool:
    """A node that is not enlarged (RECIST 1.1: short axis below 10 mm) and has not grown is no result."""
    short = pen.number(subject, "short_axis")
    limit = rule(recist.RULE).data["thresholds"]["node_normal_below_mm"]
    small = subject.kind == Kind.NODE and short is not None and float(short.value) < limit
    return small and not has_grown(pen, subject)
