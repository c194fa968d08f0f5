# SPDX-License-Identifier: Apache-2.0
"""The command `foundation-report`.

Exit status: 0 success, 1 a failure that is named in one sentence (also: `verify` finds a problem, `check --strict` a
contradiction), 2 wrong use, 130 cancelled. Results go to standard output (with --json one object), all else to
standard error.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from pathlib import Path

from FoundationSegLib.cli_base import Parser, Report, add_json, run

from . import __version__, commands
from .cli_draft import add_draft, add_narrate, add_suggest, add_templates
from .errors import Cancelled, FoundationReportError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    return run(_parser, sys.argv[1:] if arguments is None else arguments, (FoundationReportError,), (Cancelled,))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="foundation-report",
        description="Drafts, checks and signs radiology reports from measured segments. Not for clinical use.",
        epilog="Exit status: 0 success, 1 a named failure, 2 wrong use, 130 cancelled.",
    )
    parser.add_argument("--version", action="version", version=f"foundation-report {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help_: str, usage: str | None = None) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = subparsers.add_parser(name, help=help_, usage=usage, description=help_)
        add_json(added)
        return added

    add_draft(command)
    add_narrate(command)
    check = command(
        "check",
        "judge every sentence: supported by the facts, contradicted, or not verifiable",
        "%(prog)s (CASE | --facts FACTS.json --text REPORT.txt) [--strict] [--json]",
    )
    check.add_argument("case", type=Path, nargs="?", metavar="CASE", help="a case folder; its report is judged anew")
    check.add_argument("--facts", type=Path, metavar="FACTS.json", help="what is known, whoever measured it")
    check.add_argument("--text", type=Path, metavar="REPORT.txt", help='any report as plain text ("-": standard input)')
    check.add_argument("--strict", action="store_true", help="exit with 1 if anything is contradicted")
    check.set_defaults(run=lambda parsed: _check(parsed, check))

    show = command("show", "print a case's report with marks and reasons")
    _add_case(show)
    show.add_argument("--plain", action="store_true", help="only what the report says")
    show.add_argument("--facts", action="store_true", help="what was measured, and how, instead of the report")
    show.set_defaults(run=lambda parsed: commands.show(parsed.case, parsed.plain, parsed.facts))

    edit = command(
        "edit",
        "change, add or remove statements",
        "%(prog)s CASE (ID --text TEXT | ID --remove | --add SECTION --text TEXT) [--by NAME]",
    )
    _add_case(edit)
    edit.add_argument("statement", nargs="?", metavar="ID", help="of the statement, such as s3 (see show)")
    edit.add_argument("--text", help="what it shall say")
    edit.add_argument("--add", metavar="SECTION", help="add a statement to this section")
    edit.add_argument("--remove", action="store_true", help="remove the statement")
    _add_by(edit)
    edit.set_defaults(run=lambda parsed: _edit(parsed, edit))

    accept = command("accept", "take responsibility for statements that cannot be verified, or for omitting facts")
    _add_case(accept)
    accept.add_argument(
        "ids", nargs="+", metavar="ID", help='of statements, or of facts that are not mentioned; "fields": all fields'
    )
    _add_by(accept)
    accept.set_defaults(run=lambda parsed: commands.accept(parsed.case, parsed.ids, parsed.by))

    sign = command("sign", "sign a report; refused while anything in it is contradicted or unresolved")
    _add_case(sign)
    _add_signer(sign)
    sign.set_defaults(run=lambda parsed: commands.sign(parsed.case, parsed.signer, parsed.organisation))

    addendum = command("addendum", "add a signed statement to a signed report")
    _add_case(addendum)
    addendum.add_argument("--text", required=True, help="what it says")
    addendum.add_argument("--accept", action="store_true", help="answer for what the facts cannot verify")
    _add_signer(addendum)
    addendum.set_defaults(
        run=lambda parsed: commands.addendum(
            parsed.case, parsed.text, parsed.signer, parsed.accept, parsed.organisation
        )
    )

    retract = command("retract", "withdraw a signed report")
    _add_case(retract)
    retract.add_argument("--reason", required=True)
    _add_signer(retract)
    retract.set_defaults(
        run=lambda parsed: commands.retract(parsed.case, parsed.reason, parsed.signer, parsed.organisation)
    )

    verify = command("verify", "follow the audit log and the signatures; exit with 1 if anything was tampered with")
    _add_case(verify)
    verify.add_argument("--head", metavar="HASH", help="what `sign` printed, kept elsewhere: must be in the log")
    verify.set_defaults(run=lambda parsed: commands.verify(parsed.case, parsed.head))

    log = command("log", "print what happened to a case, and who did it")
    _add_case(log)
    log.set_defaults(run=lambda parsed: commands.log(parsed.case))

    diff = command("diff", "print what a person changed since the draft")
    _add_case(diff)
    diff.add_argument("--against", type=Path, metavar="CASE", help="compare with another case instead")
    diff.set_defaults(run=lambda parsed: commands.diff(parsed.case, parsed.against))
    add_suggest(command)
    add_templates(command)
    return parser


def _add_case(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("case", type=Path, metavar="CASE", help="the folder that `draft --out` wrote")


def _add_by(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", default=_user(), metavar="NAME", help="who does it (default: %(default)s)")


def _add_signer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--signer", required=True, metavar="NAME", help="who signs")
    parser.add_argument("--organisation", default="", metavar="NAME")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _check(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> Report:
    if parsed.case is not None:
        if parsed.facts is not None or parsed.text is not None:
            parser.error("give a case, or --facts and --text, not both")
        return commands.check_case(parsed.case, parsed.strict)
    if parsed.facts is None or parsed.text is None:
        parser.error("give a case folder, or --facts FACTS.json and --text REPORT.txt")
    return commands.check_text_file(parsed.facts, parsed.text, parsed.strict)


def _edit(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> Report:
    if parsed.add is not None:
        if parsed.statement is not None or parsed.remove or parsed.text is None:
            parser.error("--add SECTION takes --text and no statement")
        return commands.add(parsed.case, parsed.add, parsed.text, parsed.by)
    if parsed.statement is None or parsed.remove == (parsed.text is not None):
        parser.error("give a statement's ID with either --text or --remove, or --add SECTION with --text")
    if parsed.remove:
        return commands.dismiss(parsed.case, parsed.statement, parsed.by)
    return commands.edit(parsed.case, parsed.statement, parsed.text, parsed.by)
