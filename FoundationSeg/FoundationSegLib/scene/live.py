# SPDX-License-Identifier: Apache-2.0
"""The controller behind the panel: a volume, its segments and their prompts, kept in step with a worker process.

No Qt is here. The panel gives it a beat: a timer calls :meth:`LiveSegmentation.poll` while :attr:`busy` says so.
Whatever a person does goes through the scene (markups are placed, moved, removed), and the result follows.

    live = LiveSegmentation(parametersOf(slicer.mrmlScene))
    live.observe(Event.STATUS, showStatus)               # called without arguments, always from the thread of `poll`
    live.observe(Event.WORK, startTimer)
    live.promptNode(positive=True).AddControlPointWorld(...)   # a click: the prediction starts by itself
    while live.busy: live.poll()                         # the panel's timer
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from .. import mrml
from ..catalogue import model_card
from ..errors import Cancelled, FoundationSegError, OutputError
from ..expectation import Expectation
from ..prompts import Round
from ..session import PROMPTS_TAG
from ..worker import Pending, Worker, WorkerSettings
from . import prompt_nodes
from .desk import Desk
from .history import FindEditor
from .outcome import patch_of
from .overlay import UncertaintyOverlay
from .parameters import FoundationSegParameters, parametersOf
from .prediction import Kind, Task
from .rounds import Book, follow, rounds_of
from .segment_state import EDITED, ModelChoice
from .sessions import Sessions
from .status import Event, State, Status
from .surface import ThrottledSurface
from .surface import show as showSurface
from .watch import Listener, SceneWatch

__all__ = ["Event", "LiveSegmentation", "State", "Status"]


class LiveSegmentation(Desk):
    """Keeps the current segment equal to what the model makes of its prompts, without ever waiting for the model."""

    def __init__(
        self,
        parameters: FoundationSegParameters,
        settings: WorkerSettings | None = None,
        *,
        findEditor: FindEditor | None = None,
        timings: Path | None = None,
        worker: Worker | None = None,
    ) -> None:
        """`findEditor` finds the Segment Editor that is open on a node; `timings` is where measured times are kept.

        A `worker` that is handed over is shared with others and outlives this; without one there is an own one.
        """
        super().__init__(parameters, findEditor)
        self._sessions = Sessions(settings, worker)
        self._expectation = Expectation(timings)
        self._surface = ThrottledSurface()
        self._overlay = UncertaintyOverlay(self._scene)
        self._overlay.setWanted(parameters.showUncertainty)
        self._task: Task | None = None
        self._asked: tuple[Round, ...] = ()  # what the task was started for
        self._declined: tuple[Round, ...] | None = None  # cancelled or failed: not tried again until prompts change
        self._ending: Pending[Any] | None = None  # an interrupted prediction that the worker has not given up yet
        self._wanted: Kind | None = None  # asked for by the user, not by a change
        self._warm = False
        self._status = Status(State.EMPTY)
        self._problem = ""
        listener = Listener(
            self._onPromptsChanged, self._onSegmentsChanged, self._onNodeRemoved, self._onClosing, self._onLoaded
        )
        self._watch = SceneWatch(self._scene, listener)
        self._dragged = self._watch.dragged
        self._refresh()

    def close(self) -> None:
        """Ends the worker and lets go of the scene; prompts and segments stay."""
        self._closed = True
        self._watch.close()
        self._task = None
        self._surface.forget()
        self._overlay.forget()
        self._history.clear()
        self._books.clear()
        self._sessions.close()

    # --- work ---

    @property
    def status(self) -> Status:
        """As it is now."""
        return self._status

    @property
    def busy(self) -> bool:
        """Whether :meth:`poll` has to be called."""
        changed = self._promptsChanged or self._segmentsChanged or self._look or self._warm
        at_work = self._task is not None or self._sessions.worker.busy or self._surface.pending
        return changed or at_work or self._overlay.pending

    def poll(self) -> None:
        """Takes what has come from the worker and calls observers back. Returns at once."""
        if self._closed or self._scene.IsBatchProcessing():
            return
        self._sessions.worker.poll()
        if self._segmentsChanged:
            self._segmentsChanged = False
            self._followSegments()
        if self._promptsChanged:
            self._promptsChanged = False
            self._invoke(Event.PROMPTS)
            self._reconsider()
        if self._task is not None:
            # Working out the voxels and writing them are two beats, so that neither holds the panel up for long.
            if self._task.done and not self._task.concludeAgain():
                self._finish()
            else:
                self._task.step()
        if self._task is None:
            self._begin()
        if self._warm:
            self._warmUp()
        self._surface.tick(idle=self._task is None)
        if self._overlay.pending:
            self._stepOverlay()
        self._showStatus()
        self._working = self.busy

    def update(self) -> None:
        """Predict now what is not predicted yet: with automatic update off, or after a cancelled or failed one."""
        self._declined = None
        self._want(Kind.UPDATE)

    def grow(self) -> None:
        """Have the model look further out around the current segment, and take what it finds there."""
        self._want(Kind.GROW)

    def replay(self) -> None:
        """Makes the current segment anew from the prompts that are stored with it, as one undoable step."""
        self._want(Kind.REPLAY)

    def cancel(self) -> None:
        """Stops what is under way; the segment and its prompts stay as they are."""
        self._wanted = None
        if self._task is not None:
            self._task.cancel()
            if self._task.done:
                self._finish()
            self._showStatus()

    def giveUp(self) -> None:
        """After an unexpected failure: lets go of what is under way, so that the next change begins anew."""
        self._interrupt()
        self._overlay.forget()
        self._promptsChanged = self._segmentsChanged = self._look = self._warm = self._working = False
        self._wanted = None

    @property
    def canUndo(self) -> bool:
        """Whether :meth:`undo` would do anything."""
        return bool(self._waiting()) or self._history.canUndo(self.segmentationNode)

    @property
    def canRedo(self) -> bool:
        """Whether :meth:`redo` would do anything."""
        return self._history.canRedo(self.segmentationNode)

    def undo(self) -> None:
        """Takes back the last prompt that has no result yet, else the last step of the editing history."""
        waiting = self._waiting()
        self._interrupt()
        if waiting:
            self._books.takeBack(self.segmentationNode, self.segmentId, waiting[-1])
            self._message = ""
        elif self.segmentationNode is not None:
            self._history.undo(self.segmentationNode)
            self._message = ""
        self._refresh()

    def redo(self) -> None:
        """Brings back what was undone last: voxels, and the markups of the prompts."""
        if self.segmentationNode is not None:
            self._interrupt()
            self._history.redo(self.segmentationNode)
            self._message = ""
            self._refresh()

    def warm(self) -> None:
        """Has the worker start, and load the model and the volume, before the first prompt. Errors wait for that."""
        self._warm = True
        self._announceWork()

    def prefetch(self, ras: tuple[float, float, float]) -> None:
        """Has an idle worker look at what a click at `ras` (world mm) would make it look at."""
        session = self._idleSession()
        if session is not None and session.prefetch(ras) is not None:
            self._announceWork()

    def showUncertainty(self, shown: bool) -> None:
        """Show or hide, over the slices, where the model could as well have decided otherwise."""
        self.parameters.showUncertainty = shown
        self._overlay.setWanted(shown)
        self._announceWork()

    def showSurface(self, shown: bool) -> None:
        """Show or hide the segments in 3-D; while shown they are made anew when the work pauses."""
        self.parameters.showSurface = shown
        if self.segmentationNode is not None:
            showSurface(self.segmentationNode, shown)

    # --- one step after the other ---

    def _begin(self) -> None:
        """Starts what there is to do, if anything."""
        if not self._look or (self._ending is not None and not self._ending.done):
            return
        self._look = False
        kind, self._wanted = self._wanted, None
        if self._problem or not self.segmentId:
            return
        state = self._state()
        present, problems = self._present()
        goal = follow(state.book, present)
        rounds = rounds_of(goal)
        if kind in (None, Kind.UPDATE):
            if rounds == rounds_of(state.book):
                state.book, self._declined = goal, None
                if problems:
                    self._say(problems[0], isError=True)
                return
            if kind is None and (rounds == self._declined or not self.parameters.autoUpdate):
                if rounds != self._declined:
                    self._say(_("The prompts have changed; press Update."))
                return
        elif not state.book:
            self._say(_("No prompts are stored with this segment."), isError=True)
            return
        self._start(kind or Kind.UPDATE, goal, rounds)

    def _start(self, kind: Kind, goal: Book, rounds: tuple[Round, ...]) -> None:
        if kind is not Kind.UPDATE:
            goal = self._state().book
        choice = self.choice
        if kind is Kind.REPLAY:
            choice = self._recordedChoice() or choice
        self._asked = rounds
        self._message, self._isError = "", False
        self._task = Task(
            self._sessions,
            self._expectation,
            choice,
            kind,
            self.volumeNode,
            self.segmentationNode,
            self.segmentId,
            self._state(),
            goal,
            self._showStatus,
        )
        self._task.step()

    def _recordedChoice(self) -> ModelChoice | None:
        """The model that the segment says it was made with, where it is one of the catalogue."""
        try:
            name = str(mrml.provenance(self.segmentationNode, self.segmentId).get("model", ""))
            model_card(name)
        except FoundationSegError:
            return None
        return None if name == self.parameters.model or ":" in self.parameters.model else ModelChoice(name)

    def _reconsider(self) -> None:
        """Prompts have changed under a running prediction: what came on top waits, anything else starts it anew."""
        task = self._task
        if task is None or task.kind is not Kind.UPDATE or not self._isCurrent(task) or task.cancelled:
            return
        wanted = rounds_of(follow(self._state().book, self._present()[0]))
        # A further click on top of others that are not done yet joins their round.
        if self._asked != wanted[: len(self._asked)]:
            self._interrupt()

    def _isCurrent(self, task: Task) -> bool:
        return task.segmentationNode is self.segmentationNode and task.segmentId == self.segmentId

    def _interrupt(self) -> None:
        """Ends what is under way without a word: something else has taken its place."""
        task, self._task = self._task, None
        self._look = True
        if task is not None:
            task.cancel()
            self._ending = task.pending
            self._announceWork()

    def _finish(self) -> None:
        task, self._task = self._task, None
        assert task is not None
        self._look = True
        if task.error is None and task.session is not None:
            try:
                self._commit(task)
                return
            except OutputError as error:
                task.error = error
        if self._isCurrent(task):
            self._declined = self._asked
        if isinstance(task.error, Cancelled):
            self._say(_("Cancelled; the segment and its prompts are as they were, and Update tries again."))
        else:
            self._say(str(task.error), isError=True)

    def _commit(self, task: Task) -> None:
        """Writes what came of a task, in one step of the undo history. Raises OutputError; nothing was changed."""
        assert task.session is not None
        node, segmentId, state = task.segmentationNode, task.segmentId, task.state
        asMade = not task.carried
        if task.mask is not None or task.tags.get(PROMPTS_TAG) != (state.tag or None):
            mask = np.zeros((0, 0, 0), dtype=bool) if task.mask is None else task.mask
            with self._surface.heldBack(node, segmentId):
                equal = self._history.commit(node, segmentId, task.volumeNode, task.box, mask, task.tags)
            asMade = asMade and equal
        state.book, state.tag = task.goal, mrml.promptsTag(node, segmentId)
        state.written, state.base = task.after, patch_of(task.prediction)
        # Hand edits that were carried over, and masking settings, leave another segment than the rounds alone make.
        state.stamp = mrml.segmentStamp(node, segmentId) if asMade else EDITED
        voxels = task.after.mask
        if not asMade:
            box = mrml.segmentBox(node, segmentId, task.volumeNode)
            voxels = mrml.segmentMask(node, segmentId, task.volumeNode, box)
        state.quality = None if task.prediction is None else task.prediction.predicted_iou
        state.warnings = () if task.prediction is None else task.prediction.warnings
        state.reachesFace = task.reachesFace
        identity = task.session.identity
        self._device = "" if identity is None else identity.device
        name = node.GetSegmentation().GetSegment(segmentId).GetName()
        volume = int(np.count_nonzero(voxels)) * task.session.volume.voxel_volume_ml
        text = _("{segment}: {volume:.1f} mL in {seconds:.1f} s")
        if task.kind is Kind.REPLAY:
            same = _("Replayed {segment}: the same to the voxel, {volume:.1f} mL")
            other = _("Replayed {segment}: {voxels} voxels differ from before, {volume:.1f} mL; undo brings them back")
            text = (same if task.differing == 0 else other) + "".join(f"\n{note}" for note in task.notes())
        said = text.format(segment=name, volume=volume, seconds=task.elapsed, voxels=task.differing)
        self._say(said + _hiddenNote(node, segmentId))
        self._expectation.learn(task.choice.name, task.choice.device, task.first, task.elapsed)
        self._declined = None
        self._overlay.outdated()
        self._invoke(Event.RESULT)
        self._invoke(Event.PROMPTS)

    def _warmUp(self) -> None:
        session = self._idleSession()
        if session is not None and session.identity is None:
            session.warm()
        self._warm = session is None and self._sessions.reading

    def _idleSession(self) -> Any:
        """The session, if nothing is under way; None otherwise, and while the volume is being read."""
        if self._task is not None or self._sessions.worker.busy or self._problem:
            return None
        choice = self.choice
        try:
            return self._sessions.get(self.volumeNode, choice.name, choice.device, choice.checkpoint)
        except FoundationSegError as error:
            logging.debug("FoundationSeg prepares nothing: %s", error)  # the first prompt will say it
            return None

    def _stepOverlay(self) -> None:
        if not self.segmentId or self._problem:
            self._overlay.forget()
            return
        key = f"{self.segmentationNode.GetID()}/{self.segmentId}"
        session = self._idleSession()
        at_work = self._task is not None or self._sessions.worker.busy or self._sessions.reading
        if session is None and not at_work:
            self._overlay.forget()  # the model cannot be run here, as the next prompt will say
        sentence = self._overlay.step(self.volumeNode, session, key)
        if sentence:
            self._say(sentence)

    def _changedChoice(self) -> None:
        self._declined = None
        self._overlay.outdated()
        super()._changedChoice()

    # --- what is heard of the scene ---

    def _onSegmentsChanged(self) -> None:
        self._segmentsChanged = self._look = True
        self._announceWork()

    def _onNodeRemoved(self, node: Any) -> None:
        nodeId, task = node.GetID(), self._task
        if task is not None and (task.volumeNode is node or task.segmentationNode is node):
            self._interrupt()
            self._say(_("The prediction was given up, because its volume or segmentation was removed."))
        if node.IsA("vtkMRMLScalarVolumeNode"):
            self._sessions.forget(nodeId)
            self._onSegmentsChanged()
        elif node.IsA("vtkMRMLSegmentationNode"):
            self._history.forget(nodeId)
            self._books.forget(nodeId)
            self._surface.forget(nodeId)
            if not self._scene.IsClosing():
                prompt_nodes.removeOrphans(self._scene, nodeId)
            self._onSegmentsChanged()
        elif node is self.parameters.node and not self._scene.IsClosing():
            self.parameters = parametersOf(self._scene)  # somebody has removed it: choose anew
            self._changedChoice()
        self._held.discard(nodeId)

    def _onClosing(self) -> None:
        self._interrupt()
        self._ending = None
        self._sessions.clear()
        self._history.clear()
        self._books.clear()
        self._surface.forget()
        self._overlay.forget()
        self._held.clear()
        self._message, self._isError, self._declined = "", False, None

    def _onLoaded(self) -> None:
        self.parameters = parametersOf(self._scene)
        self._overlay.setWanted(self.parameters.showUncertainty)
        self._refresh()

    def _followSegments(self) -> None:
        """Brings segments and markups in step; chooses another segment where the current one is gone."""
        node, task = self.segmentationNode, self._task
        if task is not None and task.segmentationNode.GetSegmentation().GetSegment(task.segmentId) is None:
            self._interrupt()
            self._say(_("The prediction was given up, because its segment was removed."))
        self._watch.follow(node, self.volumeNode)
        self._problem = self.problem()
        if node is not None:
            self._books.sync(node)
            if not self.segmentId:
                if self.parameters.segmentId and task is None:
                    self._message, self._isError = "", False  # it was about a segment that is gone
                ids = list(node.GetSegmentation().GetSegmentIDs())
                self.parameters.segmentId = ids[-1] if ids else ""
            prompt_nodes.showOnly(node, self.segmentId)
        self._invoke(Event.RESULT)

    # --- what others hear ---

    def _say(self, message: str, isError: bool = False) -> None:
        self._message, self._isError = message, isError

    def _showStatus(self) -> None:
        task = self._task
        if task is not None:
            state = State.CANCELLING if task.cancelled else State.RUNNING
            elapsed = round(task.elapsed, 1)
            status = Status(state, "", False, task.stage, task.fraction, elapsed, task.expected)
        elif self._problem:
            status = Status(State.EMPTY, self._problem)
        else:
            status = Status(State.READY, self._message, self._isError)
        if status != self._status:
            self._status = status
            self._invoke(Event.STATUS)

    def _want(self, kind: Kind) -> None:
        self._wanted, self._look = kind, True
        self._announceWork()


def _hiddenNote(segmentationNode: Any, segmentId: str) -> str:
    """A line that says why a result cannot be seen; "" where it can."""
    display = segmentationNode.GetDisplayNode()
    if display is None:
        return ""
    if not display.GetVisibility():
        return "\n" + _("The segmentation is hidden; show it with its eye in the module Data.")
    if not display.GetSegmentVisibility(segmentId):
        return "\n" + _("The segment is hidden; show it with its eye in the list of segments.")
    return ""
