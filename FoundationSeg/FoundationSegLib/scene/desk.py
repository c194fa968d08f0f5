# SPDX-License-Identifier: Apache-2.0
"""What lies on the table of a live segmentation: a volume, segments, and markups that are their prompts."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from .. import mrml
from ..catalogue import model_card
from ..errors import PromptError, VolumeError
from ..prompts import Prompt, TextPrompt
from . import prompt_nodes
from .history import EditingHistory, FindEditor
from .parameters import FoundationSegParameters
from .rounds import Key, entries_of, follow, pending_keys, rounds_of
from .segment_books import SegmentBooks
from .segment_state import ModelChoice, SegmentState
from .status import Event


class Desk(ABC):
    """Choices and prompts; what is made of them is LiveSegmentation's business."""

    def __init__(self, parameters: FoundationSegParameters, findEditor: FindEditor | None) -> None:
        self.parameters = parameters
        self._scene = parameters.node.GetScene()
        self._history = EditingHistory(findEditor)
        self._books = SegmentBooks()
        self._observers: dict[Event, list[Callable[[], None]]] = {event: [] for event in Event}
        self._held: set[str] = set()
        self._dragged: set[str] = set()
        self._message, self._isError = "", False
        self._device = ""
        self._blocked = ""
        self._promptsChanged = self._segmentsChanged = self._look = True
        self._working = self._closed = False

    def observe(self, event: Event, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back without arguments on `event`. Returns a function that ends this."""
        self._observers[event].append(callback)

        def end() -> None:
            if callback in self._observers[event]:
                self._observers[event].remove(callback)

        return end

    # --- what is chosen (all of it is kept in the scene's parameter node) ---

    @property
    def volumeNode(self) -> Any:
        """The volume to segment, or None."""
        return self.parameters.volume

    @property
    def segmentationNode(self) -> Any:
        """Where segments go, or None before the first one."""
        return self.parameters.segmentation

    @property
    def segmentId(self) -> str:
        """The current segment; "" where there is none."""
        node, segmentId = self.segmentationNode, self.parameters.segmentId
        known = node is not None and segmentId and node.GetSegmentation().GetSegment(segmentId) is not None
        return segmentId if known else ""

    @property
    def positive(self) -> bool:
        """The sign of the next prompt. Assigning to it invokes Event.PROMPTS."""
        return self.parameters.positive

    @positive.setter
    def positive(self, positive: bool) -> None:
        if positive != self.parameters.positive:
            self.parameters.positive = positive
            self._invoke(Event.PROMPTS)

    @property
    def choice(self) -> ModelChoice:
        """The model that the next prediction is made with."""
        checkpoint = self.parameters.checkpoint
        return ModelChoice(self.parameters.model, Path(checkpoint) if checkpoint else None, self.parameters.device)

    @property
    def device(self) -> str:
        """The device that the model runs on, as the worker says; "" before the first prediction."""
        return self._device

    def setBlocked(self, reason: str) -> None:
        """Nothing can be segmented until this is called again with "": packages are missing. `reason` is a sentence."""
        if reason != self._blocked:
            self._blocked = reason
            self._refresh()

    def setVolume(self, node: Any) -> None:
        """Work on another volume; a segmentation that cannot be edited on its grid is let go of."""
        if node is not self.volumeNode:
            self._interrupt()
            self.parameters.volume = node
            target = self.segmentationNode
            if target is not None and node is not None and not mrml.fitsGrid(target, node):
                self.parameters.segmentation, self.parameters.segmentId = None, ""
            self._changedChoice()

    def setSegmentation(self, node: Any) -> None:
        """Work on the segments of another node; None: the next prompt makes a new one."""
        if node is not self.segmentationNode:
            self._interrupt()
            self.parameters.segmentation = node
            self.parameters.segmentId = ""
            self._changedChoice()

    def setModel(self, name: str, checkpoint: str | os.PathLike[str] | None = None, device: str = "auto") -> None:
        """From now on predict with this model of the catalogue, or with weights of the user's (`checkpoint`, a path).

        Raises ModelError for an unknown name. The segments that there are stay as they are.
        """
        if ":" not in name:
            model_card(name)
        self._interrupt()
        self.parameters.model, self.parameters.device = name, device
        self.parameters.checkpoint = "" if checkpoint is None else os.fspath(checkpoint)
        self._device = ""
        self._changedChoice()

    def setDevice(self, device: str) -> None:
        """From now on predict there: "auto", "cpu", "cuda". The next prediction says if that is not possible."""
        if device != self.parameters.device:
            self._interrupt()
            self.parameters.device, self._device = device, ""
            self._changedChoice()

    # --- prompts: ordinary markups of the scene ---

    def promptNode(self, positive: bool) -> Any:
        """The vtkMRMLMarkupsFiducialNode that collects the current segment's points of this sign; made where missing.

        Makes the segmentation and a first segment where they do not exist yet.

        Raises:
            FoundationSegError: when no prompt can be given now (no volume, ...), as a sentence for the user.
        """
        self._requireSegment()
        self.warm()
        return prompt_nodes.pointsNode(self.segmentationNode, self.segmentId, positive)

    def newPrompt(self, className: str, positive: bool) -> Any:
        """A new, empty markups node that will be one prompt of the current segment, held (see :meth:`hold`).

        `className` is "vtkMRMLMarkupsROINode" (box), "vtkMRMLMarkupsCurveNode" (scribble) or
        "vtkMRMLMarkupsClosedCurveNode" (lasso). Fill it, then call :meth:`release`; or remove it from the scene.
        Raises as :meth:`promptNode`.
        """
        self._requireSegment()
        self.warm()
        node = prompt_nodes.newPromptNode(className, self.segmentationNode, self.segmentId, positive)
        self.hold(node)
        return node

    @property
    def name(self) -> str:
        """What the structure of the current segment is called, for models that know names; "" where nothing is said."""
        node = prompt_nodes.nameNode(self.segmentationNode, self.segmentId) if self.segmentId else None
        return "" if node is None else (node.GetText() or "").strip()

    def setName(self, name: str) -> None:
        """Say what the structure of the current segment is called, as a prompt; an earlier name is replaced.

        A segment whose name is only a number is called so, too. Raises as :meth:`promptNode`, and PromptError without
        a name.
        """
        name = TextPrompt(name).text.strip()
        self._requireSegment()
        self.warm()
        node = prompt_nodes.nameNode(self.segmentationNode, self.segmentId)
        if node is None:
            prompt_nodes.addMarkup(TextPrompt(name), self.segmentationNode, self.segmentId)
        elif node.GetText() != name:
            node.SetText(name)
        segment = self.segmentationNode.GetSegmentation().GetSegment(self.segmentId)
        if re.fullmatch(re.escape(_("Segment {number}")).replace(re.escape("{number}"), r"\d+"), segment.GetName()):
            segment.SetName(name[0].upper() + name[1:])
            mrml.applyTerm(self.segmentationNode, self.segmentId)

    def hold(self, markupsNode: Any) -> None:
        """The person is still at work on this node: it counts as it was before (not at all, if it is new)."""
        self._held.add(markupsNode.GetID())

    def release(self, markupsNode: Any) -> None:
        """The node is complete now: the result follows."""
        self._held.discard(markupsNode.GetID())
        self._onPromptsChanged()

    def promptNodes(self) -> list[Any]:
        """The nodes that are prompts of the current segment, held ones included, in the scene's order."""
        return prompt_nodes.promptNodes(self.segmentationNode, self.segmentId) if self.segmentId else []

    def prompts(self) -> list[tuple[Key, Prompt, bool]]:
        """The current segment's prompts in the scene's order: key, prompt, and whether the result follows it yet."""
        if not self.segmentId:
            return []
        present = self._present()[0]
        waiting = set(pending_keys(self._state().book, present))
        return [(key, prompt, key not in waiting) for key, prompt in present.items()]

    @property
    def outdated(self) -> bool:
        """Whether prompts of the current segment were added, moved or removed since its last result."""
        if not self.segmentId:
            return False
        book = self._state().book
        return rounds_of(follow(book, self._present()[0])) != rounds_of(book)

    def removePrompt(self, key: Key) -> None:
        """Remove one prompt's markup; the result follows."""
        prompt_nodes.removeMarkup(key)

    # --- segments ---

    def newSegment(self, name: str = "") -> str:
        """Adds an empty segment, with terminology and colour where the name is known, and makes it the current one.

        Returns its ID. Raises as :meth:`promptNode`.
        """
        problem = self.problem()
        if problem:
            raise PromptError(problem)
        if self.segmentationNode is None:
            self.parameters.segmentation = mrml.createSegmentation(self.volumeNode)
        node = self.segmentationNode
        self._history.save(node)
        segmentId = mrml.addSegment(node, name.strip() or self._freeName(node))
        self.selectSegment(segmentId)
        return segmentId

    def selectSegment(self, segmentId: str) -> None:
        """Makes another segment the current one; the markups of the others are hidden, not removed."""
        if segmentId != self.parameters.segmentId:
            self.parameters.segmentId = segmentId
            self._changedChoice()

    def _freeName(self, node: Any) -> str:
        names = set(mrml.segmentNames(node))
        number = len(names) + 1
        while (name := _("Segment {number}").format(number=number)) in names:
            number += 1
        return name

    def _requireSegment(self) -> None:
        problem = self.problem()
        if problem:
            raise PromptError(problem)
        if not self.segmentId:
            self.newSegment()

    @property
    def state(self) -> SegmentState:
        """What is known of the current segment: quality, warnings, whether its region should grow."""
        return self._state() if self.segmentId else SegmentState()

    def _state(self) -> SegmentState:
        return self._books.state(self.segmentationNode, self.segmentId)

    def problem(self) -> str:
        """Why nothing can be segmented now, as a sentence; "" if it can."""
        if self._blocked:
            return self._blocked
        if self.volumeNode is None:
            return _("Choose a volume.")
        try:
            mrml.checkVolumeNode(self.volumeNode)
            mrml.ijkToWorld(self.volumeNode)
        except VolumeError as error:
            return str(error)
        node = self.segmentationNode
        return "" if node is None else mrml.gridProblem(node, self.volumeNode)

    def _present(self) -> tuple[dict[Key, Prompt], list[str]]:
        """The current segment's markups as prompts; those that the user is at work on as they were before."""
        prompts, problems = prompt_nodes.readPrompts(
            [node for node in self.promptNodes() if node.GetID() not in self._held | self._dragged]
        )
        unfinished = self._held | self._dragged
        if unfinished:
            seen = {e.key: e.seen for e in entries_of(self._state().book) if e.key is not None and e.seen is not None}
            prompts |= {key: prompt for key, prompt in seen.items() if key[0] in unfinished}
        return prompts, problems

    def _waiting(self) -> list[Key]:
        """Markups that the current segment does not follow yet, the newest last."""
        return pending_keys(self._state().book, self._present()[0]) if self.segmentId else []

    # --- what is heard and said ---

    @abstractmethod
    def warm(self) -> None:
        """Has the worker start, since prompts are about to come."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Ends a prediction that is under way without a word: something else has taken its place."""

    def _changedChoice(self) -> None:
        self._message, self._isError = "", False
        self._refresh()
        self._invoke(Event.PROMPTS)
        self._invoke(Event.RESULT)

    def _refresh(self) -> None:
        """Looks at everything anew."""
        self._promptsChanged = self._segmentsChanged = self._look = True
        self._announceWork()

    def _onPromptsChanged(self) -> None:
        self._promptsChanged = self._look = True
        self._announceWork()

    def _announceWork(self) -> None:
        if not self._working and not self._closed:
            self._working = True
            self._invoke(Event.WORK)

    def _invoke(self, event: Event) -> None:
        for callback in tuple(self._observers[event]):
            callback()
