# SPDX-License-Identifier: Apache-2.0
"""For tests of the worker: a small volume, models that misbehave on a negative click, a worker that says wrong things.

`python worker_case.py WRONG -m FoundationSegLib.worker ...` runs the worker with what WRONG names gone wrong.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from FoundationSegLib import Point, SegmentationSession, TextPrompt, Volume
from FoundationSegLib.errors import PromptError
from FoundationSegLib.predictor import Array, Decoded, Embedding, EmbeddingCache, GridPrompts
from FoundationSegLib.region_segmenter import RegionModel
from FoundationSegLib.segmenter import Prediction
from FoundationSegLib.worker import WorkerSession, WorkerSettings, blocks

HERE = Path(__file__).resolve().parent
SHARED_MEMORY = Path("/dev/shm")
OWN_PREFIX = f"fseg_{os.getpid()}_"


def small_volume() -> Volume:
    """A bright block in noise, oblique and anisotropic."""
    rng = np.random.default_rng(0)
    voxels = rng.normal(0, 5, (20, 32, 28)).astype(np.float32)
    voxels[6:14, 8:22, 8:20] += 100
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn * (1.0, 1.25, 2.0)
    matrix[:3, 3] = (-20.0, 31.0, 7.0)
    return Volume(voxels, matrix, "CT")


VOLUME = small_volume()


def at(*kji: float, positive: bool = True) -> Point:
    return Point(tuple(VOLUME.kji_to_ras(np.array(kji, dtype=float)).tolist()), positive)


ON = at(10, 14, 14)  # on the block
OFF = at(10, 20, 18, positive=False)  # on its corner: takes that away, or sets off the trouble


class Trouble:
    """Bright voxels, nearer to a positive click than to any negative one; a negative click sets off the trouble."""

    def __init__(self, kind: str, grid_size: int = 16) -> None:
        from bright_predictor import BrightPredictor

        self._bright = BrightPredictor()
        self.kind, self.grid_size, self.identity = kind, grid_size, BrightPredictor.identity

    def prepare(self, volume: Any, frame: Any, region: Any) -> Array:
        return self._bright.prepare(volume, frame, region)

    def encode(self, prepared: Array) -> Embedding:
        return self._bright.encode(prepared)

    def decode(self, embedding: Embedding, prompts: GridPrompts, previous_logits: Array | None) -> Decoded:
        if self.kind and (prompts.point_labels == 0).any():
            TROUBLES[self.kind]()
        decoded = self._bright.decode(embedding, prompts, previous_logits)
        if previous_logits is None:
            return decoded
        return Decoded(decoded.logits + previous_logits / 4, decoded.predicted_iou)  # every round leaves its trace


def hang() -> None:
    """Busy with something that looks at no cancel token, for longer than any test takes."""
    time.sleep(100)


def dawdle() -> None:
    """Long enough for the parent to hear of the stage and to cancel in it."""
    time.sleep(1)


def fall_silent() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def want_memory() -> None:
    """More than the limit that its test sets, as one array."""
    np.ones(2**32, np.uint8)


def crash() -> None:
    import ctypes

    ctypes.string_at(0)


def fail() -> None:
    raise ValueError("a defect of the model")


def chatter() -> None:
    """Writes to stdout as Python does and as native code does; more than a pipe holds."""
    print('{"event": "result"}', flush=True)
    os.write(1, b"native noise\n" * 20_000)


def call_home() -> None:
    import socket

    socket.create_connection(("127.0.0.1", 9), timeout=1)


TROUBLES = {
    "hang": hang,
    "dawdle": dawdle,
    "fall_silent": fall_silent,
    "want_memory": want_memory,
    "crash": crash,
    "fail": fail,
    "chatter": chatter,
    "call_home": call_home,
}


def good(device: str) -> RegionModel:
    return RegionModel(Trouble(""))  # type: ignore[arg-type]


class Named:
    """Knows the bright block by name, and its lower half; a point takes the slice that it is in away."""

    identity = replace(good("cpu").identity, name="named")

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> NamedSegmenter:
        return NamedSegmenter(volume)


@dataclass(frozen=True)
class NamedSegmenter:
    volume: Volume

    def predict(self, rounds: Any, previous: Any, cancel: Any = None, progress: Any = None) -> Prediction:
        prompts = [prompt for round_ in rounds for prompt in round_]
        names = [prompt.text for prompt in prompts if isinstance(prompt, TextPrompt)]
        if not names or names[-1] not in ("block", "half"):
            raise PromptError("The names are: block, half.")
        mask = self.volume.array > 50
        if names[-1] == "half":
            mask[10:] = False
        for prompt in prompts:
            if isinstance(prompt, Point):
                mask[round(self.volume.ras_to_kji(np.array(prompt.ras))[0])] = False
        k, j, i = mask.shape
        box = (slice(0, k), slice(0, j), slice(0, i))
        return Prediction(predicted_iou=None, box=box, mask=mask, region_box=box)

    def uncertainty(self, prediction: Prediction) -> Array:
        return np.zeros(prediction.mask.shape, np.float32)


def named(device: str) -> Named:
    return Named()


def model_of(kind: str) -> str:
    """The name by which a worker makes a model with a trouble."""
    return f"worker_case:model_{kind}"


def __getattr__(name: str) -> Any:
    """`model_hang` and the like, made when a worker asks for them."""
    kind = name.removeprefix("model_")
    if kind == name or kind not in TROUBLES:
        raise AttributeError(name)
    return lambda device: RegionModel(Trouble(kind))  # type: ignore[arg-type]


def settings(**changes: Any) -> WorkerSettings:
    """A worker that finds this module."""
    # Apart from other processes' that run the same tests; the process that asks is a parent, whose names count.
    blocks.NAME_PREFIX = OWN_PREFIX
    environment = {**os.environ, "PYTHONPATH": os.fspath(HERE)}  # with variables that a test has set
    return WorkerSettings(**{"environment": environment, "threads": 1, **changes})


def session(model: str = "worker_case:good", volume: Volume = VOLUME, **changes: Any) -> WorkerSession:
    return WorkerSession(volume, model, "cpu", settings=settings(**changes))


def in_process() -> SegmentationSession:
    return SegmentationSession(VOLUME, good("cpu"))


def left_behind() -> list[str]:
    """Names of shared memory that exist; empty where the system does not show them."""
    return sorted(path.name for path in SHARED_MEMORY.glob(f"{OWN_PREFIX}*"))


def run_wrong(wrong: str) -> None:
    """The real worker but for one thing that it says."""
    import FoundationSegLib
    from FoundationSegLib.worker import server, wire

    send = server.Server.send

    def garbled(self: Any, event: str, **rest: Any) -> None:
        if wrong == "die" and event == "progress" and rest["stage"] == os.environ.get("DIE_IN"):
            os.kill(os.getpid(), signal.SIGKILL)
        if event == "result" and "box" in rest:
            match wrong:
                case "garbage":
                    os.write(self._target, b"\x00\xff\xfe what is this\n")
                case "endless":
                    os.write(self._target, b"x" * (wire.LINE_LIMIT + 2))
                case "box":
                    rest["box"] = [[0, 1000], [0, 1], [0, 1]]
                case "bits":
                    rest["crc"] += 1
                case "half":
                    os.write(self._target, b'{"event":"resu')
                    os._exit(0)
        send(self, event, **rest)

    server.Server.send = garbled  # type: ignore[method-assign]
    match wrong:
        case "version":
            FoundationSegLib.__version__ = server.__version__ = "0.0.0"
        case "noise":
            print("a launcher says good morning", flush=True)
        case "mute":
            time.sleep(100)
        case "fleeting":
            server.Server.run = lambda self, idle_s: None  # type: ignore[method-assign]
        case "no worker":
            sys.exit("there is nothing here")
    server.main(sys.argv[sys.argv.index("-m") + 2 :])


if __name__ == "__main__":
    run_wrong(sys.argv[1])
