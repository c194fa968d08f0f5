# SPDX-License-Identifier: Apache-2.0
"""The controller behind the panel: a volume, its segments and their prompts, kept in step with a worker process.

No Qt is here. The panel gives it a beat: a timer calls :meth:`LiveSegmentation.poll` while :attr:`busy` says so.
Whatever a person does goes through the scene (markups are placed, moved, removed), and the result follows.

    live = LiveSegmentation(parameters)                  # scene.parameters.FoundationSegParameters
    live.observe(Event.STATUS, showStatus)               # called without arguments, always from the thread of `poll`
    live.observe(Event.WORK, startTimer)
    live.promptNode(positive=True).AddControlPointWorld(...)   # a click: the prediction starts by itself
    while live.busy: live.poll()                         # the panel's timer
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

# Attributes of the markups nodes that are prompts. They are saved with the scene.
POSITIVE_ATTRIBUTE = "FoundationSeg.Positive"  # "1" or "0"; a point's description "positive"/"negative" overrules it
SEGMENT_ATTRIBUTE = "FoundationSeg.SegmentID"  # the segment that the prompt is for
SEGMENTATION_ROLE = "FoundationSeg.segmentation"  # node reference: the segmentation that has this segment


class State(Enum):
    """What the controller is doing."""

    EMPTY = "empty"  # no usable volume is chosen: `status.message` says what is missing
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
        stage: name of the stage of the prediction ("start", "open", "crop", "encode", "decode", ...); "" when none.
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


class LiveSegmentation:
    """Keeps the current segment equal to what the model makes of its prompts, without ever waiting for the model."""

    def __init__(self, parameters: Any, settings: Any = None) -> None:
        """`parameters` is a scene.parameters.FoundationSegParameters, `settings` a worker.WorkerSettings or None."""
        raise NotImplementedError

    # --- what is chosen (all of it is kept in the scene's parameter node) ---

    @property
    def volumeNode(self) -> Any:
        """The volume to segment, or None."""
        raise NotImplementedError

    @property
    def segmentationNode(self) -> Any:
        """Where segments go, or None before the first one."""
        raise NotImplementedError

    @property
    def segmentId(self) -> str:
        """The current segment; "" where there is none."""
        raise NotImplementedError

    @property
    def positive(self) -> bool:
        """The sign of the next prompt. Assigning to it invokes Event.PROMPTS."""
        raise NotImplementedError

    @positive.setter
    def positive(self, positive: bool) -> None:
        raise NotImplementedError

    def setModel(self, name: str, checkpoint: Any = None, device: str = "auto") -> None:
        """From now on predict with this model of the catalogue, or with weights of the user's (`checkpoint`, a path).

        Raises ModelError for an unknown name. The segments that there are stay as they are.
        """
        raise NotImplementedError

    # --- prompts: ordinary markups of the scene ---

    def promptNode(self, positive: bool) -> Any:
        """The vtkMRMLMarkupsFiducialNode that collects the current segment's points of this sign; made where missing.

        Makes the segmentation and a first segment where they do not exist yet.

        Raises:
            FoundationSegError: when no prompt can be given now (no volume, ...), as a sentence for the user.
        """
        raise NotImplementedError

    def newPrompt(self, className: str, positive: bool) -> Any:
        """A new, empty markups node that will be one prompt of the current segment, held (see :meth:`hold`).

        `className` is "vtkMRMLMarkupsROINode" (box), "vtkMRMLMarkupsCurveNode" (scribble) or
        "vtkMRMLMarkupsClosedCurveNode" (lasso). Fill it, then call :meth:`release`; or remove it from the scene.
        Raises as :meth:`promptNode`.
        """
        raise NotImplementedError

    def hold(self, markupsNode: Any) -> None:
        """The person is still at work on this node: it counts as it was before (not at all, if it is new)."""
        raise NotImplementedError

    def release(self, markupsNode: Any) -> None:
        """The node is complete now: the result follows."""
        raise NotImplementedError

    def promptNodes(self) -> list[Any]:
        """The markups nodes that are prompts of the current segment, held ones included, in the scene's order."""
        raise NotImplementedError

    # --- segments ---

    def newSegment(self, name: str = "") -> str:
        """Adds an empty segment, with terminology and colour where the name is known, and makes it the current one.

        Returns its ID. Raises as :meth:`promptNode`.
        """
        raise NotImplementedError

    def selectSegment(self, segmentId: str) -> None:
        """Makes another segment the current one; the markups of the others are hidden, not removed."""
        raise NotImplementedError

    # --- work ---

    @property
    def status(self) -> Status:
        """As it is now."""
        raise NotImplementedError

    @property
    def busy(self) -> bool:
        """Whether :meth:`poll` has to be called."""
        raise NotImplementedError

    def poll(self) -> None:
        """Takes what has come from the worker and calls observers back. Returns at once."""
        raise NotImplementedError

    def update(self) -> None:
        """Predict now what is not predicted yet: with automatic update off, or after a cancelled or failed one."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Stops what is under way; the segment and its prompts stay as they are."""
        raise NotImplementedError

    def undo(self) -> None:
        """Takes back the last prompt that has no result yet, else the last step of the editing history."""
        raise NotImplementedError

    def redo(self) -> None:
        """Brings back what was undone last: voxels, and the markups of the prompts."""
        raise NotImplementedError

    def replay(self) -> None:
        """Makes the current segment anew from the prompts that are stored with it, as one undoable step."""
        raise NotImplementedError

    def prefetch(self, ras: tuple[float, float, float]) -> None:
        """Has an idle worker look at what a click at `ras` (world mm) would make it look at."""
        raise NotImplementedError

    def observe(self, event: Event, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back without arguments on `event`. Returns a function that ends this."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the worker and lets go of the scene; prompts and segments stay."""
        raise NotImplementedError
