# SPDX-License-Identifier: Apache-2.0
"""The process of a job that knows the tests' tiny family: `python job_case.py CARDS -m FoundationSegLib.hub.jobs`.

With NO_TORCH in the environment it is one in which PyTorch and what comes with it are not installed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from FoundationSegLib.hub.jobs import JobSettings
from tiny_family import install

ABSENT = ("torch", "safetensors", "huggingface_hub", "filelock", "transformers", "monai")


def settings(cards: Path, environment: dict[str, str], **more: Any) -> JobSettings:
    """Starts jobs here, with the cards of a folder and the environment of a `hub_case`."""
    return JobSettings(python=(sys.executable, __file__, str(cards)), environment=environment, **more)


def hide(names: tuple[str, ...]) -> None:
    """Makes packages as absent as on a computer that has none of them."""
    real = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: None if name in names else real(name, package)  # type: ignore
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # None: importing it fails


if __name__ == "__main__":
    if os.environ.get("NO_TORCH"):
        hide(ABSENT)
    install(Path(sys.argv[1]))
    from FoundationSegLib.hub.jobs.serve import main

    main()
