# SPDX-License-Identifier: Apache-2.0
"""The worker process: takes requests from its stdin, one after the other, and answers on what was its stdout."""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NoReturn

from .. import __version__
from ..errors import Cancelled, FoundationSegError, ModelTooLarge
from ..predictor import CancelToken
from . import guard
from .blocks import Block
from .served import MissingState, ServedSession
from .wire import PROTOCOL, Message, ProtocolError, error_to_message, from_line, to_line, unboxed

_BEAT_S = 1.0
_SPEECH_S = 0.05  # between two messages about the progress of one stage
_FOREGROUND = ("open", "predict", "uncertainty")


class Server:
    """The main thread works; a second one reads, so that a request to cancel is seen at once; a third one beats."""

    def __init__(self, source: BinaryIO, target: int) -> None:
        self._source, self._target = source, target
        self._writing = threading.Lock()
        self._requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._tokens: dict[int, CancelToken] = {}
        self._background: CancelToken | None = None  # of a prefetch that is asked for or going on
        self._blocks: dict[str, Block] = {}
        self._lingering: list[Block] = []
        self._sessions: dict[int, ServedSession] = {}
        self._busy = False

    def send(self, event: str, **rest: Any) -> None:
        data = memoryview(to_line({"event": event, **rest}))
        with self._writing:
            while data:
                data = data[os.write(self._target, data) :]

    def run(self, idle_s: float | None) -> None:
        """Until the parent goes, or there was nothing to do for `idle_s` seconds."""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        while True:
            try:
                request = self._requests.get(timeout=idle_s)
            except queue.Empty:
                self.send("bye")
                return
            self._busy = True
            self._answer(request)
            self._busy = False

    def _read(self) -> None:
        """Runs in a thread of its own. At the end of the pipe the parent is gone, and so is the reason to be."""
        try:
            for line in self._source:
                self._take(unboxed(from_line(line, "op")))
        except (OSError, ProtocolError, KeyError, TypeError, ValueError):
            traceback.print_exc()
            os._exit(4)
        for block in self._blocks.values():
            block.remove_name()
        os._exit(0)

    def _take(self, request: Message) -> None:
        operation = request["op"]
        if operation == "adopt":
            try:
                block = self._blocks[request["block"]] = Block.attach(request["block"])
            except FileNotFoundError:
                return  # the session was closed before this process had started
            block.remove_name()
            return
        if operation == "cancel":
            if (token := self._tokens.get(request["id"])) is not None:
                token.cancel()
            return
        token = self._tokens[request["id"]] = CancelToken()
        if operation in _FOREGROUND and self._background is not None:
            self._background.cancel()
        if operation == "prefetch":
            self._background = token
        self._requests.put(request)

    def _beat(self) -> None:
        while True:
            time.sleep(_BEAT_S)
            if self._busy:
                self.send("beat")

    def _answer(self, request: Message) -> None:
        number = request["id"]
        token = self._tokens[number]
        try:
            result = getattr(self, f"_do_{request['op']}")(request, token)
            self.send("result", id=number, **result)
        except MissingState:
            self.send("result", id=number, missing=True)
        except FoundationSegError as error:
            self.send("error", id=number, **error_to_message(error))
        except Exception as error:  # whatever a model raises must not end the worker
            traceback.print_exc()
            if _lack_of_memory(error):
                message = "There was not enough memory; close other programs, or choose a smaller model or region."
                self.send("error", id=number, kind=ModelTooLarge.__name__, message=message, fatal=True)
                end(3)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self.send("error", id=number, kind="internal", message=reason)
        finally:
            del self._tokens[number]
            if self._background is token:
                self._background = None

    def _do_open(self, request: Message, token: CancelToken) -> Message:
        blocks = [self._blocks.pop(request[name]) for name in ("block", "mailbox")]
        try:
            session = self._sessions[request["session"]] = ServedSession(request, blocks[0], blocks[1])
        except BaseException:
            self._let_go(blocks)
            raise
        return {"identity": session.identity}

    def _do_predict(self, request: Message, token: CancelToken) -> Message:
        return self._sessions[request["session"]].predict(request, token, self._speaker(request["id"]))

    def _do_uncertainty(self, request: Message, token: CancelToken) -> Message:
        return self._sessions[request["session"]].uncertainty(request, token)

    def _do_prefetch(self, request: Message, token: CancelToken) -> Message:
        try:
            self._sessions[request["session"]].prefetch(request["ras"], token)
        except Cancelled:
            return {"prefetched": False}
        return {"prefetched": True}

    def _do_close(self, request: Message, token: CancelToken) -> Message:
        session = self._sessions.pop(request["session"], None)
        blocks = [self._blocks.pop(name) for name in request["blocks"] if name in self._blocks]
        if session is not None:
            blocks += session.blocks
            del session
        self._let_go(blocks)
        return {}

    def _let_go(self, blocks: list[Block]) -> None:
        """What is still in use (by a cache, a cycle) is tried again next time."""
        import gc

        gc.collect()
        self._lingering = [block for block in (*self._lingering, *blocks) if not block.close()]

    def _speaker(self, number: int) -> Callable[[str, float], None]:
        last_stage, last_time = "", 0.0

        def speak(stage: str, fraction: float) -> None:
            nonlocal last_stage, last_time
            now = time.monotonic()
            if stage != last_stage or now - last_time > _SPEECH_S:
                last_stage, last_time = stage, now
                self.send("progress", id=number, stage=stage, fraction=float(fraction))

        return speak


def _lack_of_memory(error: Exception) -> bool:
    """Python's own error, or what libraries raise in its place."""
    text = str(error).lower()
    known = (
        "out of memory",
        "bad_alloc",
        "bad allocation",
        "not enough memory",
        "failed to allocate",
        "cannot allocate",
    )
    return isinstance(error, MemoryError) or any(words in text for words in known)


def end(status: int) -> NoReturn:
    """At once: nothing of what the process holds needs to be put away, and libraries' own ways of ending can hang."""
    sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str]) -> None:
    """Runs the worker until it is not needed any more."""
    parser = argparse.ArgumentParser(prog="python -m FoundationSegLib.worker", description=__doc__)
    parser.add_argument("--idle", type=float, default=None, help="seconds without work after which to end")
    parser.add_argument("--memory", type=int, default=None, help="bytes of address space to take at most")
    parser.add_argument("--network", action="store_true", help="connections are allowed")
    options = parser.parse_args(arguments)
    target = guard.take_stdout()
    guard.report_crashes()
    if options.memory is not None:
        guard.limit_memory(options.memory)
    if not options.network:
        guard.forbid_network()
    server = Server(sys.stdin.buffer, target)
    server.send("hello", protocol=PROTOCOL, version=__version__, pid=os.getpid())
    try:
        server.run(options.idle)
    except BrokenPipeError:
        end(0)  # the parent is gone
    end(0)
