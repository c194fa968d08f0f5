# SPDX-License-Identifier: Apache-2.0
"""The folder in which FoundationSeg keeps what it has to remember: weights, the lock file, accepted licences.

It holds nothing of a patient, but for its folder "embeddings" (see `embedding_store`). The environment variable
FOUNDATIONSEG_HOME moves it, for shared installations and tests.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ModelError, OutputError

VARIABLE = "FOUNDATIONSEG_HOME"


def home() -> Path:
    """The folder; it need not exist. Not a cache folder: what was imported on a machine without network must stay.

    It is where each system keeps a user's data: `$XDG_DATA_HOME` or `~/.local/share`, `~/Library/Application Support`,
    `%LOCALAPPDATA%`. Not a library's work, since it is needed before any package was installed.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "FoundationSeg"
    variable, usual = "XDG_DATA_HOME", Path.home() / ".local" / "share"
    if sys.platform == "win32":
        variable, usual = "LOCALAPPDATA", Path.home() / "AppData" / "Local"
    chosen = os.environ.get(variable, "").strip()
    return (Path(chosen) if os.path.isabs(chosen) else usual) / "FoundationSeg"


def made(folder: Path) -> Path:
    """The folder, made if need be. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be made ({error.strerror}); make it writable, or set {VARIABLE} to "
            "another one."
        ) from error
    return folder


@contextmanager
def only_one(name: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Lets one process at a time into the block; the system frees the lock of a process that was killed.

    `waiting` is called again and again while another process is inside; it may raise to give up.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(made(home() / "locks") / f"{name}.lock")
    try:
        while True:
            try:
                lock.acquire(timeout=0.2)
                break
            except Timeout:
                if waiting is not None:
                    waiting()
        try:
            yield
        finally:
            lock.release()
    except OSError as error:
        if error.filename != lock.lock_file:
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ModelError(f"The lock {lock.lock_file} cannot be taken ({reason}); make its folder writable.") from error


_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def is_full(error: BaseException) -> bool:
    """Whether a failure says that a disk (or a quota, or the largest file allowed) is full."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NO_SPACE
    # Libraries written in Rust give the number in the text only.
    return any(f"os error {number})" in str(error) for number in _NO_SPACE)


def megabytes(size: int) -> str:
    """A size for people, in units of 10^6 bytes, as the Hub shows them."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
