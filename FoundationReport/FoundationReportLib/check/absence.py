# SPDX-License-Identifier: Apache-2.0
""" "No such thing", and things that the facts do not have where a text puts them."""

from __future__ import annotations

from dataclasses import replace

from ..model import Fact, Verdict
from .agreement import Outcome, capital, contradicted, supported, unverifiable, worst
from .changing import check_change, no_prior
from .claims import Claim, Site
from .compare import check_value
from .judged import Judged
from .matching import kind_match, organ_nodes, things_at
from .predicates import best_thing, predicates
from .world import Match, Thing, World


def nothing_there(world: World, claim: Claim, site: Site) -> Judged:
    """No thing is what the claim speaks of. The nearest one says what is wrong, if anything does."""
    outside = outside_view(world, claim, site)
    if outside is not None:
        return Judged(outside)
    if claim.sites and not site.nodes and site.side == "":
        return Judged(unverifiable("No fact speaks of this."))
    maybe = list(things_at(world, claim, site, Match.UNKNOWN))
    if maybe:
        best = best_thing(world, claim, maybe)
        outcome = predicates(world, claim, best)
        if outcome.verdict is Verdict.SUPPORTED or world.place(site, best) is Match.YES:
            outcome = worst([outcome, unverifiable(f"It may be {best.label}; no fact says so.", *best.facts[:1])])
        if outcome.verdict is Verdict.CONTRADICTED and world.place(site, best) is Match.UNKNOWN and not claim.definite:
            outcome = replace(outcome, verdict=Verdict.UNVERIFIABLE)
        absent = world.absent(claim.finding, site)
        elsewhere = world.place(site, best) is Match.UNKNOWN and kind_match(world, claim, best) is Match.YES
        if absent is None or outcome.verdict is not Verdict.UNVERIFIABLE or elsewhere:
            return Judged(outcome, [best])
    known = [t for t in world.things if kind_match(world, claim, t) is Match.YES and t.present]
    other_side = [t for t in known if world.nodes(site.nodes, t) is Match.YES and world.side(site, t) is Match.NO]
    if other_side:
        return Judged(
            contradicted(f"{capital(other_side[0].label)} is on the other side.", *other_side[0].facts[:1]), []
        )
    absent = world.absent(claim.finding, site)
    if absent is not None:
        return Judged(contradicted("It was searched for and not found there.", *absent))
    part = [t for t in known if world.nodes(tuple(organ_nodes(world, site)), t) is Match.YES and site.nodes]
    if part:
        return Judged(contradicted(f"The facts place it elsewhere: {part[0].label}.", *part[0].facts[:1]), [])
    fitting = [t for t in known if claim.values and values_fit(world, claim, t)]
    if fitting:
        return Judged(contradicted(f"With these numbers the facts have {fitting[0].label}.", *fitting[0].facts[:1]), [])
    specific = [
        t
        for t in known
        if (claim.definite or claim.changes or "lymph node" in t.findings) and (claim.values or claim.definite)
    ]
    if specific and claim.finding not in ("lesion", "abnormality"):
        return Judged(contradicted(f"The facts know {specific[0].label}.", *specific[0].facts[:1]), [])
    if claim.changes or claim.persists:
        missing = no_prior(world)
        if missing is not None:
            return Judged(missing)
    gone = [
        t
        for t in world.things
        if not t.present and kind_match(world, claim, t) is Match.YES and world.place(site, t) is Match.YES
    ]
    if gone:
        return Judged(contradicted(f"{capital(gone[0].label)} is gone.", *gone[0].facts[:1]))
    return Judged(unverifiable("No fact speaks of this."))


def values_fit(world: World, claim: Claim, thing: Thing) -> bool:
    return all(check_value(world, thing, v, claim).verdict is Verdict.SUPPORTED for v in claim.values)


def outside_view(world: World, claim: Claim, site: Site) -> Outcome | None:
    nodes = site.nodes or (world.lex.findings[claim.finding].at if claim.finding in world.lex.findings else ())
    covered = world.coverage(Site(nodes, site.side))
    outside = [f for _, f in covered if f.value == "outside_view"]
    if outside and len(outside) == len(covered):
        return contradicted("That lies outside the field of view.", *outside)
    return None


def no_finding(world: World, claim: Claim, site: Site) -> Outcome:
    """ "No such thing": what is there says otherwise; only a search or an exhaustive count says so."""
    outside = outside_view(world, claim, site)
    if outside is not None:
        return outside
    bare = replace(claim, negated=False, count=None, plural=False)
    if claim.select == "other":
        absent = world.absent(claim.finding, site)
        return (
            supported("All of them are among the facts.", *absent)
            if absent
            else unverifiable("Whether there are others is not known.")
        )
    if claim.changes and "new" not in claim.changes:
        yes = things_at(world, claim, site)
        return (
            worst([check_change(world, t, opposite(c), claim) for t in yes for c in claim.changes])
            if yes
            else unverifiable("No fact speaks of this.")
        )
    yes = [t for t in things_at(world, claim, site) if qualifies(world, bare, t)]
    if yes:
        return contradicted(f"{capital(yes[0].label)} is among the facts.", *(f for t in yes for f in t.facts[:1]))
    maybe = [t for t in things_at(world, claim, site, Match.UNKNOWN) if maybe_meant(world, bare, site, t)]
    absent = world.absent(claim.finding, site)
    if claim.changes:
        return no_new(world, claim, site, absent)
    if claim.finding == "lymphadenopathy" or claim.enlarged_node or claim.size == "enlarged":
        nodes = things_at(world, replace(claim, finding="lymph node"), site)
        if nodes and absent is None:
            return supported("No measured lymph node there is enlarged.", *(t.get("short_axis") for t in nodes))
    if (claim.values or claim.avid) and absent is None:
        others = things_at(world, claim, site)
        if others:
            return supported("None of those measured is so.", *(f for t in others for f in t.facts[:1]))
    if absent is not None and not any(counts_as(world, claim, t) for t in maybe):
        return supported("It was searched for and not found.", *absent)
    if elsewhere_only(world, claim, site):
        return unverifiable("Whether it was searched for there is not known.")
    return unverifiable("Whether this was searched for is not known.")


def no_others(world: World, claim: Claim, named: list[Thing], otherwise: Outcome) -> Outcome:
    """ "No other lesions" after some were named: there is none in the same organ, or nowhere, that was not."""
    kind = replace(claim, negated=False, count=None, sites=[])
    if otherwise.verdict is Verdict.CONTRADICTED or not any(kind_match(world, kind, t) is Match.YES for t in named):
        return otherwise
    sites = [Site(tuple(organ_nodes(world, s)) if claim.inherited else s.nodes, "") for s in claim.sites]
    rest = [
        t
        for site in (sites or [Site()])
        for t in things_at(world, kind, Site() if claim.inherited and len(sites) != 1 else site)
        if t not in named and kind_match(world, kind, t) is Match.YES
    ]
    if rest:
        return contradicted(f"{capital(rest[0].label)} is another.", *(f for t in rest for f in t.facts[:1]))
    return otherwise


def opposite(change: str) -> str:
    return change.removeprefix("not ") if change.startswith("not ") else f"not {change}"


def counts_as(world: World, claim: Claim, thing: Thing) -> bool:
    return world.finding(claim.finding, thing) is Match.UNKNOWN and claim.finding not in ("nodule", "mass")


def elsewhere_only(world: World, claim: Claim, site: Site) -> bool:
    return bool(site.nodes) and any(world.finding(claim.finding, t) is Match.YES for t in world.things)


def qualifies(world: World, claim: Claim, thing: Thing) -> bool:
    """Whether a thing is what is denied: "no enlarged node", "no nodule above 8 mm", "no new lesion", "no mass"."""
    if claim.finding == "lymph node" and claim.size == "enlarged":
        claim = replace(claim, enlarged_node=True, size="")
    if (
        claim.changes
        or claim.values
        or claim.avid
        or claim.enlarged_node
        or claim.finding == "lymphadenopathy"
        or claim.density
    ):
        return predicates(world, replace(claim, relation="", than=None), thing).verdict is Verdict.SUPPORTED
    if claim.finding == "mass" and "mass" not in thing.findings and "nodule" in thing.findings:
        return (thing.number("long_axis") or 0.0) >= world.lex.physics["mass_mm"]["value"]
    return True


def maybe_meant(world: World, claim: Claim, site: Site, thing: Thing) -> bool:
    return min(kind_match(world, claim, thing), world.place(site, thing)) is Match.UNKNOWN


def no_new(world: World, claim: Claim, site: Site, absent: tuple[Fact, ...] | None) -> Outcome:
    missing = no_prior(world)
    if missing is not None:
        return missing
    known = things_at(world, claim, site)
    trends = [t.get("trend") for t in known]
    if known and all(t is not None for t in trends):
        return supported("None of them is new.", *trends)
    compared = [t for t in known if t.get("prior") or t.get("trend")]
    if known and len(compared) == len(known):
        return supported("All of them were there before.", *(t.get("prior") or t.get("trend") for t in known))
    if absent is not None and not known:
        return supported("It was searched for and not found.", *absent)
    return unverifiable("Whether there are new ones is not known.")
