# SPDX-License-Identifier: Apache-2.0
"""The part of the command line that is about models: `foundation-report models ...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from FoundationSegLib.cli_base import add_json
from FoundationSegLib.cli_models import add_accept
from FoundationSegLib.terminal import Terminal

from . import commands_models

Command = Callable[[str, str, str | None], argparse.ArgumentParser]


def add_models(command: Command) -> None:
    """Adds the command `models` and its own commands; without one it lists."""
    models = command("models", "list, show, download, verify or remove the models that can be asked", None)
    models.set_defaults(run=lambda _: commands_models.list_models())
    actions = models.add_subparsers(metavar="ACTION")

    def action(name: str, help_: str, run: Callable[[argparse.Namespace], Any]) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(name, help=help_)
        parser.set_defaults(run=run)
        add_json(parser)
        return parser

    action("list", "list all models", lambda _: commands_models.list_models())
    shown = action("show", "show one model's card", lambda parsed: commands_models.show(parsed.name))
    shown.add_argument("name")
    got = action(
        "download",
        "download a model's files, once",
        lambda parsed: commands_models.download(parsed.name, Terminal(parsed.accept_licence)),
    )
    got.add_argument("name")
    add_accept(got)
    verified = action(
        "verify",
        "read files in full and compare them with what was recorded",
        lambda parsed: commands_models.verify(parsed.names, Terminal()),
    )
    verified.add_argument("names", nargs="*", metavar="NAME", help="default: all that are on this computer")
    removed = action("remove", "delete a model's files", lambda parsed: commands_models.remove(parsed.names))
    removed.add_argument("names", nargs="+", metavar="NAME")
