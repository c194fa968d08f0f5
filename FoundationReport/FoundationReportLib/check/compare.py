# SPDX-License-Identifier: Apache-2.0
"""Sizes, volumes, intensities and axes of a text against those of one thing."""

from __future__ import annotations

from ..measure.quantities import Dimension, display
from ..model import Fact
from .agreement import (
    Outcome,
    agree,
    capital,
    contradicted,
    dimension_said,
    first_fact,
    holds,
    named,
    number,
    supported,
    unverifiable,
)
from .changing import check_change_amount, check_prior_value
from .claims import Claim, Value
from .world import Thing, World

PLAIN = ("long_axis", "max_diameter_3d", "mean_diameter")


EXTENTS = {"extent_cc": "craniocaudal", "extent_ap": "anterior-posterior", "extent_lr": "left-right"}


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
        return check_change_amount(world, thing, value, claim)
    if value.prior:
        return check_prior_value(world, thing, value, node)
    if len(measure.values) > 1:
        return _axes(world, thing, value)
    candidates = _candidates(thing, value, node)
    if not candidates:
        if measure.dimension is None and not value.quantity:
            return unverifiable(f"The number {measure.values[0]:g} has no unit.")
        return unverifiable(f"No such measurement of {thing.label} is among the facts.", *first_fact(thing))
    for fact in candidates:
        if holds(world, value, number(fact), dimension_said(measure, fact)):
            return supported(f"{capital(thing.label)}: {named(fact)} is {display(fact)}.", fact)
    return contradicted(f"{capital(thing.label)}: {named(candidates[0])} is {display(candidates[0])}.", candidates[0])


def _axes(world: World, thing: Thing, value: Value) -> Outcome:
    """ "14 x 9 mm" is longest and perpendicular diameter; three numbers are those and another, or the three extents."""
    claimed = sorted(value.measure.values, reverse=True)
    about = value.cmp == "~"
    long_axis, short_axis = thing.get("long_axis"), thing.get("short_axis")
    extents = sorted((f for f in thing.facts if f.quantity == "extent"), key=number, reverse=True)
    others = [f for f in thing.facts if f.quantity == "max_diameter_3d"] + extents

    def same(claimed_mm: float, fact: Fact | None) -> bool:
        return fact is not None and agree(world, claimed_mm, number(fact), Dimension.LENGTH, about)

    if long_axis is not None and short_axis is not None:
        rest = list(claimed)
        for axis in (long_axis, short_axis):
            hit = next((n for n in rest if same(n, axis)), None)
            if hit is not None:
                rest.remove(hit)
        if len(claimed) - len(rest) == 2 and all(any(same(n, f) for f in others) for n in rest):
            return supported(
                f"{capital(thing.label)} measures {display(long_axis)} by {display(short_axis)}.",
                long_axis,
                short_axis,
            )
        if len(claimed) - len(rest) == 2 and not others:
            return unverifiable(f"The third dimension of {thing.label} is not among the facts.", long_axis, short_axis)
    if len(extents) >= len(claimed) and all(any(same(n, f) for f in extents) for n in claimed):
        return supported(f"{capital(thing.label)} has these extents.", *extents)
    if long_axis is not None and short_axis is None and same(claimed[0], long_axis):
        return unverifiable(f"Only the longest diameter of {thing.label} is known.", long_axis)
    if long_axis is not None:
        size = f"{display(long_axis)} by {display(short_axis)}" if short_axis else display(long_axis)
        return contradicted(f"{capital(thing.label)} measures {size}.", long_axis, short_axis)
    if extents:
        return contradicted(
            f"{capital(thing.label)}: the extents are {', '.join(display(f) for f in extents)}.", *extents
        )
    return unverifiable(f"No diameters of {thing.label} are among the facts.", *first_fact(thing))
