# SPDX-License-Identifier: Apache-2.0
"""What the rules suggest for the facts of a study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..model import Facts, Kind, Subject
from . import recist
from .catalogue import Rule, rule, rules
from .inputs import Answers, Known, applies, known_inputs, number
from .tables import NOT_COVERED, Decision, decide


@dataclass(frozen=True)
class Suggestion:
    """A category, or what is missing to suggest one.

    Attributes:
        rule: id of the rule, `rules()[...]`.
        subject: id of the subject that it is about; of the deciding one where one decides for the examination.
        outcome: key in the rule's outcomes; empty while it is not decided.
        possible: outcomes that the missing inputs leave open; an empty one: that the rule does not cover the case.
        needs: names of the inputs that a person would have to give.
        because: ids of the facts that it rests on.
        for_examination: whether it holds for the examination and not only for the subject.
    """

    rule: str
    subject: str
    outcome: str
    possible: tuple[str, ...]
    needs: tuple[str, ...]
    because: tuple[str, ...]
    for_examination: bool = False

    @property
    def decided(self) -> bool:
        return self.outcome != ""


def suggest(facts: Facts, answers: Answers | None = None, only: Iterable[str] | None = None) -> tuple[Suggestion, ...]:
    """Suggestions of the rules that apply to what was measured; none of a rule that turns out not to cover the case.

    Args:
        answers: by input ("density") or by subject and input ("lesion-1.density"), see `parse_answers`.
        only: ids of rules; all of them otherwise.

    Raises:
        TemplateError: if one of `only` is no rule.
    """
    chosen = rules().values() if only is None else [rule(name) for name in only]
    return tuple(item for each in chosen for item in _of(each, facts, answers or {}))


def _of(each: Rule, facts: Facts, answers: Answers) -> Iterator[Suggestion]:
    if each.table is None:
        yield from _response(each, facts, answers)
        return
    required = each.data["applies"].get("only_if_answered")
    if required is not None and required not in answers:
        return
    found = [
        item
        for subject in facts.subjects
        if applies(each, facts, subject)
        if (item := _of_subject(each, facts, subject, answers)) is not None
    ]
    if each.combine == "worst" and found:
        yield _worst(each, found)
    else:
        yield from found


def _of_subject(each: Rule, facts: Facts, subject: Subject, answers: Answers) -> Suggestion | None:
    assert each.table is not None
    known = known_inputs(each, facts, subject, answers)
    decision = decide(each.table, {name: item.value for name, item in known.items()})
    return _suggestion(each, subject.id, decision, known.values())


def _suggestion(each: Rule, subject: str, decision: Decision, known: Iterable[Known]) -> Suggestion | None:
    if decision.possible == (NOT_COVERED,):
        return None
    because = tuple(dict.fromkeys(fact for item in known for fact in item.because))
    outcome = decision.possible[0] if len(decision.possible) == 1 else ""
    possible = tuple(key for key in (NOT_COVERED, *each.order) if key in decision.possible)
    return Suggestion(each.id, subject, outcome, possible, decision.needs, because)


def _worst(each: Rule, found: list[Suggestion]) -> Suggestion:
    """The one that decides for the examination; open as long as another could still come out higher."""
    order = (NOT_COVERED, *each.order)
    least = max(order.index(item.possible[0]) for item in found)
    most = max(order.index(item.possible[-1]) for item in found)
    if least == most:
        top = next(item for item in found if item.decided and order.index(item.outcome) == least)
        return Suggestion(each.id, top.subject, top.outcome, (top.outcome,), (), top.because, True)
    still_open = [item for item in found if not item.decided and order.index(item.possible[-1]) > least]
    needs = {name for item in still_open for name in item.needs}
    reachable = {key for item in found for key in item.possible if least <= order.index(key) <= most}
    top = max(still_open, key=lambda item: order.index(item.possible[-1]))
    return Suggestion(
        each.id,
        top.subject,
        "",
        tuple(key for key in order if key in reachable),
        tuple(name for name in each.data["inputs"] if name in needs),
        top.because,
        True,
    )


def _response(each: Rule, facts: Facts, answers: Answers) -> Iterator[Suggestion]:
    """RECIST's response, where the sums of this and of an earlier examination are known."""
    for subject in facts.subjects:
        current = number(facts, subject.id, "sum_of_diameters")
        baseline = number(facts, subject.id, "baseline_sum")
        if current is None or baseline is None:
            continue
        nadir = number(facts, subject.id, "nadir_sum")
        gone = _all_resolved(facts)
        target = recist.target_response(
            float(current.value), float(baseline.value), float(nadir.value) if nadir else None, all_resolved=gone
        )
        known = known_inputs(each, facts, subject, answers)
        new, rest = known.get("new_lesion"), known.get("non_target")
        decision = recist.overall_response(target, bool(new.value) if new else None, str(rest.value) if rest else None)
        sums = tuple(fact.id for fact in (current, baseline, nadir) if fact is not None)
        item = _suggestion(each, subject.id, decision, [Known(0.0, sums), *known.values()])
        if item is not None:
            yield replace(item, for_examination=True)


def _all_resolved(facts: Facts) -> bool | None:
    """Whether every target lesion is gone and every target node below 10 mm; None if the targets are not marked."""
    limit = rule(recist.RULE).data["thresholds"]["node_normal_below_mm"]
    targets = [fact.subject for fact in facts.facts if fact.quantity == "target" and fact.value is True]
    if not targets:
        return None
    for subject_id in targets:
        subject = facts.subject(subject_id)
        short = number(facts, subject_id, "short_axis")
        if any(fact.value == "resolved" for fact in facts.of(subject_id, "trend")):
            continue
        if subject.kind != Kind.NODE or short is None or float(short.value) >= limit:
            return False
    return True
