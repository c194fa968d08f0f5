# SPDX-License-Identifier: Apache-2.0
"""Unpacking an archive that nobody vouches for."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from ..errors import VolumeError

MAX_MEMBERS = 100_000
MAX_BYTES = 32 << 30
# Real images compress by less than 20; a smaller archive may expand to the second figure at any ratio.
MAX_RATIO = 100
_ANY_RATIO_BYTES = 256 << 20
_HEAD_BYTES = 256
_CHUNK_BYTES = 1 << 20


def is_zip(head: bytes) -> bool:
    """Whether bytes begin a zip archive (an empty one too)."""
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def extract_zip(archive: Path, folder: Path, accept: Callable[[bytes], bool]) -> int:
    """Write the members whose first bytes are accepted into `folder`; returns how many.

    They become plain files with a number for a name, since a member's own name could lead out of the folder or name a
    patient.

    Raises:
        VolumeError: if the archive is damaged, encrypted, or expands beyond reason.
    """
    count = 0
    try:
        with zipfile.ZipFile(archive) as source:
            members = [info for info in source.infolist() if not info.is_dir()]
            if len(members) > MAX_MEMBERS:
                raise VolumeError(f"The zip has more than {MAX_MEMBERS} files; unpack it yourself and name the folder.")
            budget = min(MAX_BYTES, max(MAX_RATIO * os.path.getsize(archive), _ANY_RATIO_BYTES))
            for info in members:
                if info.flag_bits & 1:
                    raise VolumeError("The zip is encrypted; unpack it yourself and name the folder.")
                written = _extract_member(source, info, folder / f"{count:06d}", accept, budget)
                budget -= written
                count += written > 0
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise VolumeError(
            "The zip is damaged or of an unsupported kind; copy it again or unpack it yourself."
        ) from error
    except OSError as error:
        reason = (error.strerror or "input error").lower()
        raise VolumeError(
            f"The zip could not be unpacked ({reason}); unpack it yourself and name the folder."
        ) from error
    return count


def _extract_member(
    source: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, accept: Callable[[bytes], bool], budget: int
) -> int:
    """Bytes written; the declared size is not believed, they are counted as they come."""
    with source.open(info) as member:
        chunk = member.read(_HEAD_BYTES)
        if not accept(chunk):
            return 0
        written = 0
        with target.open("xb") as file:
            while chunk:
                written += len(chunk)
                if written > budget:
                    raise VolumeError(
                        "The zip expands to more than is reasonable; unpack it yourself and name the folder."
                    )
                file.write(chunk)
                chunk = member.read(_CHUNK_BYTES)
        return written
