# SPDX-License-Identifier: Apache-2.0
"""What the controller says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What the controller is doing."""

    EMPTY = "empty"  # nothing can be segmented: `Status.message` says what is missing
    READY = "ready"  # waits for prompts
    RUNNING = "running"  # a prediction is under way
    CANCELLING = "cancelling"  # it was cancelled and has not ended yet (200 ms at most)


class Event(Enum):
    """What observers can wait for; see :meth:`LiveSegmentation.observe`."""

    STATUS = "status"  # `status` is another one
    RESULT = "result"  # the current segment's voxels, quality or warnings have changed
    PROMPTS = "prompts"  # prompts were added, removed or moved, or another segment or sign was chosen
    WORK = "work"  # `busy` became True: call `poll` from now on, every 20 to 30 ms


@dataclass(frozen=True)
class Status:
    """What a person should see of the work at this moment.

    Attributes:
        message: one sentence (an error, a result, what to do next); "" where there is nothing to say.
        isError: the message says that something failed; the segment is as it was.
        stage: name of the stage of the prediction ("volume", "start", "crop", "encode", "decode", ...); "" when none.
        fraction: progress in [0, 1], or None where it is not known.
        elapsed: seconds since the prediction was asked for; 0 when none is under way.
        expected: seconds that it is expected to take in all, or None where there is no experience yet.
    """

    state: State
    message: str = ""
    isError: bool = False
    stage: str = ""
    fraction: float | None = None
    elapsed: float = 0.0
    expected: float | None = None
