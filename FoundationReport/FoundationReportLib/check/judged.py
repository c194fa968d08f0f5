# SPDX-License-Identifier: Apache-2.0
"""The answer to one claim."""

from __future__ import annotations

from dataclasses import dataclass, field

from .agreement import Outcome
from .world import Thing


@dataclass
class Judged:
    """A claim's outcome and the things that it was about."""

    outcome: Outcome
    things: list[Thing] = field(default_factory=list)
