# SPDX-License-Identifier: Apache-2.0
"""Which things of the facts a claim could speak of."""

from __future__ import annotations

from dataclasses import replace

from .claims import Claim, Site
from .world import Match, Thing, World


def sites_of(world: World, claim: Claim) -> list[Site]:
    sites = claim.sites or [Site()]
    out: list[Site] = []
    for site in sites:
        if claim.finding == "fracture" and site.nodes == ("pelvis",):
            site = replace(site, nodes=("pelvic bone",))
        if site.side == "both" and site.nodes and not any(is_paired(world, n) for n in site.nodes):
            out.append(replace(site, side=""))
        elif site.side == "both":
            out += [replace(site, side="left"), replace(site, side="right")]
        else:
            out.append(site)
    return out


def is_paired(world: World, node: str) -> bool:
    place = world.lex.places.get(node)
    return place is None or place.paired or bool(place.host)


def things_at(world: World, claim: Claim, site: Site, least: Match = Match.YES, gone: bool = False) -> list[Thing]:
    found = []
    for thing in world.things:
        if not thing.present and not gone:
            continue
        if claim.target and not thing.get("target") and any(t.get("target") for t in world.things):
            continue
        kind = kind_match(world, claim, thing)
        if min(kind, world.place(site, thing)) >= least:
            found.append(thing)
    return found


def kind_match(world: World, claim: Claim, thing: Thing) -> Match:
    finding = "lymph node" if claim.finding == "lymphadenopathy" else claim.finding
    if claim.target and thing.get("target"):
        return Match.YES
    match = world.finding(finding, thing)
    if match is Match.NO and finding in ("lesion", "abnormality") and "lymph node" in thing.findings:
        loose = not claim.sites and (claim.changes or claim.select or claim.count is None)
        return Match.YES if loose and not claim.values else Match.UNKNOWN if not claim.sites else Match.NO
    return match


def size_of(thing: Thing, claim: Claim) -> float:
    if claim.uptake or claim.quantity.startswith("suv") or claim.avid:
        return thing.number("suv_max") or thing.number("suv_mean") or -1.0
    return (
        thing.number("long_axis")
        or thing.number("max_diameter_3d")
        or (thing.number("volume") or 0.0) ** (1 / 3)
        or -1.0
    )


def organ_nodes(world: World, site: Site) -> list[str]:
    out = []
    for node in site.nodes:
        for name in sorted(world.lex.place_ancestors(node)):
            place = world.lex.places.get(name)
            if place is not None and place.family == "organ" and name not in out:
                out.append(name)
    return out
