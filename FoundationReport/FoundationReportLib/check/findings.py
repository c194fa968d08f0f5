# SPDX-License-Identifier: Apache-2.0
"""Claims about findings: which things they are about, and whether what is said of these holds."""

from __future__ import annotations

from dataclasses import replace

from ..model import Verdict
from .absence import no_finding, nothing_there
from .agreement import Outcome, capital, contradicted, supported, unverifiable, worst
from .claims import Claim, Count, Site, many
from .counting import compare_counts, count_things
from .judged import Judged
from .matching import kind_match, organ_nodes, sites_of, size_of, things_at
from .organs import judge_organ
from .predicates import best_outcome, best_thing, of_all, predicates
from .world import Match, Thing, World, fact_ids


def judge_finding(world: World, claim: Claim, context: list[Thing]) -> Judged:
    if claim.coverage:
        return Judged(unverifiable("Whether this was assessed is not among the facts."))
    if claim.finding == "aneurysm" and claim.sites and not many(claim):
        sized = replace(claim, finding="", size="normal" if claim.negated else "enlarged", negated=False, density=[])
        judged = judge_organ(world, sized)
        if judged.outcome.verdict is not Verdict.UNVERIFIABLE:
            return judged
    if claim.finding == "organomegaly":
        sized = replace(claim, finding="", size="normal" if claim.negated else "enlarged", negated=False)
        return judge_organ(world, sized)
    if claim.negated:
        outcome = worst([no_finding(world, claim, site) for site in sites_of(world, claim)])
        if (claim.restricted or (claim.unknown and not claim.sites)) and outcome.verdict is Verdict.CONTRADICTED:
            # Of what exactly it is denied was not understood.
            outcome = replace(outcome, verdict=Verdict.UNVERIFIABLE)
        return Judged(outcome)
    if claim.partitive is not None and claim.count is not None:
        return some_of(world, claim)
    if claim.sole is not None and claim.located and not _narrowed(claim):
        pool = things_at(world, replace(claim, sites=[]), claim.sole)
        if len(pool) > 1:
            return Judged(contradicted(f"The facts have {len(pool)}.", *(f for t in pool for f in t.facts[:1])), pool)
    if claim.lies and claim.select == "all" and not claim.predicated:
        elsewhere = _not_there(world, claim)
        if elsewhere is not None:
            return Judged(contradicted(f"{capital(elsewhere.label)} does not lie there.", *elsewhere.facts[:1]))
    if claim.size in ("enlarged", "normal") and claim.finding == "lymph node":
        claim.enlarged_node = claim.size == "enlarged"
    if not claim.sites and context and claim.definite and not claim.plural:
        fitting = [t for t in context if t.findings and kind_match(world, claim, t) is not Match.NO]
        if fitting:
            return Judged(best_outcome(world, claim, fitting), fitting)
    if claim.select in ("largest", "smallest", "second"):
        claim.sites = [replace(s, side="") if s.side == "both" else s for s in claim.sites]
    if (
        claim.plural
        and len(sites_of(world, claim)) > 1
        and any(v.cmp or v.measure.to is not None for v in claim.values)
    ):
        # "Nodules in both lungs, up to 14 mm": there on each side; the number is of all of them.
        bare = replace(claim, values=[])
        parts = [finding_at(world, bare, site) for site in sites_of(world, claim)]
        things = [t for p in parts for t in p.things]
        outcomes = [p.outcome for p in parts] + ([of_all(world, replace(claim, changes=[]), things)] if things else [])
        return Judged(worst(outcomes), things)
    parts = [finding_at(world, claim, site) for site in sites_of(world, claim)]
    if claim.count is not None and claim.count.n > 1 and len(parts) > 1:
        things = [t for p in parts for t in p.things]
        return Judged(worst([count_total(world, claim, things), *(p.outcome for p in parts if not p.things)]), things)
    return Judged(worst([p.outcome for p in parts]), [t for p in parts for t in p.things])


def _narrowed(claim: Claim) -> bool:
    """ "The only new lesion", "the only node above 10 mm": the only one of those that are so."""
    bounds = any(v.cmp for v in claim.values)
    narrow = claim.changes or claim.avid or claim.enlarged_node or claim.size or claim.density or claim.restricted
    return bool(bounds or narrow or claim.unknown or claim.plural or claim.target or claim.finding == "abnormality")


def _not_there(world: World, claim: Claim) -> Thing | None:
    """ "Both lesions lie in the left lobe": one of them in the same organ that does not."""
    sites = sites_of(world, claim)
    organs = Site(tuple(dict.fromkeys(n for s in sites for n in organ_nodes(world, s))))
    if not organs.nodes:
        return None
    pool = things_at(world, replace(claim, sites=[]), organs)
    return next((t for t in pool if all(world.place(s, t) is Match.NO for s in sites)), None)


def some_of(world: World, claim: Claim) -> Judged:
    """ "Two of the three lesions lie in the left lobe": the whole, and how many of it are so."""
    sites = sites_of(world, claim)
    organs = Site(tuple(dict.fromkeys(n for s in sites for n in organ_nodes(world, s))))
    pool = things_at(world, claim, organs) or things_at(world, claim, Site())
    bare = replace(claim, partitive=None, count=None, plural=False)
    good = [
        t
        for t in pool
        if any(world.place(s, t) is Match.YES for s in sites)
        and predicates(world, bare, t).verdict is Verdict.SUPPORTED
    ]
    whole = compare_counts(len(pool), replace(claim.count or Count("=", 0), strict=True), (), pool)
    some = compare_counts(len(good), replace(claim.partitive or Count("=", 0), strict=True), (), good)
    outcome = worst([whole, some])
    return Judged(replace(outcome, facts=fact_ids(f for t in (good or pool) for f in t.facts[:1])), good)


def count_total(world: World, claim: Claim, things: list[Thing]) -> Outcome:
    if claim.sites[0].side == "both" and len(claim.sites) == 1:
        return count_things(world, claim, replace(claim.sites[0], side=""), things)
    return compare_counts(len(things), claim.count, None, things)


def finding_at(world: World, claim: Claim, site: Site) -> Judged:
    resolved = (
        "resolved" in claim.changes or "not resolved" in claim.changes or "stable" in claim.changes or claim.persists
    )
    yes = things_at(world, claim, site, gone="resolved" in claim.changes)
    if not yes and resolved:
        yes = things_at(world, claim, site, gone=True)
    all_of_them = claim.select == "all" or (claim.plural and claim.definite)
    if "resolved" in claim.changes and any(not t.present for t in yes) and not all_of_them:
        yes = [t for t in yes if not t.present]
    if claim.select in ("largest", "smallest", "second"):
        return selected(world, claim, site, yes)
    if yes:
        return of_things(world, claim, site, yes)
    return nothing_there(world, claim, site)


def selected(world: World, claim: Claim, site: Site, here: list[Thing]) -> Judged:
    """ "The largest": of those at the place, or of those in the whole organ, which then has to be at the place."""
    organ = Site(tuple(organ_nodes(world, site)), "")
    pools = [[] if claim.located else here, things_at(world, claim, organ), things_at(world, claim, Site())]
    tried: list[tuple[Outcome, Thing]] = []
    for pool in pools:
        ranked = sorted(pool, key=lambda t: size_of(t, claim), reverse=claim.select != "smallest")
        place = 1 if claim.select == "second" else 0
        if len(ranked) <= place or (len(ranked) == 1 and claim.select == "smallest"):
            if len(ranked) != 1:
                continue
            place = 0
        chosen = ranked[place]
        where = world.place(site, chosen)
        outcome = predicates(world, claim, chosen)
        if where is Match.NO:
            outcome = contradicted(f"That is {chosen.label}.", *chosen.facts[:1])
        elif where is Match.UNKNOWN:
            outcome = worst(
                [outcome, unverifiable(f"Whether {chosen.label} lies there is not known.", *chosen.facts[:1])]
            )
        tried.append((outcome, chosen))
        if outcome.verdict is Verdict.SUPPORTED:
            break
    if not tried:
        return nothing_there(world, claim, site)
    outcome, thing = min(tried, key=lambda pair: pair[0].rank)
    if claim.select == "second" and outcome.verdict is not Verdict.SUPPORTED and here:
        return of_things(world, replace(claim, select="other"), site, here)
    return Judged(outcome, [thing])


def of_things(world: World, claim: Claim, site: Site, things: list[Thing]) -> Judged:
    if claim.count is not None and (claim.count.strict or claim.count.n > 1 or claim.count.op == ">="):
        counted = count_things(world, claim, site, things)
    else:
        counted = supported(
            f"{capital(things[0].label)} is among the facts.", *(f for t in things for f in t.facts[:1])
        )
    if many(claim):
        return Judged(worst([counted, of_all(world, claim, things)]), things)
    best = best_thing(world, claim, things)
    outcome = predicates(world, claim, best)
    if claim.severity and best.severity and claim.severity != best.severity:
        outcome = contradicted(f"The facts say {best.severity}.", *best.facts[:1])
    return Judged(worst([counted, outcome]) if outcome.rank or counted.rank else outcome, [best])
