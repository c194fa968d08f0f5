# SPDX-License-Identifier: Apache-2.0
"""Claims about organs as a whole, about coverage, technique, categories and sums: what is known of the study itself."""

from __future__ import annotations

import re

from ..measure.quantities import Dimension, display
from ..model import Fact, Kind
from .agreement import Outcome, agree, capital, contradicted, number, supported, unverifiable, words, worst
from .changing import no_prior
from .claims import Claim, Reading, Site, Value
from .world import Match, Thing, World

_COVERAGE_SAYS = {
    "outside_view": {"outside_view": True, "partly_in_view": False, "in_view_not_assessed": False, "assessed": False},
    "partly_in_view": {"outside_view": False, "partly_in_view": True, "assessed": False},
    "not_assessed": {"outside_view": True, "in_view_not_assessed": True, "assessed": False},
    "assessed": {"outside_view": False, "partly_in_view": False, "assessed": True, "in_view_not_assessed": True},
}


def check_coverage(world: World, claim: Claim) -> Outcome:
    """ "The kidneys are not included", "adrenal glands: not assessed"."""
    outcomes = []
    for site in claim.sites or [Site()]:
        if site.empty:
            outcomes.append(unverifiable("Whether this was assessed is not among the facts."))
            continue
        covered = world.coverage(site)
        if not covered:  # a region: its organs
            covered = [
                (o, f)
                for o in world.organs
                for f in o.facts
                if f.quantity == "coverage" and world.place(site, o) is Match.YES
            ]
            if site.nodes and covered:
                outcomes.append(_region(claim.coverage, covered))
                continue
        if not covered:
            there = [o for o in (*world.organs, *world.things) if world.place(site, o) is Match.YES]
            if claim.coverage == "not_assessed" and not there:
                outcomes.append(supported("No fact speaks of it."))
            else:
                outcomes.append(unverifiable("Nothing is known of its coverage."))
        for organ, fact in covered:
            if fact.value == "assessed" and not any(n in organ.nodes for n in site.nodes):
                outcomes.append(unverifiable(f"Only {organ.subject.name} as a whole was assessed.", fact))
                continue
            says = _COVERAGE_SAYS.get(claim.coverage, {}).get(str(fact.value))
            reason = f"{capital(organ.subject.name)}: {words(str(fact.value))}."
            if says is None:
                outcomes.append(unverifiable(reason, fact))
            else:
                outcomes.append(supported(reason, fact) if says else contradicted(reason, fact))
    return worst(outcomes)


def _region(claimed: str, covered: list[tuple[Thing, Fact]]) -> Outcome:
    values = {str(f.value) for _, f in covered}
    facts = [f for _, f in covered]
    if claimed == "partly_in_view":
        mixed = "partly_in_view" in values or ("outside_view" in values and len(values) > 1)
        return (
            supported("Parts of it are in view.", *facts)
            if mixed
            else contradicted(f"Its organs: {', '.join(sorted(map(words, values)))}.", *facts)
        )
    if claimed == "outside_view":
        return (
            supported("Its organs are outside the view.", *facts)
            if values == {"outside_view"}
            else contradicted("Organs of it are in view.", *facts)
        )
    if claimed == "not_assessed" and "assessed" not in values:
        return supported("None of its organs was assessed.", *facts)
    return unverifiable("Its organs differ in this.", *facts)


def check_normal(world: World, claim: Claim, site: Site) -> Outcome:
    """ "Unremarkable": contradicted by a finding there; supported only where a search found nothing."""
    abnormal = claim.normal == "abnormal" or (claim.negated and claim.normal != "")
    if claim.select == "other":
        return unverifiable("Whether the rest of it is normal was not looked at.")
    findings = [t for t in world.things if t.present and t.subject.kind is not Kind.IMAGE and _is_there(world, site, t)]
    if findings:
        reason = f"{capital(findings[0].label)} is among the facts."
        first = [f for t in findings for f in t.facts[:1]]
        return supported(reason, *first) if abnormal else contradicted(reason, *first)
    if abnormal:
        return unverifiable("No fact says so.")
    covered = world.coverage(site)
    if not site.nodes:
        return unverifiable("Not everything was looked at.")
    if not covered or any(f.value != "assessed" for _, f in covered):
        return unverifiable("It was not assessed, or not all of it.", *(f for _, f in covered))
    organs = [o for o, _ in covered]
    searched = [s.fact for s in (*world.searches, *(c for c in world.counts if c.found == 0)) if s.organ in organs]
    sides = {o.side for o in organs}
    with_search = {s.organ.side for s in world.searches if s.organ in organs} | {
        c.organ.side for c in world.counts if c.found == 0 and c.organ in organs
    }
    if searched and sides <= with_search:
        return supported("What was searched for there was not found.", *searched)
    return unverifiable("Nothing was searched for there.", *(f for _, f in covered))


def _is_there(world: World, site: Site, thing: Thing) -> bool:
    if not site.nodes:
        return world.side(site, thing) is not Match.NO
    return world.place(site, thing) is Match.YES


def check_size(world: World, claim: Claim, site: Site) -> Outcome:
    """ "Enlarged", "of normal size": by a category fact, else by published sizes with wide margins."""
    outcomes = []
    for organ in world.at(site):
        outcomes.append(_organ_size(world, claim, organ))
    return worst(outcomes) if outcomes else unverifiable("Its size is not among the facts.")


def _organ_size(world: World, claim: Claim, organ: Thing) -> Outcome:
    wanted = claim.size
    site = Site(organ.nodes, organ.side)
    wide = [t for t in world.things if t.present and "aneurysm" in t.findings and world.place(site, t) is Match.YES]
    if wide and wanted in ("normal", "enlarged"):
        return _size(wanted == "enlarged", f"{capital(wide[0].label)} is among the facts.", wide[0].facts[0])
    searched = [s.fact for s in world.searches if s.finding == "aneurysm" and s.organ.subject is organ.subject]
    if searched and wanted in ("normal", "enlarged") and organ.get("long_axis") is None:
        return _size(wanted == "normal", "An aneurysm was searched for and not found.", searched[0])
    for fact in organ.facts:
        if fact.quantity == "category" and isinstance(fact.value, str):
            text = fact.value.lower()
            if "normal" in text and "abnormal" not in text:
                return _size(wanted == "normal", f"{capital(organ.subject.name)}: {fact.value}.", fact)
            if re.search(r"enlarg|megaly|increased|large|above|aneurysm|dilat", text):
                return _size(wanted == "enlarged", f"{capital(organ.subject.name)}: {fact.value}.", fact)
            if re.search(r"small|below|atroph|reduced", text):
                return _size(wanted == "small", f"{capital(organ.subject.name)}: {fact.value}.", fact)
    norm = next(
        (world.lex.physics["organ_sizes"][n] for n in organ.nodes if n in world.lex.physics["organ_sizes"]), None
    )
    fact_or_none = organ.get(norm["quantity"]) if norm is not None else None
    if norm is None or fact_or_none is None:
        return unverifiable(f"What size of {organ.subject.name} is normal is not among the facts.", *organ.facts[:1])
    value, (low, high) = number(fact_or_none), norm["normal"]
    reason = f"{capital(organ.subject.name)}: {display(fact_or_none)} ({norm['source']})."
    if value >= norm["enlarged"]:
        return _size(wanted == "enlarged", reason, fact_or_none)
    if low <= value <= high:
        return _size(wanted == "normal", reason, fact_or_none)
    return unverifiable(reason, fact_or_none)


def _size(holds: bool, reason: str, fact: Fact) -> Outcome:
    return supported(reason, fact) if holds else contradicted(reason, fact)


# --- the study --------------------------------------------------------------------------------------------------------


def check_study_value(world: World, claim: Claim) -> Outcome:
    """Slice thickness, field strength, interval; sums of target diameters and their change."""
    outcomes = []
    quantity = claim.quantity
    for value in claim.values:
        outcomes.append(_study_value(world, value, value.quantity or quantity, claim))
    if claim.changes:
        outcomes.append(_sum_change(world, claim))
    return worst(outcomes)


def _study_value(world: World, value: Value, quantity: str, claim: Claim) -> Outcome:
    measure = value.measure
    if (
        measure.dimension is Dimension.PERCENT
        or value.by
        or (measure.signed and measure.dimension is not Dimension.INTENSITY)
    ):
        return _sum_amount(world, value, claim)
    if measure.dimension is Dimension.TIME:
        quantity = "interval"
    if (value.prior and quantity.endswith("sum_of_diameters")) or quantity == "baseline_sum":
        facts = [
            _anywhere(world, "baseline_sum"),
            _anywhere(world, "nadir_sum"),
            _anywhere(world, "prior", "sum_of_diameters"),
        ]
    else:
        facts = [world.image_fact(quantity) or (_anywhere(world, quantity) if quantity in SUMS else None)]
        if quantity == "slice_thickness":
            facts.append(world.image_fact("slice_spacing"))
    known = [f for f in facts if f is not None]
    if not known:
        if quantity in SUMS and (value.prior or quantity != "sum_of_diameters"):
            missing = no_prior(world)
            if missing is not None:
                return missing
        return unverifiable("That value of the study is not among the facts.")
    for fact in known:
        tight = quantity in ("slice_thickness", "slice_spacing", "field_strength")
        size = number(fact)
        good = (
            abs(measure.values[0] - size) <= max(0.05, 0.1 * size)
            if tight
            else agree(world, measure.values[0], size, measure.dimension or Dimension.OTHER, value.cmp == "~")
        )
        if good:
            return supported(f"{capital(words(fact.quantity))}: {display(fact)}.", fact)
    return contradicted(f"{capital(words(known[0].quantity))}: {display(known[0])}.", known[0])


SUMS = ("sum_of_diameters", "baseline_sum", "nadir_sum")


def _anywhere(world: World, quantity: str, of: str = "") -> Fact | None:
    return next((f for f in world.facts.facts if f.quantity == quantity and (not of or f.of == of)), None)


def _sum_facts(world: World) -> tuple[float, float, Fact] | None:
    now = next((f for f in world.facts.facts if f.quantity == "sum_of_diameters"), None)
    before = next(
        (
            f
            for f in world.facts.facts
            if f.quantity in ("nadir_sum", "baseline_sum") or (f.quantity == "prior" and f.of == "sum_of_diameters")
        ),
        None,
    )
    return (number(before), number(now), now) if now is not None and before is not None else None


def _sum_amount(world: World, value: Value, claim: Claim) -> Outcome:
    missing = no_prior(world)
    if missing is not None:
        return missing
    percent = value.measure.dimension is Dimension.PERCENT
    facts = [
        f
        for f in world.facts.facts
        if f.quantity == ("change_percent" if percent else "change")
        and f.of in ("sum_of_diameters", "baseline_sum", "nadir_sum")
    ]
    numbers = [(number(f), f) for f in facts]
    known = _sum_facts(world)
    if not numbers and known is not None:
        before, now, fact = known
        numbers = [(100 * (now - before) / before if percent else now - before, fact)]
    if not numbers:
        return unverifiable("The change of the sum is not among the facts.")
    amount = value.measure.values[0]
    if "smaller" in claim.changes and not value.measure.signed:
        amount = -abs(amount)
    for size, fact in numbers:
        unsigned = not value.measure.signed and not claim.changes
        if agree(
            world,
            abs(amount) if unsigned else amount,
            abs(size) if unsigned else size,
            value.measure.dimension or Dimension.LENGTH,
            value.cmp == "~",
        ):
            return supported(f"The sum changed by {size:+.3g}{'%' if percent else ' mm'}.", fact)
    return contradicted(f"The sum changed by {numbers[0][0]:+.3g}{'%' if percent else ' mm'}.", numbers[0][1])


def _sum_change(world: World, claim: Claim) -> Outcome:
    missing = no_prior(world)
    if missing is not None:
        return missing
    known = _sum_facts(world)
    if known is None:
        return unverifiable("The change of the sum is not among the facts.")
    before, now, fact = known
    reason = f"The sum was {before:g} mm and is {now:g} mm."
    outcomes = []
    for change in claim.changes:
        holds = {
            "larger": now > before,
            "smaller": now < before,
            "stable": abs(now - before) <= max(2.0, 0.1 * before),
        }.get(change.removeprefix("not "))
        if holds is None:
            return unverifiable(reason, fact)
        outcomes.append(supported(reason, fact) if holds != change.startswith("not ") else contradicted(reason, fact))
    return worst(outcomes)


def check_technique(world: World, reading: Reading) -> list[Outcome]:
    """Contrast, phase, modality; words that the image cannot speak of."""
    out: list[Outcome] = []
    contrast = world.contrast
    value = _contrast(contrast)
    for claim in dict.fromkeys(reading.technique):
        if claim == "enhancement":
            if value == "without":
                out.append(contradicted("No contrast agent was given.", contrast))
            else:
                out.append(unverifiable("Enhancement was not measured.", contrast))
            continue
        if not value:
            out.append(unverifiable("Whether contrast was given is not among the facts."))
        else:
            given = claim == "contrast_with"
            reason = f"The study is {value} contrast."
            out.append(supported(reason, contrast) if given == (value == "with") else contradicted(reason, contrast))
    for phase in dict.fromkeys(reading.phases):
        fact = world.image_fact("phase")
        if value == "without":
            out.append(contradicted("No contrast agent was given.", contrast))
        elif fact is None:
            out.append(unverifiable("The contrast phase is not among the facts."))
        else:
            same = phase in str(fact.value).lower() or str(fact.value).lower() in phase
            out.append(
                supported(f"Phase: {fact.value}.", fact) if same else contradicted(f"Phase: {fact.value}.", fact)
            )
    return out


def _contrast(fact: Fact | None) -> str:
    """ "with", "without" or nothing; other files may say yes, none, or the agent's name."""
    text = str(fact.value).strip().lower() if fact is not None else ""
    if text in ("", "unknown"):
        return ""
    return (
        "without" if text in ("without", "false", "no", "none", "0", "unenhanced", "native", "non-contrast") else "with"
    )


def check_modality(world: World, reading: Reading) -> list[Outcome]:
    """The modality named, and words that presuppose one."""
    out: list[Outcome] = []
    shows = world.lex.physics["shows"].get(world.modality)
    fact = world.image_fact("modality")
    if not shows:
        return out
    for modality in dict.fromkeys(reading.modalities):
        if reading.recommends:
            continue  # another examination that is proposed
        if reading.compares and modality != world.modality:
            continue  # the earlier study may be of another kind
        if modality == world.modality or modality in shows:
            out.append(supported(f"The study is {world.modality}.", fact))
        else:
            out.append(contradicted(f"The study is {world.modality}.", fact))
    for modality, word in dict.fromkeys(reading.terms):
        if modality not in shows:
            out.append(contradicted(f'"{word}" cannot be said of {world.modality}.', fact))
    return out


def check_quotes(world: World, reading: Reading) -> list[Outcome]:
    """The words of a category, as a fact states them."""
    facts = [f for f in world.facts.facts if f.id in reading.quotes]
    return [supported(f"The facts say {f.of}: {f.value}.", f) for f in facts]


def check_categories(world: World, reading: Reading) -> list[Outcome]:
    out = []
    facts = [f for f in world.facts.facts if f.quantity == "category"]
    for system, value in reading.categories:
        if system == "response":
            fitting = [(f, _response(world, f)) for f in facts]
            known = [(f, r) for f, r in fitting if r]
        else:
            name = re.sub(r"[^a-z]", "", system)
            known = [
                (f, _grade(str(f.value))) for f in facts if not name or name in re.sub(r"[^a-z]", "", f.of.lower())
            ]
            value = _grade(value)
        if not known:
            missing = no_prior(world) if system == "response" else None
            out.append(missing or unverifiable("No such category is among the facts."))
            continue
        right = [f for f, v in known if v == value]
        reason = f"The facts say {known[0][0].of}: {known[0][0].value}."
        out.append(supported(reason, right[0]) if right else contradicted(reason, known[0][0]))
    return out


def _grade(text: str) -> str:
    roman = {"I": "1", "II": "2", "IIF": "2F", "III": "3", "IV": "4", "V": "5"}
    match = re.search(r"\b(IIF|III|II|IV|V|I)\b|(\d[A-Za-z]?)", text)
    if match is None:
        return text.strip().upper()
    found = (match[1] or match[2]).upper()
    return roman.get(found, found)


def _response(world: World, fact: Fact) -> str:
    text = str(fact.value).strip()
    entries = world.lex.exact.get(text.upper(), [])
    for entry in (*entries, *world.lex.phrases.get(world.lex.key(text), [])):
        if entry.kind == "CATEGORY":
            return str(entry.value)
    return ""
