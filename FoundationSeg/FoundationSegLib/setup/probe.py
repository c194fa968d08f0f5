# SPDX-License-Identifier: Apache-2.0
"""Whether installed packages can be loaded: tried in a process of its own, since a library can crash its user."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from ..worker.settings import WorkerSettings, default_python

_CODE = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        sys.exit(f"{name}: {type(error).__name__}: {error}")
"""


class Probe:
    """Imports modules in another process; `poll` says how that went, without waiting."""

    def __init__(self, modules: Sequence[str], python: Sequence[str] | None = None, limit_s: float = 120.0) -> None:
        """Raises WorkerError if no interpreter is known; OSError if it cannot be started."""
        command = [*([default_python()] if python is None else python), "-c", _CODE, *modules]
        options: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.DEVNULL)
        if sys.platform == "win32":
            options["creationflags"] = subprocess.CREATE_NO_WINDOW
        environment = WorkerSettings().variables()
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            command, stderr=subprocess.PIPE, env=environment, **options
        )
        self._until = time.monotonic() + limit_s

    def poll(self) -> str | None:
        """None while it runs; then "" if all is well, else what went wrong (the last line that was said)."""
        status = self._process.poll()
        if status is None:
            if time.monotonic() > self._until:
                self.kill()
                return "loading them took too long"
            return None
        assert self._process.stderr is not None, "it was asked for"
        with self._process.stderr as pipe:
            said = [] if pipe.closed else pipe.read().decode("utf-8", "replace").strip().splitlines()
        if status == 0:
            return ""
        return said[-1][:200] if said else f"the test ended with status {status}"

    def kill(self) -> None:
        """Ends the process; `poll` is of no more use."""
        self._process.kill()
        self._process.wait(5.0)
        if self._process.stderr is not None:
            self._process.stderr.close()
