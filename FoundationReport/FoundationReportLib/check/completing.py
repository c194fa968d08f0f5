# SPDX-License-Identifier: Apache-2.0
"""What a claim leaves to its neighbours: units, quantities, and which value belongs to which place."""

from __future__ import annotations

import itertools
from dataclasses import replace

from .claims import Claim, Site, fits, nodes_of

_FLUIDS = {
    "pleura": "pleural effusion",
    "pericardium": "pericardial effusion",
    "peritoneum": "ascites",
    "abdomen": "ascites",
    "pelvis": "ascites",
}


def complete(claim: Claim) -> None:
    """Names fluid after where it is; an earlier value without a unit has that of the present one ("previously 12")."""
    if claim.finding == "fluid":
        nodes = nodes_of(claim.sites)
        claim.finding = next((f for n, f in _FLUIDS.items() if n in nodes), "fluid")
    known = [v for v in claim.values if v.measure.dimension is not None or v.quantity]
    for n, value in enumerate(claim.values):
        if value.prior and value.quantity == "" and value.measure.dimension is None and known:
            model = next((v for v in reversed(claim.values[:n]) if v in known), known[0])
            factor = model.measure.factor
            measure = replace(
                value.measure, values=tuple(v * factor for v in value.measure.values), dimension=model.measure.dimension
            )
            claim.values[n] = replace(value, measure=measure, quantity=model.quantity)
        elif (
            known
            and value.prior
            and not value.quantity
            and known[0].quantity
            and fits(known[0].quantity, value.measure)
        ):
            claim.values[n] = replace(value, quantity=known[0].quantity)


def respective(claims: list[Claim]) -> None:
    """ "The right and left kidneys measure 152 and 161 mL": one value each."""
    for n, claim in enumerate(claims):
        k = len(claim.sites)
        run = claims[n : n + k]
        if (
            k > 1
            and len(run) == k
            and all(c.sites == claim.sites and len(c.values) == 1 and c.finding == claim.finding for c in run)
        ):
            for c, site in zip(run, list(claim.sites), strict=True):
                c.sites, c.plural = [site], False
    for first, second in itertools.pairwise(claims):
        sites = _ordered(first)
        if len(sites) == 2 and len(first.values) == 1 and len(second.values) == 1 and _ordered(second) == sites:
            first.sites, second.sites = [sites[0]], [sites[1]]


def _ordered(claim: Claim) -> list[Site]:
    if claim.ordered_sides and len(claim.sites) == 1:
        return [replace(claim.sites[0], side=side) for side in claim.ordered_sides]
    return claim.sites
