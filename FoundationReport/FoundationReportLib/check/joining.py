# SPDX-License-Identifier: Apache-2.0
"""How chunks make claims: each continues the one before, joins it, or begins a new one that inherits from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..measure.quantities import Dimension
from .bags import Bagger
from .chunks import Chunk
from .claims import STUDY_QUANTITIES, Claim, Count, Site, Value, fits, many
from .completing import complete, respective
from .lexicon import Lexicon


class Builder:
    """Chunks to claims, from left to right."""

    def __init__(self, lex: Lexicon) -> None:
        self.lex = lex
        self.bagger = Bagger(lex)
        self.claims: list[Claim] = []
        self.group: list[Claim] = []  # the claims that the next chunk's attributes belong to
        self.groups = 0
        self.pair: tuple[Claim, Claim] | None = None
        self.respective = False
        self.open_prior = False
        self.vs_prior = False
        self.next_link = ""
        self.next_finds = False

    def take(self, chunk: Chunk) -> None:
        bags = [self.bagger.bag(part) for part in self.bagger.heads(chunk)]
        for n, bag in enumerate(bags):
            self._join(bag, chunk.link if n == 0 else "of")

    def finish(self) -> list[Claim]:
        self._share_sites()
        self._study_values()
        for claim in self.claims:
            complete(claim)
        respective(self.claims)
        return self.claims

    def _join(self, bag: Claim, link: str) -> None:
        last = self.group[-1] if self.group else None
        against = self.vs_prior and link in ("vs", "versus")
        self.vs_prior = False
        if self.open_prior and "(" in link and self.next_link in ("vs", "versus"):
            self.vs_prior = True  # "smaller than before (48 mm versus 63 mm)": now, then before
        elif against or (self.open_prior and "(" in link and bag.values and not bag.finding and not bag.sites):
            bag.values = [replace(v, prior=True) for v in bag.values]
        self.open_prior = bag.prior_open
        if last is None:
            self._start(bag)
            return
        if last.number_of and last.count is None and not bag.finding and self._number(bag, last):
            return
        apart = link == ";" or "but" in link or link in ("while", "whereas", "however", "although")
        if apart and (bag.finding or bag.sites or bag.names):
            fresh = bag.sites and not bag.finding and not bag.predicated and self.next_finds
            self._start(bag if fresh else self._inherit(bag, last))
            return
        if bag.quantity in STUDY_QUANTITIES and not bag.finding and not bag.sites and (last.finding or last.sites):
            self._start(bag)
            return
        if self._continues_head(bag, last, link):
            self._merge(bag, last, link)
        elif bag.finding:
            self._new_finding(bag, last, link)
        elif bag.sites or bag.names:
            self._new_site(bag, last, link)
        else:
            self._attributes(bag, last, link)

    @staticmethod
    def _number(bag: Claim, last: Claim) -> bool:
        """ "Number of nodules: 2"."""
        value = bag.values[0].measure if len(bag.values) == 1 else None
        if bag.count is not None:
            last.count = replace(bag.count, strict=True)
        elif value is not None and value.dimension is None and value.values[0] == int(value.values[0]):
            last.count = Count("=", int(value.values[0]), True)
        else:
            return False
        return True

    def _start(self, claim: Claim) -> None:
        self.groups += 1
        claim.group = self.groups
        self.claims.append(claim)
        self.group = [claim]

    def _continues_head(self, bag: Claim, last: Claim, link: str) -> bool:
        """A place, then what is there: "Liver: 24 mm lesion", "The spleen without lesion"."""
        if last.headless and not last.pronoun:
            return True
        if bag.finding and not last.finding and (last.sites or last.names) and not last.predicated:
            return not last.negated or (bool(bag.sites) and link in (",", "or", "and", "/", "nor", ", or", ", and"))
        return bool(bag.sites and last.names and not last.sites and not last.predicated and not bag.finding)

    def _merge(self, bag: Claim, last: Claim, link: str) -> None:
        sites = list(last.sites)
        if bag.sites:
            bare = all(not s.nodes for s in bag.sites) and all(not s.side for s in sites)  # "the ovary, on the right"
            apart = all(self.lex.disjoint(a, b) for s in sites for a in s.nodes for b in bag.sites[0].nodes) or any(
                s.side and b.side and s.side != b.side for s in sites for b in bag.sites
            )
            if (
                sites
                and not bare
                and link in ("and", ",", "or", "/", ", and", ", or", "nor", "and or")
                and (not bag.finding or apart)
            ):
                sites += bag.sites
            else:
                sites = [self._refined(s, b) for s in (sites or [Site()]) for b in bag.sites]
        _absorb(last, bag)
        last.sites = sites

    def _new_finding(self, bag: Claim, last: Claim, link: str) -> None:
        if bag.finding == last.finding and link in ("/", "(") and not last.predicated and last.negated == bag.negated:
            bag.sites = [s for s in bag.sites if s.side] if last.sites else bag.sites
            self._merge(bag, last, link)
            return
        listed = link in (",", "and", "or", "/", ", or", ", and", "and or", "/ or", "nor") and last.finding
        plain = not (bag.count or bag.values or bag.changes or bag.definite)
        if listed and plain and last.negated and not last.predicated and not bag.negated:
            bag.negated = True
            bag.hedged |= last.hedged
        if listed and plain and not last.predicated and bag.negated == last.negated:
            bag.group = last.group
            if not bag.changes:
                bag.changes = list(last.changes) if last.negated else []
            self.claims.append(bag)
            self.group.append(bag)
            return
        self._start(self._inherit(bag, last))

    def _new_site(self, bag: Claim, last: Claim, link: str) -> None:
        if not last.finding and not last.predicated and not last.names:
            self._merge(bag, last, link)
            return
        if self.respective and last.finding and last.sites and not last.predicated and link in ("and", ",", ", and"):
            last.sites += bag.sites
            bag.sites = []
            self._attributes(replace(bag, sites=[]), last, link)
            return
        whole = all(s.nodes for s in bag.sites)
        if (
            whole
            and not bag.predicated
            and (last.predicated or last.negated or (last.finding and last.sites and self.next_finds))
            and self.next_link in ("neg", "nor", "with", ":")
            and not bag.negated
        ):
            self._start(bag)  # "left ovary with a cyst, right ovary without": another place begins
            return
        plain = not bag.predicated and not bag.count and not bag.select and not bag.negated
        if (
            plain
            and last.values
            and "(" in link
            and (last.inherited or (self._refines(bag, last) and not last.finding))
        ):
            last.sites = [self._in_context(s, last) for s in bag.sites]
            last.inherited = False
            return
        if plain and last.inherited and (last.select or last.count is not None):
            last.sites = [
                self._in_context(s, last) for s in bag.sites
            ]  # "..., the smaller one (8 mm) in the left lung"
            last.inherited = False
            return
        if last.finding and plain and last.count is not None and last.count.n > 1 and link in (":", "("):
            self._start(self._inherit(bag, last))
            return
        if last.finding and plain:
            refined = self._refines(bag, last)
            if "(" in link and len(last.sites) > 1:
                last.sites[-1] = self._refined(last.sites[-1], bag.sites[0])  # "segments II and VII (right lobe)"
                return
            if refined or not last.sites:
                for claim in self.group:
                    claim.sites = [self._refined(s, b) for s in (claim.sites or [Site()]) for b in bag.sites]
                return
            if not last.values and link in ("and", ",", "or", "/", ", and"):
                last.sites += bag.sites
                return
        if (
            last.finding
            and not last.sites
            and not last.values
            and not bag.count
            and not bag.select
            and not (last.count and last.count.n > 1)
        ):
            for claim in self.group:
                claim.sites = list(bag.sites)
            bag.sites = []
            self._attributes(bag, last, link)
            return
        if (
            not last.values
            and not last.changes
            and self._refines(bag, last)
            and last.finding
            and not many(last)
            and not bag.count
        ):
            last.sites = [self._refined(s, bag.sites[0]) for s in last.sites]
            bag.sites = []
            self._attributes(bag, last, link)
            return
        self._start(self._inherit(bag, last))

    def _attributes(self, bag: Claim, last: Claim, link: str) -> None:
        if bag.select == "other" and not bag.predicated and self.next_link in ("neg", "with") and self.next_finds:
            self.bagger.except_ = True  # "the remaining lobes without nodules"
            return
        if (
            bag.quantity
            and not bag.predicated
            and last.values
            and "(" in link
            and fits(bag.quantity, last.values[-1].measure)
        ):
            last.values[-1] = replace(last.values[-1], quantity=bag.quantity)
            return
        if bag.select or (bag.count and last.finding):
            self._start(self._inherit(bag, last))
            return
        if last.than is not None and bag.values and not bag.changes and len(self.claims) > 0 and "(" in link:
            other = Claim(
                finding=last.than_finding or ("" if last.than.nodes else last.finding),
                sites=[last.than] if last.than.nodes else [self._in_context(last.than, last)],
                values=bag.values,
                quantity=bag.quantity,
            )
            self.claims.append(other)
            self.pair = (last, other)
            return
        if self.pair is not None and bag.values and not bag.changes:
            subject, other = self.pair
            self.claims.append(replace(subject, values=other.values, than=None, compared="", changes=[], density=[]))
            given = other.values[0].quantity if other.values else ""
            self.claims[-1].values = list(other.values)
            other.values = [replace(v, quantity=v.quantity or given) for v in bag.values]
            self.pair = None
            return
        if bag.than is not None and last.than is not None:
            self._start(self._inherit(bag, last))  # "larger than this and smaller than that"
            return
        if bag.of_all and not bag.values:
            for claim in self.claims:
                if claim.finding:
                    _absorb(claim, bag)
            return
        changing = bool(last.changes or bag.changes)
        repeats = any(not v.prior and not (v.by and changing) and not v.measure.signed for v in bag.values) and any(
            _same_slot(v, w, changing) for v in bag.values for w in last.values
        )
        aggregated = any(v.cmp or v.measure.to is not None for v in bag.values)
        if bag.values and (repeats or (many(last) and not aggregated and not bag.changes)) and not last.headless:
            child = self._inherit(bag, last)
            if repeats and not many(last):
                child.ordered_sides = last.ordered_sides
            self._start(child)
            return
        for claim in self.group:
            _absorb(claim, bag)

    def _refines(self, bag: Claim, last: Claim) -> bool:
        if not last.sites or len(last.sites) > 1 or not bag.sites:
            return False
        old, new = last.sites[0], bag.sites[0]
        if old.side and new.side and old.side != new.side:
            return False
        if not new.nodes:
            return not old.side
        return all(
            self.lex.place_in(n, o) or o in self.lex.places.get(n, _NOWHERE).host for n in new.nodes for o in old.nodes
        )

    def _refined(self, old: Site, new: Site) -> Site:
        """Both places at once, where that is possible; else the new one."""
        if any(self.lex.disjoint(a, b) for a in old.nodes for b in new.nodes):
            return new
        nodes = list(dict.fromkeys((*old.nodes, *new.nodes)))
        kept = tuple(n for n in nodes if not any(o != n and self.lex.place_in(o, n) for o in nodes))
        return Site(kept, new.side or old.side)

    def _inherit(self, bag: Claim, last: Claim) -> Claim:
        source = last
        if bag.normal and bag.sites and not bag.finding and not bag.negated:
            bag.sites = [self._in_context(s, replace(source, finding="")) for s in bag.sites]
            return bag
        if not bag.finding and not bag.names:
            bag.finding = source.finding
            bag.enlarged_node = source.enlarged_node
            bag.names = list(source.names) if not bag.sites and not bag.select else []
            bag.plural = bag.plural and bag.count is not None
        if not bag.sites and not bag.names:
            bag.sites = list(source.sites)
            bag.inherited = True
        elif bag.sites and not bag.names:
            bag.sites = [self._in_context(s, source) for s in bag.sites]
        bag.quantity = bag.quantity or source.quantity
        bag.values = [
            replace(v, quantity=source.quantity)
            if not v.quantity and source.quantity and fits(source.quantity, v.measure)
            else v
            for v in bag.values
        ]
        return bag

    def _in_context(self, site: Site, source: Claim) -> Site:
        """A part without its organ, or a bare side, takes the organ that was spoken of."""
        organs = [n for s in source.sites for n in s.nodes]
        if not site.nodes:
            whole = [n for n in organs if self.lex.places.get(n, _NOWHERE).paired]
            keep = not source.finding
            tops = list(dict.fromkeys(n if keep else self._organ(n) for n in (whole or organs)))
            return Site(tuple(tops[:1]), site.side)
        if all(self.lex.places.get(n, _NOWHERE).host for n in site.nodes):
            hosts = [self._organ(n) for n in organs]
            fitting = [h for h in hosts if h in self.lex.places[site.nodes[0]].host]
            return Site((*site.nodes, *fitting[:1]), site.side or (source.sites[0].side if source.sites else ""))
        return site

    def _organ(self, node: str) -> str:
        for name in (node, *self.lex.place_ancestors(node)):
            place = self.lex.places.get(name)
            if place is not None and place.family in ("organ", "vessel", "bone part"):
                return name
        return node

    def _study_values(self) -> None:
        """Slice thickness and the time between studies are of the study, whatever they stand beside."""
        for claim in list(self.claims):
            if not (claim.finding or claim.sites):
                continue
            for value in list(claim.values):
                interval = (
                    value.measure.dimension is Dimension.TIME
                    and value.quantity != "doubling_time"
                    and (value.prior or claim.quantity != "doubling_time")
                )
                total = claim.quantity == "sum_of_diameters" and value.measure.dimension is Dimension.LENGTH
                if value.quantity in ("slice_thickness", "slice_spacing", "field_strength") or interval or total:
                    claim.values.remove(value)
                    quantity = "interval" if interval else claim.quantity if total else value.quantity
                    self.claims.append(
                        Claim(
                            values=[replace(value, prior=value.prior and total, quantity=quantity)], quantity=quantity
                        )
                    )

    def _share_sites(self) -> None:
        """In a list of findings those without a place share the place of their neighbours."""
        for claim in self.claims:
            if claim.sites or not claim.finding or claim.names:
                continue
            if self.lex.findings.get(claim.finding) and self.lex.findings[claim.finding].at:
                continue
            mates = [c for c in self.claims if c.group == claim.group and c.sites]
            if mates:
                claim.sites = list(mates[-1].sites)


class _Nowhere:
    paired = False
    host: tuple[str, ...] = ()


_NOWHERE: Any = _Nowhere()


def _same_slot(a: Value, b: Value, changing: bool = True) -> bool:
    return (
        a.prior == b.prior
        and (a.by == b.by or not changing)
        and a.measure.dimension == b.measure.dimension
        and a.measure.signed == b.measure.signed
        and (a.quantity == b.quantity or not a.quantity or not b.quantity)
    )


def _absorb(claim: Claim, bag: Claim) -> None:
    """Adds what a chunk says to a claim."""
    if bag.finding and not claim.finding:
        claim.finding = bag.finding
    for name in (
        "plural",
        "definite",
        "enlarged_node",
        "target",
        "located",
        "unknown",
        "uptake",
        "hedged",
        "persists",
        "study",
    ):
        setattr(claim, name, getattr(claim, name) or getattr(bag, name))
    for name in (
        "count",
        "partitive",
        "select",
        "factor",
        "normal",
        "size",
        "coverage",
        "avid",
        "severity",
        "relation",
        "relation_site",
        "relation_value",
        "than",
        "than_finding",
        "compared",
        "quantity",
        "ordered_sides",
    ):
        setattr(claim, name, getattr(claim, name) or getattr(bag, name))
    if bag.count is not None and claim.count is not None and bag.count.n > claim.count.n:
        claim.count = bag.count
    claim.names += bag.names
    claim.values += bag.values
    claim.changes += bag.changes
    claim.density += bag.density
    if bag.negated:
        claim.negated = True
