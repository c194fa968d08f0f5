# SPDX-License-Identifier: Apache-2.0
"""What a comparison answers, and when two numbers say the same.

Agreement: lengths within max(1 mm, 5 %), volumes 5 %, HU 3, SUV max(0.1, 5 %), percentages 2 points; with "about" 10 %.
"Unchanged" is within max(2 mm, 10 %) of the earlier value. The numbers stand in `lexicon/physics.json`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..measure.quantities import QUANTITIES, Dimension, dimension_of
from ..model import Fact, Verdict
from .claims import Value
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


def holds(world: World, value: Value, known: float, dimension: Dimension) -> bool:
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


def dimension_said(measure: Measure, fact: Fact) -> Dimension:
    if measure.dimension is not None and measure.dimension is not Dimension.OTHER:
        return measure.dimension
    return dimension_of(fact)


def number(fact: Fact) -> float:
    return float(fact.value) if isinstance(fact.value, int | float) else float("nan")


def first_fact(thing: Thing) -> tuple[Fact, ...]:
    return thing.facts[:1]


def named(fact: Fact) -> str:
    listed = QUANTITIES.get(fact.quantity)
    name = listed.name if listed is not None else fact.quantity
    return f"{name} ({fact.of})" if fact.quantity == "extent" and fact.of else name


def words(value: str) -> str:
    return value.replace("_", " ")


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
