# SPDX-License-Identifier: Apache-2.0
"""What the rules ask for, from the facts where they have it, else from a person's answers.

An answer is named after the input ("density"), or after subject and input ("lesion-1.density"), which comes first.
Answers come before facts: a person who answers has looked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import TemplateError
from ..model import Fact, Facts, Kind, Subject
from .catalogue import Rule, rule, rules
from .tables import Value

Answers = Mapping[str, Value]


class Known(NamedTuple):
    """A value and the facts it is from; none where a person answered."""

    value: Value
    because: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """What a rule asks for where no fact has it.

    Attributes:
        rule, name: title of the rule, name of the answer.
        values: what can be answered; none for a number.
        question: in words, with the unit of a number.
    """

    rule: str
    name: str
    values: tuple[str, ...]
    question: str


def questions(name: str) -> tuple[Question, ...]:
    """All inputs of a rule, in its order. Raises TemplateError if there is no such rule."""
    each = rule(name)
    found = []
    for key, spec in each.data["inputs"].items():
        choices = spec.get("choices", ())
        values = ("yes", "no") if list(choices) == [True, False] else tuple(str(choice) for choice in choices)
        found.append(Question(each.title(), key, values, each.question(key)))
    return tuple(found)


def parse_answers(texts: Iterable[str]) -> dict[str, Value]:
    """Answers from "name=value" texts, as on a command line. Raises TemplateError with what is wrong in which."""
    answers: dict[str, Value] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise TemplateError(f"The answer {text!r} is not of the form name=value; write for example density=solid.")
        answers[name.strip()] = _parsed(name.strip(), value.strip())
    return answers


def known_inputs(rule: Rule, facts: Facts, subject: Subject, answers: Answers) -> dict[str, Known]:
    """The rule's inputs that are known for a subject."""
    found: dict[str, Known] = {}
    # Screening and incidental findings exclude each other.
    opposite = {"incidental": answers.get("screening"), "screening": answers.get("incidental")}
    for name in rule.data["inputs"]:
        answer = answers.get(f"{subject.id}.{name}", answers.get(name))
        if answer is None and opposite.get(name) is True:
            answer = False
        value = Known(answer) if answer is not None else _from_facts(name, rule, facts, subject)
        if value is not None:
            found[name] = value
    return found


def number(facts: Facts, subject_id: str, quantity: str, of: str = "") -> Fact | None:
    """The first fact of a quantity that is a number."""
    for fact in facts.of(subject_id, quantity):
        if (not of or fact.of == of) and isinstance(fact.value, int | float) and not isinstance(fact.value, bool):
            return fact
    return None


def image_fact(facts: Facts, quantity: str) -> Fact | None:
    """The first fact of a quantity about the image."""
    images = {subject.id for subject in facts.subjects if subject.kind == Kind.IMAGE}
    return next((fact for fact in facts.facts if fact.subject in images and fact.quantity == quantity), None)


def _from_facts(name: str, rule: Rule, facts: Facts, subject: Subject) -> Known | None:
    if name in ("nodule_size_mm", "mean_diameter_mm"):
        return _mean_diameter(facts, subject, whole=name == "nodule_size_mm")
    if name in _QUANTITIES:
        fact = number(facts, subject.id, _QUANTITIES[name])
        return Known(float(fact.value), (fact.id,)) if fact is not None else None
    if name in ("contrast", "age"):
        fact = image_fact(facts, name)
        return Known(fact.value, (fact.id,)) if fact is not None else None
    if name == "density":
        return _density(subject)
    if name == "multiple":
        return _multiple(rule, facts, subject)
    if name == "behaviour":
        return _behaviour(rule, facts, subject)
    if name == "incidental":
        screened = [f for f in facts.facts if f.quantity == "category" and f.of.startswith("Lung-RADS")]
        return Known(False, tuple(fact.id for fact in screened)) if screened else None
    if name == "new_lesion":
        new = [fact for fact in facts.facts if fact.quantity == "trend" and fact.value == "new"]
        return Known(True, tuple(fact.id for fact in new)) if new else None
    return None


_QUANTITIES = {"short_axis_mm": "short_axis", "volume_ml": "volume", "mean_hu": "mean"}


def _mean_diameter(facts: Facts, subject: Subject, whole: bool) -> Known | None:
    """Mean of long and short axis, mm; `whole`: rounded as Fleischner asks for, else to 0.1 mm as Lung-RADS does."""
    axes = [number(facts, subject.id, quantity) for quantity in ("long_axis", "short_axis")]
    if None in axes:
        return None
    mean = sum(float(axis.value) for axis in axes if axis is not None) / 2
    step = 1.0 if whole else 0.1
    return Known(round(math.floor(mean / step + 0.5 + 1e-9) * step, 1), tuple(axis.id for axis in axes if axis))


def _density(subject: Subject) -> Known | None:
    """From the finding's own name ("ground-glass nodule"), if it says so."""
    words = f"{subject.finding} {subject.name}".lower().replace("-", " ").replace("_", " ")
    for key, spellings in (
        ("part-solid", ("part solid", "subsolid part", "semisolid")),
        ("ground-glass", ("ground glass", "ggn", "ggo", "non solid", "nonsolid")),
        ("solid", ("solid",)),
    ):
        if any(spelling in words for spelling in spellings):
            return Known(key)
    return None


def _multiple(rule: Rule, facts: Facts, subject: Subject) -> Known | None:
    """Two measured ones are several; a single one is the only one where a count says that there are no others."""
    other = next((s for s in facts.subjects if s.id != subject.id and applies(rule, facts, s)), None)
    if other is not None:
        return Known(True, tuple(fact.id for s in (subject, other) for fact in facts.of(s.id, "presence")))
    for fact in facts.facts:
        if fact.quantity == "count" and fact.exhaustive and _is_in(facts, fact.subject, subject):
            return Known(float(fact.value) > 1, (fact.id,))
    return None


def _is_in(facts: Facts, organ_id: str, subject: Subject) -> bool:
    organ = next((s for s in facts.subjects if s.id == organ_id), None)
    return organ is not None and organ.organ == subject.organ and organ.side in (subject.side, "", "both")


def _behaviour(rule: Rule, facts: Facts, subject: Subject) -> Known | None:
    """New, growing or stable against the earlier study, by the rule's own limits; None if there is none."""
    trend = next(iter(facts.of(subject.id, "trend")), None)
    if trend is not None and trend.value == "new":
        return Known("new", (trend.id,))
    changes = [number(facts, subject.id, "change", of=quantity) for quantity in ("long_axis", "short_axis")]
    interval = image_fact(facts, "interval")
    if None in changes or interval is None or float(interval.value) > rule.data["growth_days"]:
        return None
    because = (*(change.id for change in changes if change), interval.id)
    growth = sum(float(change.value) for change in changes if change) / 2
    return Known("growing" if growth > rule.data["growth_mm"] else "stable", because)


def applies(rule: Rule, facts: Facts, subject: Subject) -> bool:
    """Whether the rule is about such a subject, and it was measured."""
    which = rule.data.get("applies", {})
    finding = subject.finding.lower()
    names = which.get("findings", ())
    partly = any(fact.value in ("partly_in_view", "outside_view") for fact in facts.of(subject.id, "coverage"))
    resolved = any(fact.value == "resolved" for fact in facts.of(subject.id, "trend"))
    return (
        facts.modality in which.get("modality", ())
        and (not which.get("organs") or subject.organ.lower() in which["organs"])
        and subject.kind.value in which.get("kinds", ())
        and (not names or any(finding == name or (name and finding.endswith(name)) for name in names))
        and ("quantity" not in which or bool(facts.of(subject.id, which["quantity"])))
        and not (partly and subject.kind == Kind.ORGAN)
        and not resolved
        and not any(fact.value is True for fact in facts.of(subject.id, which.get("not_marked", "-")))
    )


def _parsed(name: str, text: str) -> Value:
    """The value in the form in which the rules have it."""
    key = name.rpartition(".")[2]
    specs = [rule.data["inputs"][key] for rule in rules().values() if key in rule.data["inputs"]]
    if not specs:
        known = sorted({key for rule in rules().values() for key in rule.data["inputs"]})
        raise TemplateError(f"No rule asks for {key!r}; the answers that rules use are {', '.join(known)}.")
    choices = specs[0].get("choices")
    if choices is None:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise TemplateError(f"The answer {key}={text} is not a number; give one ({specs[0]['question']['en']}).")
        return value
    words: dict[str, Value] = {"yes": True, "true": True, "no": False, "false": False}
    options: dict[str, Value] = {str(choice).lower(): choice for choice in choices}
    chosen = words.get(text.lower()) if choices == [True, False] else options.get(text.lower())
    if chosen is None:
        raise TemplateError(f"The answer {key}={text} is not possible; give one of: {specs[0]['question']['en']}.")
    return chosen
