# SPDX-License-Identifier: Apache-2.0
"""`WorkerSession`: SegmentationSession's interface, with the model in a worker process."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..catalogue import model_card
from ..errors import FoundationSegError, PromptError, WorkerError
from ..predictor import Array, CancelToken, EmbeddingCache, ModelIdentity, Progress
from ..prompts import Point, Prompt, Round
from ..segmenter import Prediction, Segmenter
from ..session import History, Result, SegmentationSession
from ..volume import Volume
from .blocks import Block
from .channel import Channel
from .client import Worker
from .jobs import Job, Pending
from .settings import WorkerSettings
from .wire import Message, ProtocolError, box_shape, digest, round_to_list, unpack

_keys = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class RemotePrediction(Prediction):
    """A prediction whose state is in the worker, under the last of `keys`, or can be made there from `rounds`.

    `keys` name the states after each of the rounds.
    """

    rounds: tuple[Round, ...]
    keys: tuple[int, ...]


class RemoteModel:
    """Stands for the model in the worker."""

    def __init__(self, worker: Worker, channel: Channel) -> None:
        self._worker, self._channel = worker, channel

    @property
    def identity(self) -> ModelIdentity:
        """As the worker says; waits for it to start if it never did. Raises ModelError if it cannot."""
        if self._channel.identity is None:
            self._worker.warm(self._channel).wait()
        assert self._channel.identity is not None
        return self._channel.identity

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> Segmenter:
        """For the volume of its session only; the cache is not used, because the worker has its own."""
        if volume is not self._channel.volume:
            raise WorkerError("This model belongs to a session of another volume; open a session for the new one.")
        return RemoteSegmenter(self._worker, self._channel)


class RemoteSegmenter:
    """See `Segmenter`; every call goes to the worker."""

    def __init__(self, worker: Worker, channel: Channel) -> None:
        self.worker, self.channel = worker, channel

    def predict(
        self,
        rounds: tuple[Round, ...],
        previous: Prediction | None,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
    ) -> RemotePrediction:
        """See `Segmenter`; waits."""
        pending: Pending[RemotePrediction] = Pending(self.worker, cancel, progress)
        return self.submit(pending, lambda: (rounds, previous), lambda prediction: prediction).wait()

    def submit(
        self,
        pending: Pending[Any],
        begin: Callable[[], tuple[tuple[Round, ...], Prediction | None]],
        finish: Callable[[RemotePrediction], Any],
    ) -> Pending[Any]:
        """`begin` says, when its turn has come, what to predict; `finish` makes the result."""
        key = next(_keys)
        rounds: tuple[Round, ...] = ()
        before: RemotePrediction | None = None

        def request() -> Message:
            nonlocal rounds, before
            rounds, previous = begin()
            assert previous is None or isinstance(previous, RemotePrediction)  # of the same segmenter
            before = previous
            return {"op": "predict", "key": key, "round": round_to_list(rounds[-1]), **self._state(before)}

        def again() -> Message:
            round_ = round_to_list(rounds[-1])
            return {"op": "predict", "key": key, "round": round_, **self._state(before, whole=True)}

        def answer(message: Message) -> Any:
            keys = (*(before.keys if before is not None else ()), key)
            base = before if message.get("based") else None
            fields = unpack(message, base, self.channel.mailbox, self.channel.volume.shape)
            return finish(RemotePrediction(rounds=rounds, keys=keys, **fields))

        return self.worker.submit(Job(self.channel, request, answer, pending, again))

    def uncertainty(self, prediction: Prediction) -> Array:
        """See `Segmenter`; waits."""
        return self.submit_uncertainty(Pending(self.worker), prediction).wait()

    def submit_uncertainty(self, pending: Pending[Array], prediction: Prediction) -> Pending[Array]:
        """Without waiting."""
        assert isinstance(prediction, RemotePrediction)  # of the same segmenter
        shape = box_shape(prediction.region_box)
        held: list[Block] = []

        def request() -> Message:
            held.append(Block.create(int(np.prod(shape)) * 4))
            return {"op": "uncertainty", "out": held[-1].name, **self._state(prediction)}

        def again() -> Message:
            return {"op": "uncertainty", "out": held[-1].name, **self._state(prediction, whole=True)}

        def answer(message: Message) -> Array:
            if message.get("shape") != list(shape):
                raise ProtocolError("an uncertainty of another shape")
            return held[-1].array(shape, np.float32).copy()

        return self.worker.submit(Job(self.channel, request, answer, pending, again, blocks=held))

    def _state(self, prediction: RemotePrediction | None, whole: bool = False) -> Message:
        """What the worker is to go on from; `whole` says how to make it."""
        if prediction is None:
            return {"after": None, "session": self.channel.key}
        state: Message = {"after": prediction.keys[-1], "session": self.channel.key}
        if whole:
            state["keys"] = list(prediction.keys)
            state["rounds"] = [round_to_list(round_) for round_ in prediction.rounds]
            state["digest"] = digest(prediction)
        return state


class WorkerSession(SegmentationSession):
    """A SegmentationSession whose model runs in a worker process, which starts with the first prompt (or `warm`).

    Undo, redo, reset, masks, tags and saving need no worker. A prediction that fails, is cancelled, or loses its worker
    leaves every segment as it was, and the next one works. Not thread-safe, as its base; `CancelToken.cancel` may be
    called from any thread.
    """

    def __init__(
        self,
        volume: Volume,
        model: str = "compact",
        device: str = "auto",
        *,
        checkpoint: Path | None = None,
        worker: Worker | None = None,
        settings: WorkerSettings | None = None,
    ) -> None:
        """`model` is the name of a card, or "package.module:function" of one's own, called with the device.

        Sessions can share a `worker`, and with it loaded models; without one the session has its own, by `settings`,
        and ends it with `close`. Raises ModelError if there is no such card; what else is wrong with a model or device,
        the first prompt says.
        """
        if ":" not in model:
            model_card(model)
        self._owned = worker is None
        self.worker = worker or Worker(settings)
        self.volume = volume
        self._channel = Channel(volume, model, device, checkpoint)
        self.model = RemoteModel(self.worker, self._channel)
        self.cache = EmbeddingCache()  # stays empty: the worker has the embeddings
        self._segmenter: RemoteSegmenter = RemoteSegmenter(self.worker, self._channel)
        self._histories = {}
        self._running: tuple[str, Pending[Result]] | None = None  # the segment that is being predicted

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self, segment: str, *prompts: Prompt, cancel: CancelToken | None = None, progress: Progress | None = None
    ) -> Result:
        """See `SegmentationSession.add`; waits. Raises WorkerError, too, if the worker is lost."""
        return self.add_async(segment, *prompts, cancel=cancel, progress=progress).wait()

    def add_async(
        self,
        segment: str,
        *prompts: Prompt,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
        done: Callable[[Pending[Result]], None] | None = None,
    ) -> Pending[Result]:
        """`add` that does not wait. While `poll` is called, `progress` and, at the end, `done` are called from there.

        Prompts that are added while others are under way take their turn, and build on what came of those.
        """
        if not prompts:
            raise PromptError("No prompt was given; add at least one point, box, scribble, lasso or mask.")
        pending: Pending[Result] = Pending(self.worker, cancel, progress, done)
        kept: list[Prediction] = []

        def begin() -> tuple[tuple[Round, ...], Prediction | None]:
            history = self._histories.get(segment, History())
            self._running = (segment, pending)
            kept[:] = history.predictions[: history.done]
            return (*history.rounds[: history.done], tuple(prompts)), history.current

        def finish(after: RemotePrediction) -> Result:
            before = kept[-1] if kept else None
            result = self._result(segment, before, after)
            self._histories[segment] = History(list(after.rounds), [*kept, after], len(after.rounds))
            return result

        self._segmenter.submit(pending, begin, finish)
        return pending

    def uncertainty_async(
        self, segment: str, done: Callable[[Pending[Array]], None] | None = None
    ) -> Pending[Array] | None:
        """`uncertainty` that does not wait; None where there is nothing to be uncertain of."""
        prediction = self._known(segment).current
        if prediction is None:
            return None
        return self._segmenter.submit_uncertainty(Pending(self.worker, callback=done), prediction)

    def prefetch(self, ras: tuple[float, float, float]) -> Pending[bool] | None:
        """Has the worker look, while it has nothing else to do, at what a click at `ras` mm would make it look at.

        For the point under a view's centre, when the view has come to rest; any prompt takes precedence. The result
        says whether it was done. None, and nothing is done, while the worker is at work or the point is outside.
        """
        if self.worker.busy or not bool(self.volume.contains(ras)):
            return None
        point = Point(ras)

        def request() -> Message:
            return {"op": "prefetch", "session": self._channel.key, "ras": list(point.ras)}

        def answer(message: Message) -> bool:
            return message.get("prefetched") is True

        pending: Pending[bool] = Pending(self.worker)
        return self.worker.submit(Job(self._channel, request, answer, pending, background=True))

    def warm(self) -> Pending[bool]:
        """Starts the worker, hands the volume over and loads the model, without waiting: before the first prompt."""
        pending = self.worker.warm(self._channel)
        self.worker.poll()
        return pending

    @property
    def identity(self) -> ModelIdentity | None:
        """Of the model in the worker, as far as it is known yet; `model.identity` waits for it."""
        return self._channel.identity

    def poll(self, timeout: float = 0.0) -> None:
        """Takes what has come from the worker, and calls back; waits at most `timeout` seconds."""
        self.worker.poll(timeout)

    @property
    def busy(self) -> bool:
        """Whether something is under way, so that `poll` has to be called."""
        return self.worker.busy

    def close(self, wait: bool = False) -> None:
        """Cancels what is under way and lets go of the worker's memory. What was segmented stays as it is.

        `wait` until voxels that are being copied are there, so that their memory is let go of now and not some day.
        """
        self._channel.closed = True
        self.worker.forget(self._channel)
        if wait:
            self._channel.let_go(wait=True)
        if self._owned:
            self.worker.close()

    def undo(self, segment: str) -> Result | None:
        """See `SegmentationSession.undo`. Raises FoundationSegError while the segment is being predicted."""
        self._require_idle(segment)
        return super().undo(segment)

    def redo(self, segment: str) -> Result | None:
        """See `SegmentationSession.redo`. Raises FoundationSegError while the segment is being predicted."""
        self._require_idle(segment)
        return super().redo(segment)

    def reset(self, segment: str) -> Result | None:
        """See `SegmentationSession.reset`. Raises FoundationSegError while the segment is being predicted."""
        self._require_idle(segment)
        return super().reset(segment)

    def remove(self, segment: str) -> None:
        """See `SegmentationSession.remove`. Raises FoundationSegError while the segment is being predicted."""
        self._require_idle(segment)
        super().remove(segment)

    def _require_idle(self, segment: str) -> None:
        if self._running is not None and self._running[0] == segment and not self._running[1].done:
            raise FoundationSegError(f"{segment!r} is being predicted; cancel that first, or wait for it.")
