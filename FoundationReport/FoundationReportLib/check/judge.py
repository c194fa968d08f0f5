# SPDX-License-Identifier: Apache-2.0
"""One claim against the facts: which things it speaks of, and whether what it says of them holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..measure.quantities import Dimension, display
from ..model import Fact, Verdict
from .claims import STUDY_QUANTITIES, Claim, Count, Site, Value
from .compare import (
    Outcome, agree, capital, check_avid, check_change, check_density, check_factor, check_than, check_value, contradicted,
    no_prior, number, supported, unverifiable, worst,
)  # fmt: skip
from .study import check_coverage, check_normal, check_size, check_study_value
from .world import Match, Thing, World, fact_ids


@dataclass
class Judged:
    """A claim's outcome and the things that it was about."""

    outcome: Outcome
    things: list[Thing] = field(default_factory=list)


def judge(world: World, claim: Claim, context: list[Thing]) -> Judged:
    """`context`: the things of the sentence before, for "it" and "the lesion"."""
    judged = _judge(world, claim, context)
    if claim.hedged and judged.outcome.verdict is Verdict.SUPPORTED:
        return Judged(replace(judged.outcome, verdict=Verdict.UNVERIFIABLE, reason="It is said with reserve; no fact settles it."), judged.things)
    if claim.hedged and judged.outcome.verdict is Verdict.CONTRADICTED and not claim.values:
        return Judged(replace(judged.outcome, verdict=Verdict.UNVERIFIABLE), judged.things)
    return judged


def _judge(world: World, claim: Claim, context: list[Thing]) -> Judged:
    if claim.coverage and not claim.finding:
        return Judged(check_coverage(world, claim))
    if claim.quantity in STUDY_QUANTITIES and not claim.finding and not claim.sites:
        return Judged(check_study_value(world, claim))
    if claim.names:
        things = [t for t in (world.by_id(i) for i in claim.names) if t is not None]
        return _named_things(world, claim, things)
    if not claim.finding and context and claim.select and (claim.sites or claim.predicated):
        # "The larger one lies in the left lobe": one of those that were spoken of.
        claim = replace(claim, finding=context[0].findings[0] if context[0].findings else "lesion")
        pool = [t for t in context if t.findings]
        if claim.select in ("largest", "smallest") and len(pool) > 1:
            chosen = sorted(pool, key=lambda t: _size_of(t, claim), reverse=claim.select == "largest")[0]
            return _named_things(world, claim, [chosen])
    if claim.finding:
        return _finding(world, claim, context)
    if claim.sites:
        return _organ(world, claim)
    if claim.study and claim.normal:
        return Judged(check_normal(world, claim, Site()))
    if any(v.quantity in STUDY_QUANTITIES for v in claim.values):
        return Judged(check_study_value(world, claim))
    return _headless(world, claim, context)


def _named_things(world: World, claim: Claim, things: list[Thing]) -> Judged:
    """"Target 2 in segment III measures 22 mm": the name decides which thing; place and finding are claims about it."""
    fitting = [t for t in things if all(world.place(s, t) is not Match.NO for s in claim.sites)] or things
    best = _choose(world, claim, fitting)
    outcomes = [_predicates(world, claim, best)]
    for site in claim.sites:
        where = world.place(site, best)
        if where is Match.NO:
            outcomes.append(contradicted(f"{best.subject.name} is {best.label}.", *best.facts[:1]))
        elif where is Match.UNKNOWN:
            outcomes.append(unverifiable(f"Whether {best.subject.name} lies there is not known.", *best.facts[:1]))
    if claim.finding and world.finding(claim.finding, best) is Match.NO and claim.finding != "lesion":
        outcomes.append(contradicted(f"{best.subject.name} is {best.label}.", *best.facts[:1]))
    if claim.negated:
        gone = not best.present
        outcomes.append(supported("It is gone.", *best.facts[:1]) if gone else contradicted("It is present.", *best.facts[:1]))
    return Judged(worst(outcomes), [best])


def _headless(world: World, claim: Claim, context: list[Thing]) -> Judged:
    """No thing is named: what was spoken of before, or the study as a whole."""
    if context and claim.predicated:
        if claim.changes and claim.study and not claim.values:
            return Judged(_whole_study_change(world, claim))
        return Judged(_best(world, claim, context), context)
    if claim.normal:
        return Judged(check_normal(world, claim, Site()))
    if claim.values and all(v.prior and v.measure.dimension is Dimension.LENGTH for v in claim.values) and not context:
        return Judged(check_study_value(world, replace(claim, quantity="baseline_sum")))
    if claim.changes:
        return Judged(_whole_study_change(world, claim))
    if claim.values and (claim.study or all(v.measure.dimension is Dimension.TIME for v in claim.values)):
        return Judged(check_study_value(world, claim))
    if claim.select and claim.count is None and claim.negated and world.counts:
        return Judged(_no_others(world))
    if claim.count is not None and claim.plural:
        return Judged(unverifiable("What is counted is not said."))
    return Judged(unverifiable("What this is about could not be told."))


def _no_others(world: World) -> Outcome:
    if all(world._accounted(c) for c in world.counts):
        return supported("All that was counted is among the facts.", *(c.fact for c in world.counts))
    return unverifiable("Whether there are others is not known.")


def _whole_study_change(world: World, claim: Claim) -> Outcome:
    missing = no_prior(world)
    if missing is not None:
        return missing
    outcomes = []
    for change in claim.changes:
        for thing in world.things:
            if thing.get("trend") or thing.get("prior") or thing.get("change"):
                outcomes.append(check_change(world, thing, change, claim))
    if claim.changes == ["stable"] and outcomes:
        return worst(outcomes)
    return unverifiable("What has changed is not said.")


# --- which things -----------------------------------------------------------------------------------------------------


def _sites(world: World, claim: Claim) -> list[Site]:
    sites = claim.sites or [Site()]
    out: list[Site] = []
    for site in sites:
        if claim.finding == "fracture" and site.nodes == ("pelvis",):
            site = replace(site, nodes=("pelvic bone",))
        if site.side == "both" and site.nodes and not any(_paired(world, n) for n in site.nodes):
            out.append(replace(site, side=""))
        elif site.side == "both":
            out += [replace(site, side="left"), replace(site, side="right")]
        else:
            out.append(site)
    return out


def _paired(world: World, node: str) -> bool:
    place = world.lex.places.get(node)
    return place is None or place.paired or bool(place.host)


def _matching(world: World, claim: Claim, site: Site, least: Match = Match.YES, gone: bool = False) -> list[Thing]:
    found = []
    for thing in world.things:
        if not thing.present and not gone:
            continue
        if claim.target and not thing.get("target") and any(t.get("target") for t in world.things):
            continue
        kind = _kind(world, claim, thing)
        if min(kind, world.place(site, thing)) >= least:
            found.append(thing)
    return found


def _kind(world: World, claim: Claim, thing: Thing) -> Match:
    finding = "lymph node" if claim.finding == "lymphadenopathy" else claim.finding
    if claim.target and thing.get("target"):
        return Match.YES
    match = world.finding(finding, thing)
    if match is Match.NO and finding in ("lesion", "abnormality") and "lymph node" in thing.findings:
        loose = not claim.sites and (claim.changes or claim.select or claim.count is None)
        return Match.YES if loose and not claim.values else Match.UNKNOWN if not claim.sites else Match.NO
    return match


def _size_of(thing: Thing, claim: Claim) -> float:
    if claim.uptake or claim.quantity.startswith("suv") or claim.avid:
        return thing.number("suv_max") or thing.number("suv_mean") or -1.0
    return thing.number("long_axis") or thing.number("max_diameter_3d") or (thing.number("volume") or 0.0) ** (1 / 3) or -1.0


# --- findings ---------------------------------------------------------------------------------------------------------


def _finding(world: World, claim: Claim, context: list[Thing]) -> Judged:
    if claim.coverage:
        return Judged(unverifiable("Whether this was assessed is not among the facts."))
    if claim.finding == "aneurysm" and claim.sites:
        sized = replace(claim, finding="", size="normal" if claim.negated else "enlarged", negated=False, density=[])
        judged = _organ(world, sized)
        if judged.outcome.verdict is not Verdict.UNVERIFIABLE:
            return judged
    if claim.finding == "organomegaly":
        sized = replace(claim, finding="", size="normal" if claim.negated else "enlarged", negated=False)
        return _organ(world, sized)
    if claim.negated:
        outcome = worst([_no_finding(world, claim, site) for site in _sites(world, claim)])
        if claim.unknown and not claim.sites and outcome.verdict is Verdict.CONTRADICTED:
            # Of what exactly it is denied was not understood.
            outcome = replace(outcome, verdict=Verdict.UNVERIFIABLE)
        return Judged(outcome)
    if claim.partitive is not None and claim.count is not None:
        return _some_of(world, claim)
    if claim.size in ("enlarged", "normal") and claim.finding == "lymph node":
        claim.enlarged_node = claim.size == "enlarged"
    if not claim.sites and context and claim.definite and not claim.plural:
        fitting = [t for t in context if _kind(world, claim, t) is not Match.NO]
        if fitting:
            return Judged(_best(world, claim, fitting), fitting)
    if claim.select in ("largest", "smallest", "second"):
        claim.sites = [replace(s, side="") if s.side == "both" else s for s in claim.sites]
    if claim.plural and len(_sites(world, claim)) > 1 and any(v.cmp or v.measure.to is not None for v in claim.values):
        # "Nodules in both lungs, up to 14 mm": there on each side; the number is of all of them.
        bare = replace(claim, values=[])
        parts = [_finding_at(world, bare, site) for site in _sites(world, claim)]
        things = [t for p in parts for t in p.things]
        outcomes = [p.outcome for p in parts] + ([_of_all(world, replace(claim, changes=[]), things)] if things else [])
        return Judged(worst(outcomes), things)
    parts = [_finding_at(world, claim, site) for site in _sites(world, claim)]
    if claim.count is not None and claim.count.n > 1 and len(parts) > 1:
        things = [t for p in parts for t in p.things]
        return Judged(worst([_count_total(world, claim, things), *(p.outcome for p in parts if not p.things)]), things)
    return Judged(worst([p.outcome for p in parts]), [t for p in parts for t in p.things])


def _some_of(world: World, claim: Claim) -> Judged:
    """"Two of the three lesions lie in the left lobe": the whole, and how many of it are so."""
    sites = _sites(world, claim)
    organs = Site(tuple(dict.fromkeys(n for s in sites for n in _organ_nodes(world, s))))
    pool = _matching(world, claim, organs) or _matching(world, claim, Site())
    bare = replace(claim, partitive=None, count=None, plural=False)
    good = [t for t in pool if any(world.place(s, t) is Match.YES for s in sites) and _predicates(world, bare, t).verdict is Verdict.SUPPORTED]
    whole = _counted(len(pool), replace(claim.count or Count("=", 0), strict=True), (), pool)
    some = _counted(len(good), replace(claim.partitive or Count("=", 0), strict=True), (), good)
    outcome = worst([whole, some])
    return Judged(replace(outcome, facts=fact_ids(f for t in (good or pool) for f in t.facts[:1])), good)


def _count_total(world: World, claim: Claim, things: list[Thing]) -> Outcome:
    site = replace(claim.sites[0], side="both" if claim.sites[0].side == "both" else claim.sites[0].side)
    if claim.sites[0].side == "both" and len(claim.sites) == 1:
        return _count(world, claim, replace(site, side=""), things)
    return _counted(len(things), claim.count, None, things)


def _finding_at(world: World, claim: Claim, site: Site) -> Judged:
    resolved = "resolved" in claim.changes or "not resolved" in claim.changes or "stable" in claim.changes or claim.persists
    yes = _matching(world, claim, site, gone="resolved" in claim.changes)
    if not yes and resolved:
        yes = _matching(world, claim, site, gone=True)
    if "resolved" in claim.changes and any(not t.present for t in yes):
        yes = [t for t in yes if not t.present]
    if claim.select in ("largest", "smallest", "second"):
        return _selected(world, claim, site, yes)
    if yes:
        return _of_things(world, claim, site, yes)
    return _nothing_there(world, claim, site)


def _selected(world: World, claim: Claim, site: Site, here: list[Thing]) -> Judged:
    """"The largest": of those at the place, or of those in the whole organ, which then has to be at the place."""
    organ = Site(tuple(_organ_nodes(world, site)), "")
    pools = [[] if claim.located else here, _matching(world, claim, organ), _matching(world, claim, Site())]
    tried: list[tuple[Outcome, Thing]] = []
    for pool in pools:
        ranked = sorted(pool, key=lambda t: _size_of(t, claim), reverse=claim.select != "smallest")
        place = 1 if claim.select == "second" else 0
        if len(ranked) <= place or (len(ranked) == 1 and claim.select == "smallest"):
            if len(ranked) != 1:
                continue
            place = 0
        chosen = ranked[place]
        where = world.place(site, chosen)
        outcome = _predicates(world, claim, chosen)
        if where is Match.NO:
            outcome = contradicted(f"That is {chosen.label}.", *chosen.facts[:1])
        elif where is Match.UNKNOWN:
            outcome = worst([outcome, unverifiable(f"Whether {chosen.label} lies there is not known.", *chosen.facts[:1])])
        tried.append((outcome, chosen))
        if outcome.verdict is Verdict.SUPPORTED:
            break
    if not tried:
        return _nothing_there(world, claim, site)
    outcome, thing = min(tried, key=lambda pair: pair[0].rank)
    if claim.select == "second" and outcome.verdict is not Verdict.SUPPORTED and here:
        return _of_things(world, replace(claim, select="other"), site, here)
    return Judged(outcome, [thing])


def _organ_nodes(world: World, site: Site) -> list[str]:
    out = []
    for node in site.nodes:
        for name in sorted(world.lex.place_ancestors(node)):
            place = world.lex.places.get(name)
            if place is not None and place.family == "organ" and name not in out:
                out.append(name)
    return out


def _of_things(world: World, claim: Claim, site: Site, things: list[Thing]) -> Judged:
    many = claim.plural or (claim.count is not None and claim.count.n > 1) or claim.select == "all"
    if claim.count is not None and (claim.count.strict or claim.count.n > 1 or claim.count.op == ">="):
        counted = _count(world, claim, site, things)
    else:
        counted = supported(f"{capital(things[0].label)} is among the facts.", *(f for t in things for f in t.facts[:1]))
    if many:
        return Judged(worst([counted, _of_all(world, claim, things)]), things)
    best = _choose(world, claim, things)
    outcome = _predicates(world, claim, best)
    if claim.severity and best.severity and claim.severity != best.severity:
        outcome = contradicted(f"The facts say {best.severity}.", *best.facts[:1])
    return Judged(worst([counted, outcome]) if outcome.rank or counted.rank else outcome, [best])


def _choose(world: World, claim: Claim, things: list[Thing]) -> Thing:
    return min(things, key=lambda t: _predicates(world, claim, t).rank)


def _best(world: World, claim: Claim, things: list[Thing]) -> Outcome:
    if claim.plural and len(things) > 1:
        return _of_all(world, claim, things)
    return _predicates(world, claim, _choose(world, claim, things))


def _of_all(world: World, claim: Claim, things: list[Thing]) -> Outcome:
    """A plural: words hold for each; a bound for each; a number for one of them; "up to" for the largest."""
    outcomes: list[Outcome] = []
    for value in claim.values:
        each = [check_value(world, t, value, claim) for t in things]
        if value.measure.to is not None:
            outcomes.append(_range(world, value, things, claim))
        elif value.cmp in ("<", ">"):
            outcomes.append(worst(each))
        elif value.cmp == "max":
            top = max(things, key=lambda t: _size_of(t, claim))
            outcomes.append(check_value(world, top, value, claim))
        else:
            outcomes.append(min(each, key=lambda o: o.rank))
    bare = replace(claim, values=[])
    outcomes += [_predicates(world, bare, t) for t in things]
    return worst(outcomes)


def _range(world: World, value: Value, things: list[Thing], claim: Claim) -> Outcome:
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


def _predicates(world: World, claim: Claim, thing: Thing) -> Outcome:
    """All that a claim says of one thing."""
    outcomes = [check_value(world, thing, v, claim) for v in claim.values]
    outcomes += [check_change(world, thing, c, claim) for c in claim.changes]
    if claim.factor is not None:
        outcomes.append(check_factor(world, thing, claim.factor, claim))
    if claim.persists and not claim.changes:
        outcomes.append(_persists(world, thing))
    for kind in claim.density:
        if claim.than is None:
            outcomes.append(check_density(world, thing, kind, _host(world, thing)))
    if claim.avid:
        outcomes.append(check_avid(world, thing, claim.avid))
    if claim.than is not None:
        outcomes.append(_than(world, claim, thing))
    if claim.relation:
        outcomes.append(_relation(world, claim, thing))
    if "lymph node" in thing.findings and (claim.enlarged_node or claim.finding == "lymphadenopathy"):
        outcomes.append(_enlarged_node(world, thing, True))
    elif claim.size and thing.findings and "lymph node" in thing.findings:
        outcomes.append(_enlarged_node(world, thing, claim.size == "enlarged"))
    elif claim.size == "enlarged" and thing.findings:
        outcomes.append(check_change(world, thing, "larger", claim))
    if claim.normal and thing.findings:
        wrong = claim.normal == "normal"
        outcomes.append(contradicted(f"{capital(thing.label)} is a finding.", *thing.facts[:1]) if wrong else supported("It is a finding.", *thing.facts[:1]))
    kind = world.finding(claim.finding, thing) if claim.finding and claim.finding != "lymphadenopathy" else Match.YES
    if kind is Match.UNKNOWN and not (claim.finding in ("lesion", "abnormality")):
        outcomes.append(unverifiable(f"No fact says that {thing.label} is a {claim.finding}.", *thing.facts[:1]))
    if not outcomes:
        return supported(f"{capital(thing.label)} is among the facts.", *thing.facts[:1])
    return worst(outcomes)


def _persists(world: World, thing: Thing) -> Outcome:
    if not thing.present:
        return contradicted(f"{capital(thing.label)} is gone.", thing.get("trend") or thing.facts[0])
    trend = thing.get("trend")
    if trend is not None and trend.value == "new":
        return contradicted(f"{capital(thing.label)} is new.", trend)
    missing = no_prior(world)
    return missing or supported(f"{capital(thing.label)} is present.", *thing.facts[:1])


def _host(world: World, thing: Thing) -> Thing | None:
    fitting = [o for o in world.organs if o.get("mean") and any(world.lex.place_in(n, k) for n in thing.nodes for k in o.nodes) and o.side in ("", thing.side)]
    return fitting[0] if fitting else None


def _enlarged_node(world: World, thing: Thing, claimed: bool) -> Outcome:
    limit = world.lex.physics["node_short_axis_mm"]["value"]
    short = thing.get("short_axis")
    if short is None:
        return unverifiable(f"The short axis of {thing.label} was not measured.", *thing.facts[:1])
    large = number(short) >= limit
    reason = f"{capital(thing.label)}: short axis {display(short)} ({limit:g} mm and more is enlarged)."
    return supported(reason, short) if large == claimed else contradicted(reason, short)


def _than(world: World, claim: Claim, thing: Thing) -> Outcome:
    site = claim.than or Site()
    finding = claim.than_finding or (claim.finding if not site.nodes or claim.finding and not world.at(site) else "")
    others = []
    if finding:
        nodes = site.nodes or (thing.nodes if not site.side or claim.finding == "" else tuple(_organ_nodes(world, Site(thing.nodes))))
        others = [t for t in world.things if t is not thing and t.present and world.finding(finding, t) is not Match.NO and world.place(Site(nodes, site.side), t) is Match.YES]
    if not others:
        others = [o for o in world.at(site if site.nodes else Site(thing.nodes, site.side)) if o is not thing]
    if not others:
        return unverifiable("What it is compared with is not among the facts.", *thing.facts[:1])
    return worst([check_than(world, thing, o, claim) for o in others])


def _relation(world: World, claim: Claim, thing: Thing) -> Outcome:
    site = claim.relation_site or Site()
    if claim.relation == "inside":
        return supported("It lies there.", *thing.facts[:1])
    if claim.relation == "near" and site.empty:
        return unverifiable("What it lies near is not said.", *thing.facts[:1])
    facts = [f for f in thing.facts if f.quantity in ("adjacent", "distance", "inside") and _object_is(world, f, site)]
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


def _object_is(world: World, fact: Fact, site: Site) -> bool:
    other = world.by_id(fact.of)
    if other is not None:
        return world.place(site, other) is Match.YES or any(n in other.nodes for n in site.nodes)
    return any(n in world.lex.key(fact.of) or n == fact.of for n in site.nodes)


# --- counts -----------------------------------------------------------------------------------------------------------


def _count(world: World, claim: Claim, site: Site, things: list[Thing]) -> Outcome:
    known = world.counted(claim.finding, site)
    if known is not None and not claim.avid and not set(claim.changes) - {"stable"} and not claim.enlarged_node and claim.select != "other":
        n, facts, exhaustive = known
        return _counted(max(n, 0), claim.count, facts, things, exhaustive)
    kept = things
    if claim.avid:
        kept = [t for t in kept if check_avid(world, t, claim.avid).verdict is Verdict.SUPPORTED] or kept
    if claim.enlarged_node:
        kept = [t for t in kept if _enlarged_node(world, t, True).verdict is Verdict.SUPPORTED] or kept
    if set(claim.changes) - {"stable"}:
        kept = [t for t in kept if check_change(world, t, claim.changes[0], claim).verdict is Verdict.SUPPORTED] or kept
    exhaustive = world.absent(claim.finding, site) is not None
    return _counted(len(kept), claim.count, None, kept, exhaustive)


def _counted(n: int, count: Count | None, facts: tuple[Fact, ...] | None, things: list[Thing], exhaustive: bool = False) -> Outcome:
    if count is None:
        return supported("Present.", *(f for t in things for f in t.facts[:1]))
    named = facts if facts is not None else tuple(f for t in things for f in t.facts[:1])
    reason = f"The facts count {n}."
    if count.op == "<=":
        return supported(reason, *named) if n <= count.n else contradicted(reason, *named)
    if count.op == ">=":
        if n >= count.n:
            return supported(reason, *named)
        return contradicted(reason, *named) if facts is not None or exhaustive or n == 0 else unverifiable(reason, *named)
    if n == count.n:
        if count.strict and count.n == 1 and facts is None and not exhaustive:
            return unverifiable("Whether it is the only one is not known.", *named)
        return supported(reason, *named)
    if count.n == 1 and not count.strict:
        return supported(reason, *named)
    return contradicted(reason, *named)


# --- nothing there, and negation --------------------------------------------------------------------------------------


def _nothing_there(world: World, claim: Claim, site: Site) -> Judged:
    """No thing is what the claim speaks of. The nearest one says what is wrong, if anything does."""
    outside = _outside(world, claim, site)
    if outside is not None:
        return Judged(outside)
    if claim.sites and not site.nodes and site.side == "":
        return Judged(unverifiable("No fact speaks of this."))
    maybe = [t for t in _matching(world, claim, site, Match.UNKNOWN)]
    if maybe:
        best = _choose(world, claim, maybe)
        outcome = _predicates(world, claim, best)
        if outcome.verdict is Verdict.SUPPORTED or world.place(site, best) is Match.YES:
            outcome = worst([outcome, unverifiable(f"It may be {best.label}; no fact says so.", *best.facts[:1])])
        if outcome.verdict is Verdict.CONTRADICTED and world.place(site, best) is Match.UNKNOWN and not claim.definite:
            outcome = replace(outcome, verdict=Verdict.UNVERIFIABLE)
        absent = world.absent(claim.finding, site)
        if absent is None or outcome.verdict is not Verdict.UNVERIFIABLE or world.place(site, best) is Match.UNKNOWN:
            return Judged(outcome, [best])
    known = [t for t in world.things if _kind(world, claim, t) is Match.YES and t.present]
    other_side = [t for t in known if world.nodes(site.nodes, t) is Match.YES and world.side(site, t) is Match.NO]
    if other_side:
        return Judged(contradicted(f"{capital(other_side[0].label)} is on the other side.", *other_side[0].facts[:1]), [])
    absent = world.absent(claim.finding, site)
    if absent is not None:
        return Judged(contradicted("It was searched for and not found there.", *absent))
    part = [t for t in known if world.nodes(tuple(_organ_nodes(world, site)), t) is Match.YES and site.nodes]
    if part:
        return Judged(contradicted(f"The facts place it elsewhere: {part[0].label}.", *part[0].facts[:1]), [])
    fitting = [t for t in known if claim.values and _values_fit(world, claim, t)]
    if fitting:
        return Judged(contradicted(f"With these numbers the facts have {fitting[0].label}.", *fitting[0].facts[:1]), [])
    specific = [t for t in known if (claim.definite or claim.changes or "lymph node" in t.findings) and (claim.values or claim.definite)]
    if specific and claim.finding not in ("lesion", "abnormality"):
        return Judged(contradicted(f"The facts know {specific[0].label}.", *specific[0].facts[:1]), [])
    if claim.changes or claim.persists:
        missing = no_prior(world)
        if missing is not None:
            return Judged(missing)
    gone = [t for t in world.things if not t.present and _kind(world, claim, t) is Match.YES and world.place(site, t) is Match.YES]
    if gone:
        return Judged(contradicted(f"{capital(gone[0].label)} is gone.", *gone[0].facts[:1]))
    return Judged(unverifiable("No fact speaks of this."))


def _values_fit(world: World, claim: Claim, thing: Thing) -> bool:
    return all(check_value(world, thing, v, claim).verdict is Verdict.SUPPORTED for v in claim.values)


def _outside(world: World, claim: Claim, site: Site) -> Outcome | None:
    nodes = site.nodes or (world.lex.findings[claim.finding].at if claim.finding in world.lex.findings else ())
    covered = world.coverage(Site(nodes, site.side))
    outside = [f for _, f in covered if f.value == "outside_view"]
    if outside and len(outside) == len(covered):
        return contradicted("That lies outside the field of view.", *outside)
    return None


def _no_finding(world: World, claim: Claim, site: Site) -> Outcome:
    """"No such thing": what is there says otherwise; only a search or an exhaustive count says so."""
    outside = _outside(world, claim, site)
    if outside is not None:
        return outside
    bare = replace(claim, negated=False, count=None, plural=False)
    if claim.select == "other":
        absent = world.absent(claim.finding, site)
        return supported("All of them are among the facts.", *absent) if absent else unverifiable("Whether there are others is not known.")
    if claim.changes and "new" not in claim.changes:
        yes = _matching(world, claim, site)
        return worst([check_change(world, t, _opposite(c), claim) for t in yes for c in claim.changes]) if yes else unverifiable("No fact speaks of this.")
    yes = [t for t in _matching(world, claim, site) if _qualifies(world, bare, t)]
    if yes:
        return contradicted(f"{capital(yes[0].label)} is among the facts.", *(f for t in yes for f in t.facts[:1]))
    maybe = [t for t in _matching(world, claim, site, Match.UNKNOWN) if _maybe(world, bare, site, t)]
    absent = world.absent(claim.finding, site)
    if claim.changes:
        return _no_new(world, claim, site, absent)
    if claim.finding == "lymphadenopathy" or claim.enlarged_node or claim.size == "enlarged":
        nodes = _matching(world, replace(claim, finding="lymph node"), site)
        if nodes and absent is None:
            return supported("No measured lymph node there is enlarged.", *(t.get("short_axis") for t in nodes))
    if (claim.values or claim.avid) and absent is None:
        others = _matching(world, claim, site)
        if others:
            return supported("None of those measured is so.", *(f for t in others for f in t.facts[:1]))
    if absent is not None and not any(_counts_as(world, claim, t) for t in maybe):
        return supported("It was searched for and not found.", *absent)
    if _elsewhere_only(world, claim, site):
        return unverifiable("Whether it was searched for there is not known.")
    return unverifiable("Whether this was searched for is not known.")


def _opposite(change: str) -> str:
    return change.removeprefix("not ") if change.startswith("not ") else f"not {change}"


def _counts_as(world: World, claim: Claim, thing: Thing) -> bool:
    return world.finding(claim.finding, thing) is Match.UNKNOWN and claim.finding not in ("nodule", "mass")


def _elsewhere_only(world: World, claim: Claim, site: Site) -> bool:
    return bool(site.nodes) and any(world.finding(claim.finding, t) is Match.YES for t in world.things)


def _qualifies(world: World, claim: Claim, thing: Thing) -> bool:
    """Whether a thing is what is denied: "no enlarged node", "no nodule above 8 mm", "no new lesion", "no mass"."""
    if claim.finding == "lymph node" and claim.size == "enlarged":
        claim = replace(claim, enlarged_node=True, size="")
    if claim.changes or claim.values or claim.avid or claim.enlarged_node or claim.finding == "lymphadenopathy" or claim.density:
        return _predicates(world, replace(claim, relation="", than=None), thing).verdict is Verdict.SUPPORTED
    if claim.finding == "mass" and "mass" not in thing.findings and "nodule" in thing.findings:
        return (thing.number("long_axis") or 0.0) >= world.lex.physics["mass_mm"]["value"]
    return True


def _maybe(world: World, claim: Claim, site: Site, thing: Thing) -> bool:
    return min(_kind(world, claim, thing), world.place(site, thing)) is Match.UNKNOWN


def _no_new(world: World, claim: Claim, site: Site, absent: tuple[Fact, ...] | None) -> Outcome:
    missing = no_prior(world)
    if missing is not None:
        return missing
    known = _matching(world, claim, site)
    trends = [t.get("trend") for t in known]
    if known and all(t is not None for t in trends):
        return supported("None of them is new.", *trends)
    compared = [t for t in known if t.get("prior") or t.get("trend")]
    if known and len(compared) == len(known):
        return supported("All of them were there before.", *(t.get("prior") or t.get("trend") for t in known))
    if absent is not None and not known:
        return supported("It was searched for and not found.", *absent)
    return unverifiable("Whether there are new ones is not known.")


# --- organs -----------------------------------------------------------------------------------------------------------


def _organ(world: World, claim: Claim) -> Judged:
    outcomes: list[Outcome] = []
    things: list[Thing] = []
    for site in _sites(world, claim):
        judged = _organ_at(world, claim, site)
        outcomes.append(judged.outcome)
        things += judged.things
    return Judged(worst(outcomes), things)


def _organ_at(world: World, claim: Claim, site: Site) -> Judged:
    covered = world.coverage(site)
    outside = [f for _, f in covered if f.value == "outside_view"]
    if outside and len(outside) == len(covered) and claim.predicated:
        return Judged(contradicted("That lies outside the field of view.", *outside))
    outcomes: list[Outcome] = []
    things: list[Thing] = []
    if claim.normal and not (claim.quantity and claim.values):
        if claim.quantity and not claim.values:
            outcomes.append(unverifiable("Whether this value is normal is not among the facts."))
        else:
            outcomes.append(check_normal(world, claim, site))
    if claim.size:
        outcomes.append(check_size(world, claim, site))
    if claim.avid or (claim.uptake and claim.negated):
        found = [t for t in world.things if t.present and world.place(site, t) is Match.YES and t.get("suv_max")]
        outcomes.append(_best(world, replace(claim, values=[]), found) if found else unverifiable("The uptake there is not among the facts."))
    if claim.values or claim.changes or claim.factor or claim.density or claim.than is not None or claim.relation:
        organs = world.at(site)
        bare = replace(claim, normal="", size="", avid="", count=None)
        # "RUL: 14 mm, stable": a place may stand for the thing that is there.
        lesions = [t for t in world.things if world.place(site, t) is Match.YES and (t.present or claim.changes)]
        tried = [(_best(world, bare, [o]), [o]) for o in organs] + ([(_best(world, bare, lesions), lesions)] if lesions else [])
        if len(organs) > 1 and not claim.values:
            tried = [(worst([_predicates(world, bare, o) for o in organs]), organs)] + tried[len(organs) :]
        if tried:
            outcome, things = _known(tried)
            if outcome.verdict is Verdict.CONTRADICTED and organs and any(v.measure.dimension is None and not v.quantity for v in claim.values):
                outcome, things = tried[0]
            if len(organs) > 1 and claim.values and outcome.verdict is not Verdict.SUPPORTED:
                total = _total(world, claim, organs)
                outcome = total or outcome
            outcomes.append(outcome)
        else:
            missing = no_prior(world) if claim.changes or any(v.prior for v in claim.values) else None
            outcomes.append(missing or unverifiable("No fact speaks of this."))
    if claim.count is not None and not outcomes:
        lesions = [t for t in world.things if world.place(site, t) is Match.YES and t.present]
        outcomes.append(_counted(len(lesions), claim.count, None, lesions) if lesions else unverifiable("No fact speaks of this."))
        things = lesions
    if not outcomes:
        present = world.at(site)
        if claim.negated:
            outcomes.append(unverifiable("What is denied could not be told."))
        elif present:
            outcomes.append(unverifiable("Nothing is said of it that could be checked.", *present[0].facts[:1]))
        else:
            outcomes.append(unverifiable("No fact speaks of this."))
    return Judged(worst(outcomes), things)


def _known(tried: list[tuple[Outcome, list[Thing]]]) -> tuple[Outcome, list[Thing]]:
    """Support wins over contradiction, and contradiction over not knowing: one of the things was meant."""
    order = {Verdict.SUPPORTED: 0, Verdict.CONTRADICTED: 1, Verdict.UNVERIFIABLE: 2}
    return min(tried, key=lambda pair: order[pair[0].verdict])


def _total(world: World, claim: Claim, organs: list[Thing]) -> Outcome | None:
    """"Both kidneys together 307 mL", "the lungs have a volume of 5 L"."""
    for value in claim.values:
        if value.measure.dimension is Dimension.VOLUME:
            facts = [o.get("volume") for o in organs]
            if all(f is not None for f in facts):
                whole = sum(number(f) for f in facts if f is not None)
                if agree(world, value.measure.values[0], whole, Dimension.VOLUME, value.cmp == "~"):
                    return supported(f"Together {whole:g} mL.", *facts)
    return None


__all__ = ["Judged", "fact_ids", "judge"]
