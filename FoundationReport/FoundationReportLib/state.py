# SPDX-License-Identifier: Apache-2.0
"""What a person may do to a report, and when: edit, add, dismiss, accept; then sign; then addendum or retraction.

    draft --(edit, add, dismiss, accept)--> edited --sign--> signed --addendum--> amended --retract--> retracted

A report is signed only when nothing in it is contradicted and everything that cannot be verified has been accepted by
somebody; the cross-check runs anew for that, whatever the report says of itself. Signing here is a recorded
attestation with the SHA-256 of what was signed, no cryptographic signature.

Every function returns a new report and leaves the one it was given as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from .errors import StateError
from .model import Judgement, Origin, Report, Signature, State, Statement, Verdict
from .signatures import ADDENDUM, OPEN, signed_content_sha256

SIGNED = (State.SIGNED, State.AMENDED)

_BANNERS = {
    State.DRAFT: "AI-ASSISTED DRAFT - not signed - not for clinical use",
    State.EDITED: "AI-ASSISTED DRAFT, EDITED - not signed - not for clinical use",
    State.RETRACTED: "RETRACTED - entered in error",
}


def edit(report: Report, statement_id: str, text: str) -> Report:
    """The report with another text in one statement, which is then a person's and unchecked.

    Which model wrote the first text stays recorded. Raises StateError: if signed, unknown or empty.
    """
    _require_open(report, "edited")
    old, text = _statement(report, statement_id), _cleaned(text)
    if text == old.text:
        return report
    new = replace(
        old, text=text, origin=Origin.HUMAN, judgement=None, agreement=None, placeholder=False, accepted_by=""
    )
    return _edited(report, (new if s is old else s for s in report.statements))


def add(report: Report, section: str, text: str, facts: Iterable[str] = ()) -> Report:
    """The report with a person's statement at the end of a section. Raises StateError."""
    _require_open(report, "edited")
    if section not in [s.key for s in report.sections]:
        names = ", ".join(s.key for s in report.sections) or "none"
        raise StateError(f'The report has no section "{section}"; it has {names}.')
    linked = tuple(facts)
    if unknown := [name for name in linked if name not in {fact.id for fact in report.facts.facts}]:
        raise StateError(f'The report has no fact "{unknown[0]}"; link one of its facts, or none.')
    new = Statement(f"s{report.next_statement}", section, _cleaned(text), Origin.HUMAN, linked)
    places = [n for n, s in enumerate(report.statements) if s.section == section]
    place = places[-1] + 1 if places else len(report.statements)
    statements = (*report.statements[:place], new, *report.statements[place:])
    return replace(_edited(report, statements), next_statement=report.next_statement + 1)


def dismiss(report: Report, statement_id: str) -> Report:
    """The report without one statement. Raises StateError."""
    _require_open(report, "edited")
    old = _statement(report, statement_id)
    return _edited(report, (s for s in report.statements if s is not old))


def accept(report: Report, *ids: str, by: str) -> Report:
    """A person takes responsibility for statements as they stand, or for leaving out facts that were measured.

    Args:
        ids: of statements that are unverifiable or a field to be filled, or of facts in `omitted`.

    Raises:
        StateError: if one is unknown, unchecked, or contradicted, which nobody can accept.
    """
    _require_open(report, "edited")
    by = _name(by, "who accepts")
    statements, left_out = {s.id: s for s in report.statements}, list(report.left_out)
    for name in ids:
        statement = statements.get(name)
        if statement is None:
            if name not in report.omitted:
                raise StateError(f'The report has no statement and no omitted fact "{name}"; see `show` for the ids.')
            left_out += [name] if name not in left_out else []
            continue
        verdict = statement.judgement.verdict if statement.judgement is not None else None
        if verdict is None and not statement.placeholder:
            raise StateError(f"Statement {name} has not been checked yet; check the report, then accept it.")
        if verdict is Verdict.CONTRADICTED:
            reason = statement.judgement.reason if statement.judgement is not None else ""
            raise StateError(f"Statement {name} is contradicted ({reason.rstrip('.')}); correct it or remove it.")
        statements[name] = replace(statement, accepted_by=by)
    return replace(_edited(report, statements.values()), left_out=tuple(left_out))


@dataclass(frozen=True)
class Unresolved:
    """What stands between a report and its signature; ids of statements, of facts in `omitted`."""

    unchecked: tuple[str, ...] = ()
    contradicted: tuple[str, ...] = ()
    unverifiable: tuple[str, ...] = ()
    unfilled: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any((self.unchecked, self.contradicted, self.unverifiable, self.unfilled, self.omitted))

    def sentence(self) -> str:
        """All of it in one line."""
        kinds = {
            "not checked yet": self.unchecked,
            "contradicted": self.contradicted,
            "neither verified nor accepted": self.unverifiable,
            "still to be filled or accepted": self.unfilled,
            "measured but not mentioned": self.omitted,
        }
        parts = ((ids, "is" if len(ids) == 1 else "are", kind) for kind, ids in kinds.items() if ids)
        return "; ".join(f"{', '.join(ids)} {verb} {kind}" for ids, verb, kind in parts)


def unresolved(report: Report) -> Unresolved:
    """What has to be resolved before signing, by the judgements that the report carries."""
    open_ = [s for s in report.statements if s.id not in report.addenda]
    filled = [s for s in open_ if not s.placeholder]
    verdicts = {s.id: s.judgement.verdict for s in open_ if s.judgement is not None}
    return Unresolved(
        unchecked=tuple(s.id for s in filled if s.judgement is None),
        contradicted=tuple(name for name, verdict in verdicts.items() if verdict is Verdict.CONTRADICTED),
        unverifiable=tuple(s.id for s in filled if verdicts.get(s.id) is Verdict.UNVERIFIABLE and not s.accepted_by),
        unfilled=tuple(
            s.id
            for s in open_
            if s.placeholder and not s.accepted_by and verdicts.get(s.id) is not Verdict.CONTRADICTED
        ),
        omitted=tuple(name for name in report.omitted if name not in report.left_out),
    )


def sign(report: Report, signer: str, *, organisation: str = "", when: str | None = None) -> Report:
    """The report as signed by a named person, after a fresh cross-check.

    Args:
        when: ISO 8601; now (UTC) if None.

    Raises:
        StateError: if it is signed already, says nothing, or anything is contradicted or unresolved.
    """
    from .check import check

    _require_open(report, "signed")
    signer = _name(signer, "who signs")
    if not report.statements:
        raise StateError("The report has no statement; there is nothing to sign.")
    checked = check(report)
    if blockers := unresolved(checked):
        raise StateError(f"The report cannot be signed: {blockers.sentence()}; edit, accept or remove them first.")
    return _with_signature(replace(checked, state=State.SIGNED), signer, organisation, when)


def addendum(
    report: Report, text: str, signer: str, *, accept: bool = False, organisation: str = "", when: str | None = None
) -> Report:
    """A signed report with a further, signed statement; what was signed before stays as it is.

    The text is checked against the facts (not against the report, which it may correct). `accept`: the signer takes
    responsibility for what no fact can verify.

    Raises:
        StateError: if the report is not signed or retracted, the facts contradict the text, or it is unverifiable and
            not accepted.
    """
    from .check import check_text

    _require_signed(report, "an addendum")
    signer, text = _name(signer, "who signs"), _cleaned(text)
    judgements = [judgement for _, judgement in check_text(report.facts, text)[0]]
    judgement = worst(judgements)
    if judgement.verdict is Verdict.CONTRADICTED:
        raise StateError(
            f"The addendum is contradicted ({judgement.reason.rstrip('.')}); correct it, or retract the report if what "
            "was measured is wrong."
        )
    if judgement.verdict is Verdict.UNVERIFIABLE and not accept:
        raise StateError(
            f"The addendum cannot be verified ({judgement.reason.rstrip('.')}); accept it explicitly or change it."
        )
    accepted = signer if judgement.verdict is Verdict.UNVERIFIABLE else ""
    new = Statement("", ADDENDUM.key, text, Origin.HUMAN, judgement=judgement, accepted_by=accepted)
    return _with_signature(_appended(report, new, State.AMENDED), signer, organisation, when)


def retract(report: Report, reason: str, signer: str, *, organisation: str = "", when: str | None = None) -> Report:
    """A signed report as withdrawn, with the reason; nothing can follow. Raises StateError."""
    _require_signed(report, "a retraction")
    signer, reason = _name(signer, "who retracts"), _cleaned(reason)
    new = Statement("", ADDENDUM.key, f"Retracted: {reason}", Origin.HUMAN, accepted_by=signer)
    return _with_signature(_appended(report, new, State.RETRACTED), signer, organisation, when)


def worst(judgements: Iterable[Judgement]) -> Judgement:
    """Contradicted before unverifiable before supported; the first of them. Nothing at all is unverifiable."""
    order = (Verdict.CONTRADICTED, Verdict.UNVERIFIABLE, Verdict.SUPPORTED)
    return min(
        judgements,
        key=lambda judgement: order.index(judgement.verdict),
        default=Judgement(Verdict.UNVERIFIABLE, "It states nothing that can be checked."),
    )


def banner(report: Report) -> str:
    """The label of a report, which follows from its state and from nothing else."""
    if report.state in _BANNERS:
        return _BANNERS[report.state]
    own = [s for s in report.statements if s.id not in report.addenda]
    ai = sum(bool(s.model) or s.origin is not Origin.HUMAN for s in own)
    first, last = report.signatures[0], report.signatures[-1]
    text = f"Signed by {first.signer}, {first.when}; AI-assisted: {ai} of {len(own)} statements drafted by software"
    return text if last is first else f"{text}; amended by {last.signer}, {last.when}"


# --- helpers ----------------------------------------------------------------------------------------------------------


def now() -> str:
    """UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _edited(report: Report, statements: Iterable[Statement]) -> Report:
    return replace(report, statements=tuple(statements), state=State.EDITED)


def _appended(report: Report, statement: Statement, state: State) -> Report:
    name = f"s{report.next_statement}"
    has_section = any(section.key == ADDENDUM.key for section in report.sections)
    return replace(
        report,
        state=state,
        sections=report.sections if has_section else (*report.sections, ADDENDUM),
        statements=(*report.statements, replace(statement, id=name)),
        addenda=(*report.addenda, name),
        next_statement=report.next_statement + 1,
    )


def _with_signature(report: Report, signer: str, organisation: str, when: str | None) -> Report:
    content = signed_content_sha256(report, len(report.addenda))
    signature = Signature(signer, when or now(), content, organisation.strip())
    return replace(report, signatures=(*report.signatures, signature))


def _statement(report: Report, statement_id: str) -> Statement:
    try:
        return report.statement(statement_id)
    except KeyError:
        raise StateError(f'The report has no statement "{statement_id}"; see `show` for the ids.') from None


def _require_open(report: Report, what: str) -> None:
    if report.state in SIGNED:
        raise StateError(f"The report is {report.state} and cannot be {what}; write an addendum or retract it.")
    if report.state is State.RETRACTED:
        raise StateError(f"The report was retracted and cannot be {what}; begin a new case.")


def _require_signed(report: Report, what: str) -> None:
    if report.state in OPEN:
        raise StateError(f"The report is not signed yet, so {what} makes no sense; edit it, or sign it first.")
    if report.state is State.RETRACTED:
        raise StateError(f"The report was retracted and takes no {what.partition(' ')[2]}; begin a new case.")


def _cleaned(text: str) -> str:
    """See `_one_line`. Raises StateError if nothing is left."""
    cleaned = _one_line(text)
    if not cleaned:
        raise StateError("The text is empty; write a sentence, or remove the statement.")
    return cleaned


def _name(name: str, what: str) -> str:
    """See `_one_line`. Raises StateError if nothing is left."""
    cleaned = _one_line(name)
    if not cleaned:
        raise StateError(f"No name is given; say {what}.")
    return cleaned


def _one_line(text: str) -> str:
    """Without control characters, line ends and spaces too many."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
