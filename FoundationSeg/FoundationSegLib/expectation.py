# SPDX-License-Identifier: Apache-2.0
"""How long a prediction will take: from what it took before on this computer, or, the first time, from a rough rule.

What is kept: name of the model, device, and seconds. Nothing of an image or of a person.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from .atomic import atomic_output
from .catalogue import model_card
from .errors import FoundationSegError

# Without experience: starting an interpreter and its libraries, and reading weights from a disk that was not read yet.
_START_S = 3.0
_READ_BYTES_PER_S = 150e6
_WEIGHT = 0.5  # of the newest measurement


@dataclass
class Expectation:
    """Seconds of predictions by model and device; `path` keeps them for the next time."""

    path: Path | None = None
    _seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None:
            return
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self._seconds = {str(k): float(v) for k, v in found.items() if 0 < float(v) < 1e5}
        except (OSError, ValueError, AttributeError, TypeError):
            self._seconds = {}  # never written, or damaged: it is made anew from the next measurement on

    def seconds(self, model: str, device: str, first: bool) -> float | None:
        """What to expect of a prediction; `first`: a worker has to start and load the model before."""
        known = self._seconds.get(_name(model, device, first))
        if known is not None or not first:
            return known
        try:
            size = model_card(model).size_bytes or 0
        except FoundationSegError:
            size = 0
        return _START_S + size / _READ_BYTES_PER_S

    def learn(self, model: str, device: str, first: bool, seconds: float) -> None:
        """A prediction has taken so long. What cannot be kept on disk is kept in memory."""
        name = _name(model, device, first)
        before = self._seconds.get(name, seconds)
        self._seconds[name] = round(before + _WEIGHT * (seconds - before), 3)
        if self.path is not None and first:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_output(self.path) as file:
                    file.write(json.dumps(self._seconds, sort_keys=True).encode())
            except (OSError, FoundationSegError):
                self.path = None  # a read-only home: no reason to trouble anybody


def default_path() -> Path:
    """In the folder that the package keeps its downloads in."""
    from .hub.home import home

    return home() / "timings.json"


def _name(model: str, device: str, first: bool) -> str:
    return f"{os.path.basename(model)} {device} {'first' if first else 'next'}"
