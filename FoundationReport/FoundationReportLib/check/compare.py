# SPDX-License-Identifier: Apache-2.0
"""Numbers of a text against numbers of the facts: agreement, change, comparison of two things, density, uptake.

Agreement: lengths within max(1 mm, 5 %), volumes 5 %, HU 3, SUV max(0.1, 5 %), percentages 2 points; with "about" 10 %.
"Unchanged" is within max(2 mm, 10 %) of the earlier value. The numbers stand in `lexicon/physics.json`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..measure.quantities import QUANTITIES, Dimension, dimension_of, display
from ..model import Fact, Verdict
from .claims import Claim, Value
from .mentions import Measure
from .world import Thing, World, fact_ids


@dataclass(frozen=True)
class Outcome:
    """What the facts say of one claim."""

    verdict: Verdict
    reason: str
    facts: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        return _RANK[self.verdict]


_RANK = {Verdict.SUPPORTED: 0, Verdict.UNVERIFIABLE: 1, Verdict.CONTRADICTED: 2}


def supported(reason: str, *facts: Fact | None) -> Outcome:
    return Outcome(Verdict.SUPPORTED, reason, fact_ids(facts))


def contradicted(reason: str, *facts: Fact | None) -> Outcome:
    return Outcome(Verdict.CONTRADICTED, reason, fact_ids(facts))


def unverifiable(reason: str, *facts: Fact | None) -> Outcome:
    return Outcome(Verdict.UNVERIFIABLE, reason, fact_ids(facts))


def worst(outcomes: list[Outcome]) -> Outcome:
    """The worst verdict with its reason; the facts of all parts with that verdict."""
    if not outcomes:
        return unverifiable("No fact speaks of this.")
    rank = max(o.rank for o in outcomes)
    chosen = [o for o in outcomes if o.rank == rank]
    ids = tuple(dict.fromkeys(i for o in chosen for i in o.facts))
    return Outcome(chosen[0].verdict, chosen[0].reason, ids)


PLAIN = ("long_axis", "max_diameter_3d", "mean_diameter")
EXTENTS = {"extent_cc": "craniocaudal", "extent_ap": "anterior-posterior", "extent_lr": "left-right"}


def agree(
    world: World, claimed: float, known: float, dimension: Dimension, about: bool = False, decimals: int = 0
) -> bool:
    """Whether two numbers of one dimension (mm, mL, HU, ...) say the same."""
    t = world.lex.physics["tolerance"]
    part = t["about_part"] if about else 0.0
    size = abs(known)
    if dimension is Dimension.LENGTH:
        allowed = max(t["length_mm"], t["length_part"] * size)
    elif dimension is Dimension.VOLUME:
        allowed = t["volume_part"] * size
        if decimals and size < 1.0:
            allowed = max(allowed, t["volume_small_ml"])
        elif not decimals and size < 10.0:
            allowed = max(allowed, 0.5) if about or (size >= 1.0 and abs(round(known) - claimed) < 1e-9) else allowed
    elif dimension is Dimension.AREA:
        allowed = t["area_part"] * size
    elif dimension is Dimension.INTENSITY:
        allowed = t["hu"] if world.modality != "MR" else max(t["intensity_part"] * size, 1e-6)
    elif dimension is Dimension.UPTAKE:
        allowed = max(t["suv"], t["suv_part"] * size)
    elif dimension is Dimension.PERCENT:
        allowed = t["percent_points"]
    elif dimension is Dimension.TIME:
        allowed = max(1.0, t["time_part"] * size, 15.2 if size > 45 else 0.0)  # months are half a month exact
    else:
        allowed = t["intensity_part"] * size
    return abs(claimed - known) <= max(allowed, part * size) + 1e-9


def _candidates(thing: Thing, value: Value, node: bool) -> list[Fact]:
    """The facts that a number could be of."""
    measure, quantity = value.measure, value.quantity
    found: list[Fact] = []
    if quantity in EXTENTS:
        found = [f for f in thing.facts if f.quantity == "extent" and f.of == EXTENTS[quantity]]
        if found:
            return found
        quantity = ""
    if quantity and quantity not in ("long_axis",):
        found = [f for f in thing.facts if f.quantity == quantity]
        if found or quantity not in ("short_axis", "mean_diameter", "max_diameter_3d"):
            return found
        return []
    if measure.dimension is Dimension.LENGTH:
        names = (*PLAIN, "short_axis") if node and not quantity else PLAIN
        found = [f for f in thing.facts if f.quantity in names]
        return found or [f for f in thing.facts if f.quantity in ("extent", "short_axis")]
    if measure.dimension is Dimension.VOLUME:
        return [f for f in thing.facts if f.quantity == "volume"] or [f for f in thing.facts if f.quantity == "mtv"]
    if measure.dimension is Dimension.INTENSITY:
        return [f for f in thing.facts if f.quantity in ("mean", "median")]
    if measure.dimension is Dimension.AREA:
        return [f for f in thing.facts if f.quantity == "bidimensional_product"]
    if measure.dimension is Dimension.TIME:
        return [f for f in thing.facts if f.quantity == "doubling_time"]
    if measure.dimension is Dimension.PERCENT:
        return [f for f in thing.facts if f.quantity == "fat_percent"]
    return []


def _dimension(measure: Measure, fact: Fact) -> Dimension:
    if measure.dimension is not None and measure.dimension is not Dimension.OTHER:
        return measure.dimension
    return dimension_of(fact)


def _number(fact: Fact) -> float:
    return float(fact.value) if isinstance(fact.value, int | float) else float("nan")


def check_value(world: World, thing: Thing, value: Value, claim: Claim) -> Outcome:
    """One number of a claim against one thing."""
    measure = value.measure
    node = "lymph node" in thing.findings
    if (
        (value.by and claim.changes)
        or measure.dimension is Dimension.PERCENT
        or (measure.signed and measure.dimension is not Dimension.INTENSITY)
    ) and not (
        measure.dimension is Dimension.PERCENT and thing.get("fat_percent") and not claim.changes and not measure.signed
    ):
        return _change_amount(world, thing, value, claim)
    if value.prior:
        return _prior_value(world, thing, value, node)
    if len(measure.values) > 1:
        return _axes(world, thing, value)
    candidates = _candidates(thing, value, node)
    if not candidates:
        if measure.dimension is None and not value.quantity:
            return unverifiable(f"The number {measure.values[0]:g} has no unit.")
        return unverifiable(f"No such measurement of {thing.label} is among the facts.", *_first(thing))
    for fact in candidates:
        if _holds(world, value, _number(fact), _dimension(measure, fact)):
            return supported(f"{_capital(thing.label)}: {_named(fact)} is {display(fact)}.", fact)
    return contradicted(f"{_capital(thing.label)}: {_named(candidates[0])} is {display(candidates[0])}.", candidates[0])


def _holds(world: World, value: Value, known: float, dimension: Dimension) -> bool:
    claimed = value.measure.values[0]
    if value.measure.to is not None:
        low, high = sorted((claimed, value.measure.to))
        return (
            low - 1e-9 <= known <= high + 1e-9
            or agree(world, low, known, dimension)
            or agree(world, high, known, dimension)
        )
    if value.cmp == "<":
        return known < claimed or (agree(world, claimed, known, dimension) and known <= claimed * 1.02)
    if value.cmp == ">":
        return known > claimed or (agree(world, claimed, known, dimension) and known >= claimed * 0.98)
    return agree(world, claimed, known, dimension, value.cmp == "~", value.measure.decimals)


def _axes(world: World, thing: Thing, value: Value) -> Outcome:
    """ "14 x 9 mm" is longest and perpendicular diameter; three numbers are those and another, or the three extents."""
    claimed = sorted(value.measure.values, reverse=True)
    about = value.cmp == "~"
    long_axis, short_axis = thing.get("long_axis"), thing.get("short_axis")
    extents = sorted((f for f in thing.facts if f.quantity == "extent"), key=_number, reverse=True)
    others = [f for f in thing.facts if f.quantity == "max_diameter_3d"] + extents

    def same(number: float, fact: Fact | None) -> bool:
        return fact is not None and agree(world, number, _number(fact), Dimension.LENGTH, about)

    if long_axis is not None and short_axis is not None:
        rest = list(claimed)
        for axis in (long_axis, short_axis):
            hit = next((n for n in rest if same(n, axis)), None)
            if hit is not None:
                rest.remove(hit)
        if len(claimed) - len(rest) == 2 and all(any(same(n, f) for f in others) for n in rest):
            return supported(
                f"{_capital(thing.label)} measures {display(long_axis)} by {display(short_axis)}.",
                long_axis,
                short_axis,
            )
        if len(claimed) - len(rest) == 2 and not others:
            return unverifiable(f"The third dimension of {thing.label} is not among the facts.", long_axis, short_axis)
    if len(extents) >= len(claimed) and all(any(same(n, f) for f in extents) for n in claimed):
        return supported(f"{_capital(thing.label)} has these extents.", *extents)
    if long_axis is not None and short_axis is None and same(claimed[0], long_axis):
        return unverifiable(f"Only the longest diameter of {thing.label} is known.", long_axis)
    if long_axis is not None:
        size = f"{display(long_axis)} by {display(short_axis)}" if short_axis else display(long_axis)
        return contradicted(f"{_capital(thing.label)} measures {size}.", long_axis, short_axis)
    if extents:
        return contradicted(
            f"{_capital(thing.label)}: the extents are {', '.join(display(f) for f in extents)}.", *extents
        )
    return unverifiable(f"No diameters of {thing.label} are among the facts.", *_first(thing))


def no_prior(world: World) -> Outcome | None:
    """The answer to any comparison where no earlier study was loaded."""
    if world.has_prior:
        return None
    return contradicted("No earlier study was compared.", world.image_fact("comparison"))


def _prior_value(world: World, thing: Thing, value: Value, node: bool) -> Outcome:
    missing = no_prior(world)
    if missing is not None:
        return missing
    priors = [f for f in thing.facts if f.quantity == "prior"]
    if not priors:
        if _trend(thing) == "new":
            return contradicted(f"{_capital(thing.label)} is new: it has no earlier value.", thing.get("trend"))
        return unverifiable(f"The earlier value of {thing.label} is not among the facts.", *_first(thing))
    wanted = [p for p in priors if p.of == value.quantity] or [p for p in priors if _same_kind(world, p, value.measure)]
    if len(value.measure.values) > 1:
        pair = [p for p in priors if p.of in ("long_axis", "short_axis")]
        claimed = sorted(value.measure.values, reverse=True)
        known = sorted((_number(p) for p in pair), reverse=True)
        if not known:
            return unverifiable(f"The earlier value of {thing.label} is not among the facts.", *_first(thing))
        if len(known) == len(claimed) and all(
            agree(world, a, b, Dimension.LENGTH) for a, b in zip(claimed, known, strict=True)
        ):
            return supported(f"{_capital(thing.label)} had these diameters before.", *pair)
        if len(known) < len(claimed) and any(agree(world, a, known[0], Dimension.LENGTH) for a in claimed):
            return unverifiable(f"Only one earlier diameter of {thing.label} is known.", *pair)
        return contradicted(f"{_capital(thing.label)} measured {display(pair[0])} before.", *pair)
    for fact in wanted:
        if _holds(world, value, _number(fact), _dimension(value.measure, fact)):
            return supported(f"{_capital(thing.label)}: {display(fact)} before.", fact)
    if wanted:
        return contradicted(f"{_capital(thing.label)}: {display(wanted[0])} before.", wanted[0])
    return unverifiable(f"The earlier value of {thing.label} is not among the facts.", *_first(thing))


def _same_kind(world: World, prior: Fact, measure: Measure) -> bool:
    if measure.dimension is None:
        return prior.of.startswith("suv")
    return dimension_of(prior) is measure.dimension or (measure.dimension is Dimension.LENGTH and prior.unit == "mm")


def _change_amount(world: World, thing: Thing, value: Value, claim: Claim) -> Outcome:
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
    computed = [(_number(f), f) for f in facts] or _computed(thing, percent, measure)
    if not computed:
        if _trend(thing) == "new":
            return contradicted(f"{_capital(thing.label)} is new.", thing.get("trend"))
        return unverifiable(f"No change of {thing.label} is among the facts.", *_first(thing))
    dimension = Dimension.PERCENT if percent else measure.dimension or Dimension.UPTAKE
    for known, fact in computed:
        if not claim.changes and not measure.signed:
            amount = abs(amount) * (1 if known >= 0 else -1)
        if agree(world, amount, known, dimension, value.cmp == "~") or (
            value.cmp == ">" and abs(known) > abs(amount) and known * amount > 0
        ):
            return supported(f"{_capital(thing.label)} changed by {known:+.3g}{'%' if percent else ''}.", fact)
    known, fact = computed[0]
    return contradicted(f"{_capital(thing.label)} changed by {known:+.3g}{'%' if percent else ''}.", fact)


def _computed(thing: Thing, percent: bool, measure: Measure) -> list[tuple[float, Fact]]:
    out = []
    for prior in (f for f in thing.facts if f.quantity == "prior"):
        now = thing.number(prior.of)
        if now is not None and _number(prior) and (percent or _unit_fits(prior, measure)):
            change = now - _number(prior)
            out.append((100 * change / _number(prior) if percent else change, prior))
    return out


def _unit_fits(fact: Fact, measure: Measure) -> bool:
    if measure.dimension is Dimension.LENGTH:
        return fact.unit == "mm"
    return measure.dimension is None or dimension_of(fact) is measure.dimension


def _trend(thing: Thing) -> str:
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
        if prior is not None and now is not None and _number(prior):
            return _number(prior), now, 100 * (now - _number(prior)) / _number(prior), change or prior
        absolute = thing.get("change", name)
        if absolute is not None and now is not None and now != _number(absolute):
            before = now - _number(absolute)
            return before, now, 100 * _number(absolute) / before, absolute
        if change is not None and now is not None:
            before = now / (1 + _number(change) / 100)
            return before, now, _number(change), change
    return None


def check_change(world: World, thing: Thing, change: str, claim: Claim) -> Outcome:
    """A word of change against what is known of a thing over time."""
    missing = no_prior(world)
    if missing is not None:
        return missing
    trend = _trend(thing)
    fact = thing.get("trend")
    name = _capital(thing.label)
    if change == "new" or change == "not new":
        if trend:
            return _yes(trend == "new", change == "new", f"{name} is {_words(trend)}.", fact)
        if any(f.quantity == "prior" for f in thing.facts):
            return _yes(False, change == "new", f"{name} was there before.", thing.get("prior"))
        return unverifiable(f"Whether {thing.label} is new is not known.", *_first(thing))
    if change in ("resolved", "not resolved"):
        gone = not thing.present or trend == "resolved"
        return _yes(
            gone,
            change == "resolved",
            f"{name} {'is gone' if gone else 'is present'}.",
            fact or thing.get("presence") or (thing.facts[0] if thing.facts else None),
        )
    if trend == "resolved" and change in ("smaller", "not larger"):
        return supported(f"{name} is resolved.", fact)
    if trend == "new" or trend == "resolved":
        return contradicted(f"{name} is {_words(trend)}.", fact)
    known = relative_change(thing, _quantity_of_change(claim))
    if known is None:
        if trend:
            return _against_trend(name, trend, change, fact)
        return unverifiable(f"No change of {thing.label} is among the facts.", *_first(thing))
    return _against_numbers(world, name, known, trend, change, claim)


def _quantity_of_change(claim: Claim) -> str:
    if claim.uptake or claim.quantity.startswith("suv"):
        return claim.quantity if claim.quantity.startswith("suv") else "suv_max"
    return claim.quantity if claim.quantity in ("volume", "short_axis", "long_axis", "mean") else ""


def _against_trend(name: str, trend: str, change: str, fact: Fact | None) -> Outcome:
    wanted = {"larger": "larger", "smaller": "smaller", "stable": "unchanged"}
    plain = change.removeprefix("not ")
    return _yes(trend == wanted[plain], change == plain, f"{name} is {_words(trend)}.", fact)


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
    if plain == "stable":
        return _yes(stable, change == plain, reason, fact)
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
        return unverifiable(f"No change of {thing.label} is among the facts.", *_first(thing))
    before, now, _, fact = known
    reason = f"{_capital(thing.label)}: {before:.3g} before, {now:.3g} now."
    return supported(reason, fact) if abs(now / before - factor) <= 0.1 * factor else contradicted(reason, fact)


def _yes(holds: bool, asserted: bool, reason: str, fact: Fact | None) -> Outcome:
    return supported(reason, fact) if holds == asserted else contradicted(reason, fact)


def check_density(world: World, thing: Thing, kind: str, host: Thing | None) -> Outcome:
    """Words of attenuation, where it was measured."""
    table = world.lex.physics["density_hu"]
    mean = thing.get("mean")
    if mean is None or mean.unit != "[hnsf'U]":
        return unverifiable(f"The attenuation of {thing.label} was not measured.", *_first(thing))
    if kind in ("hypo", "hyper"):
        known = host.get("mean") if host is not None else None
        if known is None:
            if kind == "hypo" and _number(mean) <= table["fluid"][1]:
                return supported(f"{_capital(thing.label)}: {display(mean)}.", mean)
            return unverifiable(f"The attenuation around {thing.label} was not measured.", mean)
        difference = _number(mean) - _number(known)
        reason = f"{_capital(thing.label)}: {display(mean)}, around it {display(known)}."
        if abs(difference) < table["difference"]:
            return unverifiable(reason, mean, known)
        return _pair(difference < 0, kind == "hypo", reason, mean, known)
    low, high = table[kind]
    value = _number(mean)
    reason = f"{_capital(thing.label)}: {display(mean)}."
    if low <= value <= high:
        return supported(reason, mean)
    return contradicted(reason, mean) if value < low - 15 or value > high + 15 else unverifiable(reason, mean)


def _pair(holds: bool, asserted: bool, reason: str, *facts: Fact | None) -> Outcome:
    return supported(reason, *facts) if holds == asserted else contradicted(reason, *facts)


def check_avid(world: World, thing: Thing, kind: str) -> Outcome:
    limits = world.lex.physics["avid_suv"]
    suv = thing.get("suv_max") or thing.get("suv_peak")
    if suv is None:
        return unverifiable(f"The uptake of {thing.label} was not measured.", *_first(thing))
    reason = f"{_capital(thing.label)}: {_named(suv)} {display(suv)}."
    value = _number(suv)
    if limits["negative"] < value < limits["positive"]:
        return unverifiable(reason, suv)
    return _pair(value >= limits["positive"], kind == "avid", reason, suv)


def check_than(world: World, a: Thing, b: Thing, claim: Claim) -> Outcome:
    """ "Larger than": two things compared by the quantity that is named, else by their size."""
    quantity = claim.quantity if claim.quantity not in EXTENTS else ""
    density = "mean" if (claim.density and not claim.finding) or quantity == "mean" else ""
    order = (
        [density or quantity, "long_axis", "volume"] if a.findings or density or quantity else ["volume", "long_axis"]
    )
    if claim.uptake or quantity.startswith("suv") or claim.avid:
        order = ["suv_max", "suv_mean"]
    for name in order:
        x, y = a.get(name) if name else None, b.get(name) if name else None
        if x is not None and y is not None:
            larger = claim.compared != "smaller" and "hypo" not in claim.density
            reason = f"{_capital(a.label)}: {display(x)}, {b.label}: {display(y)}."
            if _number(x) == _number(y):
                return contradicted(reason, x, y)
            return _pair(_number(x) > _number(y), larger, reason, x, y)
    return unverifiable(f"{_capital(a.label)} and {b.label} have no common measurement.", *_first(a), *_first(b))


def _first(thing: Thing) -> tuple[Fact, ...]:
    return thing.facts[:1]


def _named(fact: Fact) -> str:
    listed = QUANTITIES.get(fact.quantity)
    name = listed.name if listed is not None else fact.quantity
    return f"{name} ({fact.of})" if fact.quantity == "extent" and fact.of else name


def _words(value: str) -> str:
    return value.replace("_", " ")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


capital = _capital
named = _named
words = _words
number = _number
