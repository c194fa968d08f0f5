# SPDX-License-Identifier: Apache-2.0
"""Lets the tests import the modules' packages from the checkout and run panels in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent
for folder in (ROOT / "Testing", ROOT / "FoundationSeg"):
    sys.path.insert(0, str(folder))

pytest_plugins = ["headless_slicer.plugin"]
