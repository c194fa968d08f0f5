# SPDX-License-Identifier: Apache-2.0
"""The files of a case folder: how a step is saved in three acts, and what an interruption explains of what is there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from FoundationSegLib.atomic import atomic_output
from FoundationSegLib.errors import OutputError

from .audit import Entry, Log, append, first_previous, read_log, sealed, verdict_counts
from .diff import delta
from .errors import CaseError
from .model import Report, sha256, to_json_data
from .serialise import facts_data, json_text, read_json, report_data, report_from_data
from .state import now

if TYPE_CHECKING:
    from filelock import BaseFileLock

REPORT, FACTS, AUDIT, LOCK = "report.json", "facts.json", "audit.jsonl", "lock"
_NEXT = ".report.next.json"
OURS = {REPORT, FACTS, AUDIT, LOCK, _NEXT}


@dataclass(frozen=True)
class ReportFile:
    """A report file: the report and the entry of the log that it belongs to."""

    report: Report
    head: str


@dataclass(frozen=True)
class Disk:
    """What a case folder holds. An interrupted step sets `finish` or `drop`; a tail of the log comes with `drop`.

    Attributes:
        current: report.json.
        log: audit.jsonl.
        finish: the report that an interrupted step had recorded but not yet put in its place.
        drop: whether an interrupted step had not been recorded yet.
        problems: sentences on what no interruption explains.
    """

    current: ReportFile | None
    log: Log
    finish: ReportFile | None = None
    drop: bool = False
    problems: tuple[str, ...] = ()


def commit(
    folder: Path,
    before: ReportFile | None,
    after: Report,
    actor: str,
    event: str,
    details: Mapping[str, Any] | None,
    n: int,
) -> ReportFile:
    old = before.report if before is not None else None
    known = {info.id for info in old.models} if old is not None else set()
    entry = sealed(
        Entry(
            n=n,
            ts=now(),
            actor=actor,
            event=event,
            report=after.id,
            before_sha256=sha256(old) if old is not None else "",
            after_sha256=sha256(after),
            changes=delta(old, after),
            verdicts=verdict_counts(after),
            models=[to_json_data(info) for info in after.models if info.id not in known],
            details=dict(details or {}),
            previous=before.head if before is not None else first_previous(after.id),
        )
    )
    write_json(folder / _NEXT, {**report_data(after), "audit": {"n": entry.n, "head": entry.hash}})
    append(folder / AUDIT, entry)
    rename(folder / _NEXT, folder / REPORT)
    return ReportFile(after, entry.hash)


def normalised(report: Report) -> Report:
    """The report as it comes back from a file, so that hashes before and after are the same (1 and 1.0 mm)."""
    try:
        return report_from_data(json.loads(json_text(report_data(report))))
    except ValueError as error:
        raise CaseError(f"The report holds a number that no file can hold ({error}); measure again.") from None


def look(folder: Path) -> Disk:
    """What is there and what an interruption explains of it; changes nothing."""
    log = read_log(folder / AUDIT)
    next_ = read_file(folder / _NEXT) if (folder / _NEXT).exists() else None
    problems = list(log.problems)
    try:
        current = read_file(folder / REPORT) if (folder / REPORT).exists() else None
    except CaseError as error:
        return Disk(None, log, problems=(*problems, str(error)))
    if problems:
        return Disk(current, log, problems=tuple(problems))
    last = log.entries[-1] if log.entries else None
    if log.tail and next_ is None:
        problems.append("The last line of the audit log is cut, and no interrupted step explains it.")
    if last is None:
        if current is not None:
            problems.append("The audit log is missing or empty; it was removed.")
        return Disk(current, log, drop=next_ is not None, problems=tuple(problems))
    file, finish = current, None
    came_from = current.head if current is not None else first_previous(last.report)
    if next_ is not None and next_.head == last.hash and not log.tail and came_from in (last.previous, last.hash):
        file = finish = next_
    if file is None or file.head != last.hash:
        problems.append("The report is not the one that the audit log ends with; lines were cut, or it was replaced.")
    elif sha256(file.report) != last.after_sha256:
        problems.append("The report was changed outside of the program: it is not what the audit log ends with.")
    elif file.report.id != last.report:
        problems.append("The audit log is another report's.")
    return Disk(current, log, finish, next_ is not None and finish is None, tuple(problems))


def mend(folder: Path, disk: Disk) -> None:
    """Finishes or drops what was interrupted."""
    if disk.finish is not None:
        rename(folder / _NEXT, folder / REPORT)
    elif disk.drop:
        if disk.log.tail:
            size = (folder / AUDIT).stat().st_size - len(disk.log.tail)
            os.truncate(folder / AUDIT, size)
        (folder / _NEXT).unlink()
    clean(folder)
    file = disk.finish or disk.current
    if file is not None and not (folder / FACTS).exists():
        write_json(folder / FACTS, facts_data(file.report.facts))


def clean(folder: Path) -> None:
    """Removes what writing left when it was killed. Only with the lock held."""
    for entry in folder.iterdir():
        if is_temporary(entry.name):
            with contextlib.suppress(OSError):  # it does no harm
                entry.unlink()


def is_temporary(name: str) -> bool:
    """Whether `atomic_output` made it on the way to one of our files."""
    return name.endswith(".tmp") and any(name.startswith(f".{own}.") for own in (FACTS, _NEXT))


def read_file(path: Path) -> ReportFile:
    data = read_json(path, CaseError)
    if not isinstance(data, dict):
        raise CaseError(f"{path}: It is no report; restore the file from a copy.")
    audit = data.pop("audit", {})
    head = audit.get("head", "") if isinstance(audit, dict) else ""
    return ReportFile(report_from_data(data, os.fspath(path)), head if isinstance(head, str) else "")


def write_json(path: Path, data: Any) -> None:
    try:
        with atomic_output(path) as file:
            file.write(json_text(data).encode())
    except OutputError as error:
        raise CaseError(str(error)) from error


def rename(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
        if os.name == "posix":  # the rename itself has to reach the disk
            descriptor = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise CaseError(
            f"{target} cannot be replaced ({(error.strerror or '').lower()}); close what uses it."
        ) from error


def require_case(folder: Path) -> None:
    if not folder.is_dir():
        raise CaseError(f"{folder} is no case folder; give the folder that `draft --out` wrote.")
    if not any((folder / name).exists() for name in (REPORT, AUDIT, _NEXT)):
        raise CaseError(f"{folder} holds no report; give the folder that `draft --out` wrote.")


def locked(folder: Path) -> BaseFileLock:
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        raise CaseError(
            'Cases need the package filelock; install it with pip install "foundation-seg-report[report]".'
        ) from None
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=2)
    except Timeout:
        raise CaseError(f"{folder} is open in another program; close it there and try again.") from None
    except OSError as error:
        raise CaseError(
            f"{folder} cannot be written ({(error.strerror or '').lower()}); choose another folder."
        ) from None
    return lock
