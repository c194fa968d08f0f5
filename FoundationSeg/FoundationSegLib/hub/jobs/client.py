# SPDX-License-Identifier: Apache-2.0
"""A job as its parent sees it: started, polled, cancelled, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import Cancelled, FoundationSegError, WorkerError
from ...predictor import Progress
from ...worker.link import Link
from ...worker.settings import WorkerSettings, default_python
from ...worker.wire import Message, ProtocolError, error_from_message

Request = dict[str, Any]


@dataclass(frozen=True)
class JobSettings(WorkerSettings):
    """How the process is started. It may use the network, unlike the one that predicts."""

    network: bool = True
    grace_s: float = 5.0  # writing a converted file cannot be interrupted, and should not be cut off

    def command(self) -> list[str]:
        python = default_python() if self.python is None else self.python
        return [*([python] if isinstance(python, str) else python), "-m", "FoundationSegLib.hub.jobs"]


class Job:
    """One request to a process of its own. It never waits; `poll` drives it."""

    def __init__(
        self,
        request: Request,
        *,
        progress: Progress | None = None,
        done: Callable[[Job], None] | None = None,
        settings: JobSettings | None = None,
    ) -> None:
        """Starts the process. Raises WorkerError if that is not possible.

        `progress` is told the stage ("download", "verify", "convert", ...) and a fraction in [0, 1]; `done` is called
        once, at the end of whatever kind.
        """
        self.request = request
        self._settings = settings or JobSettings()
        self._progress, self._done = progress, done
        self._answer: Message | None = None
        self._error: FoundationSegError | None = None
        self._cancelled_at: float | None = None
        self._link: Link | None = Link(self._settings)
        self._link.send({"op": "run", **request})

    @property
    def finished(self) -> bool:
        return self._link is None

    @property
    def cancelling(self) -> bool:
        """Whether it was cancelled and has not ended yet."""
        return self._cancelled_at is not None and not self.finished

    @property
    def result(self) -> dict[str, Any]:
        """What the command found or did. Raises FoundationSegError where it failed, Cancelled after `cancel`."""
        if self._error is not None:
            raise self._error
        assert self._answer is not None, "it has finished"
        data = self._answer.get("data")
        return data if isinstance(data, dict) else {}

    def poll(self) -> None:
        """Takes what the process has said. Call it every 50 ms or so."""
        link = self._link
        if link is None:
            return
        try:
            for message in link.receive():
                self._take(message)
        except ProtocolError as error:
            self._error = WorkerError(f"The process that works on the weights said what it should not ({error}).")
        if self._answer is None and self._error is None:
            if link.ended:
                self._error = self._early_end(link)
            elif self._cancelled_at is not None and time.monotonic() > self._cancelled_at + self._settings.grace_s:
                self._error = _cancelled()
        if self._answer is not None or self._error is not None:
            self._end()

    def cancel(self) -> None:
        """Asks the process to stop; after a time of grace it is killed. What was downloaded is kept."""
        if self._link is not None and self._cancelled_at is None:
            self._cancelled_at = time.monotonic()
            self._link.send({"op": "cancel"})

    def kill(self) -> None:
        """Ends the process at once; `done` is not called."""
        if self._link is not None:
            self._done = None
            self._error = _cancelled()
            self._end()

    def _take(self, message: Message) -> None:
        event = message["event"]
        if event == "progress" and self._progress is not None and self._cancelled_at is None:
            self._progress(str(message.get("stage", "")), float(message.get("fraction", 0.0)))
        elif event == "result":
            self._answer = message
        elif event == "error":
            error = error_from_message(message)
            self._error = _cancelled() if isinstance(error, Cancelled) else error

    def _early_end(self, link: Link) -> FoundationSegError:
        if self._cancelled_at is not None:
            return _cancelled()
        return WorkerError(f"The process that works on the weights ended early ({link.epitaph()}); try again.")

    def _end(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.kill()
            link.reap(0.2)
        if self._done is not None:
            self._done(self)


def _cancelled() -> Cancelled:
    return Cancelled("It was cancelled; what was downloaded so far is kept.")
