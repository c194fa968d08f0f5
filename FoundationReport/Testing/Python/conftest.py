# SPDX-License-Identifier: Apache-2.0
"""Lets the tests import the modules' packages from the checkout and run panels in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
for folder in (ROOT / "Testing", ROOT / "FoundationSeg", ROOT / "FoundationReport"):
    sys.path.insert(0, str(folder))
sys.path.append(str(ROOT / "FoundationSeg" / "Testing" / "Python"))  # the Hub on loopback

from headless_slicer.plugin import pytest_runtest_protocol  # noqa: E402, F401 - a hook, used by being here


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small trained vision-language model; it is trained once, in some ten seconds."""
    pytest.importorskip("transformers")
    import tiny_vlm

    return tiny_vlm.trained(tmp_path_factory.mktemp("tiny_gemma"))
