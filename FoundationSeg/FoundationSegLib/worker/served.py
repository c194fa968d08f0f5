# SPDX-License-Identifier: Apache-2.0
"""A session as the worker holds it: a volume in shared memory, a model, and the states that rounds go on from."""

from __future__ import annotations

import importlib
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..catalogue import load_model
from ..errors import ModelError
from ..predictor import CancelToken, EmbeddingCache, Progress
from ..prompts import Point, Round
from ..segmenter import Model, Prediction
from ..session import changed_box
from ..volume import Volume, checked_matrix
from .blocks import Block
from .wire import Message, box_shape, digest, pack, round_from_list

# States used last. What is older is made again from its prompts if the user goes back so far.
_STATES_KEPT = 32


class MissingState(Exception):
    """The request builds on a state that is not here and does not say how to make it."""


@dataclass(frozen=True)
class _State:
    rounds: tuple[Round, ...]
    prediction: Prediction


class ServedSession:
    """One volume with one model. `blocks` must be closed after the session is gone."""

    def __init__(self, request: Message, voxels: Block, mailbox: Block) -> None:
        """Raises ModelError as `load_model` does."""
        self.blocks = [voxels, mailbox]
        self._mailbox = mailbox.array((request["mailbox_bytes"],))
        self._volume = _known_volume(
            voxels.array(tuple(request["shape"]), request["dtype"], writable=False),
            checked_matrix(request["ijk_to_ras"]),
            request["modality"],
        )
        if (known := request.get("fingerprint")) is not None:
            vars(self._volume)["fingerprint"] = known  # computed by the parent already
        model = _model(request["model"], request["device"], request["checkpoint"])
        self.identity: Message = asdict(model.identity)
        self._segmenter = model.segmenter(self._volume, EmbeddingCache())
        self._states: OrderedDict[int, _State] = OrderedDict()

    def predict(self, request: Message, cancel: CancelToken, progress: Progress) -> Message:
        """A round on top of the state `after`; the new state is kept under `key`."""
        start = time.perf_counter()
        before, warnings = self._before(request, cancel, progress)
        rounds = (*(before.rounds if before is not None else ()), round_from_list(request["round"]))
        previous = None if before is None else before.prediction
        after = self._segmenter.predict(rounds, previous, cancel, progress)
        self._keep(request["key"], _State(rounds, after))
        # A state that was made again with other bits is no base for the parent, whose mask is the older one.
        base = None if warnings else previous
        changed = changed_box(base, after)
        reply = pack(after, changed, self._mailbox)
        reply["based"] = base is not None
        reply["warnings"] += warnings
        return {**reply, "seconds": time.perf_counter() - start}

    def uncertainty(self, request: Message, cancel: CancelToken) -> Message:
        """Written to the block `out`, float32."""
        state, _ = self._before(request, cancel, None)
        assert state is not None, "only asked for a state"
        values = np.ascontiguousarray(self._segmenter.uncertainty(state.prediction), dtype=np.float32)
        if values.shape != box_shape(state.prediction.region_box):
            raise ModelError("The model's uncertainty has another shape than what it looked at; report this.")
        out = Block.attach(request["out"])
        out.remove_name()
        out.array(values.shape, np.float32)[:] = values
        out.close()
        return {"shape": list(values.shape)}

    def prefetch(self, ras: list[float], cancel: CancelToken) -> None:
        """What a lone click there would make, so that its embeddings are at hand; the answer itself is not kept."""
        r, a, s = ras
        self._segmenter.predict(((Point((r, a, s)),),), None, cancel, None)

    def _before(
        self, request: Message, cancel: CancelToken, progress: Progress | None
    ) -> tuple[_State | None, list[str]]:
        """The state `after`, made again if the request says how; with a warning if that came out differently."""
        key = request["after"]
        if key is None:
            return None, []
        if (known := self._states.get(key)) is not None:
            self._states.move_to_end(key)
            return known, []
        if "rounds" not in request:
            raise MissingState
        rounds = tuple(round_from_list(items) for items in request["rounds"])
        keys: list[int] = request["keys"]
        done = next((n for n in range(len(keys), 0, -1) if keys[n - 1] in self._states), 0)
        state = self._states[keys[done - 1]] if done else None
        for n in range(done, len(keys)):
            if progress is not None:
                progress("restore", 0.0)
            previous = None if state is None else state.prediction
            prediction = self._segmenter.predict(rounds[: n + 1], previous, cancel, None)
            state = _State(rounds[: n + 1], prediction)
            self._keep(keys[n], state)
        assert state is not None, "there is a round for every key"
        if digest(state.prediction) == request["digest"]:
            return state, []
        return state, [
            "The worker was restarted and made the mask of the rounds before anew with small differences, because it "
            "runs on another device than before; look at the mask again."
        ]

    def _keep(self, key: int, state: _State) -> None:
        self._states[key] = state
        self._states.move_to_end(key)
        while len(self._states) > _STATES_KEPT:
            self._states.popitem(last=False)


def _known_volume(voxels: npt.NDArray[Any], ijk_to_ras: npt.NDArray[np.float64], modality: str | None) -> Volume:
    """A Volume that is not looked through: the parent's own was, and doing so again would touch every page of it."""
    volume = object.__new__(Volume)
    for name, value in (("array", voxels), ("ijk_to_ras", ijk_to_ras), ("modality", modality), ("warnings", ())):
        object.__setattr__(volume, name, value)
    object.__setattr__(volume, "name", "volume")  # the user's name for it is not handed over
    return volume


def _model(name: str, device: str, checkpoint: str | None) -> Model:
    """A model of the catalogue, or what the function "package.module:function" makes for a device."""
    module, colon, function = name.partition(":")
    if not colon:
        return load_model(name, device, None if checkpoint is None else Path(checkpoint))
    try:
        make: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"There is no {name} in the worker's Python ({error}); see its environment.") from error
    return make(device)
