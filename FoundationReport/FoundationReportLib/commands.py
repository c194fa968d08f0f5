# SPDX-License-Identifier: Apache-2.0
"""What the commands do, without reading a command line or printing: each returns a result for people and programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from FoundationSegLib.cli_base import Report as Result

from . import case as cases
from .audit import verdict_counts
from .case import Case
from .diff import text_changes, text_changes_between
from .errors import FoundationReportError
from .model import Judgement, Report, Verdict, to_json_data
from .render import changes_text, facts_table, judged_text, plain_text, report_text
from .serialise import load_facts
from .signatures import OPEN
from .state import banner, unresolved

SOFTWARE = "FoundationReport"
FIELDS = "fields"


def check_text_file(facts_path: Path, text_path: Path, strict: bool) -> Result:
    """Judges every sentence of a text against a facts file."""
    from .check import check_text

    facts = load_facts(facts_path)
    judged, omitted = check_text(facts, _text(text_path))
    data = {
        "command": "check",
        "verdicts": _counts(judgement for _, judgement in judged),
        "sentences": [_judged_data(sentence, judgement) for sentence, judgement in judged],
        "omitted": list(omitted),
    }
    bad = any(judgement.verdict.value == "contradicted" for _, judgement in judged)
    return Result(data, judged_text(judged, omitted, facts), 1 if strict and bad else 0)


def check_case(folder: Path, strict: bool) -> Result:
    """Judges a case's statements anew; a signed report is judged only for show and stays as it was signed."""
    from .check import check

    if cases.read_report(folder).state not in OPEN:
        report, head = check(cases.read_report(folder)), None
    else:
        with Case.open(folder) as case:
            report = check(case.report)
            case.save(report, SOFTWARE, "check")
            head = case.head
    bad = bool(unresolved(report).contradicted)
    return Result(report_data("check", report, head), report_text(report), 1 if strict and bad else 0)


def show(folder: Path, plain: bool, facts: bool) -> Result:
    """A case's report, or its facts."""
    report = cases.read_report(folder)
    text = facts_table(report.facts) if facts else plain_text(report) if plain else report_text(report)
    return Result({**report_data("show", report), "report": to_json_data(report)}, text)


def edit(folder: Path, statement: str, text: str, by: str) -> Result:
    return _step(folder, "edit", by, lambda report: report.edit(statement, text), {"statement": statement})


def add(folder: Path, section: str, text: str, by: str) -> Result:
    return _step(folder, "add", by, lambda report: report.add(section, text), {"section": section})


def dismiss(folder: Path, statement: str, by: str) -> Result:
    return _step(folder, "dismiss", by, lambda report: report.dismiss(statement), {"statement": statement})


def accept(folder: Path, ids: list[str], by: str) -> Result:
    """The id "fields" stands for every field that nobody filled."""
    fields = unresolved(cases.read_report(folder)).unfilled if FIELDS in ids else ()
    chosen = list(dict.fromkeys([*(name for name in ids if name != FIELDS), *fields]))
    return _step(folder, "accept", by, lambda report: report.accept(*chosen, by=by), {"ids": chosen})


def sign(folder: Path, signer: str, organisation: str) -> Result:
    return _signing(folder, "sign", signer, lambda report: report.sign(signer, organisation=organisation))


def addendum(folder: Path, text: str, signer: str, accept: bool, organisation: str) -> Result:
    return _signing(
        folder,
        "addendum",
        signer,
        lambda report: report.addendum(text, signer, accept=accept, organisation=organisation),
    )


def retract(folder: Path, reason: str, signer: str, organisation: str) -> Result:
    return _signing(folder, "retract", signer, lambda report: report.retract(reason, signer, organisation=organisation))


def verify(folder: Path, head: str | None) -> Result:
    """Whether a case is what its audit log says; status 1 if not."""
    found = cases.verify(folder, head)
    data = {
        "command": "verify",
        "ok": found.ok,
        "problems": list(found.problems),
        "notes": list(found.notes),
        "entries": len(found.entries),
        "head": found.head,
    }
    lines = [f"PROBLEM: {problem}" for problem in found.problems] + [f"Note: {note}" for note in found.notes]
    if found.ok:
        lines.append(f"The audit log's {len(found.entries)} entries follow from each other, and the report from them.")
        lines.append(f"Head: {found.head}")
    return Result(data, "\n".join(lines), 0 if found.ok else 1)


def log(folder: Path) -> Result:
    """What happened to a case, entry by entry."""
    found = cases.verify(folder)
    lines = [f"{e.n:>3}  {e.ts}  {e.event:<10} {e.actor}  {_verdicts_text(e.verdicts)}" for e in found.entries]
    lines += [f"PROBLEM: {problem}" for problem in found.problems]
    data = {"command": "log", "entries": [asdict(entry) for entry in found.entries], "problems": list(found.problems)}
    return Result(data, "\n".join(lines), 0 if found.ok else 1)


def diff(folder: Path, other: Path | None) -> Result:
    """What a person changed since the draft, or what another case says differently."""
    after = cases.read_report(folder)
    before = cases.drafted_statements(folder) if other is None else cases.read_report(other)
    same = before.id == after.id
    changes = text_changes(before.statements, after.statements) if same else text_changes_between(before, after)
    data = {"command": "diff", "changes": [asdict(change) for change in changes]}
    return Result(data, changes_text(changes))


# --- helpers ----------------------------------------------------------------------------------------------------------


def _step(folder: Path, event: str, by: str, change: Any, details: Mapping[str, Any]) -> Result:
    """A change by a person, checked and saved."""
    from .check import check

    with Case.open(folder) as case:
        case.save(change(case.report), by, event, details)
        case.save(check(case.report), SOFTWARE, "check")
        return Result(report_data(event, case.report, case.head), report_text(case.report))


def _signing(folder: Path, event: str, by: str, change: Any) -> Result:
    with Case.open(folder) as case:
        case.save(change(case.report), by, event)
        text = f"{banner(case.report)}\n\nHead of the audit log: {case.head}\n"
        text += "Keep it with the report: `verify --head` finds a log that was rewritten as a whole."
        return Result(report_data(event, case.report, case.head), text)


def report_data(command: str, report: Report, head: str | None = None) -> dict[str, Any]:
    """What every command that shows a report prints for programs."""
    blockers = unresolved(report) if report.state in OPEN else None
    data = {
        "command": command,
        "id": report.id,
        "state": report.state.value,
        "label": banner(report),
        "verdicts": verdict_counts(report),
        "statements": [to_json_data(statement) for statement in report.statements],
        "omitted": list(report.omitted),
        "unresolved": {name: list(ids) for name, ids in asdict(blockers).items()} if blockers is not None else {},
        "signatures": [asdict(signature) for signature in report.signatures],
    }
    return data | ({"head": head} if head is not None else {})


def _text(path: Path) -> str:
    """A text file, "-" for standard input."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise FoundationReportError(f"{path} cannot be read ({reason}); choose another file.") from None
    except UnicodeDecodeError:
        raise FoundationReportError(f"{path} is not UTF-8 text; save it as plain text first.") from None


def _counts(judgements: Iterable[Judgement]) -> dict[str, int]:
    counts = dict.fromkeys((verdict.value for verdict in Verdict), 0)
    for judgement in judgements:
        counts[judgement.verdict.value] += 1
    return counts


def _verdicts_text(verdicts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in verdicts.items())


def _judged_data(sentence: str, judgement: Judgement) -> dict[str, Any]:
    return {
        "text": sentence,
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "facts": list(judgement.facts),
    }
