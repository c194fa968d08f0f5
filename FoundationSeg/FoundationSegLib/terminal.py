# SPDX-License-Identifier: Apache-2.0
"""A listener of the commands that tells on standard error how they go on, and asks about licences."""

from __future__ import annotations

import sys

from .catalogue import ModelCard
from .commands import Listener
from .predictor import Progress


class Terminal(Listener):
    """Tells the user on standard error; on a terminal with a line that changes while the model works."""

    def __init__(self, accepts: bool = False) -> None:
        """`accepts`: the user has said beforehand that licences are accepted."""
        self._live = sys.stderr.isatty()
        self._accepts = accepts

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def progress(self, segment: str) -> Progress | None:
        if not self._live:
            self.say(f"Segmenting {segment} ...")
            return None

        def show(stage: str, fraction: float) -> None:
            end = "\n" if fraction >= 1 else ""
            print(f"\r{segment}: {stage:<8} {100 * fraction:3.0f} %", end=end, file=sys.stderr, flush=True)

        return show

    def weights(self, name: str) -> Progress | None:
        if not self._live:
            return None

        def show(stage: str, fraction: float) -> None:
            bar = "#" * int(30 * fraction)
            end = "\n" if fraction >= 1 else ""
            print(f"\r{name}: {stage:<8} [{bar:<30}] {100 * fraction:3.0f} %", end=end, file=sys.stderr, flush=True)

        return show

    def consent(self, card: ModelCard) -> bool:
        from .hub.licence import statement

        self.say(statement(card))
        if self._accepts:
            return True
        if not (self._live and sys.stdin is not None and sys.stdin.isatty()):
            return False
        print("Do you accept this licence? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")
