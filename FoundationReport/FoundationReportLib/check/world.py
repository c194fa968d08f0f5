# SPDX-License-Identifier: Apache-2.0
"""The facts as the checker looks at them: things with a finding and a place, organs, what was searched where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from ..model import Fact, Facts, Kind, Side, Subject
from .claims import Site
from .lexicon import Entry, FindingWord, Lexicon, lexicon
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
        return float(fact.value) if fact is not None and _numeric(fact) else None

    def first(self) -> tuple[str, ...]:
        """The fact to name when none decided."""
        return tuple(f.id for f in self.facts[:1])


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
            if search.found and not self._accounted(search):
                continue
            side = search.organ.side
            if side in ("", "both"):
                return (search.fact,)
            sided[side] = search.fact
        wanted = {"left", "right"} if site.side in ("", "both") else {site.side}
        if wanted <= set(sided):
            return tuple(sided[s] for s in sorted(wanted))
        return None

    def _looked_for(self, finding: str, search: Search) -> bool:
        return self.lex.finding_isa(finding, search.finding) or self._same_form(finding, search.finding)

    def _same_form(self, a: str, b: str) -> bool:
        form = {"lesion", "nodule", "mass"}
        return a == b or (a in form and b in form)

    def _accounted(self, search: Search) -> bool:
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
            if not {"left", "right"} <= sides and "both" not in sides and "" not in sides:
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
                if fact.quantity == "count" and _numeric(fact):
                    loose.append(Search(fact, organ, self.concept_of(fact.of), int(float(fact.value))))
        for fact in self.image:
            if fact.quantity == "count" and _numeric(fact):
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


def world_of(facts: Facts) -> World:
    """Reads the facts once; what follows is fast."""
    world = World(facts, lexicon(), modality=facts.modality)
    by_subject: dict[str, list[Fact]] = {}
    for fact in facts.facts:
        by_subject.setdefault(fact.subject, []).append(fact)
    for subject in facts.subjects:
        own = tuple(by_subject.get(subject.id, ()))
        if subject.kind is Kind.IMAGE:
            world.image += own
        elif subject.kind is Kind.ORGAN or (subject.kind is Kind.OTHER and not subject.finding):
            world.organs.append(_organ(world, subject, own))
        else:
            world.things.append(_thing(world, subject, own, facts))
    _image_coverage(world)
    for organ in list(world.organs):
        _searches(world, organ)
    _searches_by_finding(world)
    _categories_as_things(world)
    world.contrast = world.image_fact("contrast")
    modality = world.image_fact("modality")
    if modality is not None and not world.modality:
        world.modality = str(modality.value)
    world.has_prior = _has_prior(facts, world)
    _names(world)
    _quotes(world)
    return world


def _image_coverage(world: World) -> None:
    """Coverage that is stated of the image, `of` an organ that is no subject."""
    for fact in world.image:
        if fact.quantity == "coverage" and fact.of:
            nodes, side = _read_place(world.lex, fact.of)
            if nodes:
                world.organs.append(Thing(Subject(fact.of, fact.of, Kind.ORGAN), (), tuple(nodes), side, (fact,)))


def _searches_by_finding(world: World) -> None:
    """A finding that is itself a subject, "searched and not found": searched where it is, or where it would be."""
    for thing in world.things:
        fact = thing.get("presence")
        if fact is None or fact.value != "searched_not_found":
            continue
        for finding in thing.findings:
            known = world.lex.findings.get(finding)
            nodes = thing.nodes or (known.at if known is not None else ())
            place = Thing(thing.subject, (), nodes or ("body",), thing.side, thing.facts)
            world.searches.append(Search(fact, place, finding, 0))


def _numeric(fact: Fact) -> bool:
    return isinstance(fact.value, int | float) and not isinstance(fact.value, bool)


def _has_prior(facts: Facts, world: World) -> bool:
    comparison = world.image_fact("comparison")
    if comparison is not None:
        return comparison.value not in (False, "none", "no", "")
    return any(
        f.quantity in ("prior", "change", "change_percent", "trend", "baseline_sum") for f in facts.facts
    ) or any(f.source is not None and f.source.prior for f in facts.facts)


def _read_place(lex: Lexicon, text: str) -> tuple[list[str], str]:
    nodes: list[str] = []
    side = ""
    for mention in read(text.replace("_", " "), lex):
        if mention.kind == "SITE":
            names, own = mention.value
            nodes += list(names) if isinstance(names, tuple) else [names]
            side = side or own
        elif mention.kind == "SIDE":
            side = side or str(mention.value)
        elif mention.kind == "FIND":
            nodes += [p for p in mention.value.makes if p not in nodes]
    return nodes, side


def _placed(world: World, subject: Subject, own: tuple[Fact, ...]) -> tuple[tuple[str, ...], str]:
    lex = world.lex
    nodes, side = _read_place(lex, subject.organ)
    if subject.organ and not nodes:
        nodes = [_new_place(world, subject.organ)]
    region, region_side = _read_place(lex, subject.region)
    if subject.region and not region:
        region, region_side = _read_place(lex, f"station {subject.region}")
    # The head of the pancreas is no part of the head: a region is read together with its organ.
    together = (
        _read_place(lex, f"{subject.region} of the {subject.organ}") if subject.region and subject.organ else None
    )
    if together is not None and len(together[0]) == 1 and together[0] != nodes:
        region, region_side = together
    if subject.region and not region:
        region = [_new_place(world, subject.region, tuple(nodes))]
    named, named_side = _read_place(lex, subject.name)
    for node in named:
        if not nodes or any(lex.place_in(node, n) for n in nodes):
            nodes.append(node)
    nodes += region
    stated = next((str(f.value) for f in own if f.quantity == "side"), "")
    side = str(subject.side.value) or region_side or side or (stated if stated in ("left", "right", "both") else "")
    if not side and subject.side is Side.NONE and named_side and nodes and any(_paired(lex, n) for n in nodes):
        side = named_side
    for lobe, lobe_side in (("left hepatic lobe", "left"), ("right hepatic lobe", "right")):
        if any(lex.place_in(n, lobe) for n in nodes):
            side = lobe_side
    for node in nodes:
        place = lex.places.get(node)
        if place is not None and place.side and not side:
            side = place.side
    whole = dict.fromkeys(nodes)
    return tuple(n for n in whole if not any(o != n and lex.place_in(o, n) for o in whole)), side


def _paired(lex: Lexicon, node: str) -> bool:
    place = lex.places.get(node)
    return place is not None and place.paired


def _new_place(world: World, text: str, parents: tuple[str, ...] = ()) -> str:
    """A place that the lexicon lacks: known by the facts' own word."""
    key = world.lex.key(text.replace("_", " "))
    name = " ".join(key)
    if key and key not in world.lex.phrases:
        world.names.setdefault(key, []).append(Entry("SITE", (name, "")))
    return name


def _organ(world: World, subject: Subject, own: tuple[Fact, ...]) -> Thing:
    nodes, side = _placed(world, subject, own)
    if not nodes:
        nodes = (_new_place(world, subject.name),)
    return Thing(subject, (), nodes, side, own)


def _thing(world: World, subject: Subject, own: tuple[Fact, ...], facts: Facts) -> Thing:
    nodes, side = _placed(world, subject, own)
    for fact in own:
        if fact.quantity == "inside" and fact.value is True:
            host = next((s for s in facts.subjects if s.id == fact.of), None)
            if host is not None:
                more, host_side = _placed(world, host, ())
                nodes = tuple(dict.fromkeys((*nodes, *more)))
                side = side or host_side
            elif fact.of:
                nodes = tuple(dict.fromkeys((*nodes, *_read_place(world.lex, fact.of)[0])))
    findings = _findings(world, subject)
    gone = any(
        (f.quantity == "presence" and f.value == "searched_not_found")
        or (f.quantity == "trend" and f.value == "resolved")
        for f in own
    )
    return Thing(subject, findings, nodes, side, own, not gone)


def _findings(world: World, subject: Subject) -> tuple[str, ...]:
    found: list[str] = []
    for text in (subject.finding, subject.name if not subject.finding else ""):
        for mention in read(text.replace("_", " "), world.lex):
            if mention.kind == "FIND" and mention.value.concept not in found:
                found.append("lymph node" if mention.value.concept == "lymphadenopathy" else mention.value.concept)
    if not found and subject.finding:
        key = world.lex.key(subject.finding)
        found.append(" ".join(key))
        world.names.setdefault(key, []).append(Entry("FIND", FindingWord(found[0])))
    if subject.kind is Kind.NODE and "lymph node" not in found:
        found.insert(0, "lymph node")
    if subject.kind is Kind.LESION and not found:
        found.append("lesion")
    return tuple(found)


def _searches(world: World, organ: Thing) -> None:
    for fact in organ.facts:
        if fact.quantity == "presence" and fact.value == "searched_not_found":
            world.searches.append(Search(fact, organ, world.concept_of(fact.of or "abnormality"), 0))
        elif fact.quantity == "presence" and fact.value == "present" and fact.of:
            concept = world.concept_of(fact.of)
            if not any(world.concept(concept, f) is Match.YES for t in world.things for f in t.findings):
                world.things.append(Thing(organ.subject, (concept,), organ.nodes, organ.side, (fact,)))
        elif fact.quantity == "count" and fact.exhaustive and _numeric(fact):
            world.counts.append(Search(fact, organ, world.concept_of(fact.of), int(float(fact.value))))
    # What was searched for in the whole image.
    if organ is world.organs[0]:
        whole = Thing(Subject("image", "image", Kind.IMAGE), (), ("body",), "", ())
        for fact in world.image:
            if fact.quantity == "presence" and fact.value == "searched_not_found":
                world.searches.append(Search(fact, whole, world.concept_of(fact.of or "abnormality"), 0))
            elif fact.quantity == "count" and fact.exhaustive and _numeric(fact):
                world.counts.append(Search(fact, whole, world.concept_of(fact.of), int(float(fact.value))))


def _categories_as_things(world: World) -> None:
    """A category such as "moderate steatosis" of an organ says that the organ has it."""
    for organ in list(world.organs):
        for fact in organ.facts:
            if fact.quantity != "category" or not isinstance(fact.value, str):
                continue
            mentions = read(fact.value, world.lex)
            concepts = [m.value.concept for m in mentions if m.kind == "FIND"]
            severity = next((str(m.value) for m in mentions if m.kind == "SEVERITY"), "")
            if any(m.kind == "NEG" for m in mentions) and concepts:
                world.searches.append(Search(fact, organ, concepts[0], 0))
            elif concepts:
                world.things.append(
                    Thing(
                        organ.subject,
                        (concepts[0],),
                        organ.nodes,
                        organ.side,
                        (fact, *(f for f in organ.facts if f is not fact)),
                        True,
                        severity,
                    )
                )


def _names(world: World) -> None:
    """The subjects' own names, where they are no ordinary words ("Target 1", "nodule-2")."""
    lex = world.lex
    for thing in (*world.things,):
        forms = {thing.subject.name, thing.subject.id.replace("_", " ")}
        for form in list(forms):
            match = re.fullmatch(
                r"(?i)\s*(non-?\s?target|target|new|lesion|node|nodule|tumou?r|mass|t|l|tl|nt|cyst|metastasis)[\s_#-]*(?:lesion)?[\s_#-]*(\d{1,2})\s*",
                form,
            )
            if match:
                kind, number = match[1].lower().replace(" ", "").replace("-", ""), match[2]
                word = {"t": "target", "tl": "target", "nt": "nontarget", "l": "lesion"}.get(kind, kind)
                forms |= {f"{word} {number}", f"{word} lesion {number}", f"{word}-{number}"}
                if word in ("lesion", "target"):
                    forms |= {f"lesion {number}"}
                if word == "nontarget":
                    forms |= {f"non target {number}", f"non target lesion {number}"}
        for form in forms:
            key = lex.key(form)
            if len(key) >= 2 and re.search(r"\d", form) and key not in lex.phrases:
                entries = world.names.setdefault(key, [])
                ids = [thing.subject.id, *(i for e in entries if e.kind == "NAME" for i in e.value)]
                world.names[key] = [Entry("NAME", tuple(dict.fromkeys(ids)))]


def _quotes(world: World) -> None:
    """Categories in words ("within the published range") can be quoted."""
    for fact in world.facts.facts:
        if fact.quantity == "category" and isinstance(fact.value, str):
            key = world.lex.key(fact.value)
            kinds = {e.kind for e in world.lex.phrases.get(key, [])}
            if len(key) >= 2 and not kinds and not any(m.kind == "FIND" for m in read(fact.value, world.lex)):
                world.names.setdefault(key, []).append(Entry("QUOTE", fact.id))


def fact_ids(facts: Iterable[Fact | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f.id for f in facts if f is not None))


__all__ = ["Mapping", "Match", "Search", "Thing", "World", "fact_ids", "world_of"]
