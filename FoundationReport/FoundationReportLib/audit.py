# SPDX-License-Identifier: Apache-2.0
"""The record of what happened to a report: JSON lines, each with the hash of the one before.

A line is canonical JSON, so that any changed byte shows. The first line's `previous` is a hash of the report's id: the
log of another report does not fit. Whoever owns the file can still write a whole new chain; the hash of the last line
(the head) is therefore printed on signing and can be given to `verify` from any copy of it.

Lines hold names of those who acted, texts before and after, models and prompt hashes. They hold no path, and nothing
of the patient but what a statement says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import AuditError, CaseError
from .model import Report, canonical_json, sha256

_FIRST = "foundation-report/audit/1"


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
        n: 0 for the first.
        ts: UTC, ISO 8601.
        actor: who did it: a person's name as given, or the software.
        event: "draft", "narrative", "check", "edit", "add", "dismiss", "accept", "sign", "addendum", "retract", ...
        report: id of the report.
        before_sha256, after_sha256: hash of the report before (empty for the first line) and after.
        changes: see `diff.delta`.
        verdicts: number of statements per verdict after it.
        models: those that wrote in this step, with revision, prompt hash and slices.
        details: further facts of the event.
        previous: hash of the line before; hash: of this line without this field.
    """

    n: int
    ts: str
    actor: str
    event: str
    report: str
    before_sha256: str
    after_sha256: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)
    models: Sequence[Mapping[str, Any]] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    previous: str = ""
    hash: str = ""

    def line(self) -> bytes:
        """As it stands in the file, with its end of line."""
        return (canonical_json(asdict(self)) + "\n").encode()


def first_previous(report_id: str) -> str:
    """What the first line of a report's log has as `previous`."""
    return sha256([_FIRST, report_id])


def sealed(entry: Entry) -> Entry:
    """The entry with its hash."""
    data = asdict(entry)
    del data["hash"]
    return Entry(**{**data, "hash": sha256(data)})


def verdict_counts(report: Report) -> dict[str, int]:
    """Number of statements per verdict; "unchecked" for those without one."""
    counts: dict[str, int] = {}
    for statement in report.statements:
        key = statement.judgement.verdict.value if statement.judgement is not None else "unchecked"
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items()))


@dataclass(frozen=True)
class Log:
    """What an audit file holds.

    Attributes:
        entries: of the lines before the first that is wrong.
        tail: bytes after the last end of line: a line whose writing was interrupted.
        problems: sentences, empty if the chain is whole.
    """

    entries: tuple[Entry, ...]
    tail: bytes
    problems: tuple[str, ...]

    @property
    def head(self) -> str:
        """Hash of the last line; empty if there is none."""
        return self.entries[-1].hash if self.entries else ""


def read_log(path: Path) -> Log:
    """Reads and follows the chain. A missing file is an empty log. Raises CaseError if it cannot be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Log((), b"", ())
    except OSError as error:
        raise CaseError(f"{path} cannot be read ({(error.strerror or '').lower()}); check the case folder.") from None
    *lines, tail = data.split(b"\n")
    entries: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(_next_entry(line, entries[-1] if entries else None))
        except AuditError as error:
            return Log(tuple(entries), tail, (f"Line {number} of the audit log {error}",))
    return Log(tuple(entries), tail, ())


def append(path: Path, entry: Entry) -> None:
    """Adds a line and waits until the disk has it. Raises CaseError if it cannot be written."""
    try:
        with open(path, "ab", buffering=0) as file:
            file.write(entry.line())
            os.fsync(file.fileno())
    except OSError as error:
        raise CaseError(
            f"{path} cannot be written ({(error.strerror or '').lower()}); free space or choose another folder."
        ) from error


def _next_entry(line: bytes, last: Entry | None) -> Entry:
    """The entry of a line. Raises AuditError with the end of a sentence that begins with the line's number."""
    try:
        data = json.loads(line)
        entry = Entry(**data)
        written = entry.line()
    except (ValueError, TypeError, RecursionError):
        raise AuditError("is no entry; it was damaged or changed.") from None
    if written != line + b"\n":
        raise AuditError("is not written as the program writes it; it was changed.")
    if sealed(entry).hash != entry.hash:
        raise AuditError(f"was changed: its hash is not that of what it says (event {entry.event}).")
    expected = 0 if last is None else last.n + 1
    if entry.n != expected:
        raise AuditError(f"has the number {entry.n} where {expected} belongs: lines were removed, added or reordered.")
    if entry.previous != (first_previous(entry.report) if last is None else last.hash):
        raise AuditError(
            "does not follow from the line before it: a line was removed, replaced or taken from elsewhere."
        )
    if last is not None and (entry.report != last.report or entry.before_sha256 != last.after_sha256):
        raise AuditError("begins from another report than the line before it left.")
    return entry
