# SPDX-License-Identifier: Apache-2.0
"""A case folder: one report on disk with the record of how it came about, safe against a kill at any moment.

    report.json    the report with its facts, and the head of the audit log it belongs to
    facts.json     a copy of the facts for `check --facts` and other programs
    audit.jsonl    see `audit.py`
    lock           held while a program writes

A step is saved in three acts, each of which happens wholly or not at all: the new report is written beside the old
one; the line is added to the log; the new report takes the old one's place. A program that dies between two of them
loses at most the step it was saving, and the next one to open the case finishes or drops that step.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .audit import Entry, read_log
from .case_files import (
    AUDIT,
    FACTS,
    OURS,
    REPORT,
    ReportFile,
    clean,
    commit,
    is_temporary,
    locked,
    look,
    mend,
    normalised,
    read_file,
    require_case,
    write_json,
)
from .errors import AuditError, CaseError
from .model import Report, to_json_data
from .serialise import facts_data, read_json, report_from_data
from .signatures import signature_problems
from .steps import check_step

if TYPE_CHECKING:
    from filelock import BaseFileLock


class Case:
    """A case that is open for writing; no other program can open it meanwhile. A context manager.

    Attributes:
        folder: where it lies.
        report: as it was last saved.
    """

    def __init__(self, folder: Path, lock: BaseFileLock, file: ReportFile, entries: int) -> None:
        """Use `Case.create` or `Case.open`."""
        self.folder = folder
        self._lock = lock
        self._file = file
        self._entries = entries
        self._failed = False

    @property
    def report(self) -> Report:
        return self._file.report

    @property
    def head(self) -> str:
        """Hash of the audit log's last line."""
        return self._file.head

    @classmethod
    def create(
        cls, folder: str | os.PathLike[str], report: Report, actor: str, details: Mapping[str, Any] | None = None
    ) -> Case:
        """A new case with a report as it was drafted.

        Raises:
            CaseError: if the folder has anything in it, or cannot be written.
        """
        path, report = Path(folder), normalised(report)
        require_new(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaseError(
                f"The folder {path} cannot be made ({(error.strerror or '').lower()}); choose another."
            ) from None
        lock = locked(path)
        try:
            require_new(path)  # somebody else may have been faster
            clean(path)
            with contextlib.suppress(FileNotFoundError):
                (path / AUDIT).unlink()  # at most half of a first line
            file = commit(path, None, report, actor, "draft", details, 0)
            write_json(path / FACTS, facts_data(report.facts))
        except BaseException:
            lock.release()
            raise
        return cls(path, lock, file, 1)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Case:
        """A case to go on with. A step that was interrupted is finished or dropped.

        Raises:
            CaseError: if it is no case, damaged, or open elsewhere.
            AuditError: if it is not what its audit log says.
        """
        path = Path(folder)
        require_case(path)
        lock = locked(path)
        try:
            disk = look(path)
            if disk.problems:
                raise AuditError(f"{path}: {disk.problems[0]}")
            file = disk.finish or disk.current
            if file is None:
                raise CaseError(f"{path} has no report: drafting it was interrupted; draft it again.")
            mend(path, disk)
        except BaseException:
            lock.release()
            raise
        return cls(path, lock, file, len(disk.log.entries))

    def save(self, report: Report, actor: str, event: str, details: Mapping[str, Any] | None = None) -> None:
        """Records a step and makes it the case's report; when this returns, the disk has it.

        Args:
            actor: who did it: a person's name, or the software.
            event: see `audit.Entry`.

        Raises:
            StateError: if the report may not follow the one before (see `steps.check_step`).
            CaseError: if it cannot be written; the case is then as before.
        """
        if self._failed:
            raise CaseError(f"{self.folder}: Saving failed before; close the case and open it again.")
        report = normalised(report)
        check_step(self.report, report)
        if report == self.report:
            return
        self._failed = True  # until it has succeeded: half a step on disk is for the next one who opens the case
        self._file = commit(self.folder, self._file, report, actor, event, details, self._entries)
        self._entries += 1
        self._failed = False

    def close(self) -> None:
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Verification:
    """What `verify` found. `problems` are sentences; `notes` what is unusual but explained."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    entries: tuple[Entry, ...]
    head: str

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(folder: str | os.PathLike[str], head: str | None = None) -> Verification:
    """Whether a case is what its audit log says, and its signatures are of what it says. Changes nothing.

    Args:
        head: the hash of a line of the log that was written down elsewhere, such as on signing; a log that was
            rewritten as a whole does not have it.

    Raises:
        CaseError: if the folder is no case.
    """
    path = Path(folder)
    require_case(path)
    disk = look(path)
    problems = list(disk.problems)
    notes = []
    file = disk.finish or disk.current
    if file is not None:
        problems += signature_problems(file.report)
        if (path / FACTS).exists():
            try:
                same = read_json(path / FACTS, CaseError) == facts_data(file.report.facts)
            except CaseError:
                same = False
            if not same:
                problems.append(f"{FACTS} is not the copy of the report's facts that it should be; it was changed.")
        else:
            notes.append(f"{FACTS} is missing; it is written again when the case is opened.")
    if disk.finish is not None or disk.drop:
        what = "finished" if disk.finish is not None else "dropped"
        notes.append(f"Saving the last step was interrupted; it will be {what} when the case is opened.")
    if head is not None and head.strip().lower() not in {entry.hash for entry in disk.log.entries}:
        problems.append("The audit log has no line with the given hash: it was rewritten or cut, or is another case's.")
    return Verification(tuple(problems), tuple(notes), disk.log.entries, disk.log.head)


def read_report(folder: str | os.PathLike[str]) -> Report:
    """The report of a case, or of a report.json, only to look at. Raises CaseError."""
    path = Path(folder)
    if path.suffix != ".json":
        require_case(path)
        path = path / REPORT
    return read_file(path).report


def drafted_statements(folder: str | os.PathLike[str]) -> Report:
    """The report of a case with the statements as template and model wrote them, from its audit log.

    Raises:
        AuditError: if the log is not whole.
        CaseError: if it cannot be read.
    """
    path = Path(folder)
    report = read_report(path)
    log = read_log(path / AUDIT)
    if log.problems:
        raise AuditError(f"{path}: {log.problems[0]}")
    first: dict[str, Any] = {}
    for entry in log.entries:
        for name, change in entry.changes.get("statements", {}).items():
            if change["before"] is None and change["after"].get("origin") != "human":
                first.setdefault(name, change["after"])
    data = to_json_data(replace(report, statements=(), addenda=(), signatures=(), omitted=(), left_out=()))
    return report_from_data({**data, "state": "draft", "statements": list(first.values())}, os.fspath(path))


def require_new(folder: Path) -> None:
    """CaseError if a case cannot be made there, before the work of measuring is done."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CaseError(f"{folder} is a file; give a new or empty folder for the case.")
    try:
        names = {entry.name for entry in folder.iterdir() if not is_temporary(entry.name)}
    except OSError as error:
        raise CaseError(f"{folder} cannot be read ({(error.strerror or '').lower()}); choose another folder.") from None
    if REPORT in names or (AUDIT in names and read_log(folder / AUDIT).entries):
        raise CaseError(f"{folder} has a report already; choose a new or empty folder.")
    if others := names - OURS:
        raise CaseError(f"{folder} holds other files ({sorted(others)[0]}); choose a new or empty folder.")
