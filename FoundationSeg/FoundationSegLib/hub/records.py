# SPDX-License-Identifier: Apache-2.0
"""The lock file: which commit and which bytes each model had when it first came to this computer."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..atomic import atomic_output
from ..errors import ModelError
from .home import home, made, only_one

LOCK_FILE = "models.lock.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Pin:
    """What a model's weights were when they first came here; a later download has to give the same.

    Attributes:
        repo, file: on the Hub.
        commit: of the repository.
        sha256, size_bytes: of the published file.
        first: UTC time.
        origin: "hub", or "bundle" where it was imported.
    """

    repo: str
    file: str
    commit: str
    sha256: str
    size_bytes: int
    first: str
    origin: str

    @classmethod
    def checked(cls, entry: dict[str, Any]) -> Pin:
        """A pin that was read from a file: its parts become places in folders, so none is taken as it comes.

        Raises TypeError or ValueError.
        """
        found = cls(**entry)
        if not (_SHA256.fullmatch(found.sha256) and _COMMIT.fullmatch(found.commit)):
            raise ValueError("a checksum or a commit is malformed")
        if not isinstance(found.size_bytes, int):
            raise TypeError("a size is no number")
        return found


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def lock_file() -> Path:
    return home() / LOCK_FILE


def pins() -> dict[str, Pin]:
    """By model name. Raises ModelError if the lock file is damaged, since going on would drop what it enforces."""
    data = read_json(lock_file(), {"version": 1, "models": {}})
    try:
        return {name: Pin.checked(entry) for name, entry in data["models"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(lock_file()) from error


def pin(name: str, entry: Pin) -> None:
    """Adds a model's pin; one that is there stays."""
    with only_one("records"):
        entries = {known: asdict(value) for known, value in pins().items()}
        if name not in entries:
            entries[name] = asdict(entry)
            write_json(lock_file(), {"version": 1, "models": entries})


def read_json(path: Path, default: Any) -> Any:
    """The contents of one of our own files; `default` where it does not exist."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise _damaged(path) from error


def write_json(path: Path, data: Any) -> None:
    """Writes one of our own files, atomically. Raises OutputError."""
    made(path.parent)
    with atomic_output(path) as file:
        file.write((json.dumps(data, indent=2, sort_keys=True) + "\n").encode())


def _damaged(path: Path) -> ModelError:
    return ModelError(f"The file {path} cannot be read or is damaged; restore it, or delete it to begin anew.")
