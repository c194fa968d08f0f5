# SPDX-License-Identifier: Apache-2.0
"""The part of the command line that is about models: `foundation-seg models ...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .commands import Listener

AddJson = Callable[[argparse.ArgumentParser], None]


def add_models(subparsers: Any, add_json: AddJson, terminal: Callable[[bool], Listener]) -> None:
    """Adds the command and its own commands. `terminal` is told whether licences are accepted beforehand."""
    models = subparsers.add_parser("models", help="list, download, verify, remove or carry models")
    kinds = models.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help: str, run: Callable[[argparse.Namespace], Any]) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = kinds.add_parser(name, help=help)
        parser.set_defaults(run=run)
        add_json(parser)
        return parser

    command("list", "list all models", lambda parsed: _commands().list_models())
    command("show", "show one model's card", lambda parsed: _commands().show(parsed.name)).add_argument("name")

    parser = command(
        "download",
        "download a model's weights, once",
        lambda parsed: _commands().download(parsed.name, terminal(parsed.accept_licence)),
    )
    parser.add_argument("name")
    add_accept(parser)

    parser = command(
        "verify",
        "read weights in full and compare them with what was recorded",
        lambda parsed: _commands().verify(parsed.names, terminal(False)),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all that are on this computer")

    parser = command("remove", "delete weights", lambda parsed: _commands().remove(parsed.names, parsed.keep_cache))
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument(
        "--keep-cache", action="store_true", help="leave what other programs may use in the Hub's cache"
    )

    parser = command(
        "bundle",
        "write models into a folder for a computer without network",
        lambda parsed: _commands().bundle(parsed.names, parsed.out, terminal(parsed.accept_licence)),
    )
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    add_accept(parser)

    parser = command(
        "import",
        "read such a folder; nothing is downloaded",
        lambda parsed: _commands().import_bundle(parsed.folder, terminal(parsed.accept_licence)),
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    add_accept(parser)


def add_accept(parser: argparse.ArgumentParser) -> None:
    """For scripts: on a terminal the user is asked."""
    parser.add_argument(
        "--accept-licence", action="store_true", help="you have read and accept the licence of the model's weights"
    )


def _commands() -> Any:
    from . import commands_models

    return commands_models
