# SPDX-License-Identifier: Apache-2.0
"""The audit log: what is written is what happened, and no change of it goes unnoticed."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from FoundationReportLib.audit import Entry, read_log, sealed
from FoundationReportLib.case import Case, drafted_statements, verify
from FoundationReportLib.errors import AuditError
from FoundationReportLib.model import canonical_json, sha256, to_json_data
from report_case import small_report

Change = Callable[[list[bytes]], list[bytes]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "case"
    with Case.create(folder, small_report(), "FoundationReport", {"template": "generic"}) as case:
        case.save(case.report.edit("s1", "The liver measures 1500 mL."), "Dr. A", "edit")
        case.save(case.report.accept("s2", by="Dr. A"), "Dr. A", "accept")
        case.save(case.report.add("impression", "Nodule of 8 mm."), "Dr. B", "add")
        case.save(case.report.dismiss("s3"), "Dr. B", "dismiss")
    return folder


@pytest.fixture
def case(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "case")
    return tmp_path / "case"


def rewrite(folder: Path, change: Change) -> None:
    path = folder / "audit.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def reworded(line: bytes, reseal: bool = False, **values: object) -> bytes:
    """A line with other values, with or without a fitting hash."""
    entry = Entry(**{**json.loads(line), **values})
    return (sealed(entry) if reseal else entry).line()


def forged(lines: list[bytes]) -> list[bytes]:
    """A chain that is whole again after a change in its first line, as somebody would forge it who owns the file."""
    result: list[bytes] = []
    for n, line in enumerate(lines):
        previous = {"previous": json.loads(result[-1])["hash"]} if result else {"actor": "Nobody"}
        result.append(reworded(lines[n], True, **previous) if line else line)
    return result


def test_the_log_tells_who_did_what(case: Path) -> None:
    found = verify(case)
    assert found.ok and not found.notes
    assert [(entry.n, entry.actor, entry.event) for entry in found.entries] == [
        (0, "FoundationReport", "draft"),
        (1, "Dr. A", "edit"),
        (2, "Dr. A", "accept"),
        (3, "Dr. B", "add"),
        (4, "Dr. B", "dismiss"),
    ]
    draft, edit, accept, add, dismiss = found.entries
    assert draft.models[0]["prompt_sha256"] == "1" * 64 and draft.details == {"template": "generic"}
    assert not edit.models
    assert edit.changes["statements"]["s1"]["before"]["text"] == "The liver has a volume of 1500 mL."
    assert edit.changes["statements"]["s1"]["after"] == {"origin": "human", "text": "The liver measures 1500 mL."}
    assert accept.changes["statements"]["s2"] == {"before": {}, "after": {"accepted_by": "Dr. A"}}
    assert add.changes["statements"]["s4"]["before"] is None
    assert dismiss.changes["statements"]["s3"]["after"] is None
    assert dismiss.after_sha256 == sha256(Case.open(case).report)
    assert draft.verdicts == {"supported": 1, "unchecked": 1, "unverifiable": 1}


def test_the_draft_is_still_known(case: Path) -> None:
    assert drafted_statements(case).statements == small_report().statements


TAMPERINGS: dict[str, Change] = {
    "another actor": lambda lines: [lines[0], reworded(lines[1], actor="Dr. X"), *lines[2:]],
    "another actor with a fitting hash": lambda lines: [lines[0], reworded(lines[1], True, actor="Dr. X"), *lines[2:]],
    "another time in the last line, with a fitting hash": lambda lines: [
        *lines[:-1],
        reworded(lines[-1], True, ts="2020-01-01T00:00:00+00:00"),
    ],
    "a line removed from the middle": lambda lines: lines[:2] + lines[3:],
    "the first line removed": lambda lines: lines[1:],
    "the last line removed": lambda lines: lines[:-1],
    "all but the first line removed": lambda lines: lines[:1],
    "everything removed": lambda lines: [],
    "two lines swapped": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "a line twice": lambda lines: [*lines[:3], lines[2], *lines[3:]],
    "the last line twice": lambda lines: [*lines, lines[-1]],
    "a line of its own": lambda lines: [*lines, b"{}\n"],
    "an empty line": lambda lines: [*lines[:2], b"\n", *lines[2:]],
    "text before it": lambda lines: [b"# log\n", *lines],
    "a byte order mark": lambda lines: [b"\xef\xbb\xbf", *lines],
    "Windows line ends": lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
    "a space": lambda lines: [lines[0].replace(b",", b", ", 1), *lines[1:]],
    "another order of keys": lambda lines: [
        json.dumps(dict(reversed(json.loads(lines[0]).items()))).encode() + b"\n",
        *lines[1:],
    ],
    "a field added": lambda lines: [canonical_json({**json.loads(lines[0]), "x": 1}).encode() + b"\n", *lines[1:]],
    "the end of the last line removed": lambda lines: [*lines[:-1], lines[-1][:-1]],
    "half of the last line removed": lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]],
    "something begun after the last line": lambda lines: [*lines, b'{"n": 5'],
    "a whole chain forged": forged,
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_every_kind_of_tampering_is_found(case: Path, name: str) -> None:
    rewrite(case, TAMPERINGS[name])
    found = verify(case)
    assert not found.ok and all(problem.endswith(".") for problem in found.problems)
    with pytest.raises(AuditError):
        Case.open(case)


def test_any_changed_byte_is_found(case: Path) -> None:
    """At 120 random places of all files that the record vouches for."""
    choose = random.Random(5)
    for _ in range(120):
        path = case / choose.choice(["audit.jsonl", "report.json", "facts.json"])
        data = path.read_bytes()
        place = choose.randrange(len(data))
        value = choose.choice([b for b in (data[place] ^ 1, data[place] ^ 32, 10, 32, 0) if b != data[place]])
        path.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
        same = path.suffix == ".json" and unchanged(data, path.read_bytes())
        assert verify(case).ok == same, (path.name, place, value)
        path.write_bytes(data)
    assert verify(case).ok


def unchanged(before: bytes, after: bytes) -> bool:
    """Whether two JSON files say the same: white space between values is no text of the report."""
    try:
        return bool(json.loads(before) == json.loads(after))
    except ValueError:
        return False


def test_a_log_of_another_case_is_found(case: Path, tmp_path: Path) -> None:
    with Case.create(tmp_path / "other", replace(small_report(), id="r-other"), "FoundationReport"):
        pass
    shutil.copy(tmp_path / "other" / "audit.jsonl", case / "audit.jsonl")
    assert not verify(case).ok
    # Nor does it help to bring the other's report too and keep this one's id.
    data = json.loads((tmp_path / "other" / "report.json").read_text(encoding="utf-8"))
    (case / "report.json").write_text(json.dumps({**data, "id": "r-test"}), encoding="utf-8")
    assert not verify(case).ok


def test_an_older_state_put_back_as_a_whole_is_found_by_the_head(original: Path, tmp_path: Path) -> None:
    """Two copies of a case cannot be told apart from within; what was written down elsewhere tells."""
    with Case.create(tmp_path / "case", small_report(), "FoundationReport") as case:
        old = case.head
        shutil.copytree(case.folder, tmp_path / "copy")
        case.save(case.report.edit("s1", "Other."), "Dr. A", "edit")
        new = case.head
    assert verify(tmp_path / "case", new).ok and verify(tmp_path / "case", old.upper()).ok
    assert verify(tmp_path / "copy").ok
    problems = verify(tmp_path / "copy", new).problems
    assert len(problems) == 1 and "given hash" in problems[0]


def test_changes_of_the_report_beside_the_log_are_found(case: Path) -> None:
    path = case / "report.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["statements"][0]["text"] = "The liver measures 9999 mL."
    path.write_text(json.dumps(data), encoding="utf-8")
    assert "changed outside" in verify(case).problems[0]
    path.write_text("{", encoding="utf-8")
    assert "not JSON" in verify(case).problems[0]
    path.unlink()
    assert not verify(case).ok
    with pytest.raises(AuditError):
        Case.open(case)


def test_changed_facts_are_found(case: Path) -> None:
    path = case / "facts.json"
    path.write_text(path.read_text(encoding="utf-8").replace("1500.0", "1501.0"), encoding="utf-8")
    assert "facts.json" in verify(case).problems[0]


def test_an_entry_is_its_line(case: Path) -> None:
    log = read_log(case / "audit.jsonl")
    assert b"".join(entry.line() for entry in log.entries) == (case / "audit.jsonl").read_bytes()
    assert all(sealed(entry) == entry for entry in log.entries)
    assert to_json_data(asdict(log.entries[0]))["n"] == 0
