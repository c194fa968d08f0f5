# SPDX-License-Identifier: Apache-2.0
"""No number of a model stays in a report: it becomes the fact's, or a mark that says that there is none.

A number is the fact's only where the sentence speaks of one measured subject and the two are near enough to be of the
same thing; what a report then says is what was measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..measure.quantities import converted, display
from ..measure.subjects import anatomy
from ..model import Fact, Facts, Kind, Side, Subject

SIZE_MARK = "[size not taken from the model]"
VALUE_MARK = "[value not taken from the model]"
COUNT_MARK = "[number not taken from the model]"

# Near enough to be the same thing; what the report says then is the fact, so this is no tolerance for errors.
_NEAR = 0.2
_NEAR_MM = 2.0
_COUNTED = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_WORDS = {word: number for number, word in enumerate(_COUNTED.split(), start=1)}
_NUMBER = rf"(?:\d+(?:[.,]\d+)?|(?:{'|'.join(_WORDS)}))"
_UNITS = {
    "mm": r"mm|millimet(?:er|re)s?", "cm": r"cm|centimet(?:er|re)s?", "mL": r"ml|cc|cm3|cm³|millilit(?:er|re)s?",
    "[hnsf'U]": r"hu|hounsfield units?", "%": r"%|percent|per cent", "suv": r"suv(?:max|mean|peak|bw)?",
}  # fmt: skip
_UNIT = "|".join(f"(?:{pattern})" for pattern in _UNITS.values())
_MEASURE = re.compile(
    rf"(?P<numbers>-?{_NUMBER}(?:\s*(?:mm|cm)?\s*(?:x|\u00d7|by|to|-|\u2013)\s*{_NUMBER}){{0,2}})[\s-]*(?P<unit>{_UNIT})(?![\w])",
    re.I,
)
_SUV = re.compile(rf"\bSUV\s?(?:max|mean|peak|bw)?\s*(?:of|is|=|:)?\s*(?P<numbers>{_NUMBER})(?!\w)", re.I)
_LEFT = re.compile(
    r"(?<![\w.\[])(?<!segment )(?<!segments )(?<!station )(?<!level )(?<!zone )(?<!type )(?<!rib )"
    r"\d+(?:[.,]\d+)?(?![\w.]*[a-z])", re.I
)  # fmt: skip
# Characters for private use, which no text has.
_KEPT, _KEPT_FIRST = "\ue000", 0xE001
_QUANTITY = {"mm": "long_axis", "cm": "long_axis", "mL": "volume", "[hnsf'U]": "mean", "suv": "suv_max"}


@dataclass(frozen=True)
class Grounded:
    """A sentence without the model's numbers, the facts whose numbers it has now, and what was put away, in words."""

    text: str
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def grounded(sentence: str, facts: Facts) -> Grounded:
    """The sentence with facts or marks in place of the model's numbers; names such as "segment 7" or "L3" stay."""
    subject = only_subject(sentence, facts)
    linked: list[str] = []
    notes: list[str] = []
    finished: list[str] = []

    def put_away(text: str) -> str:
        """Keeps what is settled from being looked at again; it comes back at the end."""
        finished.append(text)
        return f"{_KEPT}{chr(_KEPT_FIRST + len(finished) - 1)}"

    def measure(match: re.Match[str]) -> str:
        unit = next(name for name, pattern in _UNITS.items() if re.fullmatch(pattern, match["unit"], re.I))
        fact = _fact(facts, subject, _QUANTITY.get(unit, ""))
        mark = SIZE_MARK if unit in ("mm", "cm", "mL") else VALUE_MARK
        if fact is None:
            notes.append(f'"{match[0]}" of the model was measured by nobody')
            return put_away(mark)
        said = _numbers(match["numbers"])
        if unit == "%" or len(said) != 1 or not _near(said[0], unit, fact):
            notes.append(f'the model says "{match[0]}", and {display(fact)} was measured')
            return put_away(mark)
        linked.append(fact.id)
        return put_away(display(fact))

    def uptake(match: re.Match[str]) -> str:
        fact = _fact(facts, subject, "suv_max")
        if fact is None or not _near(_numbers(match["numbers"])[0], "suv", fact):
            notes.append(f'"{match[0]}" of the model is not what was measured')
            return put_away(f"SUV {VALUE_MARK}")
        linked.append(fact.id)
        return put_away(f"SUVmax {display(fact)}")

    def count(match: re.Match[str]) -> str:
        found = _count(sentence, facts, _numbers(match["number"])[0])
        if found is None:
            notes.append(f'the number in "{match[0]}" was counted by nobody')
            return f"{put_away(COUNT_MARK)} {match['what']}"
        linked.append(found.id)
        return put_away(match[0])

    def other(match: re.Match[str]) -> str:
        notes.append(f'the number "{match[0]}" of the model stands for nothing that was measured')
        return put_away(VALUE_MARK)

    text = sentence.replace(_KEPT, "")
    for pattern, change in ((_SUV, uptake), (_MEASURE, measure), (_plural(), count), (_LEFT, other)):
        text = pattern.sub(change, text)
    text = re.sub(f"{_KEPT}(.)", lambda match: finished[ord(match[1]) - _KEPT_FIRST], text)
    return Grounded(" ".join(text.split()), tuple(dict.fromkeys(linked)), tuple(dict.fromkeys(notes)))


def only_subject(sentence: str, facts: Facts) -> Subject | None:
    """The one measured subject that a sentence speaks of; None where it is none, or more than one."""
    found = subjects_of(sentence, facts)
    return found[0] if len(found) == 1 else None


def subjects_of(sentence: str, facts: Facts) -> list[Subject]:
    """Subjects with an organ and a side that a sentence names: its findings where it names one, else its organs."""
    text = f" {' '.join(re.findall(r'[a-z0-9]+', sentence.casefold()))} "
    known = anatomy()
    organs = {
        name for name, organ in known.organs.items() if any(f" {w} " in text or f" {w}s " in text for w in organ.words)
    }
    findings = {name for word, name in known.finding_words.items() if f" {word} " in text or f" {word}s " in text}
    sides = {side for side in (Side.LEFT, Side.RIGHT) if f" {side} " in text}
    kinds = (Kind.LESION, Kind.NODE) if findings else (Kind.ORGAN,)
    return [
        subject
        for subject in facts.subjects
        if subject.kind in kinds
        and subject.organ in organs
        and (not sides or subject.side in (Side.NONE, Side.BOTH) or subject.side in sides)
        and (not findings or _fits(subject.finding, findings))
    ]


def words_of(subject: Subject) -> list[str]:
    """What a subject's organ and finding are called."""
    known = anatomy()
    organ = known.organs.get(subject.organ)
    findings = [word for word, name in known.finding_words.items() if name == subject.finding]
    return [*(organ.words if organ is not None else (subject.organ,)), subject.finding, *findings]


def _fits(finding: str, said: set[str]) -> bool:
    """ "lesion" is any finding, on either side."""
    return finding in ("", "lesion") or "lesion" in said or finding in said


def _fact(facts: Facts, subject: Subject | None, quantity: str) -> Fact | None:
    found = facts.of(subject.id, quantity) if subject is not None and quantity else ()
    return found[0] if len(found) == 1 and isinstance(found[0].value, int | float) else None


def _numbers(text: str) -> list[float]:
    words = re.findall(_NUMBER, text.casefold())
    return [float(_WORDS[word]) if word in _WORDS else float(word.replace(",", ".")) for word in words]


def _near(said: float, unit: str, fact: Fact) -> bool:
    code = fact.unit if unit == "suv" else unit
    value = converted(said, code, fact.unit)
    if value is None:
        return False
    slack = _NEAR_MM if fact.unit == "mm" else 10.0 if fact.unit == "[hnsf'U]" else 0.0
    return abs(value - float(fact.value)) <= max(slack, _NEAR * abs(float(fact.value)))


def _count(sentence: str, facts: Facts, said: float) -> Fact | None:
    """A count of the organ that is named, if it is the number that was said."""
    text = sentence.casefold()
    for fact in facts.facts:
        if fact.quantity == "count" and fact.value == said:
            organ = facts.subject(fact.subject).organ
            words = anatomy().organs[organ].words if organ in anatomy().organs else (organ,)
            if any(re.search(rf"\b{re.escape(word)}", text) for word in words):
                return fact
    return None


def _plural() -> re.Pattern[str]:
    """A number before a finding in the plural, with up to two words between."""
    words = "|".join(sorted(map(re.escape, anatomy().finding_words), key=len, reverse=True))
    return re.compile(rf"(?<![\w.])(?P<number>{_NUMBER})\s+(?P<what>(?:[a-z-]+\s+){{0,2}}(?:{words})(?:s|es)?)\b", re.I)
