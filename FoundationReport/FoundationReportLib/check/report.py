# SPDX-License-Identifier: Apache-2.0
"""The cross-check of sentences, texts and reports: verdicts, contradictions between sentences, facts left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..model import Fact, Facts, Judgement, Kind, Origin, Report, Verdict
from .absence import no_others
from .agreement import Outcome, contradicted, supported, unverifiable, worst
from .changing import no_prior
from .claims import Claim, Reading, Site, many
from .judge import judge
from .judged import Judged
from .mentions import Mention
from .reader import read
from .sentences import Sentence, split
from .study import check_categories, check_modality, check_quotes, check_technique
from .understand import understand
from .world import Match, Thing, World
from .worlds import world_of


class TextCheck(NamedTuple):
    """`statements`: each sentence with its judgement, in order; `omitted`: ids of facts that no sentence tells."""

    statements: list[tuple[str, Judgement]]
    omitted: tuple[str, ...]


@dataclass
class Checked:
    """A sentence that was checked: its outcome, claims, the things it spoke of, and of which it said nothing wrong."""

    text: str
    outcome: Outcome
    claims: list[Claim] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    told: list[Thing] = field(default_factory=list)
    parts: list[Outcome] = field(default_factory=list)


def check_text(facts: Facts, text: str) -> TextCheck:
    """Checks any text against any facts, sentence by sentence.

    Returns:
        Each sentence with supported, contradicted or unverifiable, a one-line reason and the ids of the facts that
        decided; and the facts that a report of this study has to tell and the text does not.
    """
    world = world_of(facts)
    checked = _check_all(world, split(text))
    return TextCheck([(c.text, _judgement(c.outcome)) for c in checked], _omitted(world, checked, ()))


def check(report: Report) -> Report:
    """The report with a judgement on every statement, and with the facts that no statement tells."""
    from ..drafting.mentioned import omitted_by_template
    from ..drafting.stated import stated

    world = world_of(report.facts)
    sections = {section.key: section.title for section in report.sections}
    checked: list[Checked] = []
    statements = []
    told: set[str] = set()
    groups: list[tuple[int, int]] = []
    exact = stated(report)
    for statement in report.statements:
        first = len(checked)
        if statement.text in exact or statement.placeholder:  # a field says nothing that could contradict
            groups.append((first, first))
            continue
        sentences = split(statement.text) or [Sentence(statement.text)]
        heading = sections.get(statement.section, "")
        checked += _check_all(world, [replace(s, heading=s.heading or heading) for s in sentences], alone=True)
        groups.append((first, len(checked)))
    _between(world, checked)
    for statement, (first, last) in zip(report.statements, groups, strict=True):
        known = exact.get(statement.text)
        if statement.placeholder:
            outcome = unverifiable("This field is to be filled or dismissed.")
        elif known is not None:
            outcome = Outcome(known.verdict, known.reason, known.facts)
        else:
            outcome = worst([c.outcome for c in checked[first:last]])
        statements.append(replace(statement, judgement=_judgement(outcome)))
        if outcome.verdict is not Verdict.CONTRADICTED:
            told |= set(outcome.facts)
            # What a person made of a template's sentence tells what is read in it.
            told |= set(statement.facts) if statement.origin is Origin.TEMPLATE else set()
    silent = _omitted(world, checked, told)
    omitted = omitted_by_template(report, told | _read_facts(checked), silent)
    return replace(report, statements=tuple(statements), omitted=omitted)


def _judgement(outcome: Outcome) -> Judgement:
    return Judgement(outcome.verdict, outcome.reason, outcome.facts)


def _check_all(world: World, sentences: Sequence[Sentence], alone: bool = False) -> list[Checked]:
    checked: list[Checked] = []
    context: list[Thing] = []
    named: list[Thing] | None = []
    for sentence in sentences:
        result = check_sentence(world, sentence, context, named)
        checked.append(result)
        context = result.things or context
        named = _named_so_far(named, result.things, result.claims)
    if not alone:
        _between(world, checked)
    return checked


def _named_so_far(named: list[Thing] | None, things: list[Thing], claims: Sequence[Claim]) -> list[Thing] | None:
    """The things that were named one by one; None once a text speaks of several at once: which, it need not say."""
    if named is None or any(many(c) and not c.negated for c in claims):
        return None
    return [*named, *(t for t in things if t not in named)]


def check_sentence(
    world: World, sentence: Sentence, context: list[Thing], before: list[Thing] | None = None
) -> Checked:
    """One sentence. `context`: the things that the sentence before spoke of; `before`: all things named until now."""
    mentions = read(sentence.text, world.lex, world.names)
    if sentence.heading:
        mentions = _headed(world, sentence.heading, mentions)
    reading = understand(mentions, world.lex)
    outcomes = [
        *check_modality(world, reading),
        *check_technique(world, reading),
        *check_categories(world, reading),
        *check_quotes(world, reading),
    ]
    things: list[Thing] = []
    told: list[Thing] = []
    substantial = bool(outcomes)
    if reading.no_prior:
        missing = no_prior(world)
        outcomes.append(
            supported("No earlier study was compared.")
            if missing
            else contradicted("An earlier study was compared.", world.image_fact("comparison"))
        )
        substantial = True
    elif reading.compares:
        missing = no_prior(world)
        if missing is not None:
            outcomes.append(missing)
        else:
            outcomes.append(supported("An earlier study was compared.", world.image_fact("comparison")))
    for claim in reading.claims:
        if reading.categories and _only_category(claim):
            continue
        if (reading.no_prior or (outcomes and not substantial)) and claim.headless and not claim.predicated:
            continue
        if outcomes and _only_place(claim) and _in_study(world, claim):
            if claim.study:
                outcomes += _study_side(world, claim)
            continue
        judged = judge(world, claim, things or context)
        if claim.negated and claim.select == "other":
            earlier = reading.claims[: reading.claims.index(claim)]
            only = any(c.count is not None and c.count.strict and c.count.op == "=" for c in earlier)
            named = _named_so_far([] if before is None and only else before, things, earlier)
            judged = Judged(no_others(world, claim, named or [], judged.outcome))
        if substantial and _about_nothing(claim):
            continue
        outcomes.append(judged.outcome)
        things += [t for t in judged.things if t not in things]
        if judged.outcome.verdict is not Verdict.CONTRADICTED:
            told += judged.things
    if reading.hedged:
        outcomes.append(unverifiable("It is said with reserve, or as an opinion; no fact settles it."))
    if reading.recommends:
        outcomes.append(unverifiable("It is advice, not something that was measured."))
    if _repeats(mentions):
        outcomes.append(unverifiable("It repeats itself."))
    if reading.unknown:
        words = ", ".join(f'"{w}"' for w in reading.unknown[:3])
        outcomes.append(unverifiable(f"No fact speaks of {words}."))
    if not outcomes:
        outcomes.append(unverifiable("No fact speaks of this."))
    return Checked(sentence.text, worst(outcomes), reading.claims, things, told, outcomes)


def _repeats(mentions: list[Mention]) -> bool:
    """Whether a text goes round in circles, as a model's may."""
    words = [m.text.lower() for m in mentions if m.kind not in ("NEUTRAL", "DET", "SEP", "CONJ", "SKIP")]
    return len(words) >= 12 and len(set(words)) * 4 <= len(words)


def _headed(world: World, heading: str, mentions: list[Mention]) -> list[Mention]:
    """A sentence under "Liver:" that names no place of its own speaks of the liver."""
    places = [m for m in read(heading, world.lex, world.names) if m.kind in ("SITE", "SIDE")]
    if not places or any(m.kind == "SITE" for m in mentions):
        return mentions
    if any(m.kind == "FIND" and (m.value.makes or m.value.concept == "lymph node") for m in mentions):
        return mentions
    at = mentions[0].start if mentions else 0
    return [*(replace(p, start=at, end=at) for p in places), Mention("SEP", ":", at, at), *mentions]


def _only_category(claim: Claim) -> bool:
    return not claim.finding and not claim.sites and not claim.values and not claim.names


def _only_place(claim: Claim) -> bool:
    return bool(claim.sites) and not (claim.finding or claim.predicated or claim.count or claim.negated or claim.names)


def _in_study(world: World, claim: Claim) -> bool:
    """ "CT of the chest": something of the facts lies there, or it is part of what they speak of."""
    nodes = [n for t in (*world.organs, *world.things) for n in t.nodes]
    return all(
        any(world.lex.place_in(k, n) or world.lex.place_in(n, k) for k in nodes) for s in claim.sites for n in s.nodes
    )


def _study_side(world: World, claim: Claim) -> list[Outcome]:
    """ "MRI of the left knee": contradicted if what is in view there lies all on the other side."""
    out = []
    for site in claim.sites:
        if site.side not in ("left", "right"):
            continue
        there = [
            t
            for t in (*world.organs, *world.things)
            if t.side and world.nodes(site.nodes, t) is Match.YES and not world.out_of_view(t)
        ]
        if there and all(t.side not in ("both", site.side) for t in there):
            out.append(contradicted(f"The study shows the {there[0].side} side.", *there[0].facts[:1]))
    return out


def _about_nothing(claim: Claim) -> bool:
    return claim.headless and not claim.values and not claim.changes and not claim.normal and claim.count is None


# --- sentences against each other -------------------------------------------------------------------------------------


def _between(world: World, checked: list[Checked]) -> None:
    """Two sentences that cannot both be true: what the facts do not settle is contradicted by the other sentence."""
    before = [item.outcome.verdict for item in checked]
    stated = [(n, c) for n, item in enumerate(checked) for c in item.claims if c.finding and not c.hedged]
    for n, first in stated:
        for m, second in stated:
            if n >= m or first.negated == second.negated:
                continue
            if not _same_matter(world, first, second):
                continue
            for mine, other in ((n, m), (m, n)):
                if before[mine] is Verdict.UNVERIFIABLE and before[other] is not Verdict.CONTRADICTED:
                    reason = f'It contradicts another sentence: "{_short(checked[other].text)}"'
                    checked[mine].outcome = Outcome(Verdict.CONTRADICTED, reason, checked[mine].outcome.facts)
    _numbers_between(checked)


def _same_matter(world: World, a: Claim, b: Claim) -> bool:
    no, yes = (a, b) if a.negated else (b, a)
    if (
        no.changes
        or no.values
        or no.size
        or no.select == "other"
        or no.avid
        or no.enlarged_node
        or "resolved" in yes.changes
    ):
        return False
    if yes.finding == "abnormality" and no.finding != "abnormality":
        return False  # "findings compatible with ..." does not say what was found
    if world.concept(no.finding, yes.finding) is not Match.YES:
        return False
    denied = no.sites or [Site()]
    for there in yes.sites or [Site()]:
        for here in denied:
            if here.side not in ("", "both") and here.side != there.side:
                continue
            if not here.nodes and not there.nodes:
                return True
            if (
                here.nodes
                and there.nodes
                and all(any(world.lex.place_in(t, h) for t in there.nodes) for h in here.nodes)
            ):
                return True
    return False


def _numbers_between(checked: list[Checked]) -> None:
    """The same quantity of the same thing with two different numbers, where no fact says which is right."""
    seen: dict[tuple[object, ...], tuple[int, float]] = {}
    for n, item in enumerate(checked):
        if item.outcome.verdict is Verdict.CONTRADICTED:
            continue
        for claim in item.claims:
            for value in claim.values:
                if (
                    value.cmp
                    or value.prior
                    or value.by
                    or value.measure.to is not None
                    or value.measure.signed
                    or claim.plural
                    or claim.count
                ):
                    continue
                if not claim.sites or not claim.sites[0].nodes or claim.select:
                    continue
                key = (claim.finding, tuple(claim.sites), value.quantity, value.measure.dimension)
                number = value.measure.values[0]
                other = seen.setdefault(key, (n, number))
                unsettled = Verdict.UNVERIFIABLE in (item.outcome.verdict, checked[other[0]].outcome.verdict)
                if (
                    other[0] != n
                    and abs(other[1] - number) > max(1.0, 0.1 * abs(number))
                    and unsettled
                    and not claim.finding
                ):
                    for mine, theirs in ((n, other[0]), (other[0], n)):
                        if checked[mine].outcome.verdict is Verdict.UNVERIFIABLE:
                            reason = f'It gives another number than: "{_short(checked[theirs].text)}"'
                            checked[mine].outcome = Outcome(Verdict.CONTRADICTED, reason, checked[mine].outcome.facts)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


# --- what was left out ------------------------------------------------------------------------------------------------


def _omitted(world: World, checked: Iterable[Checked], told: Iterable[str]) -> tuple[str, ...]:
    """One fact for each lesion, node or other finding that no sentence speaks of without being wrong about it."""
    spoken: set[str] = set()
    ids = set(told)
    for item in checked:
        spoken |= {t.subject.id for t in item.told}
        if item.outcome.verdict is not Verdict.CONTRADICTED:
            spoken |= {t.subject.id for t in item.things}
    ids |= _read_facts(checked)
    spoken |= {f.subject for f in world.facts.facts if f.id in ids and f.subject}
    out = []
    for subject in world.facts.subjects:
        if subject.kind in (Kind.ORGAN, Kind.IMAGE) or subject.id in spoken:
            continue
        if subject.kind is Kind.OTHER and not subject.finding:
            continue
        fact = _leading(world.facts.of(subject.id))
        if fact is not None:
            out.append(fact.id)
    return tuple(out)


def _read_facts(checked: Iterable[Checked]) -> set[str]:
    """Ids of the facts that decided on sentences which are not wrong."""
    right = [item for item in checked if item.outcome.verdict is not Verdict.CONTRADICTED]
    return {name for item in right for outcome in (item.outcome, *item.parts) for name in outcome.facts}


def _leading(facts: tuple[Fact, ...]) -> Fact | None:
    for quantity in ("presence", "long_axis", "volume"):
        for fact in facts:
            if fact.quantity == quantity:
                return fact
    return facts[0] if facts else None


__all__ = ["Checked", "Reading", "TextCheck", "check", "check_sentence", "check_text"]
