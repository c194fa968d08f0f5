# SPDX-License-Identifier: Apache-2.0
"""Claims about organs: their measurements, change, normality and size."""

from __future__ import annotations

from dataclasses import replace

from ..measure.quantities import Dimension
from ..model import Verdict
from .agreement import Outcome, agree, contradicted, number, supported, unverifiable, worst
from .changing import no_prior
from .claims import Claim, Site
from .counting import compare_counts
from .judged import Judged
from .matching import sites_of
from .predicates import best_outcome, predicates
from .study import check_normal, check_size
from .world import Match, Thing, World


def judge_organ(world: World, claim: Claim) -> Judged:
    outcomes: list[Outcome] = []
    things: list[Thing] = []
    for site in sites_of(world, claim):
        judged = organ_at(world, claim, site)
        outcomes.append(judged.outcome)
        things += judged.things
    return Judged(worst(outcomes), things)


def organ_at(world: World, claim: Claim, site: Site) -> Judged:
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
        outcomes.append(
            best_outcome(world, replace(claim, values=[]), found)
            if found
            else unverifiable("The uptake there is not among the facts.")
        )
    if claim.values or claim.changes or claim.factor or claim.density or claim.than is not None or claim.relation:
        organs = world.at(site)
        bare = replace(claim, normal="", size="", avid="", count=None)
        # "RUL: 14 mm, stable": a place may stand for the thing that is there.
        lesions = [t for t in world.things if world.place(site, t) is Match.YES and (t.present or claim.changes)]
        tried = [(best_outcome(world, bare, [o]), [o]) for o in organs] + (
            [(best_outcome(world, bare, lesions), lesions)] if lesions else []
        )
        if len(organs) > 1 and not claim.values:
            tried = [(worst([predicates(world, bare, o) for o in organs]), organs), *tried[len(organs) :]]
        if tried:
            outcome, things = likeliest(tried)
            if (
                outcome.verdict is Verdict.CONTRADICTED
                and organs
                and any(v.measure.dimension is None and not v.quantity for v in claim.values)
            ):
                outcome, things = tried[0]
            if len(organs) > 1 and claim.values and outcome.verdict is not Verdict.SUPPORTED:
                total = sum_of_volumes(world, claim, organs)
                outcome = total or outcome
            outcomes.append(outcome)
        else:
            missing = no_prior(world) if claim.changes or any(v.prior for v in claim.values) else None
            outcomes.append(missing or unverifiable("No fact speaks of this."))
    if claim.count is not None and not outcomes:
        lesions = [t for t in world.things if world.place(site, t) is Match.YES and t.present]
        outcomes.append(
            compare_counts(len(lesions), claim.count, None, lesions)
            if lesions
            else unverifiable("No fact speaks of this.")
        )
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


def likeliest(tried: list[tuple[Outcome, list[Thing]]]) -> tuple[Outcome, list[Thing]]:
    """Support wins over contradiction, and contradiction over not knowing: one of the things was meant."""
    order = {Verdict.SUPPORTED: 0, Verdict.CONTRADICTED: 1, Verdict.UNVERIFIABLE: 2}
    return min(tried, key=lambda pair: order[pair[0].verdict])


def sum_of_volumes(world: World, claim: Claim, organs: list[Thing]) -> Outcome | None:
    """ "Both kidneys together 307 mL", "the lungs have a volume of 5 L"."""
    for value in claim.values:
        if value.measure.dimension is Dimension.VOLUME:
            facts = [o.get("volume") for o in organs]
            if all(f is not None for f in facts):
                whole = sum(number(f) for f in facts if f is not None)
                if agree(world, value.measure.values[0], whole, Dimension.VOLUME, value.cmp == "~"):
                    return supported(f"Together {whole:g} mL.", *facts)
    return None
