# SPDX-License-Identifier: Apache-2.0
"""Work for a worker: what is to be done, and the result that will come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from ..errors import Cancelled, FoundationSegError, WorkerError
from ..predictor import CancelToken, Progress
from .blocks import Block
from .channel import Channel
from .wire import Message

if TYPE_CHECKING:
    from .client import Worker

T = TypeVar("T")
_TICK_S = 0.01  # how long a waiting call sleeps before it looks at its cancel token again


class Pending(Generic[T]):
    """A result that will come: look at `done` after `poll`, or be called back, or `wait`."""

    def __init__(
        self,
        worker: Worker,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
        callback: Callable[[Pending[T]], None] | None = None,
    ) -> None:
        self._worker = worker
        self.token = cancel or CancelToken()
        self.progress = progress
        self._callback = callback
        self._value: T | None = None
        self._error: FoundationSegError | None = None
        self.done = False

    def cancel(self) -> None:
        """Takes effect with the next `poll`, at the latest `WorkerSettings.grace_s` later; may come from any thread."""
        self.token.cancel()

    @property
    def cancelled(self) -> bool:
        return isinstance(self._error, Cancelled)

    @property
    def error(self) -> FoundationSegError | None:
        """Why there is no result; None if there is one, or none yet."""
        return self._error

    def result(self) -> T:
        """What came of it. Raises its error; WorkerError if it is not done."""
        if not self.done:
            raise WorkerError("The worker is not done yet; wait for the result, or cancel it.")
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def wait(self) -> T:
        """Waits for the result; other jobs go on, and their callbacks are called meanwhile."""
        while not self.done:
            self._worker.poll(_TICK_S)
        return self.result()

    def settle(self, value: T | None, error: FoundationSegError | None) -> Callable[[], None]:
        """Used by the worker: sets the result; what is returned calls back."""
        self._value, self._error, self.done = value, error, True
        return self._call_back

    def _call_back(self) -> None:
        if self._error is None and self.progress is not None:
            self.progress("done", 1.0)
        if self._callback is not None:
            self._callback(self)


@dataclass
class Job(Generic[T]):
    """Something that the worker is to do.

    Attributes:
        channel: the session that it is about.
        request: makes the message when the job's turn has come; for that the state at that time counts.
        finish: makes the result from the answer, and applies it. None of the two is called for a job that is cancelled.
        again: makes a second message if the worker's answer is that it lacks the state that the first one builds on.
        background: gives way to any other job.
    """

    channel: Channel
    request: Callable[[], Message]
    finish: Callable[[Message], T]
    pending: Pending[T]
    again: Callable[[], Message] | None = None
    background: bool = False
    number: int = -1  # as sent; -1 before
    told_at: float | None = None  # when the worker was told to stop
    heard: bool = False  # the worker has said something since it was sent
    asked: bool = False  # the worker has asked `again`
    retried: bool = False
    blocks: list[Block] = field(default_factory=list)
