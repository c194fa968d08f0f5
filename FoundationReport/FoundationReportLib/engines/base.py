# SPDX-License-Identifier: Apache-2.0
"""What every engine is asked and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from FoundationSegLib.predictor import CancelToken, Progress
from FoundationSegLib.volume import Volume

from ..errors import Cancelled
from ..model import ClinicalContext, Facts, ModelInfo
from .parse import Rejected
from .prompts import Question

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Watch:
    """Whom an engine tells how far it is, and who may stop it: all optional.

    Attributes:
        cancel: looked at between stages and at every token.
        on_token: is given each piece of text as the model writes it. It is raw: only what `narrate` returns was parsed.
        progress: told the stage ("load", "pictures", "write"; of suggestions "compare") and a fraction in [0, 1].
    """

    cancel: CancelToken | None = None
    on_token: Callable[[str], None] | None = None
    progress: Progress | None = None

    def at(self, stage: str, fraction: float) -> None:
        """Raises Cancelled if somebody asked for it; else tells of the progress."""
        self.check()
        if self.progress is not None:
            self.progress(stage, fraction)

    def check(self) -> None:
        if self.cancel is not None and self.cancel.cancelled:
            raise Cancelled("The model was stopped; the report is as it was.")


@dataclass(frozen=True)
class Said:
    """One sentence of a model.

    Attributes:
        question: that it answers.
        agreement: (k, n): k of n samples say the same; None where none were drawn.
    """

    question: Question
    text: str
    agreement: tuple[int, int] | None = None


@dataclass(frozen=True)
class Narrative:
    """What a model said of a study, parsed but not checked.

    Attributes:
        said: in the order of the questions; possibly empty, where it had nothing to add.
        model: which, from what.
        rejected: what was left out of its answers, and why.
        disagreements: sentences of further samples that say the opposite of one in `said`.
        answered: whether it gave any answer that could be used, "none" included.
    """

    said: tuple[Said, ...]
    model: ModelInfo
    rejected: tuple[Rejected, ...] = ()
    disagreements: tuple[str, ...] = ()
    answered: bool = True


class Engine(Protocol):
    """A vision-language model that can be asked about a volume."""

    @property
    def name(self) -> str:
        """The card's name."""

    def narrate(
        self,
        facts: Facts,
        volume: Volume,
        context: ClinicalContext | None,
        questions: Sequence[Question],
        masks: Sequence[BoolArray] = (),
        watch: Watch | None = None,
    ) -> Narrative:
        """What the model adds to the facts, question by question.

        `masks` are the segments, bool (k, j, i) of the volume's shape; their key slices are among those shown.

        Raises:
            EngineError: no weights, no memory, nothing usable.
            Cancelled: nothing was changed.
        """
