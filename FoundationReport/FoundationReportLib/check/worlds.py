# SPDX-License-Identifier: Apache-2.0
"""Facts made into a world: subjects with places, sides and findings, searches, names."""

from __future__ import annotations

import re

from ..measure.quantities import QUANTITIES
from ..model import Fact, Facts, Kind, Side, Subject
from .claims import Site
from .lexicon import Entry, FindingWord, Lexicon, lexicon
from .reader import read
from .world import Match, Search, Thing, World, numeric


def world_of(facts: Facts) -> World:
    """Reads the facts once; what follows is fast."""
    world = World(facts, lexicon(), modality=facts.modality)
    by_subject: dict[str, list[Fact]] = {}
    for fact in facts.facts:
        by_subject.setdefault(fact.subject, []).append(fact)
    for subject in facts.subjects:
        own = tuple(by_subject.get(subject.id, ()))
        if subject.kind is Kind.IMAGE:
            world.image += own
        elif subject.kind is Kind.ORGAN or (subject.kind is Kind.OTHER and not subject.finding):
            world.organs.append(_organ(world, subject, own))
        else:
            world.things.append(_thing(world, subject, own, facts))
    _image_coverage(world)
    for organ in list(world.organs):
        _searches(world, organ)
    _searches_by_finding(world)
    _categories_as_things(world)
    world.contrast = world.image_fact("contrast")
    modality = world.image_fact("modality")
    if modality is not None and not world.modality:
        world.modality = str(modality.value)
    world.has_prior = _has_prior(facts, world)
    _names(world)
    _quotes(world)
    return world


def _image_coverage(world: World) -> None:
    """Coverage that is stated of the image, `of` an organ that is no subject."""
    for fact in world.image:
        if fact.quantity == "coverage" and fact.of:
            nodes, side = _read_place(world.lex, fact.of)
            if nodes:
                world.organs.append(Thing(Subject(fact.of, fact.of, Kind.ORGAN), (), tuple(nodes), side, (fact,)))


def _searches_by_finding(world: World) -> None:
    """A finding that is itself a subject, "searched and not found": searched where it is, or where it would be."""
    for thing in world.things:
        fact = thing.get("presence")
        if fact is None or fact.value != "searched_not_found":
            continue
        for finding in thing.findings:
            known = world.lex.findings.get(finding)
            nodes = thing.nodes or (known.at if known is not None else ())
            place = Thing(thing.subject, (), nodes or ("body",), thing.side, thing.facts)
            world.searches.append(Search(fact, place, finding, 0))


def _has_prior(facts: Facts, world: World) -> bool:
    comparison = world.image_fact("comparison")
    if comparison is not None:
        return comparison.value not in (False, "none", "no", "")
    return any(
        f.quantity in ("prior", "change", "change_percent", "trend", "baseline_sum") for f in facts.facts
    ) or any(f.source is not None and f.source.prior for f in facts.facts)


def _read_place(lex: Lexicon, text: str) -> tuple[list[str], str]:
    nodes: list[str] = []
    side = ""
    for mention in read(text.replace("_", " "), lex):
        if mention.kind == "SITE":
            names, own = mention.value
            nodes += list(names) if isinstance(names, tuple) else [names]
            side = side or own
        elif mention.kind == "SIDE":
            side = side or str(mention.value)
        elif mention.kind == "FIND":
            nodes += [p for p in mention.value.makes if p not in nodes]
    return nodes, side


def _placed(world: World, subject: Subject, own: tuple[Fact, ...]) -> tuple[tuple[str, ...], str]:
    lex = world.lex
    nodes, side = _read_place(lex, subject.organ)
    if subject.organ and not nodes:
        nodes = [_new_place(world, subject.organ)]
    region, region_side = _read_place(lex, subject.region)
    if subject.region and not region:
        region, region_side = _read_place(lex, f"station {subject.region}")
    # The head of the pancreas is no part of the head: a region is read together with its organ.
    together = (
        _read_place(lex, f"{subject.region} of the {subject.organ}") if subject.region and subject.organ else None
    )
    if together is not None and len(together[0]) == 1 and together[0] != nodes:
        region, region_side = together
    if subject.region and not region:
        region = [_new_place(world, subject.region, tuple(nodes))]
    named, named_side = _read_place(lex, subject.name)
    for node in named:
        if not nodes or any(lex.place_in(node, n) for n in nodes):
            nodes.append(node)
    nodes += region
    stated = next((str(f.value) for f in own if f.quantity == "side"), "")
    side = str(subject.side.value) or region_side or side or (stated if stated in ("left", "right", "both") else "")
    if not side and subject.side is Side.NONE and named_side and nodes and any(_paired(lex, n) for n in nodes):
        side = named_side
    for lobe, lobe_side in (("left hepatic lobe", "left"), ("right hepatic lobe", "right")):
        if any(lex.place_in(n, lobe) for n in nodes):
            side = lobe_side
    for node in nodes:
        place = lex.places.get(node)
        if place is not None and place.side and not side:
            side = place.side
    whole = dict.fromkeys(nodes)
    return tuple(n for n in whole if not any(o != n and lex.place_in(o, n) for o in whole)), side


def _paired(lex: Lexicon, node: str) -> bool:
    place = lex.places.get(node)
    return place is not None and place.paired


def _new_place(world: World, text: str, parents: tuple[str, ...] = ()) -> str:
    """A place that the lexicon lacks: known by the facts' own word."""
    key = world.lex.key(text.replace("_", " "))
    name = " ".join(key)
    if key and key not in world.lex.phrases:
        world.names.setdefault(key, []).append(Entry("SITE", (name, "")))
    return name


def _organ(world: World, subject: Subject, own: tuple[Fact, ...]) -> Thing:
    nodes, side = _placed(world, subject, own)
    if not nodes:
        nodes = (_new_place(world, subject.name),)
    return Thing(subject, (), nodes, side, own)


def _thing(world: World, subject: Subject, own: tuple[Fact, ...], facts: Facts) -> Thing:
    nodes, side = _placed(world, subject, own)
    for fact in own:
        if fact.quantity == "inside" and fact.value is True:
            host = next((s for s in facts.subjects if s.id == fact.of), None)
            if host is not None:
                more, host_side = _placed(world, host, ())
                nodes = tuple(dict.fromkeys((*nodes, *more)))
                side = side or host_side
            elif fact.of:
                nodes = tuple(dict.fromkeys((*nodes, *_read_place(world.lex, fact.of)[0])))
    findings = _findings(world, subject)
    gone = any(
        (f.quantity == "presence" and f.value == "searched_not_found")
        or (f.quantity == "trend" and f.value == "resolved")
        for f in own
    )
    return Thing(subject, findings, nodes, side, own, not gone)


def _findings(world: World, subject: Subject) -> tuple[str, ...]:
    found: list[str] = []
    for text in (subject.finding, subject.name if not subject.finding else ""):
        for mention in read(text.replace("_", " "), world.lex):
            if mention.kind == "FIND" and mention.value.concept not in found:
                found.append("lymph node" if mention.value.concept == "lymphadenopathy" else mention.value.concept)
    if not found and subject.finding:
        key = world.lex.key(subject.finding)
        found.append(" ".join(key))
        world.names.setdefault(key, []).append(Entry("FIND", FindingWord(found[0])))
    if found and any(
        m.kind == "FIND" and m.value.concept == "primary tumor" for m in read(subject.name.replace("_", " "), world.lex)
    ):
        found.append("primary tumor")
    if subject.kind is Kind.NODE and "lymph node" not in found:
        found.insert(0, "lymph node")
    if subject.kind is Kind.LESION and not found:
        found.append("lesion")
    return tuple(found)


def _searches(world: World, organ: Thing) -> None:
    for fact in organ.facts:
        if fact.quantity == "presence" and fact.value == "searched_not_found":
            world.searches.append(Search(fact, organ, world.concept_of(fact.of or "abnormality"), 0))
        elif fact.quantity == "presence" and fact.value == "present" and fact.of:
            concept = world.concept_of(fact.of)
            place = Site(organ.nodes, organ.side)
            if not any(
                world.concept(concept, f) is Match.YES and world.place(place, t) is Match.YES
                for t in world.things
                for f in t.findings
            ):
                measured = [f for f in organ.facts if f is not fact and _measured_of(world, f, concept)]
                world.things.append(Thing(organ.subject, (concept,), organ.nodes, organ.side, (fact, *measured)))
        elif fact.quantity == "count" and fact.exhaustive and numeric(fact):
            world.counts.append(Search(fact, organ, world.concept_of(fact.of), int(float(fact.value))))
    # What was searched for in the whole image.
    if organ is world.organs[0]:
        whole = Thing(Subject("image", "image", Kind.IMAGE), (), ("body",), "", ())
        for fact in world.image:
            if fact.quantity == "presence" and fact.value == "searched_not_found":
                world.searches.append(Search(fact, whole, world.concept_of(fact.of or "abnormality"), 0))
            elif fact.quantity == "count" and fact.exhaustive and numeric(fact):
                world.counts.append(Search(fact, whole, world.concept_of(fact.of), int(float(fact.value))))


def _measured_of(world: World, fact: Fact, concept: str) -> bool:
    """Whether a measurement stated of an organ is one of a finding in it (volume `of` "pleural effusion")."""
    if not fact.of or fact.quantity in ("presence", "count", "multiplicity", "category"):
        return False
    return fact.of not in QUANTITIES and world.concept_of(fact.of) == concept


def _categories_as_things(world: World) -> None:
    """A category such as "moderate steatosis" of an organ says that the organ has it."""
    for organ in list(world.organs):
        for fact in organ.facts:
            if fact.quantity != "category" or not isinstance(fact.value, str):
                continue
            mentions = read(fact.value, world.lex)
            concepts = [m.value.concept for m in mentions if m.kind == "FIND"]
            severity = next((str(m.value) for m in mentions if m.kind == "SEVERITY"), "")
            if any(m.kind == "NEG" for m in mentions) and concepts:
                world.searches.append(Search(fact, organ, concepts[0], 0))
            elif concepts:
                world.things.append(
                    Thing(
                        organ.subject,
                        (concepts[0],),
                        organ.nodes,
                        organ.side,
                        (fact, *(f for f in organ.facts if f is not fact)),
                        True,
                        severity,
                    )
                )


def _names(world: World) -> None:
    """The subjects' own names, where they are no ordinary words ("Target 1", "nodule-2")."""
    lex = world.lex
    for thing in (*world.things,):
        forms = {thing.subject.name, thing.subject.id.replace("_", " ")}
        for form in list(forms):
            match = re.fullmatch(
                r"(?i)\s*(non-?\s?target|target|new|lesion|node|nodule|tumou?r|mass|t|l|tl|nt|cyst|metastasis)[\s_#-]*(?:lesion)?[\s_#-]*(\d{1,2})\s*",
                form,
            )
            if match:
                kind, number = match[1].lower().replace(" ", "").replace("-", ""), match[2]
                word = {"t": "target", "tl": "target", "nt": "nontarget", "l": "lesion"}.get(kind, kind)
                forms |= {f"{word} {number}", f"{word} lesion {number}", f"{word}-{number}"}
                if word in ("lesion", "target"):
                    forms |= {f"lesion {number}"}
                if word == "nontarget":
                    forms |= {f"non target {number}", f"non target lesion {number}"}
        for form in forms:
            key = lex.key(form)
            if len(key) >= 2 and re.search(r"\d", form) and key not in lex.phrases:
                entries = world.names.setdefault(key, [])
                ids = [thing.subject.id, *(i for e in entries if e.kind == "NAME" for i in e.value)]
                world.names[key] = [Entry("NAME", tuple(dict.fromkeys(ids)))]


def _quotes(world: World) -> None:
    """Categories in words ("within the published range") can be quoted."""
    for fact in world.facts.facts:
        if fact.quantity == "category" and isinstance(fact.value, str):
            key = world.lex.key(fact.value)
            kinds = {e.kind for e in world.lex.phrases.get(key, [])}
            if len(key) >= 2 and not kinds and not any(m.kind == "FIND" for m in read(fact.value, world.lex)):
                world.names.setdefault(key, []).append(Entry("QUOTE", fact.id))
