# SPDX-License-Identifier: Apache-2.0
"""What changed between two reports, and what a person made of what software wrote."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .model import Report, Statement, to_json_data

ADDED, REMOVED, CHANGED, ACCEPTED = "added", "removed", "changed", "accepted"


@dataclass(frozen=True)
class TextChange:
    """One statement that is not as it was. `before` and `after` are its texts, empty where it did not exist.

    Attributes:
        kind: "added", "removed", "changed" (other text), or "accepted" (same text, for which somebody now stands).
        origin: who wrote it first: "template", "vlm", "human".
        by: who accepted it, for "accepted".
    """

    kind: str
    statement: str
    section: str
    before: str
    after: str
    origin: str
    by: str = ""


def text_changes(before: Iterable[Statement], after: Iterable[Statement]) -> tuple[TextChange, ...]:
    """Changes of text and acceptance from one list of statements to another, in the order of the second."""
    old, new = {s.id: s for s in before}, {s.id: s for s in after}
    changes = []
    for name, now in new.items():
        was = old.get(name)
        if was is None:
            changes.append(TextChange(ADDED, name, now.section, "", now.text, now.origin.value, now.accepted_by))
        elif was.text != now.text:
            changes.append(
                TextChange(CHANGED, name, now.section, was.text, now.text, was.origin.value, now.accepted_by)
            )
        elif now.accepted_by and now.accepted_by != was.accepted_by:
            changes.append(
                TextChange(ACCEPTED, name, now.section, was.text, now.text, was.origin.value, now.accepted_by)
            )
    removed = [
        TextChange(REMOVED, s.id, s.section, s.text, "", s.origin.value) for s in old.values() if s.id not in new
    ]
    return (*changes, *removed)


def text_changes_between(before: Report, after: Report) -> tuple[TextChange, ...]:
    """The same for two reports that have no statement ids in common: sentences that only one of them has."""
    old, new = ({(s.section, s.text) for s in report.statements} for report in (before, after))
    added = [s for s in after.statements if (s.section, s.text) not in old]
    removed = [s for s in before.statements if (s.section, s.text) not in new]
    return (*text_changes((), added), *text_changes(removed, ()))


def word_diff(before: str, after: str) -> str:
    """One line in which removed words stand in [-...-] and new ones in {+...+}."""
    a, b = re.findall(r"\S+", before), re.findall(r"\S+", after)
    parts = []
    for operation, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if operation == "equal":
            parts.append(" ".join(a[a0:a1]))
            continue
        if a1 > a0:
            parts.append(f"[-{' '.join(a[a0:a1])}-]")
        if b1 > b0:
            parts.append(f"{{+{' '.join(b[b0:b1])}+}}")
    return " ".join(parts)


def delta(before: Report | None, after: Report) -> dict[str, Any]:
    """What the audit log keeps of a step: every field that changed, with its value before and after.

    Statements by id, each with only the fields that changed. Facts are left out: they never change in a case, and the
    hash of the report covers them.
    """
    old = to_json_data(before) if before is not None else {}
    new = to_json_data(after)
    changed = {
        key: {"before": old.get(key), "after": new.get(key)}
        for key in sorted({*old, *new} - {"facts", "statements"})
        if old.get(key) != new.get(key)
    }
    statements = _statement_deltas(old.get("statements", []), new.get("statements", []))
    return changed | ({"statements": statements} if statements else {})


def _statement_deltas(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    was, now = {s["id"]: s for s in old}, {s["id"]: s for s in new}
    result: dict[str, Any] = {}
    for name in (*now, *(name for name in was if name not in now)):
        a, b = was.get(name), now.get(name)
        if a == b:
            continue
        if a is None or b is None:
            result[name] = {"before": a, "after": b}
        else:
            keys = sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
            result[name] = {
                side: {key: s[key] for key in keys if key in s} for side, s in (("before", a), ("after", b))
            }
    return result
