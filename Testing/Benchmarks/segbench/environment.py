# SPDX-License-Identifier: Apache-2.0
"""What a result file says about where it came from: commit, versions, processor. No host names, no paths."""

from __future__ import annotations

import ast
import datetime
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = (
    "numpy",
    "scipy",
    "scikit-image",
    "SimpleITK",
    "connected-components-3d",
    "onnxruntime",
    "slicer-core",
    "vtk",
)


def versions() -> dict[str, str]:
    """Versions of Python and of every package that can change a figure; "absent" where one is not installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def describe() -> dict[str, Any]:
    """Date, commit, versions, processor and thread settings."""
    processor = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "versions": versions(),
        "system": platform.system(),
        "processor": processor,
        "cores": os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }


def code_digest(files: Iterable[Path]) -> str:
    """Digest of what the files do: comments, docstrings and layout do not enter it."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda file: file.name):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                value = body[0].value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    value.value = ""
        digest.update(f"{path.name}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()
