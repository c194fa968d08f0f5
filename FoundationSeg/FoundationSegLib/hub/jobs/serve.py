# SPDX-License-Identifier: Apache-2.0
"""The process of a job: takes one request from its stdin, tells of its progress, answers, and ends."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NoReturn

from ... import commands_models
from ...catalogue import ModelCard, model_card
from ...cli_base import Report
from ...commands import Listener
from ...errors import FoundationSegError
from ...predictor import CancelToken, Progress
from ...worker import guard
from ...worker.wire import Message, ProtocolError, error_to_message, from_line, to_line

_SPEECH_S = 0.1  # between two messages about the progress of one stage


class _Parent(Listener):
    """Whoever started this process, as the commands see a user."""

    def __init__(self, target: int, request: Message) -> None:
        self._target = target
        self._accepted = [str(name) for name in request.get("accepted", ())]
        self._last: tuple[str, float] = ("", 0.0)
        self.token = self.cancel = CancelToken()

    def send(self, event: str, **rest: object) -> None:
        data = memoryview(to_line({"event": event, **rest}))
        while data:
            data = data[os.write(self._target, data) :]

    def weights(self, name: str) -> Progress:
        return self._speak

    def consent(self, card: ModelCard) -> bool:
        return card.name in self._accepted

    def _speak(self, stage: str, fraction: float) -> None:
        moment = time.monotonic()
        if stage != self._last[0] or fraction >= 1 or moment - self._last[1] > _SPEECH_S:
            self._last = stage, moment
            self.send("progress", stage=stage, fraction=float(fraction))


def _checkpoint(request: Message, parent: _Parent) -> Report:
    """Makes a user's own file ready, after finding out which model it was made for if that was not said."""
    from ..checkpoint import identify
    from ..weights import ensure_weights

    path = Path(request["path"])
    card = model_card(request["name"]) if request.get("name") else identify(path)
    weights = ensure_weights(card, path, commands_models.ask_of(card, parent))
    return Report({"name": card.name, "sha256": weights.sha256, "path": str(path)}, f"{path.name} is ready.")


_WHAT: dict[str, Callable[[Message, _Parent], Report]] = {
    "download": lambda request, parent: commands_models.download(request["name"], parent),
    "verify": lambda request, parent: commands_models.verify(request["names"], parent),
    "remove": lambda request, parent: commands_models.remove(request["names"], keep_cache=False),
    "bundle": lambda request, parent: commands_models.bundle(request["names"], Path(request["folder"]), parent),
    "import": lambda request, parent: commands_models.import_bundle(Path(request["folder"]), parent),
    "checkpoint": _checkpoint,
}


def _listen(source: BinaryIO, parent: _Parent) -> None:
    """Runs in a thread of its own. At the end of the pipe the parent is gone, and so is the reason to be."""
    for line in source:
        if from_line(line, "op")["op"] == "cancel":
            parent.token.cancel()
    _end(0)


def _end(status: int) -> NoReturn:
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Serves one request."""
    target = guard.take_stdout()
    guard.report_crashes()
    os.write(target, to_line({"event": "hello", "pid": os.getpid()}))
    source = sys.stdin.buffer
    try:
        request = from_line(source.readline(), "op")
    except ProtocolError:
        _end(4)
    parent = _Parent(target, request)
    threading.Thread(target=_listen, args=(source, parent), daemon=True).start()
    try:
        report = _WHAT[request["what"]](request, parent)
        parent.send("result", data=report.data, text=report.text, status=report.status)
    except FoundationSegError as error:
        parent.send("error", **error_to_message(error))
    except Exception as error:  # whatever a library raises is told, not thrown at the user
        traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        message = f"Something went wrong with the weights ({reason}); try again, or verify the model."
        parent.send("error", kind="WorkerError", message=message)
    _end(0)
