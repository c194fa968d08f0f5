# SPDX-License-Identifier: Apache-2.0
"""The worker process as its parent sees it: started, listened to without ever waiting, killed without asking."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import weakref
from typing import IO, Any

from ..errors import WorkerError
from .settings import WorkerSettings
from .wire import Lines, Message, ProtocolError, from_line, to_line

_TAIL = 8192  # bytes of stderr that are kept
_AT_ONCE = 2**20  # bytes that are read before anything else gets a turn
_CHUNK = 2048  # bytes per write; a pipe of Windows takes a write as a whole or not at all
_NOISE = 2**16  # bytes of other output before the greeting (launchers and site files print)


class Link:
    """One process. After `kill`, or once `ended`, it is of no more use."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Raises WorkerError if the process cannot be started."""
        command = settings.command()
        options: dict[str, Any] = {"start_new_session": True}  # a group of its own: launchers start a second process
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NO_WINDOW}
        options |= dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        try:
            process: subprocess.Popen[bytes] = subprocess.Popen(command, bufsize=0, env=settings.variables(), **options)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise WorkerError(
                f"The Python interpreter {command[0]} could not be started ({reason}); choose another one in "
                "the settings."
            ) from error
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._process = process
        self._in, self._out, self._err = process.stdin, process.stdout, process.stderr
        for pipe in (self._in, self._out, self._err):
            _never_wait(pipe)
        self._lines = Lines()
        self._noise = 0
        self._outgoing = bytearray()
        self._tail = b""
        self._greeting: Message | None = None
        self.ended = False
        self.started = time.monotonic()
        self._finish = weakref.finalize(self, _end, process, self._pids())

    @property
    def pid(self) -> int:
        """Of the interpreter itself once it has said hello; of what was started before that."""
        return self._process.pid if self._greeting is None else int(self._greeting["pid"])

    @property
    def greeting(self) -> Message | None:
        """The worker's first message; None before it came."""
        return self._greeting

    def fileno(self) -> int:
        """Of the pipe on which messages come; for notifiers of event loops."""
        return self._out.fileno()

    def send(self, message: Message) -> None:
        """Hands a message over as far as the pipe takes it; the rest goes with `flush`."""
        self._outgoing += to_line(message)
        self.flush()

    def flush(self) -> None:
        try:
            while self._outgoing:
                if not (written := os.write(self._in.fileno(), self._outgoing[:_CHUNK])):
                    return
                del self._outgoing[:written]
        except BlockingIOError:
            return
        except OSError:
            self._outgoing.clear()  # the process is gone; the end of its output says so

    def receive(self) -> list[Message]:
        """The messages that have come. Sets `ended` at the end. Raises ProtocolError for anything else."""
        self.flush()
        data, self.ended = _read(self._out)
        self._tail = (self._tail + _read(self._err)[0])[-_TAIL:]
        messages = []
        for line in self._lines.feed(data):
            if self._greeting is not None:
                messages.append(from_line(line, "event"))
            elif (greeting := _greeting(line)) is not None:
                self._greeting = greeting
                messages.append(greeting)
                self._finish.detach()
                self._finish = weakref.finalize(self, _end, self._process, self._pids())
            else:
                self._noise += len(line)
                if self._noise > _NOISE:
                    raise ProtocolError("much, but no greeting")
        return messages

    def wait(self, timeout: float) -> None:
        """Until there is something to receive, or more can be sent, or the time is over."""
        if sys.platform != "win32":
            poller = select.poll()
            poller.register(self._out, select.POLLIN)
            if self._outgoing:
                poller.register(self._in, select.POLLOUT)
            poller.poll(timeout * 1000)
            return
        until = time.monotonic() + timeout
        while _waiting_bytes(self._out) == 0 and time.monotonic() < until:
            time.sleep(0.002)

    def kill(self) -> None:
        """Ends the process at once; does not wait until it is gone (see `reap`)."""
        _signal_all(self._process, self._pids())
        for pipe in (self._in, self._out, self._err):
            pipe.close()

    def leave(self) -> None:
        """Closes the worker's input, upon which it ends."""
        self._in.close()

    def reap(self, timeout: float = 0.0) -> bool:
        """Whether the process is gone for good."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._finish.detach()
        for pipe in (self._in, self._out, self._err):
            pipe.close()
        return True

    def epitaph(self) -> str:
        """How the process ended, and the last that it said, for an error message."""
        try:
            status = self._process.wait(0.1)
        except subprocess.TimeoutExpired:
            status = 0
        if not self._err.closed:
            self._tail = (self._tail + _read(self._err)[0])[-_TAIL:]
        how = f"it ended with status {status}"
        if status < 0 and sys.platform != "win32":
            how = f"it was killed by {signal.Signals(-status).name}"
            if -status == signal.SIGKILL:
                how += ", perhaps for want of memory"
        text = self.tail()
        return f"{how}: {text}" if text else how

    def tail(self) -> str:
        """What best sums up the end of stderr, on one line; empty if there is nothing."""
        lines = [line.strip() for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith(("Fatal Python error", "terminate called"))]
        return (fatal or lines or [""])[-1][:300]

    def _pids(self) -> tuple[int, ...]:
        return () if self._greeting is None else (int(self._greeting["pid"]),)


def _greeting(line: bytes) -> Message | None:
    try:
        message = from_line(line, "event")
    except ProtocolError:
        return None
    return message if message["event"] == "hello" and isinstance(message.get("pid"), int) else None


def _never_wait(pipe: IO[bytes]) -> None:
    """On Windows only from Python 3.12; before, reading looks first and lines to the worker are short."""
    if sys.platform != "win32" or sys.version_info >= (3, 12):
        os.set_blocking(pipe.fileno(), False)


def _read(pipe: IO[bytes]) -> tuple[bytes, bool]:
    """What there is to read now, and whether that was the end."""
    parts: list[bytes] = []
    try:
        while sum(map(len, parts)) < _AT_ONCE:
            if sys.platform == "win32" and (count := _waiting_bytes(pipe)) <= 0:
                return b"".join(parts), count < 0
            part = os.read(pipe.fileno(), 65536)
            if not part:
                return b"".join(parts), True
            parts.append(part)
    except BlockingIOError:
        return b"".join(parts), False
    except OSError:
        return b"".join(parts), True
    return b"".join(parts), False


def _waiting_bytes(pipe: IO[bytes]) -> int:
    """Windows: bytes that can be read at once; -1 at the end of the pipe."""
    import ctypes
    import msvcrt

    count = ctypes.c_ulong(0)
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(pipe.fileno()))  # type: ignore[attr-defined, unused-ignore]
    peek = ctypes.windll.kernel32.PeekNamedPipe  # type: ignore[attr-defined, unused-ignore]
    return int(count.value) if peek(handle, None, 0, None, ctypes.byref(count), None) else -1


def _signal_all(process: subprocess.Popen[bytes], pids: tuple[int, ...]) -> None:
    """Kills a process with what it started: the interpreter behind a launcher goes too."""
    if process.returncode is not None:
        return
    if sys.platform != "win32":
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
        return
    process.kill()
    for pid in pids:
        if pid != process.pid:
            try:
                os.kill(pid, signal.SIGTERM)  # on Windows this ends a process at once
            except OSError:
                continue  # it is gone


def _end(process: subprocess.Popen[bytes], pids: tuple[int, ...]) -> None:
    """When the parent ends, or forgets the link."""
    _signal_all(process, pids)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        return  # it hangs in the system; the system will end it
