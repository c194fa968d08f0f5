# SPDX-License-Identifier: Apache-2.0
"""What a part of a sentence says: of what, and what of it. Values only; `understand.py` makes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..measure.quantities import Dimension
from .mentions import Measure


@dataclass(frozen=True)
class Site:
    """A place of the body: nodes that all hold ("lower pole" and "kidney"), and a side if one is named."""

    nodes: tuple[str, ...] = ()
    side: str = ""

    @property
    def empty(self) -> bool:
        return not self.nodes and not self.side


@dataclass(frozen=True)
class Value:
    """A number that a claim states: of which quantity (empty: not said), now or earlier, exactly or as a bound."""

    measure: Measure
    quantity: str = ""
    prior: bool = False
    cmp: str = ""
    by: bool = False


@dataclass(frozen=True)
class Count:
    op: str
    n: int
    strict: bool = False


@dataclass
class Claim:
    """What one part of a sentence says. Empty fields: it does not say."""

    finding: str = ""
    plural: bool = False
    definite: bool = False
    enlarged_node: bool = False
    target: bool = False
    inherited: bool = False
    prior_open: bool = False
    of_all: bool = False
    number_of: bool = False
    restricted: bool = False
    located: bool = False
    uptake: bool = False
    sites: list[Site] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    count: Count | None = None
    partitive: Count | None = None
    unknown: bool = False
    select: str = ""
    negated: bool = False
    hedged: bool = False
    values: list[Value] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    factor: float | None = None
    persists: bool = False
    normal: str = ""
    size: str = ""
    coverage: str = ""
    density: list[str] = field(default_factory=list)
    avid: str = ""
    severity: str = ""
    relation: str = ""
    relation_site: Site | None = None
    relation_value: Measure | None = None
    than: Site | None = None
    than_finding: str = ""
    compared: str = ""
    loosely: str = ""
    everywhere: bool = False
    lies: bool = False
    sole: Site | None = None
    quantity: str = ""
    pronoun: bool = False
    study: bool = False
    group: int = 0
    ordered_sides: tuple[str, ...] = ()

    @property
    def predicated(self) -> bool:
        return bool(
            self.values
            or self.changes
            or self.normal
            or self.size
            or self.coverage
            or self.density
            or self.avid
            or self.relation
            or self.than is not None
            or self.factor
        )

    @property
    def headless(self) -> bool:
        return not (self.finding or self.sites or self.names)


@dataclass
class Reading:
    """A sentence: its claims, and what holds of the sentence as a whole."""

    claims: list[Claim] = field(default_factory=list)
    technique: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    terms: list[tuple[str, str]] = field(default_factory=list)
    categories: list[tuple[str, str]] = field(default_factory=list)
    no_prior: bool = False
    compares: bool = False
    hedged: bool = False
    recommends: bool = False
    quotes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


STUDY_QUANTITIES = {
    "sum_of_diameters",
    "nadir_sum",
    "baseline_sum",
    "slice_thickness",
    "slice_spacing",
    "field_strength",
    "interval",
}


_DIMENSION = {
    "volume": Dimension.VOLUME,
    "mtv": Dimension.VOLUME,
    "mean": Dimension.INTENSITY,
    "sd": Dimension.INTENSITY,
    "min": Dimension.INTENSITY,
    "max": Dimension.INTENSITY,
    "median": Dimension.INTENSITY,
    "doubling_time": Dimension.TIME,
    "interval": Dimension.TIME,
    "field_strength": Dimension.OTHER,
}


def fits(quantity: str, measure: Measure) -> bool:
    """Whether a number with this unit can be of that quantity."""
    if quantity.startswith("suv") or quantity == "tlg":
        return measure.dimension in (None, Dimension.UPTAKE)
    return measure.dimension == _DIMENSION.get(quantity, Dimension.LENGTH)


def many(claim: Claim) -> bool:
    return claim.plural or (claim.count is not None and claim.count.n > 1) or claim.select == "all"


def nodes_of(sites: Iterable[Site]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(n for s in sites for n in s.nodes))
