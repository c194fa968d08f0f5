# SPDX-License-Identifier: Apache-2.0
"""What the parts of a draft share: facts, language, and the lines written so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..model import Fact, Facts, Kind, Side, Subject
from ..rules import Answers
from ..templates import words
from ..wording import Language, capital

# The right side first, as it lies first to a reader of axial images.
_SIDES = (Side.RIGHT, Side.LEFT, Side.BOTH, Side.NONE)


@dataclass(frozen=True)
class Line:
    """A statement to be.

    `placeholder`: a field that a person fills. `exact`: a sentence that only its words check (see `stated.py`).
    """

    section: str
    text: str
    facts: tuple[str, ...] = ()
    placeholder: bool = False
    exact: bool = False


@dataclass
class Pen:
    """Writes the lines of a draft, one section after the other.

    Attributes:
        written: ids of the subjects that need not be mentioned again.
        absences: ids of the "searched and not found" facts that were stated.
    """

    facts: Facts
    language: Language
    answers: Answers
    section: str = ""
    lines: list[Line] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    absences: set[str] = field(default_factory=set)
    _index: dict[str, list[Fact]] | None = None

    def say(self, text: str, facts: Iterable[Fact | None] = (), exact: bool = False) -> None:
        """A sentence and the facts that it states."""
        ids = tuple(dict.fromkeys(fact.id for fact in facts if fact is not None))
        self.lines.append(Line(self.section, text, ids, exact=exact))

    def ask(self, label: str, facts: Iterable[Fact | None] = ()) -> None:
        """A field to be filled, once; facts such as that an organ is in view and was not assessed."""
        text = self.language.part("not_assessed", label=capital(label))
        if text not in (line.text for line in self.lines if line.section == self.section):
            self.ask_text(text, dict.fromkeys(fact.id for fact in facts if fact is not None))

    def ask_text(self, text: str, facts: Iterable[str] = ()) -> None:
        """A field to be filled, with its own words."""
        self.lines.append(Line(self.section, text, tuple(facts), placeholder=True))

    # --- facts ---

    def of(self, subject_id: str, quantity: str | None = None) -> list[Fact]:
        """`Facts.of`, without going through all facts each time."""
        if self._index is None:
            self._index = {}
            for fact in self.facts.facts:
                self._index.setdefault(fact.subject, []).append(fact)
        return [fact for fact in self._index.get(subject_id, ()) if quantity in (None, fact.quantity)]

    def number(self, subject: Subject, quantity: str, of: str = "") -> Fact | None:
        """The first fact of the quantity that is a number (and `of` that)."""
        for fact in self.of(subject.id, quantity):
            is_number = isinstance(fact.value, int | float) and not isinstance(fact.value, bool)
            if is_number and (not of or fact.of == of):
                return fact
        return None

    def text(self, subject: Subject, quantity: str) -> Fact | None:
        """The first fact of the quantity that is text."""
        return next((f for f in self.of(subject.id, quantity) if isinstance(f.value, str)), None)

    def image(self, quantity: str) -> Fact | None:
        """The first fact of the quantity about the image."""
        images = {subject.id for subject in self.facts.subjects if subject.kind == Kind.IMAGE}
        return next((f for f in self.facts.facts if f.subject in images and f.quantity == quantity), None)

    def details(self, subject: Subject, quantities: Iterable[str]) -> list[Fact]:
        """The facts of these quantities that can be said of the subject, in this order."""
        found = []
        for quantity in quantities:
            if not self.language.has_detail(quantity):
                continue
            fact = self.number(subject, quantity, of="craniocaudal" if quantity == "extent" else "")
            # The mean of anything but HU has no meaning of its own.
            if fact is not None and not (quantity == "mean" and fact.unit != "[hnsf'U]"):
                found.append(fact)
        return found

    def coverage(self, subject: Subject) -> Fact | None:
        return self.text(subject, "coverage")

    def subjects(self, kinds: Iterable[Kind]) -> Iterator[Subject]:
        """Those of some kinds that are not written yet, in their order."""
        wanted = tuple(kinds)
        return (s for s in self.facts.subjects if s.kind in wanted and s.id not in self.written)

    def by_side(self, subjects: Iterable[Subject]) -> list[Subject]:
        return sorted(subjects, key=lambda subject: _SIDES.index(subject.side))


def label_of(item: Mapping[str, Mapping[str, str]], key: str, language: Language) -> str:
    """A label of a template's item in the draft's language."""
    return words(item[key], language.code)
