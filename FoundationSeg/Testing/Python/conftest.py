# SPDX-License-Identifier: Apache-2.0
"""Lets the tests import the modules' packages from the checkout and run panels in processes of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
for folder in (ROOT / "Testing", ROOT / "FoundationSeg"):
    sys.path.insert(0, str(folder))

# No test leaves embeddings in the user's folder, or finds some there.
os.environ["FOUNDATIONSEG_EMBEDDINGS"] = "off"

from headless_slicer.plugin import pytest_runtest_protocol  # noqa: E402, F401 - a hook, used by being here
