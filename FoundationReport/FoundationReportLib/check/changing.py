# SPDX-License-Identifier: Apache-2.0
"""Words and numbers of change against what is known of a thing over time."""

from __future__ import annotations

from ..measure.quantities import Dimension, dimension_of, display
from ..model import Fact
from .agreement import (
    Outcome,
    agree,
    capital,
    contradicted,
    dimension_said,
    first_fact,
    holds,
    number,
    supported,
    unverifiable,
    words,
)
from .claims import Claim, Value
from .mentions import Measure
from .world import Thing, World


def no_prior(world: World) -> Outcome | None:
    """The answer to any comparison where no earlier study was loaded."""
    if world.has_prior:
        return None
    return contradicted("No earlier study was compared.", world.image_fact("comparison"))


def check_prior_value(world: World, thing: Thing, value: Value, node: bool) -> Outcome:
    missing = no_prior(world)
    if missing is not None:
        return missing
    priors = [f for f in thing.facts if f.quantity == "prior"]
    if not priors:
        if trend_of(thing) == "new":
            return contradicted(f"{capital(thing.label)} is new: it has no earlier value.", thing.get("trend"))
        return unverifiable(f"The earlier value of {thing.label} is not among the facts.", *first_fact(thing))
    wanted = [p for p in priors if p.of == value.quantity] or [p for p in priors if _same_kind(world, p, value.measure)]
    if len(value.measure.values) > 1:
        pair = [p for p in priors if p.of in ("long_axis", "short_axis")]
        claimed = sorted(value.measure.values, reverse=True)
        known = sorted((number(p) for p in pair), reverse=True)
        if not known:
            return unverifiable(f"The earlier value of {thing.label} is not among the facts.", *first_fact(thing))
        if len(known) == len(claimed) and all(
            agree(world, a, b, Dimension.LENGTH) for a, b in zip(claimed, known, strict=True)
        ):
            return supported(f"{capital(thing.label)} had these diameters before.", *pair)
        if len(known) < len(claimed) and any(agree(world, a, known[0], Dimension.LENGTH) for a in claimed):
            return unverifiable(f"Only one earlier diameter of {thing.label} is known.", *pair)
        return contradicted(f"{capital(thing.label)} measured {display(pair[0])} before.", *pair)
    for fact in wanted:
        if holds(world, value, number(fact), dimension_said(value.measure, fact)):
            return supported(f"{capital(thing.label)}: {display(fact)} before.", fact)
    if wanted:
        return contradicted(f"{capital(thing.label)}: {display(wanted[0])} before.", wanted[0])
    return unverifiable(f"The earlier value of {thing.label} is not among the facts.", *first_fact(thing))


def _same_kind(world: World, prior: Fact, measure: Measure) -> bool:
    if measure.dimension is None:
        return prior.of.startswith("suv")
    return dimension_of(prior) is measure.dimension or (measure.dimension is Dimension.LENGTH and prior.unit == "mm")


def check_change_amount(world: World, thing: Thing, value: Value, claim: Claim) -> Outcome:
    missing = no_prior(world)
    if missing is not None:
        return missing
    measure = value.measure
    amount = measure.values[0]
    down = any(c in ("smaller", "resolved") for c in claim.changes)
    if down and amount > 0 and not measure.signed:
        amount = -amount
    percent = measure.dimension is Dimension.PERCENT
    name = "change_percent" if percent else "change"
    of = claim.quantity if claim.quantity and claim.quantity not in ("", "change") else ""
    facts = [f for f in thing.facts if f.quantity == name and (percent or _unit_fits(f, measure))]
    facts = [f for f in facts if f.of == of] or facts
    computed = [(number(f), f) for f in facts] or _computed(thing, percent, measure)
    if not computed:
        if trend_of(thing) == "new":
            return contradicted(f"{capital(thing.label)} is new.", thing.get("trend"))
        return unverifiable(f"No change of {thing.label} is among the facts.", *first_fact(thing))
    dimension = Dimension.PERCENT if percent else measure.dimension or Dimension.UPTAKE
    for known, fact in computed:
        if not claim.changes and not measure.signed:
            amount = abs(amount) * (1 if known >= 0 else -1)
        if agree(world, amount, known, dimension, value.cmp == "~") or (
            value.cmp == ">" and abs(known) > abs(amount) and known * amount > 0
        ):
            return supported(f"{capital(thing.label)} changed by {known:+.3g}{'%' if percent else ''}.", fact)
    known, fact = computed[0]
    return contradicted(f"{capital(thing.label)} changed by {known:+.3g}{'%' if percent else ''}.", fact)


def _computed(thing: Thing, percent: bool, measure: Measure) -> list[tuple[float, Fact]]:
    out = []
    for prior in (f for f in thing.facts if f.quantity == "prior"):
        now = thing.number(prior.of)
        if now is not None and number(prior) and (percent or _unit_fits(prior, measure)):
            change = now - number(prior)
            out.append((100 * change / number(prior) if percent else change, prior))
    return out


def _unit_fits(fact: Fact, measure: Measure) -> bool:
    if measure.dimension is Dimension.LENGTH:
        return fact.unit == "mm"
    return measure.dimension is None or dimension_of(fact) is measure.dimension


def trend_of(thing: Thing) -> str:
    fact = thing.get("trend")
    return str(fact.value) if fact is not None else ""


def relative_change(thing: Thing, quantity: str = "") -> tuple[float, float, float, Fact] | None:
    """Earlier value, present value and percentage of change, of the asked or the leading quantity; and the fact."""
    leading = ("short_axis", "long_axis") if "lymph node" in thing.findings else ("long_axis", "short_axis")
    order = [quantity, *leading, "volume", "suv_max", *(f.of for f in thing.facts if f.quantity == "prior")]
    for name in order:
        if not name:
            continue
        prior, now = thing.get("prior", name), thing.number(name)
        change = thing.get("change_percent", name)
        if prior is not None and now is not None and number(prior):
            return number(prior), now, 100 * (now - number(prior)) / number(prior), change or prior
        absolute = thing.get("change", name)
        if absolute is not None and now is not None and now != number(absolute):
            before = now - number(absolute)
            return before, now, 100 * number(absolute) / before, absolute
        if change is not None and now is not None:
            before = now / (1 + number(change) / 100)
            return before, now, number(change), change
    return None


def check_change(world: World, thing: Thing, change: str, claim: Claim) -> Outcome:
    """A word of change against what is known of a thing over time."""
    missing = no_prior(world)
    if missing is not None:
        return missing
    trend = trend_of(thing)
    fact = thing.get("trend")
    name = capital(thing.label)
    if change == "new" or change == "not new":
        if trend:
            return yes_no(trend == "new", change == "new", f"{name} is {words(trend)}.", fact)
        if any(f.quantity == "prior" for f in thing.facts):
            return yes_no(False, change == "new", f"{name} was there before.", thing.get("prior"))
        return unverifiable(f"Whether {thing.label} is new is not known.", *first_fact(thing))
    if change in ("resolved", "not resolved"):
        gone = not thing.present or trend == "resolved"
        return yes_no(
            gone,
            change == "resolved",
            f"{name} {'is gone' if gone else 'is present'}.",
            fact or thing.get("presence") or (thing.facts[0] if thing.facts else None),
        )
    if trend == "resolved" and change in ("smaller", "not larger"):
        return supported(f"{name} is resolved.", fact)
    if trend == "new" or trend == "resolved":
        return contradicted(f"{name} is {words(trend)}.", fact)
    known = relative_change(thing, _quantity_of_change(claim))
    if known is None:
        if trend:
            return _against_trend(name, trend, change, fact)
        return unverifiable(f"No change of {thing.label} is among the facts.", *first_fact(thing))
    return _against_numbers(world, name, known, trend, change, claim)


def _quantity_of_change(claim: Claim) -> str:
    if claim.uptake or claim.quantity.startswith("suv"):
        return claim.quantity if claim.quantity.startswith("suv") else "suv_max"
    return claim.quantity if claim.quantity in ("volume", "short_axis", "long_axis", "mean") else ""


def _against_trend(name: str, trend: str, change: str, fact: Fact | None) -> Outcome:
    wanted = {"larger": "larger", "smaller": "smaller", "stable": "unchanged"}
    plain = change.removeprefix("not ")
    return yes_no(trend == wanted[plain], change == plain, f"{name} is {words(trend)}.", fact)


def _against_numbers(
    world: World, name: str, known: tuple[float, float, float, Fact], trend: str, change: str, claim: Claim
) -> Outcome:
    t = world.lex.physics["tolerance"]
    before, now, percent, fact = known
    delta = now - before
    length = fact.unit == "mm" or (fact.unit == "%" and fact.of in ("long_axis", "short_axis", "mean_diameter"))
    stable = abs(delta) <= max(t["stable_mm"] if length else 0.0, t["stable_part"] * before) + 1e-9
    reason = f"{name}: {before:.3g} before, {now:.3g} now ({percent:+.0f}%)."
    numbers = any(v.prior or v.by for v in claim.values)
    plain = change.removeprefix("not ")
    if plain == "stable" and stable and trend in ("larger", "smaller"):
        return unverifiable(f"{reason} The facts say {trend}, by less than counts as changed.", fact)
    if plain == "stable":
        return yes_no(stable, change == plain, reason, fact)
    right = delta > 0 if plain == "larger" else delta < 0
    if change != plain:
        if right and not stable:
            return contradicted(reason, fact)
        return supported(reason, fact)
    if not right:
        return contradicted(reason, fact)
    if stable and not numbers and claim.severity in ("severe", "moderate"):
        return contradicted(f"{reason} That is within what counts as unchanged.", fact)
    if stable and not numbers and not claim.severity and trend == "unchanged":
        return contradicted(f"{reason} That counts as unchanged.", fact)
    if stable and not numbers and not claim.severity and trend not in ("larger", "smaller"):
        return unverifiable(f"{reason} That is within what counts as unchanged.", fact)
    return supported(reason, fact)


def check_factor(world: World, thing: Thing, factor: float, claim: Claim) -> Outcome:
    missing = no_prior(world)
    if missing is not None:
        return missing
    known = relative_change(thing, _quantity_of_change(claim))
    if known is None:
        return unverifiable(f"No change of {thing.label} is among the facts.", *first_fact(thing))
    before, now, _, fact = known
    reason = f"{capital(thing.label)}: {before:.3g} before, {now:.3g} now."
    return supported(reason, fact) if abs(now / before - factor) <= 0.1 * factor else contradicted(reason, fact)


def yes_no(holds: bool, asserted: bool, reason: str, fact: Fact | None) -> Outcome:
    return supported(reason, fact) if holds == asserted else contradicted(reason, fact)
