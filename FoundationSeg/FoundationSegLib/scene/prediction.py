# SPDX-License-Identifier: Apache-2.0
"""One update of one segment, from prompts to the voxels it is to have: a task of small steps that never waits.

Nothing is written to the scene here. A task that is cancelled or fails leaves no trace but embeddings in the worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from .. import mrml
from ..errors import Cancelled, FoundationSegError, PromptError
from ..expectation import Expectation
from ..prompts import MaskPrompt, Round
from ..region import Box3
from ..segmenter import Prediction
from ..session import PROMPTS_TAG, PROVENANCE_TAG, Result
from ..worker import Pending, WorkerSession
from .outcome import EMPTY, Mask, Patch, hull, is_empty, merged, outcome, patch_of, shifted, tight, touches_face
from .rounds import Book, Entry, entries_of, has_new_round, last_hand_edit, rounds_of
from .segment_state import EDITED, ModelChoice, SegmentState
from .sessions import Sessions, align


class Kind(Enum):
    """What a task is for."""

    UPDATE = "update"  # the result follows the prompts
    GROW = "grow"  # the model looks further out around what it has
    REPLAY = "replay"  # the stored prompts are run again


@dataclass
class Task:
    """Brings one segment up to date. Call `step` after every poll of the worker until `done`."""

    sessions: Sessions
    expectation: Expectation
    choice: ModelChoice
    kind: Kind
    volumeNode: Any
    segmentationNode: Any
    segmentId: str
    state: SegmentState
    goal: Book
    onProgress: Callable[[], None]

    stage: str = "volume"
    fraction: float | None = None
    expected: float | None = None
    done: bool = False
    error: FoundationSegError | None = None
    cancelled: bool = False
    session: WorkerSession | None = None
    box: Box3 = EMPTY.box
    mask: Mask | None = None  # in `box`: what the segment is to be there
    prediction: Prediction | None = None
    carried: bool = False  # only changes were carried over into a segment that was edited by hand
    after: Patch = EMPTY  # what the rounds come to, without what was edited meanwhile
    tags: dict[str, str | None] = field(default_factory=dict)
    differing: int = 0  # number of voxels that the segment is to change in (before masking settings are looked at)
    pending: Pending[Result] | None = None  # what the worker is at
    first: bool = False  # a worker had to be started, or the model to be loaded
    started: float = field(default_factory=time.monotonic)

    _phase: int = 0
    _recorded: dict[str, Any] = field(default_factory=dict)
    _edited: bool = False
    _todo: tuple[Round, ...] = ()
    _aside: Future[None] | None = None
    _before: Patch = EMPTY  # the segment as it was when the task began
    _stamp: int = EDITED
    _concluded: int = EDITED

    @property
    def key(self) -> str:
        """The segment's name in the session."""
        return f"{self.segmentationNode.GetID()}/{self.segmentId}"

    def notes(self) -> list[str]:
        """In what a replay was another run than the recorded one, a sentence each."""
        now = {} if self.session is None else self.session.provenance(self.key)
        texts = {
            "volume": _("The prompts were given on another volume."),
            "model": _("It was made by the model {before}, and now by {now}."),
            "revision": _("It was made by revision {before} of the model, and now by {now}."),
            "sha256": _("It was made with other weights of the model."),
            "device": _("It was made on {before}, and now on {now}."),
            "precision": _("It was made in {before}, and now in {now}."),
        }
        return [
            text.format(before=self._recorded[name], now=now.get(name))
            for name, text in texts.items()
            if name in self._recorded and self._recorded[name] != now.get(name)
        ]

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def cancel(self) -> None:
        """Ends the task; at once if the worker has not begun, else as soon as it yields or was killed."""
        self.cancelled = True
        if self.pending is not None:
            self.pending.cancel()
        elif not self.done:
            self._fail(Cancelled(_("Cancelled; the segment is as it was.")))

    def step(self) -> None:
        """Goes on as far as that is possible now."""
        try:
            while not self.done and self._advance():
                pass
        except FoundationSegError as error:
            self._fail(error)
        except Exception as error:
            logging.exception("FoundationSeg could not work out a result")
            text = _("The result could not be worked out ({error}); the segment is as it was. Report this.")
            self._fail(FoundationSegError(text.format(error=type(error).__name__)))

    def _fail(self, error: FoundationSegError) -> None:
        self.error, self.done = error, True

    def _advance(self) -> bool:
        """One step; False where there is something to wait for."""
        if self.pending is not None:
            if not self.pending.done:
                return False
            pending, self.pending = self.pending, None
            pending.result()  # raises what went wrong
            self._todo = self._todo[1:]
        if self._aside is not None:
            if not self._aside.done():
                return False
            aside, self._aside = self._aside, None
            aside.result()
        if self._todo:
            self._submit()
            return self.pending is None or self.pending.done
        match self._phase:
            case 0:
                if not self._open():
                    return False
            case 1:
                self._plan()
            case 2:
                self._align()
            case 3:
                self._collect()
            case _:
                self._conclude()
        self._phase += 1
        return True

    def _besides(self, work: Callable[[], None], heavy: bool) -> None:
        """Does what takes long on large volumes in a thread, which touches nothing of the scene; `step` waits."""
        if not heavy:
            work()
            return
        future: Future[None] = Future()

        def run() -> None:
            try:
                work()
                future.set_result(None)
            except BaseException as error:
                future.set_exception(error)

        self._aside = future
        threading.Thread(target=run, name="FoundationSeg result", daemon=True).start()

    def _open(self) -> bool:
        """The session, and in it the rounds that the segment follows by now, where they are needed."""
        choice = self.choice
        session = self.sessions.get(self.volumeNode, choice.name, choice.device, choice.checkpoint)
        if session is None:
            return False
        self.session = session
        self.first = session.identity is None or self.sessions.worker.pid is None
        self.expected = self.expectation.seconds(choice.name, choice.device, self.first)
        if self.kind is Kind.REPLAY:
            self._recorded = mrml.provenance(self.segmentationNode, self.segmentId)
            if self.key in session.segments():
                session.remove(self.key)
        elif self.state.written is None and self._isOwn():
            self._todo = align(session, self.key, rounds_of(self.state.book))
        return True

    def _isOwn(self) -> bool:
        """Whether this model made the stored rounds of this very volume, so that it can make them again."""
        if not self.state.book:
            return False
        assert self.session is not None
        origin = mrml.provenance(self.segmentationNode, self.segmentId)
        name = self.choice.name
        return origin.get("volume") == self.session.volume.fingerprint and (":" in name or origin.get("model") == name)

    def _plan(self) -> None:
        """What the rounds are to be; a hand edit since the last result becomes a round of its own."""
        session, state = self.session, self.state
        assert session is not None
        if self.kind is Kind.REPLAY:
            self._todo = rounds_of(self.goal)
            return
        committed = rounds_of(state.book)
        if state.written is None:
            if self.key in session.segments() and session.rounds(self.key) == committed and committed:
                predictions = session.predictions(self.key)
                state.written, state.base = outcome(committed, predictions), patch_of(predictions[-1])
            else:
                state.written, state.base = EMPTY, EMPTY
        self._before, self._stamp = state.written, self._stampNow()
        if self.kind is Kind.GROW:
            self._lookOutwards()
        elif self._wasEdited(state.written):
            self._edited = True
            self._keepEdit()

    def _align(self) -> None:
        """What the worker has to do."""
        assert self.session is not None
        if self.kind is not Kind.REPLAY:
            self._todo = align(self.session, self.key, rounds_of(self.goal))

    def _wasEdited(self, written: Patch) -> bool:
        """Whether the segment is another one than the rounds made; then `_before` is the segment as it is."""
        if self.state.stamp == self._stampNow():
            return False
        box = hull(self._segmentBox(), written.box)
        if is_empty(box):
            return False
        current = self._current(box)
        if np.array_equal(current, written.within(box)):
            return False
        self._before = Patch(box, current)
        return True

    def _keepEdit(self) -> None:
        """Puts the segment as it is now before the newest round; without one, only changes are carried over."""
        if not has_new_round(self.state.book, self.goal):
            return
        if not self._before.mask.any():  # everything was erased: what came before does not count any more
            self.goal, self.state.base = self.goal[-1:], EMPTY
        elif self.choice.takesMasks:
            self._edited = False

            def keep() -> None:
                self.goal = (*self.goal[:-1], (Entry(self._maskPrompt()),), self.goal[-1])

            self._besides(keep, heavy=True)

    def _lookOutwards(self) -> None:
        """A round that has the model look around the whole mask; more than a mask alone, so no hand edit."""
        box = self._segmentBox()
        self._before = Patch(box, self._current(box))
        prompts = (entry.prompt for entry in entries_of(self.state.book) if entry.key is not None)
        positive = next((prompt for prompt in prompts if prompt.positive), None)
        if positive is None or not self._before.mask.any() or not self.choice.takesMasks:
            raise PromptError(_("The region cannot be grown here; put a point where the structure goes on."))
        prompt = positive

        def look() -> None:
            self.goal = (*self.state.book, (Entry(self._maskPrompt()), Entry(prompt)))

        self._besides(look, heavy=True)

    def _maskPrompt(self) -> MaskPrompt:
        """The segment as it was when the task began."""
        mask = np.zeros(self._shape(), dtype=np.bool_)
        mask[self._before.box] = self._before.mask
        prompt = MaskPrompt(mask)
        _ = prompt.runs  # kept with the prompt: sending and storing need them
        return prompt

    def _submit(self) -> None:
        assert self.session is not None
        self.pending = self.session.add_async(self.key, *self._todo[0], progress=self._report)
        if self.stage == "volume":
            self.stage = "start"

    def _report(self, stage: str, fraction: float) -> None:
        if stage != "done":
            self.stage, self.fraction = stage, fraction or None
            self.onProgress()

    def _collect(self) -> None:
        """What the predictions come to, and what is to be stored with the segment."""
        session, rounds = self.session, rounds_of(self.goal)
        assert session is not None
        if not rounds:
            if self.key in session.segments():
                session.reset(self.key)
            self.tags = dict.fromkeys((PROMPTS_TAG, PROVENANCE_TAG, *_ALGORITHM_TAGS))
            return
        predictions = session.predictions(self.key)
        self.prediction = predictions[-1]

        def collect() -> None:
            self.after = outcome(rounds, predictions)
            self.tags = dict(session.tags(self.key))

        self._besides(collect, heavy=last_hand_edit(rounds) is not None)

    def _conclude(self) -> None:
        """What the segment is to be in the box that changes."""
        state, last = self.state, patch_of(self.prediction)
        self.carried = self._edited and self.kind is Kind.UPDATE
        before, after = (state.base, last) if self.carried else (self._before, self.after)
        whole = self._segmentBox() if self.kind is Kind.REPLAY else EMPTY.box
        box = hull(before.box, after.box, whole)
        current = self._current(box)
        if self._stamp != self._stampNow() and self.kind is not Kind.REPLAY:
            self.carried = True  # the user has edited while the model was at work
        wanted = merged(current, box, before, after) if self.carried else after.within(box)
        different = wanted != current
        self.differing = int(np.count_nonzero(different))
        changed = tight(different)
        self.box, self.mask = EMPTY.box, None
        if changed is not None:
            self.box, self.mask = shifted(changed, box), wanted[changed]
        self._concluded = self._stampNow()
        self.done = True

    def concludeAgain(self) -> bool:
        """If the segment was edited since the task was done: the next step takes that into account."""
        if self.error is not None or self._concluded == self._stampNow():
            return False
        self.done = False
        return True

    def _stampNow(self) -> int:
        return mrml.segmentStamp(self.segmentationNode, self.segmentId)

    @property
    def reachesFace(self) -> bool:
        """Whether the structure seems to go on where the model did not look."""
        return self.prediction is not None and touches_face(self.prediction, self._shape())

    def _shape(self) -> tuple[int, int, int]:
        i, j, k = self.volumeNode.GetImageData().GetDimensions()
        return k, j, i

    def _segmentBox(self) -> Box3:
        return mrml.segmentBox(self.segmentationNode, self.segmentId, self.volumeNode)

    def _current(self, box: Box3) -> Mask:
        return mrml.segmentMask(self.segmentationNode, self.segmentId, self.volumeNode, box)


_ALGORITHM_TAGS = ("DICOM.SegmentAlgorithmType", "DICOM.SegmentAlgorithmName")
