# SPDX-License-Identifier: Apache-2.0
"""Which report may follow which in a case: the rule that a case enforces, whoever made the report."""

from __future__ import annotations

import re

from .errors import StateError
from .model import Report, State
from .signatures import signature_problems
from .state import SIGNED, unresolved


def check_step(before: Report, after: Report) -> None:
    """Whether one report may follow another in a case.

    Raises:
        StateError: if what never changes was changed, a signed text was touched, or a signature was not earned.
    """
    if before == after:
        return
    fixed = ("id", "template", "template_version", "language", "facts", "context")
    if changed := [name for name in fixed if getattr(before, name) != getattr(after, name)]:
        raise StateError(f"The {changed[0].replace('_', ' ')} of a report cannot change; begin a new case instead.")
    known = {s.id for s in before.statements}
    new = [s.id for s in after.statements if s.id not in known]
    numbers = [int(match[1]) if (match := re.fullmatch(r"s(\d+)", name)) else -1 for name in new]
    if any(not before.next_statement <= number < after.next_statement for number in numbers):
        raise StateError("A new statement has an id that was given before; add statements with `add`.")
    allowed = {
        State.DRAFT: (State.DRAFT, State.EDITED, State.SIGNED),
        State.EDITED: (State.EDITED, State.SIGNED),
        State.SIGNED: (State.AMENDED, State.RETRACTED),
        State.AMENDED: (State.AMENDED, State.RETRACTED),
        State.RETRACTED: (),
    }
    if after.state not in allowed[before.state]:
        raise StateError(f"A report that is {before.state} cannot become {after.state}.")
    if before.state in SIGNED:
        same = ("models", "omitted", "left_out")
        kept = after.statements[: len(before.statements)] == before.statements
        kept = kept and all(getattr(before, name) == getattr(after, name) for name in same)
        kept = kept and after.signatures[: len(before.signatures)] == before.signatures
        if not kept or len(after.signatures) <= len(before.signatures):
            raise StateError("What was signed cannot change; write an addendum or retract the report.")
    elif after.state is State.SIGNED and unresolved(after):
        raise StateError(f"The report cannot be signed: {unresolved(after).sentence()}.")
    if problems := signature_problems(after):
        raise StateError(problems[0])
