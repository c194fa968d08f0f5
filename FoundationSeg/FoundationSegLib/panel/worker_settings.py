# SPDX-License-Identifier: Apache-2.0
"""How the user wants the worker process to be run; kept in the application's settings, group FoundationSeg."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..worker import WorkerSettings

PYTHON = "FoundationSeg/WorkerPython"  # path of an interpreter; without it, Slicer's own
THREADS = "FoundationSeg/WorkerThreads"  # of numerical libraries; without it, one per core
MEMORY_GB = "FoundationSeg/WorkerMemoryGB"  # the most that the worker may take; without it, no limit


def workerSettings() -> WorkerSettings:
    """The settings; what is not set, or makes no sense, is left to the worker's own defaults."""
    settings = qt.QSettings()
    python = str(settings.value(PYTHON) or "")
    threads, memory = _number(settings.value(THREADS)), _number(settings.value(MEMORY_GB))
    # An interpreter of one's own must not find Slicer's libraries, for which the application has set its environment.
    foreign = python and hasattr(slicer.util, "startupEnvironment")
    return WorkerSettings(
        python=python or None,
        environment=slicer.util.startupEnvironment() if foreign else None,
        threads=int(threads) if threads else None,
        memory_bytes=int(memory * 2**30) if memory else None,
    )


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None
