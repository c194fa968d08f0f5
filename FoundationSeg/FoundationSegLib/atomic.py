# SPDX-License-Identifier: Apache-2.0
"""Writing a file so that a reader sees the old one or the whole new one, never half of it."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import OutputError

_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def atomic_output(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well, and vanishes when it does not.

    It is written beside the target (a rename across file systems would not be atomic), flushed to the disk, then
    renamed. A symbolic link is followed: the file that it points to is replaced, not the link.

    Raises:
        OutputError: if the file cannot be written; what was at `path` is untouched.
    """
    target = Path(os.path.realpath(path))
    # Not tempfile.mkstemp: its 0600 mode would stay on the result, whatever the user's umask says.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(_message(path, error)) from error
    finally:
        # After the rename nothing is left to remove; a file system that went away cannot be cleaned.
        with suppress(OSError):
            temporary.unlink()


def _message(path: str | os.PathLike[str], error: OSError) -> str:
    if error.errno in _NO_SPACE:
        reason, advice = "there is not enough space left", "free some space or choose another folder"
    elif error.errno in _NOT_ALLOWED:
        reason, advice = "the folder or file is not writable", "choose another folder"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        reason, advice = "its folder does not exist", "create the folder or choose another one"
    elif error.errno == errno.EISDIR:
        reason, advice = "it is a folder", "give a file name"
    else:
        reason, advice = (error.strerror or type(error).__name__).lower(), "choose another place"
    return f"Could not write {os.fspath(path)} because {reason}; {advice}."
