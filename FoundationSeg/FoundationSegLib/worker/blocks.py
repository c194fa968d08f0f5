# SPDX-License-Identifier: Apache-2.0
"""Blocks of shared memory that two unrelated processes use, without Python's resource tracker."""

from __future__ import annotations

import math
import os
import secrets
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import shared_memory
from typing import Any

import numpy as np
import numpy.typing as npt

NAME_PREFIX = "fseg_"
_POSIX = sys.platform != "win32"


class _NoTracker:
    """Stands in for the resource tracker, see `_untracked`."""

    @staticmethod
    def register(name: str, kind: str) -> None:
        """Nobody is told."""

    @staticmethod
    def unregister(name: str, kind: str) -> None:
        """Nobody was told."""


_untracked_lock = threading.Lock()


@contextmanager
def _untracked() -> Iterator[None]:
    """Keeps the resource tracker out while a block is made, opened or removed.

    Before Python 3.13 each side registers a block with a tracker, for which it starts a process with `sys.executable`
    (in 3D Slicer that may be the application); when one side ends, its tracker removes the block under the other one.
    """
    names = vars(shared_memory)
    with _untracked_lock:
        tracker = names.get("resource_tracker")
        names["resource_tracker"] = _NoTracker
        try:
            yield
        finally:
            names["resource_tracker"] = tracker


class Block:
    """A block of shared memory, with at least the number of bytes that were asked for."""

    def __init__(self, memory: shared_memory.SharedMemory) -> None:
        self._memory = memory
        # Once: here, when the block is forgotten, or when the process ends.
        self._remove_name = weakref.finalize(self, _remove_name, memory)

    @classmethod
    def create(cls, size: int, reserve: bool = True) -> Block:
        """Zeroes, under a random name. Raises OSError where there is no room.

        Without `reserve` that shows later (see `Reservation`), and only then is time spent on it.
        """
        with _untracked():
            block = cls(shared_memory.SharedMemory(NAME_PREFIX + secrets.token_hex(8), create=True, size=max(size, 1)))
        if reserve:
            Reservation(block).make()
        return block

    @classmethod
    def attach(cls, name: str) -> Block:
        """A block that the other process made. Raises OSError if it is gone."""
        if not name.startswith(NAME_PREFIX):
            raise FileNotFoundError("The block has a foreign name.")
        with _untracked():
            return cls(shared_memory.SharedMemory(name))

    @property
    def name(self) -> str:
        return self._memory.name

    @property
    def size(self) -> int:
        return self._memory.size

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.uint8, writable: bool = True) -> npt.NDArray[Any]:
        """A view of the block's start. It must be gone before `close`. Raises ValueError if the block is too small."""
        # Not np.ndarray(buffer=...): that lets the memory be unmapped under the array.
        kind, memory = np.dtype(dtype), self._memory.buf
        assert memory is not None, "the block was closed"
        view: npt.NDArray[Any] = np.frombuffer(memory, kind, count=math.prod(shape)).reshape(shape)
        view.setflags(write=writable)
        return view

    def remove_name(self) -> None:
        """From now on nobody else can open it; it lives as long as somebody has it open (always so on Windows)."""
        self._remove_name()

    def close(self) -> bool:
        """Lets go of the memory, and of the name; False if there are still views of it."""
        self.remove_name()
        try:
            self._memory.close()
        except BufferError:
            return False
        return True


def _remove_name(memory: shared_memory.SharedMemory) -> None:
    if not _POSIX:
        return
    try:
        with _untracked():
            memory.unlink()
    except FileNotFoundError:
        return  # the other side was first


class Reservation:
    """The promise that a block's memory is there. Without it, writing where none is left kills the process (SIGBUS)."""

    def __init__(self, block: Block) -> None:
        self._size = block.size
        self._file = os.open(f"/dev/shm/{block.name}", os.O_RDWR) if sys.platform == "linux" else None

    def make(self) -> None:
        """Takes the memory. Raises OSError where there is none; other systems than Linux do not say."""
        if self._file is not None:
            try:
                os.posix_fallocate(self._file, 0, self._size)
            finally:
                os.close(self._file)
                self._file = None


class VolumeCopy:
    """Voxels on their way into shared memory, copied by a thread that needs no attention and touches nothing else.

    The first touch of fresh memory costs much more than the copying; meanwhile the worker starts.
    """

    def __init__(self, voxels: npt.NDArray[Any]) -> None:
        """Raises OSError where blocks cannot be made at all; that this one found no room, `error` will say."""
        self.block = Block.create(voxels.nbytes, reserve=False)
        self.error: OSError | None = None
        arguments = (Reservation(self.block), self.block.array(voxels.shape, voxels.dtype), voxels)
        self._thread = threading.Thread(target=self._copy, args=arguments, daemon=True)
        self._thread.start()

    def _copy(self, reservation: Reservation, target: npt.NDArray[Any], voxels: npt.NDArray[Any]) -> None:
        """Neither of the two steps holds the interpreter lock: the caller's thread goes on."""
        try:
            reservation.make()
            np.copyto(target, voxels)
        except OSError as error:
            self.error = error.with_traceback(None)

    def ready(self, timeout: float = 0.0) -> bool:
        """Whether all voxels are there; waits up to `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self, wait: bool = False) -> bool:
        """Lets go of the memory; False while the copying goes on."""
        self.block.remove_name()
        return self.ready(60.0 if wait else 0.0) and self.block.close()
