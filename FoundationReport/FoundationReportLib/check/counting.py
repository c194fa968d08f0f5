# SPDX-License-Identifier: Apache-2.0
"""Counts of a text against counts of the facts."""

from __future__ import annotations

from ..model import Fact, Verdict
from .agreement import Outcome, contradicted, supported, unverifiable
from .changing import check_change
from .claims import Claim, Count, Site
from .predicates import enlarged_node
from .qualities import check_avid
from .world import Match, Thing, World


def count_things(world: World, claim: Claim, site: Site, things: list[Thing]) -> Outcome:
    known = world.counted(claim.finding, site)
    if (
        known is not None
        and not claim.avid
        and not set(claim.changes) - {"stable"}
        and not claim.enlarged_node
        and claim.select != "other"
    ):
        n, facts, exhaustive = known
        return compare_counts(max(n, 0), claim.count, facts, things, exhaustive)
    multiplicity = _multiplicity(world, claim, site)
    if multiplicity is not None and claim.count is not None and not claim.changes and claim.select != "other":
        several = multiplicity.value == "multiple"
        if claim.count.op == ">=" or claim.count.n == 1:
            wants_several = claim.count.op == ">=" and claim.count.n > 1
            reason = f"The facts say {multiplicity.value}."
            return supported(reason, multiplicity) if wants_several == several else contradicted(reason, multiplicity)
    kept = things
    if claim.avid:
        kept = [t for t in kept if check_avid(world, t, claim.avid).verdict is Verdict.SUPPORTED] or kept
    if claim.enlarged_node:
        kept = [t for t in kept if enlarged_node(world, t, True).verdict is Verdict.SUPPORTED] or kept
    if set(claim.changes) - {"stable"}:
        kept = [t for t in kept if check_change(world, t, claim.changes[0], claim).verdict is Verdict.SUPPORTED] or kept
    exhaustive = world.absent(claim.finding, site) is not None
    return compare_counts(len(kept), claim.count, None, kept, exhaustive)


def compare_counts(
    n: int, count: Count | None, facts: tuple[Fact, ...] | None, things: list[Thing], exhaustive: bool = False
) -> Outcome:
    if count is None:
        return supported("Present.", *(f for t in things for f in t.facts[:1]))
    named = facts if facts is not None else tuple(f for t in things for f in t.facts[:1])
    reason = f"The facts count {n}."
    if count.op == "<=":
        return supported(reason, *named) if n <= count.n else contradicted(reason, *named)
    if count.op == ">=":
        if n >= count.n:
            return supported(reason, *named)
        return (
            contradicted(reason, *named) if facts is not None or exhaustive or n == 0 else unverifiable(reason, *named)
        )
    if n == count.n:
        if count.strict and count.n == 1 and facts is None and not exhaustive:
            return unverifiable("Whether it is the only one is not known.", *named)
        return supported(reason, *named)
    if count.n == 1 and not count.strict:
        return supported(reason, *named)
    return contradicted(reason, *named)


def _multiplicity(world: World, claim: Claim, site: Site) -> Fact | None:
    for organ in world.at(site):
        for fact in organ.facts:
            if fact.quantity == "multiplicity" and world.concept(claim.finding, world.concept_of(fact.of)) is Match.YES:
                return fact
    return None
