# SPDX-License-Identifier: Apache-2.0
"""The parent's end: jobs one after the other, a worker that is started when needed and replaced when lost."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from .. import __version__
from ..errors import Cancelled, FoundationSegError, WorkerError
from .channel import Channel
from .jobs import Job, Pending
from .link import Link
from .settings import WorkerSettings
from .wire import PROTOCOL, Message, ProtocolError, boxed, error_from_message

T = TypeVar("T")
_LONGEST_GAP_S = 1.0  # between two polls that counts as the worker's silence: the computer may have slept


class Worker:
    """A worker process for any number of sessions. Nothing here waits but `Pending.wait` and `close`.

    Use it from one thread, and have `poll` called from time to time while something is under way.
    """

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        self.settings = settings or WorkerSettings()
        self.starts = 0  # how often a process was started
        self._numbers = itertools.count(1)
        self._link: Link | None = None
        self._dying: list[Link] = []
        self._queue: deque[Job[Any]] = deque()
        self._job: Job[Any] | None = None
        self._channels: list[Channel] = []  # those that are open in the process, or on the way
        self._opening: tuple[Channel, int] | None = None  # with the number of its request
        self._parting = False  # the worker has said that it ends
        self._silence = self._stage_started = self._polled = 0.0
        self._calls: deque[Callable[[], None]] = deque()
        self._inside = False
        self.closed = False

    def submit(self, job: Job[T]) -> Pending[T]:
        """Queues a job. Raises WorkerError after `close`."""
        if self.closed:
            raise WorkerError("The worker was closed; open a new session.")
        self._queue.append(job)
        if not job.background and self._job is not None and self._job.background:
            self._job.pending.token.cancel()
        self.poll()
        return job.pending

    @property
    def busy(self) -> bool:
        """Whether something is under way, so that `poll` has to be called."""
        return self._job is not None or bool(self._queue)

    @property
    def pid(self) -> int | None:
        """Of the process; None if there is none."""
        return None if self._link is None else self._link.pid

    def fileno(self) -> int | None:
        """The descriptor on which news come, for an event loop; another one after a restart, None without a process."""
        return None if self._link is None else self._link.fileno()

    def poll(self, timeout: float = 0.0) -> None:
        """Takes what has come, and calls back; waits for news up to `timeout` seconds, by default not at all."""
        if not self._inside:
            self._inside = True
            try:
                self._step(timeout)
            finally:
                self._inside = False
        while self._calls:  # outside, so that a callback may use the worker
            self._calls.popleft()()

    def forget(self, channel: Channel) -> None:
        """A session ends: its jobs are cancelled, and what the worker holds of it is let go."""
        for job in [job for job in (self._job, *self._queue) if job is not None and job.channel is channel]:
            job.pending.token.cancel()
        if self._link is not None and channel in self._channels:
            if self._opening is not None and self._opening[0] is channel:
                self._lose()  # it loads a model that nobody wants any more
            else:
                self._channels.remove(channel)
                number = next(self._numbers)
                self._link.send({"op": "close", "id": number, "session": channel.key, "blocks": channel.names})
        channel.let_go()
        self.poll()

    def close(self) -> None:
        """Ends the process; what is under way is cancelled. Takes a second at most."""
        self.closed = True
        for job in [job for job in (self._job, *self._queue) if job is not None]:
            self._settle(job, None, Cancelled("The session was closed; the segment is as it was."))
        self._job = None
        self._queue.clear()
        if self._link is not None:
            self._link.leave()
            if not self._link.reap(0.2):
                self._link.kill()
                self._dying.append(self._link)
            self._link = None
        for channel in self._channels:
            channel.let_go(wait=True)
        self._channels.clear()
        for link in self._dying:
            link.reap(1.0)
        while self._calls:
            self._calls.popleft()()

    def _step(self, timeout: float) -> None:
        self._dying = [link for link in self._dying if not link.reap()]
        self._listen()
        if self._watch():
            return
        self._advance()
        if timeout <= 0 or not self.busy:
            return
        if self._job is not None and self._job.told_at is not None:
            timeout = min(timeout, max(0.0, self._job.told_at + self.settings.grace_s - time.monotonic()))
        if self._job is not None and not self._job.channel.filled:
            self._job.channel.wait(timeout)
        elif self._link is not None:
            self._link.wait(timeout)
        self._listen()
        if not self._watch():
            self._advance()

    def _listen(self) -> None:
        link = self._link
        now = time.monotonic()
        self._silence += min(now - self._polled, _LONGEST_GAP_S)
        self._polled = now
        if link is None:
            return
        try:
            for message in link.receive():
                self._silence = 0.0
                if self._job is not None:
                    self._job.heard = True
                self._take(message)
                if self._link is not link:
                    return
        except ProtocolError as error:
            self._fail(f"The worker process sent something that is not a message ({error})")
        else:
            if link.ended:
                self._ended(link)

    def _take(self, message: Message) -> None:
        match message["event"]:
            case "hello":
                self._greet(message)
            case "bye":
                self._parting = True
            case "beat":
                pass
            case "progress" | "result" | "error":
                self._take_answer(message)
            case other:
                raise ProtocolError(f"an event {other[:40]!r}")

    def _greet(self, message: Message) -> None:
        found = (message.get("protocol"), message.get("version"))
        if found != (PROTOCOL, __version__):
            self._fail(
                f"The worker process runs FoundationSeg {str(found[1])[:40]} and this is {__version__}",
                "restart the application, and install the same version for the Python of the worker",
            )

    def _take_answer(self, message: Message) -> None:
        number, job = message.get("id"), self._job
        if self._opening is not None and number == self._opening[1]:
            channel = self._opening[0]
            self._opening = None
            if message["event"] == "error":
                self._channels.remove(channel)
                channel.let_go()
                if job is not None and job.channel is channel:
                    self._finish_job(None, self._error(message))
            else:
                channel.opened(message)
        elif job is None or number != job.number:
            return  # of a job that was given up
        elif message["event"] == "progress":
            self._stage_started = time.monotonic()
            progress = job.pending.progress
            stage, fraction = str(message.get("stage")), float(message.get("fraction", 0.0))
            if progress is not None and not job.pending.token.cancelled:
                self._calls.append(lambda: progress(stage, fraction))
        elif message["event"] == "error":
            self._finish_job(None, self._error(message))
        elif message.get("missing") and job.again is not None and not job.asked:
            job.asked = True
            self._send(job, job.again())
        elif job.pending.token.cancelled:
            self._finish_job(None, _cancelled())  # its last stage was over before it could stop
        else:
            self._apply(job, message)
        if message.get("fatal"):
            self._lose()

    def _apply(self, job: Job[Any], message: Message) -> None:
        try:
            value = job.finish(message)
        except FoundationSegError as error:
            self._finish_job(None, error)
        else:
            self._finish_job(value, None)

    def _error(self, message: Message) -> FoundationSegError:
        if message.get("kind") != "internal":
            return error_from_message(message)
        return WorkerError(
            f"The model failed in the worker process ({message.get('message')}); the segment is as it was. Try other "
            "prompts, and report this if it happens again."
        )

    def _watch(self) -> bool:
        """Cancellation and time limits. True if a job was just torn away: first its caller gets control back."""
        self._drop_cancelled()
        job, link, now = self._job, self._link, time.monotonic()
        if link is not None and link.greeting is None and now - link.started > self.settings.start_s:
            self._fail(f"The worker process did not start within {self.settings.start_s:g} s")
            return False
        if job is None:
            return False
        if job.pending.token.cancelled:
            return self._stop(job, now)
        if job.number < 0 and self._opening is None:
            return False
        if self._silence > self.settings.stall_s:
            self._fail(f"The worker process has said nothing for {self.settings.stall_s:g} s and was ended")
        elif now - self._stage_started > self.settings.limit_s:
            self._fail(f"One stage took longer than {self.settings.limit_s:g} s, so that the worker process was ended")
        return False

    def _drop_cancelled(self) -> None:
        for job in [job for job in self._queue if job.pending.token.cancelled]:
            self._queue.remove(job)
            self._settle(job, None, _cancelled())

    def _stop(self, job: Job[Any], now: float) -> bool:
        """Asks the worker to stop, or makes it stop; True for the latter."""
        if job.number < 0 or self._link is None:  # the worker has not begun
            self._finish_job(None, _cancelled())
        elif job.told_at is None:
            job.told_at = now
            self._link.send({"op": "cancel", "id": job.number})
        elif now - job.told_at > self.settings.grace_s and not (job.background and self._queue):
            channel = job.channel
            self._lose()
            self._finish_job(None, _cancelled())
            if not channel.closed:
                self.warm(channel)  # the next poll starts another one
            return True
        return False

    def warm(self, channel: Channel) -> Pending[bool]:
        """Has the process started and the session opened in it, before anything is asked of it."""
        pending: Pending[bool] = Pending(self)
        job = Job(channel, dict, lambda message: True, pending, background=True)
        self._queue.append(job)
        return pending

    def _advance(self) -> None:
        """Goes on with the job whose turn it is, as far as that is possible now."""
        if self._job is None:
            if not self._queue:
                return
            chosen = next((job for job in self._queue if not job.background), self._queue[0])
            self._queue.remove(chosen)
            self._job = chosen
        job = self._job
        if job.number >= 0:
            return
        if self._link is None:
            try:
                self._start()
            except WorkerError as error:
                self._finish_job(None, error)
                return
        assert self._link is not None
        try:
            if job.channel not in self._channels:
                job.channel.prepare(self._link)  # before the worker is there: the copying takes its time, too
                self._channels.append(job.channel)
            if self._link.greeting is None or self._opening is not None:
                return
            if not job.channel.identified:
                self._open(job.channel)
                return
            message = job.request()
            if message:
                self._send(job, message)
            else:
                self._finish_job(True, None)  # all that was wanted was an open session
                self._advance()
        except FoundationSegError as error:
            self._finish_job(None, error)
        except OSError as error:
            self._lose()  # the worker holds on to what there is of it
            self._finish_job(None, no_room(error))

    def _open(self, channel: Channel) -> None:
        if not channel.filled:
            return
        number = next(self._numbers)
        self._opening = (channel, number)
        self._begin()
        assert self._link is not None
        self._link.send({"op": "open", "id": number, **channel.opening()})

    def _send(self, job: Job[Any], message: Message) -> None:
        assert self._link is not None
        job.number = next(self._numbers)
        job.heard = False
        self._begin()
        short, block = boxed({**message, "id": job.number})
        if block is not None:
            job.blocks.append(block)
        self._link.send(short)

    def _begin(self) -> None:
        self._silence = 0.0
        self._stage_started = self._polled = time.monotonic()

    def _start(self) -> None:
        self._link = Link(self.settings)
        self.starts += 1
        self._parting = False

    def _ended(self, link: Link) -> None:
        job = self._job
        if job is None:
            self._lose()  # the next job starts another one
        elif not job.retried and (self._parting or (link.greeting and self._opening is None and not job.heard)):
            # It came as the worker was leaving, or before it was known that it is gone: the next one does it.
            job.retried, job.asked, job.number = True, False, -1
            self._lose()
        else:
            self._fail(f"The worker process ended unexpectedly ({link.epitaph()})")

    def _fail(self, what: str, todo: str = "try again, and report this if it happens again") -> None:
        """The worker is of no use any more: whoever waits is told so."""
        self._lose()
        if self._job is not None:
            error = WorkerError(f"{what}; nothing was changed: {todo}.")
            self._finish_job(None, _cancelled() if self._job.pending.token.cancelled else error)

    def _lose(self) -> None:
        """Kills the process; all sessions have to be opened anew in the next one."""
        if self._link is not None:
            self._link.kill()
            self._dying.append(self._link)
        self._link = self._opening = None
        for channel in self._channels:
            channel.let_go()
        self._channels.clear()

    def _finish_job(self, value: Any, error: FoundationSegError | None) -> None:
        job, self._job = self._job, None
        if job is not None:
            self._settle(job, value, error)

    def _settle(self, job: Job[Any], value: Any, error: FoundationSegError | None) -> None:
        for block in job.blocks:
            block.close()
        job.blocks.clear()
        self._calls.append(job.pending.settle(value, error))


def no_room(error: OSError) -> WorkerError:
    """The error for a system that has no shared memory left."""
    return WorkerError(
        f"There is no shared memory for the worker process ({error.strerror}); close other programs and try again."
    )


def _cancelled() -> Cancelled:
    return Cancelled("The prediction was cancelled; the segment is as it was.")
