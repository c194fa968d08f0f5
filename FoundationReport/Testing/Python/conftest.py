# SPDX-License-Identifier: Apache-2.0
"""Lets the tests import the modules' packages from the checkout and run panels in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
for folder in (ROOT / "Testing", ROOT / "FoundationSeg", ROOT / "FoundationReport"):
    sys.path.insert(0, str(folder))

from headless_slicer.plugin import pytest_runtest_protocol  # noqa: E402, F401 - a hook, used by being here
