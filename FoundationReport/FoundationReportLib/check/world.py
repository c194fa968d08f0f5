# SPDX-License-Identifier: Apache-2.0
"""The facts as the checker looks at them: things with a finding and a place, organs, what was searched where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

from ..model import Fact, Facts, Kind, Subject
from .claims import Site
from .lexicon import Entry, Lexicon
from .reader import read


class Match(IntEnum):
    """Whether what a text names is what a fact is about."""

    NO = 0
    UNKNOWN = 1
    YES = 2


@dataclass(frozen=True)
class Thing:
    """A lesion, node or other finding of the facts. `present`: false if it has resolved or was searched for in vain."""

    subject: Subject
    findings: tuple[str, ...]
    nodes: tuple[str, ...]
    side: str
    facts: tuple[Fact, ...]
    present: bool = True
    severity: str = ""

    @property
    def label(self) -> str:
        place = " ".join(p for p in (self.side, self.subject.region or self.subject.organ) if p)
        what = self.subject.finding or self.subject.name
        return f"the {what} in the {place}" if place else f'"{self.subject.name}"'

    def get(self, quantity: str, of: str = "") -> Fact | None:
        for fact in self.facts:
            if fact.quantity == quantity and (not of or fact.of == of):
                return fact
        return None

    def number(self, quantity: str, of: str = "") -> float | None:
        fact = self.get(quantity, of)
        return float(fact.value) if fact is not None and numeric(fact) else None


@dataclass(frozen=True)
class Search:
    """Something that was looked for: at an organ, for a finding; `found` so many, and no others."""

    fact: Fact
    organ: Thing
    finding: str
    found: int


@dataclass
class World:
    """All things, organs and searches of a Facts."""

    facts: Facts
    lex: Lexicon
    things: list[Thing] = field(default_factory=list)
    organs: list[Thing] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    counts: list[Search] = field(default_factory=list)
    image: tuple[Fact, ...] = ()
    names: dict[tuple[str, ...], list[Entry]] = field(default_factory=dict)
    modality: str = ""
    contrast: Fact | None = None
    has_prior: bool = False

    def by_id(self, subject: str) -> Thing | None:
        return next((t for t in (*self.things, *self.organs) if t.subject.id == subject), None)

    def out_of_view(self, organ: Thing) -> bool:
        coverage = organ.get("coverage")
        return coverage is not None and coverage.value == "outside_view"

    @cached_property
    def one_side(self) -> str:
        """The side of a study that shows one limb; empty for any other study."""
        seen = [o for o in self.organs if not self.out_of_view(o)]
        sides = {o.side for o in seen if o.side}
        limb = {"body", "bone", "extremity"}
        for organ in seen:
            above = {a for n in organ.nodes for a in self.lex.place_ancestors(n) if a not in organ.nodes}
            known = [self.lex.places[a] for a in above if a in self.lex.places]
            if any(p.family == "region" and p.name not in limb for p in known):
                return ""
        return sides.pop() if len(sides) == 1 and sides <= {"left", "right"} else ""

    def image_fact(self, quantity: str, of: str = "") -> Fact | None:
        return next((f for f in self.image if f.quantity == quantity and (not of or f.of == of)), None)

    # --- matching ---

    def finding(self, claimed: str, thing: Thing) -> Match:
        return max((self.concept(claimed, f) for f in thing.findings), default=Match.UNKNOWN)

    def concept(self, claimed: str, known: str) -> Match:
        """Whether a thing known as one concept is rightly called another."""
        lex = self.lex
        if claimed == known or lex.finding_isa(known, claimed):
            return Match.YES
        form = {"lesion", "nodule", "mass"}
        if claimed in form and known in form:
            return Match.YES
        if claimed in form and lex.finding_isa(known, "lesion"):
            return Match.UNKNOWN if lex.finding_isa(known, "cyst") else Match.YES
        if claimed == "abnormality" or known == "abnormality":
            return Match.YES
        if lex.finding_isa(claimed, known) or (known in form and lex.finding_isa(claimed, "lesion")):
            return Match.UNKNOWN
        if claimed not in lex.findings or known not in lex.findings:
            return Match.UNKNOWN if known in form and claimed not in lex.findings else Match.NO
        return Match.NO

    def place(self, site: Site, thing: Thing) -> Match:
        return min(self.nodes(site.nodes, thing), self.side(site, thing))

    def nodes(self, claimed: Iterable[str], thing: Thing) -> Match:
        result = Match.YES
        level = thing.get("level")
        for node in claimed:
            if level is not None and node in self.lex.places and self.lex.places[node].family == "vertebra":
                result = min(result, Match.YES if str(level.value).upper() == node else Match.NO)
                continue
            if any(self.lex.place_in(known, node) for known in thing.nodes):
                continue
            if not thing.nodes:
                result = min(result, Match.UNKNOWN)
            elif any(self.lex.disjoint(node, known) for known in thing.nodes):
                return Match.NO
            else:
                result = min(result, Match.UNKNOWN)
        return result

    def within(self, nodes: Iterable[str], organ: Thing) -> bool:
        """Whether a claimed place lies wholly in an organ (sides apart)."""
        return bool(nodes) and all(any(self.lex.place_in(n, k) for n in nodes) for k in organ.nodes)

    def side(self, site: Site, thing: Thing) -> Match:
        if not site.side or site.side == "both" or thing.side in ("both", site.side):
            return Match.YES
        return Match.UNKNOWN if not thing.side else Match.NO

    def at(self, site: Site) -> list[Thing]:
        """The organs that a site names: themselves, or the sides of a pair."""
        found = [o for o in self.organs if self.place(site, o) is Match.YES]
        if found:
            return found
        # A segment named "aorta" in a study of the abdomen is the abdominal aorta.
        parts = [n for n in site.nodes if n in self.lex.places and self.lex.places[n].family == "aorta part"]
        return [
            o for o in self.organs if parts and all(n in o.nodes for p in parts for n in self.lex.places[p].parents[:1])
        ]

    # --- what was searched ---

    def absent(self, finding: str, site: Site) -> tuple[Fact, ...] | None:
        """The facts that say there is no such finding (beyond the known things) at the site; None if none do."""
        sided: dict[str, Fact] = {}
        nodes = site.nodes or (self.lex.findings[finding].at if finding in self.lex.findings else ())
        for search in (*self.searches, *self.counts):
            if not self._looked_for(finding, search):
                continue
            if nodes and not self.within(nodes, search.organ):
                continue
            if not nodes and not self._same_form(finding, search.finding):
                continue
            if not nodes and self._anywhere(finding) and not self._whole(search.organ):
                continue  # looked for in one organ: that says nothing of the others
            if search.found and not self.accounted(search):
                continue
            side = search.organ.side
            if side in ("", "both"):
                return (search.fact,)
            sided[side] = search.fact
        wanted = {"left", "right"} if site.side in ("", "both") else {site.side}
        if not site.side and self.one_side:
            wanted = {self.one_side}
        if wanted <= set(sided):
            return tuple(sided[s] for s in sorted(wanted))
        return None

    def _anywhere(self, finding: str) -> bool:
        """Whether it may be in any organ: a word of form ("lesion"), or a lymph node."""
        known = self.lex.findings.get(finding)
        return finding == "lymph node" or (known is not None and known.generic)

    def _whole(self, organ: Thing) -> bool:
        """Whether this is all that the study shows: the body, or the one organ with its parts."""
        if "body" in organ.nodes:
            return True
        seen = [o for o in self.organs if not self.out_of_view(o)]
        return all(self.within(o.nodes, organ) or o.nodes == organ.nodes for o in seen)

    def _looked_for(self, finding: str, search: Search) -> bool:
        return self.lex.finding_isa(finding, search.finding) or self._same_form(finding, search.finding)

    def _same_form(self, a: str, b: str) -> bool:
        form = {"lesion", "nodule", "mass"}
        return a == b or (a in form and b in form)

    def accounted(self, search: Search) -> bool:
        """Whether all that were counted are among the things."""
        site = Site(search.organ.nodes, search.organ.side)
        known = [
            t
            for t in self.things
            if t.present and self.finding(search.finding, t) is Match.YES and self.place(site, t) is Match.YES
        ]
        return len(known) == search.found

    def counted(self, finding: str, site: Site) -> tuple[int, tuple[Fact, ...], bool] | None:
        """How many, says who, and whether these are all. Both sides of a pair are added up."""
        exact: dict[str, Search] = {}
        # A count of masses speaks of masses before one of lesions does.
        for search in sorted(self.all_counts(), key=lambda search: search.finding != finding):
            if not self._counts(finding, search.finding):
                continue
            whole = site.nodes and all(
                any(k == n for k in search.organ.nodes) or self._only_part(n, search.organ) for n in site.nodes
            )
            if site.nodes and not whole:
                continue
            if site.side not in ("", "both") and search.organ.side not in ("both", site.side):
                continue
            exact.setdefault(search.organ.subject.id, search)
        if not exact:
            return None
        found = list(exact.values())
        if site.nodes and any(s.organ.side in ("left", "right") for s in found) and site.side in ("", "both"):
            sides = {s.organ.side for s in found}
            if not {"left", "right"} <= sides and "both" not in sides and "" not in sides and not self.one_side:
                other = "left" if "right" in sides else "right"
                known = [
                    t
                    for t in self.things
                    if t.present
                    and self.finding(finding, t) is Match.YES
                    and self.place(Site(site.nodes, other), t) is Match.YES
                ]
                return sum(s.found for s in found) + len(known), tuple(s.fact for s in found), False
            whole_pair = [s for s in found if s.organ.side in ("", "both")]
            found = whole_pair[:1] or found
        total = sum(s.found for s in found)
        if not site.nodes:  # nobody counted everywhere
            here = [
                t
                for t in self.things
                if t.present and self.finding(finding, t) is Match.YES and self.place(site, t) is Match.YES
            ]
            if len(here) > total:
                return len(here), tuple(f for t in here for f in t.facts[:1]), False
        return total, tuple(s.fact for s in found), all(s.fact.exhaustive for s in found)

    def all_counts(self) -> list[Search]:
        loose = []
        for organ in self.organs:
            for fact in organ.facts:
                if fact.quantity == "count" and numeric(fact):
                    loose.append(Search(fact, organ, self.concept_of(fact.of), int(float(fact.value))))
        for fact in self.image:
            if fact.quantity == "count" and numeric(fact):
                whole = Thing(Subject("image", "image", Kind.IMAGE), (), ("body",), "", (fact,))
                loose.append(Search(fact, whole, self.concept_of(fact.of), int(float(fact.value))))
        return loose

    def _counts(self, finding: str, counted: str) -> bool:
        return self._same_form(finding, counted) or self.lex.finding_isa(counted, finding)

    def _only_part(self, node: str, organ: Thing) -> bool:
        """A region whose only organ with counts this is ("brain" in "head")."""
        return any(self.lex.place_in(k, node) for k in organ.nodes)

    def concept_of(self, text: str) -> str:
        words = [m.value.concept for m in read(text.replace("_", " "), self.lex) if m.kind == "FIND"]
        return words[-1] if words else (" ".join(self.lex.key(text)) or "lesion")

    def coverage(self, site: Site) -> list[tuple[Thing, Fact]]:
        """The coverage facts of the organs that contain the site, or that are it."""
        out = []
        for organ in self.organs:
            if self.within(site.nodes, organ) and self.side(site, organ) is not Match.NO:
                fact = organ.get("coverage")
                if fact is not None:
                    out.append((organ, fact))
        return out


def fact_ids(facts: Iterable[Fact | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f.id for f in facts if f is not None))


def numeric(fact: Fact) -> bool:
    return isinstance(fact.value, int | float) and not isinstance(fact.value, bool)
