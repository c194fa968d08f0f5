# SPDX-License-Identifier: Apache-2.0
"""One claim against the facts: which things it speaks of, and whether what it says of them holds."""

from __future__ import annotations

from dataclasses import replace

from ..measure.quantities import Dimension
from ..model import Verdict
from .agreement import Outcome, contradicted, supported, unverifiable, worst
from .changing import check_change, no_prior
from .claims import STUDY_QUANTITIES, Claim, Site
from .findings import judge_finding
from .judged import Judged
from .matching import kind_match, size_of
from .organs import judge_organ
from .predicates import best_outcome, best_thing, predicates
from .study import check_coverage, check_normal, check_study_value
from .world import Match, Thing, World


def judge(world: World, claim: Claim, context: list[Thing]) -> Judged:
    """`context`: the things of the sentence before, for "it" and "the lesion"."""
    judged = _judge(world, claim, context)
    if claim.inherited and claim.unknown and judged.outcome.verdict is Verdict.CONTRADICTED and not claim.negated:
        # The word that was not understood may be the place, and the inherited one wrong.
        return Judged(replace(judged.outcome, verdict=Verdict.UNVERIFIABLE), judged.things)
    if claim.everywhere and judged.outcome.verdict is Verdict.SUPPORTED and not claim.negated:
        reason = "That it is in every part is not among the facts."
        return Judged(replace(judged.outcome, verdict=Verdict.UNVERIFIABLE, reason=reason), judged.things)
    if claim.loosely and len(judged.things) == 1:
        judged = _than_what(world, claim, judged)
    if claim.hedged and judged.outcome.verdict is Verdict.SUPPORTED:
        return Judged(
            replace(
                judged.outcome, verdict=Verdict.UNVERIFIABLE, reason="It is said with reserve; no fact settles it."
            ),
            judged.things,
        )
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
            chosen = sorted(pool, key=lambda t: size_of(t, claim), reverse=claim.select == "largest")[0]
            return _named_things(world, claim, [chosen])
    if claim.finding:
        return judge_finding(world, claim, context)
    if claim.sites:
        return judge_organ(world, claim)
    if claim.study and claim.normal:
        return Judged(check_normal(world, claim, Site()))
    if any(v.quantity in STUDY_QUANTITIES for v in claim.values):
        return Judged(check_study_value(world, claim))
    return _headless(world, claim, context)


def _named_things(world: World, claim: Claim, things: list[Thing]) -> Judged:
    """ "Target 2 in segment III": the name decides which thing; place and finding are claims about it."""
    fitting = [t for t in things if all(world.place(s, t) is not Match.NO for s in claim.sites)] or things
    best = best_thing(world, claim, fitting)
    outcomes = [predicates(world, claim, best)]
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
        outcomes.append(
            supported("It is gone.", *best.facts[:1]) if gone else contradicted("It is present.", *best.facts[:1])
        )
    return Judged(worst(outcomes), [best])


def _headless(world: World, claim: Claim, context: list[Thing]) -> Judged:
    """No thing is named: what was spoken of before, or the study as a whole."""
    bearer = _only_bearer(world, claim, context)
    if bearer is not None:
        return Judged(best_outcome(world, claim, [bearer]), [bearer])
    if claim.unknown and claim.normal and not claim.study:
        return Judged(unverifiable("What this is about is not among the facts."))
    if context and claim.predicated:
        if claim.changes and claim.study and not claim.values:
            return Judged(_whole_study_change(world, claim))
        return Judged(best_outcome(world, claim, context), context)
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


def _than_what(world: World, claim: Claim, judged: Judged) -> Judged:
    """ "Larger renal cyst": than another one of its kind; if there is none such, it is larger than before."""
    thing = judged.things[0]
    sign = 1 if claim.loosely == "larger" else -1
    others = [t for t in world.things if t.present and t is not thing and kind_match(world, claim, t) is Match.YES]
    if any(sign * size_of(thing, claim) > sign * size_of(t, claim) for t in others):
        return judged
    if not (thing.get("trend") or thing.get("prior") or thing.get("change")):
        return judged
    return Judged(worst([judged.outcome, check_change(world, thing, claim.loosely, claim)]), judged.things)


def _only_bearer(world: World, claim: Claim, context: list[Thing]) -> Thing | None:
    """ "The metabolic tumor volume is 38 mL": of the one thing that has it, if what was spoken of has none."""
    wanted = {v.quantity for v in claim.values if v.quantity} & _OWN_QUANTITIES
    if len(wanted) != 1 or claim.pronoun:
        return None
    quantity = wanted.pop()
    if any(t.get(quantity) for t in context):
        return None
    bearers = [t for t in (*world.things, *world.organs) if t.present and t.get(quantity)]
    return bearers[0] if len(bearers) == 1 else None


_OWN_QUANTITIES = {"mtv", "tlg", "doubling_time"}


def _no_others(world: World) -> Outcome:
    if all(world.accounted(c) for c in world.counts):
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
    if set(claim.changes) <= {"stable", "not larger", "not smaller"} and outcomes:
        return worst(outcomes)
    return unverifiable("What has changed is not said.")
