# SPDX-License-Identifier: Apache-2.0
"""Our own folder of weights: safetensors, each with a note that says what it was made from and which bytes it has."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..predictor import CancelToken, Progress
from .home import home, is_full, made
from .records import now, read_json, write_json
from .transfer import sha256_of

if TYPE_CHECKING:
    import torch

# Raised when converting the same file would give other bytes, so that what was kept is made anew.
CONVERSION = 1

# Files whose bytes this process has compared: path, checksum, size, time of change, inode.
_checked: set[tuple[Path, str, int, int, int]] = set()


@dataclass(frozen=True)
class Kept:
    """The note beside a safetensors file.

    Attributes:
        source_sha256: of the file that was published, or that the user gave.
        sha256, size_bytes: of the safetensors file.
        family: whose network the tensors are named after.
        revision: the commit that the source came from; "file" for a user's own.
        conversion: CONVERSION when it was made.
        made: UTC time.
    """

    source_sha256: str
    sha256: str
    size_bytes: int
    family: str
    revision: str
    conversion: int
    made: str


def place(family: str, source_sha256: str) -> Path:
    """Where the safetensors file for a source lies; its note is beside it, with .json added."""
    return home() / "weights" / f"{family}-{source_sha256}.safetensors"


def note_of(path: Path) -> Kept | None:
    """The note of a safetensors file; None where there is none, or one of an earlier conversion."""
    data = read_json(_note_path(path), None)
    if data is None or not path.is_file():
        return None
    try:
        kept = Kept(**data)
    except TypeError as error:
        raise ModelError(
            f"The note {_note_path(path)} is damaged; delete it, and the model is made ready anew."
        ) from error
    return kept if kept.conversion == CONVERSION else None


def check(
    path: Path, kept: Kept, progress: Progress | None = None, cancel: CancelToken | None = None, again: bool = False
) -> None:
    """Raises ModelError if the file's bytes are not those that were kept. Reads it only once, if it stays as it was."""
    state = path.stat()
    seen = (path, kept.sha256, state.st_size, state.st_mtime_ns, state.st_ino)
    if seen in _checked and not again:
        return
    if state.st_size != kept.size_bytes or sha256_of(path, progress, cancel) != kept.sha256:
        raise ModelError(
            f"The weights {path} were changed or damaged since they were made ready (wrong checksum), so they are "
            "not used; delete that file, and the next use makes it anew."
        )
    _checked.add(seen)


def keep(state: dict[str, torch.Tensor], family: str, source_sha256: str, revision: str) -> tuple[Path, Kept]:
    """Writes tensors as the safetensors file for a source; a reader sees all of it or nothing. Raises ModelError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = place(family, source_sha256)
    temporary = made(target.parent) / f".{target.name}.{secrets.token_hex(4)}.tmp"
    try:
        save_file(state, temporary, metadata={"format": "pt", "source_sha256": source_sha256, "family": family})
        return _adopt(temporary, target, Kept(source_sha256, "", 0, family, revision, CONVERSION, now()))
    except (OSError, SafetensorError) as error:
        raise _not_written(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def keep_file(source: Path, kept: Kept) -> Path:
    """Copies a safetensors file of a bundle, whose bytes have to be those of its note. Raises ModelError."""
    target = place(kept.family, kept.source_sha256)
    temporary = made(target.parent) / f".{target.name}.{secrets.token_hex(4)}.tmp"
    try:
        shutil.copyfile(source, temporary)
        check(temporary, kept)
        return _adopt(temporary, target, kept)[0]
    except OSError as error:
        raise _not_written(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove(path: Path) -> int:
    """Deletes a file and its note; the number of bytes freed."""
    size = path.stat().st_size if path.is_file() else 0
    _note_path(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    return size


def _adopt(temporary: Path, target: Path, kept: Kept) -> tuple[Path, Kept]:
    """Gives a finished file its name, then writes its note, which is what makes it count."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    digest, size = sha256_of(temporary), temporary.stat().st_size
    kept = Kept(**{**asdict(kept), "sha256": digest, "size_bytes": size})
    _note_path(target).unlink(missing_ok=True)
    os.replace(temporary, target)
    write_json(_note_path(target), asdict(kept))
    shutil.copymode(_note_path(target), target)  # safetensors writes for the user alone, whatever the umask says
    return target, kept


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _not_written(target: Path, error: Exception) -> ModelError:
    if is_full(error):
        return ModelError(f"The disk that holds {target.parent} is full; free some space and try again.")
    reason = getattr(error, "strerror", None) or type(error).__name__
    return ModelError(f"The weights could not be written to {target.parent} ({reason}); make that folder writable.")
