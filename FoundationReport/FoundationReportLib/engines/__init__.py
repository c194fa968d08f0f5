# SPDX-License-Identifier: Apache-2.0
"""Vision-language models as authors of a report, the least trusted ones.

`load_engine` gives one by name, `with_narrative` asks it. Importing this loads neither torch nor transformers.
"""

from __future__ import annotations

from .base import Engine, Narrative, Said, Watch
from .catalogue import engine_card, engine_cards, load_engine, load_zero_shot
from .narrative import Merged, merge, with_narrative

__all__ = [
    "Engine",
    "Merged",
    "Narrative",
    "Said",
    "Watch",
    "engine_card",
    "engine_cards",
    "load_engine",
    "load_zero_shot",
    "merge",
    "with_narrative",
]
