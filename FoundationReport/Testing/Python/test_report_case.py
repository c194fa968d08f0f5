# SPDX-License-Identifier: Apache-2.0
"""Case folders: what was saved is there again, whoever dies when; one program at a time; broken ones are named."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from FoundationReportLib import case_files
from FoundationReportLib.case import Case, read_report, verify
from FoundationReportLib.errors import AuditError, CaseError, StateError
from FoundationReportLib.model import Report, State
from FoundationReportLib.serialise import load_facts
from report_case import small_report

ROOT = Path(__file__).resolve().parents[3]
posix = pytest.mark.skipif(os.name != "posix", reason="kills processes by signal")


def step(report: Report, n: int) -> Report:
    """The nth edit: its number is what the first statement says."""
    return report.edit("s1", f"Edit number {n}.")


def number(report: Report) -> int:
    """Which edit a report has seen last; 0 for the draft."""
    words = report.statement("s1").text.split()
    return int(words[-1].rstrip(".")) if words[0] == "Edit" else 0


def write(folder: Path, acknowledged: int) -> None:
    """Edits until it is killed, and tells after each one that it is saved."""
    with Case.open(folder) as case:
        while True:
            n = number(case.report) + 1
            case.save(step(case.report, n), "writer", "edit")
            os.write(acknowledged, f"{n}\n".encode())


def killed_after(edits: int, seconds: float, folder: Path) -> int:
    """Runs `write` in a process, kills it so long after so many edits, and returns the last edit that it called saved.

    0: it saved none.
    """
    read, acknowledged = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(folder, acknowledged)
        finally:
            os._exit(1)
    os.close(acknowledged)
    with os.fdopen(read, "rb", buffering=0) as pipe:
        said = b""
        while said.count(b"\n") < edits:
            said += pipe.read(1)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := pipe.read(4096):
            said += more
    return int(said.split()[-1]) if said else 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Case.create(tmp_path / "case", small_report(), "FoundationReport").close()
    return tmp_path / "case"


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    with Case.create(tmp_path / "deep" / "case", small_report(), "FoundationReport") as case:
        case.save(step(case.report, 1), "me", "edit")
        case.save(case.report, "me", "edit")  # nothing changed: nothing is recorded
        saved = case.report
    assert sorted(path.name for path in (tmp_path / "deep" / "case").iterdir()) == [
        "audit.jsonl",
        "facts.json",
        "lock",
        "report.json",
    ]
    assert read_report(tmp_path / "deep" / "case") == saved
    assert read_report(tmp_path / "deep" / "case" / "report.json") == saved
    assert load_facts(tmp_path / "deep" / "case" / "facts.json") == saved.facts
    with Case.open(tmp_path / "deep" / "case") as case:
        assert case.report == saved and saved.state is State.EDITED
    assert len(verify(tmp_path / "deep" / "case").entries) == 2


@posix
def test_kill_at_any_moment_loses_at_most_the_edit_in_progress(folder: Path) -> None:
    choose = random.Random(2)
    last = 0
    for _ in range(30):
        start = time.perf_counter()
        with Case.open(folder) as case:
            case.save(step(case.report, last + 1), "me", "edit")
        last += 1
        one = time.perf_counter() - start  # how long it takes just now on this machine
        saved = killed_after(choose.choice([0, 1, 1]), choose.uniform(0, one), folder) or last
        found = verify(folder)
        assert found.ok, found.problems
        with Case.open(folder) as case:
            # The edit that was in progress may have come as far as the record, which then finishes it.
            assert saved <= number(case.report) <= saved + 1
            last = number(case.report)
            assert case.report.statement("s2") == small_report().statement("s2")
        assert verify(folder).ok and not verify(folder).notes
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert last > 45  # most of them were killed at work, not before it
    assert len(verify(folder).entries) == last + 1


@posix
def test_kill_of_a_real_program(folder: Path) -> None:
    """The same with a Python of its own, which is what a user's computer kills."""
    code = (
        "import sys, pathlib; sys.path[:0] = sys.argv[2:];"
        "from test_report_case import write; write(pathlib.Path(sys.argv[1]), 1)"
    )
    paths = [str(Path(__file__).parent), str(ROOT / "FoundationReport"), str(ROOT / "FoundationSeg")]
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(folder), *paths], stdout=subprocess.PIPE, text=True
        ) as program:
            assert program.stdout is not None
            said = [int(program.stdout.readline()) for _ in range(5)]
            program.send_signal(signal.SIGKILL)
            said += [int(line) for line in program.stdout.read().split()]
        assert verify(folder).ok
        with Case.open(folder) as case:
            assert said[-1] <= number(case.report) <= said[-1] + 1


@posix
@pytest.mark.parametrize("creating", [False, True], ids=["saving", "creating"])
def test_kill_between_any_two_acts(tmp_path: Path, creating: bool) -> None:
    """Every call that changes the disk is in turn the last one before the end, and in turn the first that never ran."""
    base = tmp_path / "base"
    if not creating:
        Case.create(base, small_report(), "FoundationReport").close()
    outcomes = set()
    for point in range(1, 40):
        folder = tmp_path / f"case-{point}"
        if not creating:
            shutil.copytree(base, folder)
        child = os.fork()
        if child == 0:
            try:
                _die_at(point)
                if creating:
                    Case.create(folder, small_report(), "FoundationReport")
                else:
                    case = Case.open(folder)
                    case.save(step(case.report, 1), "me", "edit")
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if creating and not (folder / "audit.jsonl").exists():
            Case.create(folder, small_report(), "FoundationReport").close()  # nothing stands in its way
        if creating and not (folder / "audit.jsonl").read_bytes().endswith(b"\n"):
            Case.create(folder, small_report(), "FoundationReport").close()
        assert verify(folder).ok, point
        with Case.open(folder) as case:
            outcomes.add(number(case.report))
            case.save(step(case.report, 2), "me", "edit")
        assert verify(folder).ok and number(read_report(folder)) == 2
        if status == 0:  # it came to its end: there are no further points
            break
    else:
        pytest.fail("there are more points than were tried")
    assert point > 8
    assert outcomes == ({0} if creating else {0, 1})


def _die_at(point: int) -> None:
    """In a child process: the nth call that changes the disk, or the moment after it, kills the process."""
    calls = iter(range(1, 1000))

    def fatal(real: object) -> object:
        def call(*arguments: object, **options: object) -> object:
            if next(calls) == point:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **options)  # type: ignore[operator]
            if next(calls) == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in ("fsync", "replace", "truncate", "unlink", "mkdir"):
        setattr(os, name, fatal(getattr(os, name)))
    case_files.append = fatal(case_files.append)  # type: ignore[assignment]


def test_a_line_cut_at_any_byte_is_dropped(folder: Path, tmp_path: Path) -> None:
    """A write of the log that was interrupted within its bytes, which no kill in a test would hit."""
    shutil.copytree(folder, tmp_path / "after")
    with Case.open(tmp_path / "after") as case:
        report = (case.folder / "report.json").read_bytes()
        case.save(step(case.report, 1), "me", "edit")
    old = (folder / "audit.jsonl").read_bytes()
    new = (tmp_path / "after" / "audit.jsonl").read_bytes()
    next_report = (tmp_path / "after" / "report.json").read_bytes()
    for cut in (*range(len(old), len(new), 97), len(new) - 1, len(new)):
        (folder / "report.json").write_bytes(report)
        (folder / "audit.jsonl").write_bytes(new[:cut])
        (folder / ".report.next.json").write_bytes(next_report)
        found = verify(folder)
        assert found.ok and len(found.notes) == 1
        with Case.open(folder) as case:
            assert number(case.report) == (1 if cut == len(new) else 0)
        assert verify(folder).ok and not verify(folder).notes


def test_a_full_disk_leaves_the_case_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    for failing in range(3):
        calls = iter(range(10))
        monkeypatch.setattr(os, "fsync", lambda d, c=calls, f=failing: full(d) if next(c) == f else real(d))
        with Case.open(folder) as case:
            before = number(case.report)
            with pytest.raises(CaseError, match=r"space|replaced"):
                case.save(step(case.report, before + 1), "me", "edit")
            with pytest.raises(CaseError, match="open it again"):
                case.save(step(case.report, before + 1), "me", "edit")
        monkeypatch.setattr(os, "fsync", real)
        assert verify(folder).ok
        with Case.open(folder) as case:
            assert number(case.report) in (before, before + 1)
            case.save(step(case.report, 100 + failing), "me", "edit")
        assert verify(folder).ok


def test_only_one_program_writes(folder: Path) -> None:
    with Case.open(folder):
        with pytest.raises(CaseError, match="open in another program"):
            Case.open(folder)
        assert number(read_report(folder)) == 0  # looking is allowed
        assert verify(folder).ok
    Case.open(folder).close()


def test_a_step_that_is_not_allowed_is_not_recorded(folder: Path) -> None:
    from dataclasses import replace

    with Case.open(folder) as case:
        for wrong in (
            replace(case.report, state=State.SIGNED),
            replace(case.report, id="r-other"),
            replace(case.report, facts=replace(case.report.facts, modality="MR")),
            case.report.with_statements([replace(case.report.statements[0], id="s99")]),
        ):
            with pytest.raises(StateError):
                case.save(wrong, "me", "edit")
        assert len(verify(folder).entries) == 1
        case.save(step(case.report, 1), "me", "edit")
    assert verify(folder).ok


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("report.json", None, "holds no report"),
        ("notes.txt", "mine", "holds no report"),
    ],
)
def test_what_is_no_case_is_named(tmp_path: Path, name: str, content: str | None, says: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if content is not None:
        (folder / name).write_text(content, encoding="utf-8")
    for use in (Case.open, verify, read_report):
        with pytest.raises(CaseError, match=says):
            use(folder)
        with pytest.raises(CaseError, match="no case folder"):
            use(tmp_path / "missing")


def test_a_new_case_takes_no_ones_place(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="has a report already"):
        Case.create(folder, small_report(), "x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").touch()
    with pytest.raises(CaseError, match="holds other files"):
        Case.create(tmp_path / "full", small_report(), "x")
    with pytest.raises(CaseError, match="is a file"):
        Case.create(tmp_path / "full" / "thesis.docx", small_report(), "x")
    assert (tmp_path / "full" / "thesis.docx").exists()


def test_a_report_without_its_log_is_not_opened(folder: Path) -> None:
    (folder / "audit.jsonl").unlink()
    with pytest.raises(AuditError, match="missing or empty"):
        Case.open(folder)


def test_a_missing_copy_of_the_facts_is_written_again(folder: Path) -> None:
    (folder / "facts.json").unlink()
    assert verify(folder).ok and "missing" in verify(folder).notes[0]
    Case.open(folder).close()
    assert load_facts(folder / "facts.json") == small_report().facts
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["audit"]["n"] == 0
