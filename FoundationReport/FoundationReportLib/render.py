# SPDX-License-Identifier: Apache-2.0
"""Facts and reports as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from .diff import CHANGED, TextChange, word_diff
from .measure.quantities import QUANTITIES, display
from .model import Fact, Facts, Judgement, Kind, Report, Statement, Verdict
from .state import banner, unresolved

WIDTH = 110
_OF_A_KIND = ("prior", "count")  # what `Fact.of` of these names is a quantity or a finding, not a structure
_MARKS = {Verdict.SUPPORTED: "ok", Verdict.CONTRADICTED: "!!", Verdict.UNVERIFIABLE: "??"}
_FIRST = {
    *("volume", "long_axis", "short_axis", "mean", "suv_max", "suv_peak", "inside", "adjacent", "count", "category"),
    *("doubling_time", "sum_of_diameters", "baseline_sum", "nadir_sum"),
}
_CHANGES = ("long_axis", "short_axis", "baseline_sum", "nadir_sum")
LEGEND = "ok supported by the facts   !! contradicted   ?? cannot be verified   __ to be filled   .. not checked yet"


def facts_table(facts: Facts) -> str:
    """One line per fact, subject after subject, with how it was obtained; warnings below."""
    lines = []
    for subject in facts.subjects:
        own = facts.of(subject.id)
        if not own:
            continue
        lines.append(f"{subject.name} ({subject.id})" if subject.name != subject.id else subject.name)
        rows = [(fact.id, fact_name(fact), fact_value(facts, fact), _source(fact)) for fact in own]
        lines += [f"  {line}" for line in _columns(rows)]
    lines += [f"Note: {warning}" for warning in facts.warnings]
    return "\n".join(lines)


def facts_summary(facts: Facts) -> str:
    """What a reader of a report asks for first, a few lines per subject; what was not measured in one line each."""
    lines = []
    places: dict[str, list[str]] = {}
    for subject in facts.subjects:
        own = facts.of(subject.id)
        told = [fact for fact in own if subject.kind is Kind.IMAGE or _comes_first(fact)]
        if all(fact.quantity == "coverage" for fact in own):
            for fact in own:
                places.setdefault(str(fact.value), []).append(subject.name)
        elif told:
            values = "; ".join(_short(facts, fact.id) for fact in told)
            lines += _wrapped(f"{subject.name}: {values}", "  ", "      ")
    for value, names in places.items():
        lines += _wrapped(f"{value.replace('_', ' ').capitalize()}: {', '.join(names)}", "  ", "      ")
    return "\n".join(lines)


def _comes_first(fact: Fact) -> bool:
    if fact.quantity == "trend":
        return fact.value != "unchanged"
    return fact.quantity in _FIRST or (fact.quantity == "change_percent" and fact.of in _CHANGES)


def report_text(report: Report, evidence: bool = True) -> str:
    """The report with its label on top, every statement with id and mark; `evidence`: reasons and facts below it."""
    lines = [banner(report), ""]
    for section in report.sections:
        statements = report.in_section(section.key)
        if not statements:
            continue
        lines.append(section.title.upper())
        for statement in statements:
            lines += _statement(report, statement, evidence)
        lines.append("")
    if report.omitted:
        lines.append("MEASURED BUT NOT MENTIONED")
        for name in report.omitted:
            fact = report.facts.fact(name)
            left = "  (left out on purpose)" if name in report.left_out else ""
            lines.append(f"  {name}  {describe(report.facts, fact)}{left}")
        lines.append("")
    if report.facts.warnings and evidence:
        lines.append("NOTES ON WHAT WAS MEASURED")
        for warning in report.facts.warnings:
            lines += _wrapped(warning, "  - ", "    ")
        lines.append("")
    lines.append(LEGEND)
    if not report.signatures and (blockers := unresolved(report)):
        lines += _wrapped(f"Before signing: {blockers.sentence()}.", "", "  ")
    return "\n".join(lines)


def plain_text(report: Report) -> str:
    """Only what the report says, under its label."""
    lines = [banner(report), ""]
    for section in report.sections:
        if statements := report.in_section(section.key):
            lines += [section.title.upper(), *(line for s in statements for line in _wrapped(s.text, "", "")), ""]
    return "\n".join(lines).rstrip()


def judged_text(judged: Sequence[tuple[str, Judgement]], omitted: Iterable[str], facts: Facts) -> str:
    """Sentences of a text with their judgements, and what the text leaves out."""
    lines = []
    for sentence, judgement in judged:
        lines += _wrapped(sentence, f"{_MARKS[judgement.verdict]} ", "   ")
        if judgement.verdict is not Verdict.SUPPORTED:
            lines += _reason(facts, judgement, "     ")
    names = list(omitted)
    if names:
        lines += ["", "Measured but not mentioned:"]
        lines += [f"  {name}  {describe(facts, facts.fact(name))}" for name in names]
    counts = [sum(judgement.verdict is verdict for _, judgement in judged) for verdict in _MARKS]
    lines += ["", f"{counts[0]} supported, {counts[1]} contradicted, {counts[2]} cannot be verified."]
    return "\n".join(lines)


def changes_text(changes: Sequence[TextChange]) -> str:
    """What a person changed, one statement after the other."""
    lines = []
    for change in changes:
        head = f"{change.kind:<8} {change.statement} ({change.section}, first written by {change.origin})"
        lines.append(head + (f", accepted by {change.by}" if change.by else ""))
        text = word_diff(change.before, change.after) if change.kind == CHANGED else change.after or change.before
        lines += _wrapped(text, "         ", "         ")
    return "\n".join(lines) or "Nothing was changed."


def describe(facts: Facts, fact: Fact) -> str:
    """A fact in a few words: "Liver: volume 1520 mL"."""
    return f"{facts.subject(fact.subject).name}: {fact_name(fact)} {fact_value(facts, fact)}"


def fact_name(fact: Fact) -> str:
    """A quantity as words: "longest axial diameter", "count of nodule"."""
    listed = QUANTITIES.get(fact.quantity)
    name = listed.name if listed is not None else fact.quantity.replace("_", " ")
    if fact.quantity == "count" and fact.of:
        return f"number of {fact.of.replace('_', ' ')} findings"
    return f"{name} of {fact.of.replace('_', ' ')}" if fact.of and fact.quantity in _OF_A_KIND else name


def fact_value(facts: Facts, fact: Fact) -> str:
    """The value with its unit, as a report prints it, and the structure that it is measured towards."""
    text = display(fact).replace("_", " ")
    if fact.of and fact.quantity not in _OF_A_KIND:
        names = {subject.id: subject.name for subject in facts.subjects}
        text += f" ({names.get(fact.of, fact.of.replace('_', ' '))})"
    return text + (" (all there are)" if fact.exhaustive else "")


def _source(fact: Fact) -> str:
    if fact.source is None:
        return ""
    parts = [fact.source.method]
    if fact.source.slice_k is not None:
        parts.append(f"slice {fact.source.slice_k}")
    if fact.source.model:
        parts.append(f"segment by {fact.source.model}")
    return ", ".join(part for part in parts if part)


def _statement(report: Report, statement: Statement, evidence: bool) -> list[str]:
    judgement = statement.judgement
    mark = _MARKS[judgement.verdict] if judgement is not None else ".."
    if statement.placeholder and not statement.accepted_by:
        mark = "__" if mark != "!!" else mark
    head = f"  {mark} {statement.id:<4}"
    lines = _wrapped(statement.text, head, " " * len(head))
    if not evidence:
        return lines
    pad = " " * (len(head) + 2)
    if statement.model:
        info = next(info for info in report.models if info.id == statement.model)
        agreed = f", {statement.agreement[0]} of {statement.agreement[1]} samples agree" if statement.agreement else ""
        lines += _wrapped(f"first written by {info.model} ({info.revision[:12]}){agreed}", pad, pad)
    if statement.accepted_by:
        lines.append(f"{pad}accepted by {statement.accepted_by}")
    if judgement is not None and judgement.verdict is not Verdict.SUPPORTED and not statement.placeholder:
        lines += _reason(report.facts, judgement, pad)
    elif statement.facts and not statement.placeholder:
        lines += _wrapped("from " + "; ".join(_short(report.facts, name) for name in statement.facts), pad, pad + "  ")
    return lines


def _reason(facts: Facts, judgement: Judgement, pad: str) -> list[str]:
    text = f"{judgement.verdict}: {judgement.reason}"
    if judgement.facts:
        text = f"{text.rstrip('.')} [{'; '.join(_short(facts, name) for name in judgement.facts)}]"
    return _wrapped(text, pad, pad + "  ")


def _short(facts: Facts, name: str) -> str:
    fact = facts.fact(name)
    return f"{name} {fact_name(fact)} {fact_value(facts, fact)}"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]
