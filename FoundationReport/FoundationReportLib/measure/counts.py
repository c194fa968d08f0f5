# SPDX-License-Identifier: Apache-2.0
"""How many findings an organ has, and whether these are all: only a search can say so, a drawing cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import MeasurementError
from ..model import Kind, Side, Subject
from .anatomy import anatomy, is_paired
from .builder import Builder
from .subjects import unique_id

_GENERAL = ("lesion", "")


@dataclass(frozen=True)
class Search:
    """Something went through an organ and would have found every finding of a kind: a detector, or a person.

    Attributes:
        organ: canonical name ("lung").
        finding: what was searched for ("nodule"); "lesion" for any focal one.
        side: of a paired organ; NONE means both.
        by: who or what searched, for the facts' source.
        algorithm: False if a person did.
    """

    organ: str
    finding: str = "lesion"
    side: Side = Side.NONE
    by: str = ""
    algorithm: bool = True

    @property
    def source_by(self) -> str:
        """`Source.by` of the facts that rest on it."""
        return "algorithm" if self.algorithm else "human"

    @classmethod
    def parse(cls, text: str) -> Search:
        """From "organ:finding" ("lung:nodule", "left kidney:stone"). Raises MeasurementError."""
        place, colon, finding = text.partition(":")
        words = place.lower().split()
        side = Side(words[0]) if words and words[0] in (Side.LEFT, Side.RIGHT, Side.BOTH) else Side.NONE
        organ = " ".join(words[1:] if side else words)
        if not organ or not colon or not finding.strip():
            raise MeasurementError(f'"{text}" does not say what was searched where; write "organ:finding".')
        if organ not in anatomy().organs:
            raise MeasurementError(f'"{organ}" is no organ that is known; name it as in the facts ("lung:nodule").')
        return cls(organ, finding.strip().lower(), side, "stated")


def add_counts(builder: Builder, searched: Sequence[Search]) -> None:
    """Counts and multiplicity per organ and finding, and "searched and not found"."""
    findings = [s for s in builder.subjects.values() if s.kind in (Kind.LESION, Kind.NODE) and s.organ and s.finding]
    groups: dict[tuple[str, Side, str], list[Subject]] = {}
    for subject in findings:
        # Of an organ that is one, findings on both sides (lobes, hemispheres) are counted together.
        side = subject.side if is_paired(subject.organ) else Side.NONE
        groups.setdefault((subject.organ, side, subject.finding), []).append(subject)
    for (organ, side, finding), members in groups.items():
        place = organ_subject(builder, organ, side)
        search = search_for(searched, organ, side, finding)
        method = f"segments of this finding; {_searcher(search)}" if search else "segments of this finding"
        because = [fact.id for m in members if (fact := builder.find(m.id, "presence")) is not None]
        builder.add(place, "count", len(members), method, of=finding, exhaustive=search is not None, because=because)
        if len(members) > 1 or search is not None:
            word = "multiple" if len(members) > 1 else "single"
            complete = search is not None
            builder.add(place, "multiplicity", word, method, of=finding, exhaustive=complete, because=because)
    for search in searched:
        for side in _sides(search):
            if not _found(findings, search, side):
                place = organ_subject(builder, search.organ, side)
                builder.add(
                    place,
                    "presence",
                    "searched_not_found",
                    _searcher(search),
                    of=search.finding,
                    exhaustive=True,
                    by=search.source_by,
                )


def organ_subject(builder: Builder, organ: str, side: Side) -> str:
    """Id of the organ's subject, made if there is none. A part of the organ (a lobe) is not it."""
    for subject in builder.subjects.values():
        if subject.kind == Kind.ORGAN and subject.organ == organ and subject.side == side and not subject.region:
            return subject.id
    listed = anatomy().organs.get(organ)
    name = f"{side.value} {organ}".strip().capitalize()
    subject_id = unique_id(name, builder.subjects)
    code = listed.code if listed is not None else None
    builder.subjects[subject_id] = Subject(subject_id, name, Kind.ORGAN, organ, side, code=code)
    return subject_id


def _sides(search: Search) -> tuple[Side, ...]:
    if search.side in (Side.LEFT, Side.RIGHT):
        return (search.side,)
    return (Side.LEFT, Side.RIGHT) if is_paired(search.organ) else (Side.NONE,)


def search_for(searched: Sequence[Search], organ: str, side: Side, finding: str) -> Search | None:
    """The search that would have found all findings of this kind on this side; None if there was none."""
    for search in searched:
        same_side = search.side in (Side.NONE, Side.BOTH) or search.side == side
        if search.organ == organ and same_side and search.finding in (finding, *_GENERAL):
            return search
    return None


def _found(findings: Sequence[Subject], search: Search, side: Side) -> bool:
    return any(
        s.organ == search.organ
        and (not side or s.side in (side, Side.BOTH, Side.NONE))
        and (search.finding in _GENERAL or s.finding in (search.finding, *_GENERAL))
        for s in findings
    )


def _searcher(search: Search | None) -> str:
    if search is None:
        return ""
    return f"the {search.organ} was searched for this" + (f" by {search.by}" if search.by else "")
