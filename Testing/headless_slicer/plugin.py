# SPDX-License-Identifier: Apache-2.0
"""pytest: tests of panels (files named ``test_panel*.py``) run in a process each and under a hard time limit.

The stand-in patches PySide6 for the whole process, and a modal dialog or an event loop that never returns must not take
the other tests with it. PNG files that a test leaves in ``$PANEL_PICTURES`` are artefacts for a person to look at.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TIME_LIMIT_S = 240
_CHILD = "HEADLESS_SLICER_CHILD"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    if item.path.name.startswith("test_panel") and isinstance(item, pytest.Function) and _CHILD not in os.environ:
        item.setup = item.teardown = lambda: None  # type: ignore[method-assign]
        item.runtest = lambda: _run_child(item)  # type: ignore[method-assign]


def _run_child(item: pytest.Item) -> None:
    pictures = Path(os.environ.get("PANEL_PICTURES", item.config.rootpath / "build" / "panels"))
    pictures.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", item.nodeid]
    environment = {**os.environ, _CHILD: "1", "PANEL_PICTURES": str(pictures), "QT_QPA_PLATFORM": "offscreen"}
    try:
        child = subprocess.run(
            command,
            check=False,
            cwd=item.config.rootpath,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"The panel did not finish within {TIME_LIMIT_S} s.", pytrace=False)
    output = child.stdout + child.stderr
    if child.returncode != 0:
        pytest.fail(output, pytrace=False)
    if "1 passed" not in child.stdout:
        pytest.skip(output)
