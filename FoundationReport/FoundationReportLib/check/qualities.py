# SPDX-License-Identifier: Apache-2.0
"""Density, uptake, and one thing compared with another."""

from __future__ import annotations

from ..measure.quantities import display
from ..model import Fact
from .agreement import Outcome, capital, contradicted, first_fact, named, number, supported, unverifiable
from .claims import Claim
from .compare import EXTENTS
from .world import Thing, World


def check_density(world: World, thing: Thing, kind: str, host: Thing | None) -> Outcome:
    """Words of attenuation, where it was measured."""
    table = world.lex.physics["density_hu"]
    mean = thing.get("mean")
    if mean is None or mean.unit != "[hnsf'U]":
        return unverifiable(f"The attenuation of {thing.label} was not measured.", *first_fact(thing))
    if kind in ("hypo", "hyper"):
        known = host.get("mean") if host is not None else None
        if known is None:
            if kind == "hypo" and number(mean) <= table["fluid"][1]:
                return supported(f"{capital(thing.label)}: {display(mean)}.", mean)
            return unverifiable(f"The attenuation around {thing.label} was not measured.", mean)
        difference = number(mean) - number(known)
        reason = f"{capital(thing.label)}: {display(mean)}, around it {display(known)}."
        if abs(difference) < table["difference"]:
            return unverifiable(reason, mean, known)
        return yes_no_pair(difference < 0, kind == "hypo", reason, mean, known)
    low, high = table[kind]
    value = number(mean)
    reason = f"{capital(thing.label)}: {display(mean)}."
    if low <= value <= high:
        return supported(reason, mean)
    return contradicted(reason, mean) if value < low - 15 or value > high + 15 else unverifiable(reason, mean)


def yes_no_pair(holds: bool, asserted: bool, reason: str, *facts: Fact | None) -> Outcome:
    return supported(reason, *facts) if holds == asserted else contradicted(reason, *facts)


def check_avid(world: World, thing: Thing, kind: str) -> Outcome:
    limits = world.lex.physics["avid_suv"]
    suv = thing.get("suv_max") or thing.get("suv_peak")
    if suv is None:
        return unverifiable(f"The uptake of {thing.label} was not measured.", *first_fact(thing))
    reason = f"{capital(thing.label)}: {named(suv)} {display(suv)}."
    value = number(suv)
    if limits["negative"] < value < limits["positive"]:
        return unverifiable(reason, suv)
    return yes_no_pair(value >= limits["positive"], kind == "avid", reason, suv)


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
            reason = f"{capital(a.label)}: {display(x)}, {b.label}: {display(y)}."
            if number(x) == number(y):
                return contradicted(reason, x, y)
            return yes_no_pair(number(x) > number(y), larger, reason, x, y)
    return unverifiable(f"{capital(a.label)} and {b.label} have no common measurement.", *first_fact(a), *first_fact(b))
