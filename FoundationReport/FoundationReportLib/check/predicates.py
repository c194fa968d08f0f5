# SPDX-License-Identifier: Apache-2.0
"""What a claim says of one thing, or of several: sizes, change, density, uptake, relations, comparisons."""

from __future__ import annotations

from dataclasses import replace

from ..measure.quantities import Dimension, display
from ..model import Fact
from .agreement import Outcome, agree, capital, contradicted, number, supported, unverifiable, worst
from .changing import check_change, check_factor, no_prior
from .claims import Claim, Site, Value
from .compare import check_value
from .matching import organ_nodes, size_of
from .qualities import check_avid, check_density, check_than
from .world import Match, Thing, World


def best_thing(world: World, claim: Claim, things: list[Thing]) -> Thing:
    return min(things, key=lambda t: predicates(world, claim, t).rank)


def best_outcome(world: World, claim: Claim, things: list[Thing]) -> Outcome:
    if claim.plural and len(things) > 1:
        return of_all(world, claim, things)
    return predicates(world, claim, best_thing(world, claim, things))


def of_all(world: World, claim: Claim, things: list[Thing]) -> Outcome:
    """A plural: words hold for each; a bound for each; a number for one of them, or all; "up to" for the largest."""
    outcomes: list[Outcome] = []
    for value in claim.values:
        each = [check_value(world, t, value, claim) for t in things]
        if value.measure.to is not None:
            outcomes.append(span_of(world, value, things, claim))
        elif value.cmp in ("<", ">"):
            outcomes.append(worst(each))
        elif value.cmp == "max":
            top = max(things, key=lambda t: size_of(t, claim))
            outcomes.append(check_value(world, top, value, claim))
        elif claim.select == "all" and len(claim.values) == 1:
            outcomes.append(worst(each))
        else:
            outcomes.append(min(each, key=lambda o: o.rank))
    bare = replace(claim, values=[], persists=claim.persists and claim.count is None)
    outcomes += [predicates(world, bare, t) for t in things]
    return worst(outcomes)


def span_of(world: World, value: Value, things: list[Thing], claim: Claim) -> Outcome:
    to = value.measure.to or 0.0
    low, high = sorted((value.measure.values[0], to))
    sizes = [(t.number(value.quantity or "long_axis"), t) for t in things]
    known = [(n, t) for n, t in sizes if n is not None]
    if not known:
        return unverifiable("Their sizes are not among the facts.")
    dimension = value.measure.dimension or Dimension.UPTAKE
    first, last = min(known, key=lambda p: p[0]), max(known, key=lambda p: p[0])
    good = agree(world, low, first[0], dimension) and agree(world, high, last[0], dimension)
    facts = (first[1].get(value.quantity or "long_axis"), last[1].get(value.quantity or "long_axis"))
    reason = f"They range from {first[0]:g} to {last[0]:g}."
    return supported(reason, *facts) if good else contradicted(reason, *facts)


def predicates(world: World, claim: Claim, thing: Thing) -> Outcome:
    """All that a claim says of one thing."""
    outcomes = [check_value(world, thing, v, claim) for v in claim.values]
    outcomes += [check_change(world, thing, c, claim) for c in claim.changes]
    if claim.factor is not None:
        outcomes.append(check_factor(world, thing, claim.factor, claim))
    if claim.persists and not claim.changes:
        outcomes.append(persists(world, thing))
    for kind in claim.density:
        if claim.than is None:
            outcomes.append(check_density(world, thing, kind, host_of(world, thing)))
    if claim.avid:
        outcomes.append(check_avid(world, thing, claim.avid))
    if claim.than is not None:
        outcomes.append(compared_with(world, claim, thing))
    if claim.relation:
        outcomes.append(relation(world, claim, thing))
    if "lymph node" in thing.findings and (claim.enlarged_node or claim.finding == "lymphadenopathy"):
        outcomes.append(enlarged_node(world, thing, True))
    elif claim.size and thing.findings and "lymph node" in thing.findings:
        outcomes.append(enlarged_node(world, thing, claim.size == "enlarged"))
    elif claim.size == "enlarged" and thing.findings:
        outcomes.append(check_change(world, thing, "larger", claim))
    if claim.normal and thing.findings:
        wrong = claim.normal == "normal"
        outcomes.append(
            contradicted(f"{capital(thing.label)} is a finding.", *thing.facts[:1])
            if wrong
            else supported("It is a finding.", *thing.facts[:1])
        )
    named = world.finding(claim.finding, thing) if claim.finding and claim.finding != "lymphadenopathy" else Match.YES
    if named is Match.UNKNOWN and claim.finding not in ("lesion", "abnormality"):
        outcomes.append(unverifiable(f"No fact says that {thing.label} is a {claim.finding}.", *thing.facts[:1]))
    if not outcomes:
        return supported(f"{capital(thing.label)} is among the facts.", *thing.facts[:1])
    return worst(outcomes)


def persists(world: World, thing: Thing) -> Outcome:
    if not thing.present:
        return contradicted(f"{capital(thing.label)} is gone.", thing.get("trend") or thing.facts[0])
    trend = thing.get("trend")
    if trend is not None and trend.value == "new":
        return contradicted(f"{capital(thing.label)} is new.", trend)
    missing = no_prior(world)
    return missing or supported(f"{capital(thing.label)} is present.", *thing.facts[:1])


def host_of(world: World, thing: Thing) -> Thing | None:
    fitting = [
        o
        for o in world.organs
        if o.get("mean")
        and any(world.lex.place_in(n, k) for n in thing.nodes for k in o.nodes)
        and o.side in ("", thing.side)
        and o is not thing
    ]
    return fitting[0] if fitting else None


def enlarged_node(world: World, thing: Thing, claimed: bool) -> Outcome:
    limit = world.lex.physics["node_short_axis_mm"]["value"]
    short = thing.get("short_axis")
    if short is None:
        return unverifiable(f"The short axis of {thing.label} was not measured.", *thing.facts[:1])
    large = number(short) >= limit
    reason = f"{capital(thing.label)}: short axis {display(short)} ({limit:g} mm and more is enlarged)."
    return supported(reason, short) if large == claimed else contradicted(reason, short)


def compared_with(world: World, claim: Claim, thing: Thing) -> Outcome:
    site = claim.than or Site()
    finding = claim.than_finding or (claim.finding if not site.nodes or (claim.finding and not world.at(site)) else "")
    others = []
    if finding:
        nodes = site.nodes or (
            thing.nodes if not site.side or claim.finding == "" else tuple(organ_nodes(world, Site(thing.nodes)))
        )
        others = [
            t
            for t in world.things
            if t is not thing
            and t.present
            and world.finding(finding, t) is not Match.NO
            and world.place(Site(nodes, site.side), t) is Match.YES
        ]
    if not others:
        others = [o for o in world.at(site if site.nodes else Site(thing.nodes, site.side)) if o is not thing]
    if not others:
        return unverifiable("What it is compared with is not among the facts.", *thing.facts[:1])
    return worst([check_than(world, thing, o, claim) for o in others])


def relation(world: World, claim: Claim, thing: Thing) -> Outcome:
    site = claim.relation_site or Site()
    if claim.relation == "inside":
        return supported("It lies there.", *thing.facts[:1])
    if claim.relation == "near" and site.empty:
        return unverifiable("What it lies near is not said.", *thing.facts[:1])
    facts = [f for f in thing.facts if f.quantity in ("adjacent", "distance", "inside") and object_is(world, f, site)]
    if claim.relation == "distance" and claim.relation_value is not None:
        known = [f for f in facts if f.quantity == "distance"]
        for fact in known:
            good = agree(world, claim.relation_value.values[0], number(fact), Dimension.LENGTH)
            reason = f"{capital(thing.label)}: {display(fact)} away."
            return supported(reason, fact) if good else contradicted(reason, fact)
        touching = next((f for f in facts if f.quantity == "adjacent" and f.value is True), None)
        if touching is not None and claim.relation_value.values[0] > 1:
            return contradicted(f"{capital(thing.label)} touches it.", touching)
        return unverifiable("This distance was not measured.", *thing.facts[:1])
    if claim.relation == "adjacent":
        for fact in facts:
            if fact.quantity == "adjacent":
                good = fact.value is True
            elif fact.quantity == "distance":
                good = number(fact) <= 1.0
            else:
                continue
            reason = f"{capital(thing.label)} {'touches it' if good else 'does not touch it'}."
            return supported(reason, fact) if good else contradicted(reason, fact)
    return unverifiable("No fact speaks of this relation.", *thing.facts[:1])


def object_is(world: World, fact: Fact, site: Site) -> bool:
    other = world.by_id(fact.of)
    if other is not None:
        named = world.place(site, other) is Match.YES or any(n in other.nodes for n in site.nodes)
        return named and world.side(site, other) is not Match.NO
    return any(n in world.lex.key(fact.of) or n == fact.of for n in site.nodes)
