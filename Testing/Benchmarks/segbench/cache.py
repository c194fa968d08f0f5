# SPDX-License-Identifier: Apache-2.0
"""Rows of the peers from earlier runs, so that a repeated run measures only what changed.

One JSON file per row, named by the digest of everything that decides it: the data (checksums of the files, the voxels
as they were read), the target, the prompts' rules, the method's settings, the benchmark's code and the versions of the
packages. The project's own models are never cached. Nothing is read unless a folder is named.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .environment import code_digest, versions

# What a peer's row is computed by; which rows are wanted (cases, methods) is in the key itself.
_CODE = ("baselines", "clicks", "metrics", "regions", "simulate", "strokes")


class Cache:
    """A folder of measured rows; with `folder=None` it holds nothing and keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._fixed: dict[str, Any] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            here = Path(__file__).parent
            self._fixed = {
                "code": code_digest(here / f"{name}.py" for name in _CODE),
                "versions": {name: version for name, version in versions().items() if name != "onnxruntime"},
            }

    def _path(self, key: dict[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        text = json.dumps({**self._fixed, **key}, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"

    def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The row measured under this key, None when there is none."""
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return row

    def put(self, key: dict[str, Any], row: dict[str, Any]) -> None:
        """Keep a row; a killed run leaves no half-written file."""
        path = self._path(key)
        if path is None:
            return
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(row), encoding="utf-8")
        draft.replace(path)
