# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to a worker: one sentence, the segment as it was, and the next prompt works."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from FoundationSegLib import Cancelled, CancelToken, FoundationSegError, ModelError, SegmentationSession, Volume
from FoundationSegLib.errors import ModelTooLarge
from FoundationSegLib.predictor import EmbeddingCache
from FoundationSegLib.worker import WorkerError, WorkerSession, blocks
from worker_case import HERE, OFF, ON, VOLUME, at, in_process, left_behind, model_of, session, settings

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform == "win32", reason="kills and stops processes by signals"),
]


@pytest.fixture(scope="module")
def expected() -> list[np.ndarray]:
    """Masks after a click, and after another one on the block."""
    here = in_process()
    here.add("s", ON)
    first = here.mask("s")
    here.add("s", at(7, 10, 10))
    return [first, here.mask("s")]


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    before = left_behind()
    yield
    assert left_behind() == before


def one_sentence(error: FoundationSegError) -> str:
    text = str(error)
    assert "\n" not in text and "Traceback" not in text and text.endswith(".") and 20 < len(text) < 700, text
    return text


def goes_on(there: WorkerSession, expected: list[np.ndarray], rounds: int = 1) -> None:
    """The segment is as it was, and the next prompt gives the bits that it gives in process."""
    if rounds:
        assert len(there.rounds("s")) == rounds and np.array_equal(there.mask("s"), expected[rounds - 1])
    else:
        assert there.segments() == []
    for number, prompt in enumerate((ON, at(7, 10, 10))):
        if number >= rounds:
            there.add("s", prompt)
            assert np.array_equal(there.mask("s"), expected[number])


def kill(there: WorkerSession, how: int = signal.SIGKILL) -> None:
    assert there.worker.pid is not None
    os.kill(there.worker.pid, how)


def test_killed_in_any_stage(expected: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker kills itself as it enters the stage; the parent could only guess when that is."""
    with session() as there:
        for stage in ("crop", "encode", "decode", "voxels"):
            monkeypatch.setenv("DIE_IN", stage)
            script = (sys.executable, os.fspath(HERE / "worker_case.py"), "die")
            there.worker.settings = settings(python=script)
            with pytest.raises(WorkerError, match="killed by SIGKILL") as info:
                there.add("s", ON)
            one_sentence(info.value)
        monkeypatch.delenv("DIE_IN")
        there.worker.settings = settings()
        goes_on(there, expected, 0)
        assert there.worker.starts <= 6, "one that died before it said anything was not heard of, and replaced"


def test_killed_while_it_starts_or_opens_or_idles(expected: list[np.ndarray]) -> None:
    with session() as there:
        pending = there.add_async("s", ON)
        kill(there)  # the interpreter has hardly begun
        with pytest.raises(WorkerError, match="ended unexpectedly") as info:
            pending.wait()
        one_sentence(info.value)
        pending = there.add_async("s", ON)
        while there.worker._opening is None:
            there.poll(0.01)
        kill(there)
        with pytest.raises(WorkerError, match="ended unexpectedly"):
            pending.wait()
        goes_on(there, expected, 0)
        starts = there.worker.starts
        there.undo("s")
        kill(there)  # nobody waits for it: nobody is told
        goes_on(there, expected, 1)
        kill(there)
        here = in_process()
        here.add("s", ON)
        here.add("s", at(7, 10, 10))
        assert np.array_equal(there.uncertainty("s"), here.uncertainty("s")), "made again from the prompts"
        assert there.worker.starts == starts + 2


def test_cancelled_but_deaf(expected: list[np.ndarray]) -> None:
    """It is killed, and the caller has control within 200 ms; the next one starts by itself."""
    with session(model_of("hang")) as there:
        there.add("s", ON)
        first, token, at_once = there.worker.pid, CancelToken(), [0.0]

        def cancel(stage: str, fraction: float) -> None:
            if stage == "decode" and not token.cancelled:
                at_once[0] = time.perf_counter()
                token.cancel()

        with pytest.raises(Cancelled):
            there.add("s", OFF, cancel=token, progress=cancel)
        assert time.perf_counter() - at_once[0] < 0.2
        while there.busy:
            there.poll(0.05)
        assert there.worker.pid not in (None, first), "another one is warm"
        goes_on(there, expected)
        assert there.worker.starts == 2


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("crash", WorkerError, "Segmentation fault"),
        ("fail", WorkerError, "ValueError: a defect of the model"),
        ("want_memory", ModelTooLarge, "not enough memory"),
        ("fall_silent", WorkerError, "said nothing for 1.5 s"),
        ("hang", WorkerError, "took longer than 1 s"),
        ("call_home", ModelError, "may not"),
    ],
)
def test_a_model_in_trouble(kind: str, error: type[FoundationSegError], words: str, expected: list[np.ndarray]) -> None:
    limits = {
        "fall_silent": {"stall_s": 1.5},
        "hang": {"limit_s": 1.0},
        "want_memory": {"memory_bytes": 3 * 2**30},
    }
    with session(model_of(kind), **limits.get(kind, {})) as there:
        there.add("s", ON)
        with pytest.raises(error, match=re.escape(words)) as info:
            there.add("s", OFF)
        one_sentence(info.value)
        goes_on(there, expected)


def test_stray_prints_do_no_harm(expected: list[np.ndarray]) -> None:
    with session(model_of("chatter")) as there:
        there.add("s", ON)
        there.add("s", OFF)
        there.undo("s")
        goes_on(there, expected)
        assert there.worker.starts == 1 and "native noise" in there.worker._link.tail()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("garbage", "not a message"),
        ("endless", "not a message"),
        ("box", "beyond the volume"),
        ("bits", "not those that were sent"),
        ("half", "ended unexpectedly"),
        ("version", "runs FoundationSeg 0.0.0"),
        ("mute", "did not start within 1 s"),
        ("fleeting", "ended unexpectedly"),
        ("no worker", "there is nothing here"),
        ("noise", ""),
    ],
)
def test_a_worker_that_says_wrong_things(wrong: str, words: str, expected: list[np.ndarray]) -> None:
    script = (sys.executable, os.fspath(HERE / "worker_case.py"), wrong)
    with session(python=script, start_s=1.0 if wrong == "mute" else 60.0) as there:
        if words:
            with pytest.raises(WorkerError, match=words) as info:
                there.add("s", ON)
            one_sentence(info.value)
            there.worker.settings = settings()
        if wrong in ("garbage", "version", "noise"):
            goes_on(there, expected, 0)


def test_no_python() -> None:
    with session(python="/nowhere/python") as there, pytest.raises(WorkerError, match="could not be started") as info:
        there.add("s", ON)
    one_sentence(info.value)


def test_wrong_model_or_device() -> None:
    with pytest.raises(ModelError, match="There is no model"):
        WorkerSession(VOLUME, "unheard-of")
    with session("worker_case:unheard_of") as there, pytest.raises(ModelError, match="no worker_case:unheard_of"):
        there.add("s", ON)
    with WorkerSession(VOLUME, "compact", "abacus") as there:
        for _ in range(2):
            with pytest.raises(ModelError, match="abacus") as worker_error:
                there.add("s", ON)
        with pytest.raises(ModelError) as error:
            SegmentationSession(VOLUME, "compact", "abacus")
        assert str(worker_error.value) == str(error.value) and there.worker.starts == 1


def test_no_shared_memory_left(monkeypatch: pytest.MonkeyPatch, expected: list[np.ndarray]) -> None:
    """Without a reservation the copying would end the whole application with SIGBUS."""
    reserve = blocks.Reservation.make

    def full(self: blocks.Reservation) -> None:
        reserve(self)
        raise OSError(28, "No space left on device")

    with session() as there:
        monkeypatch.setattr(blocks.Reservation, "make", full)
        with pytest.raises(WorkerError, match="no shared memory") as info:
            there.add("s", ON)
        one_sentence(info.value)
        monkeypatch.undo()
        goes_on(there, expected, 0)


def test_another_device_after_a_restart_is_said(expected: list[np.ndarray]) -> None:
    """The worker makes the state anew and finds another mask than the parent has: it says so, and sends all of it."""
    with session() as there:
        there.add("s", ON)
        history = there._histories["s"]
        mask = history.predictions[0].mask.copy()
        mask[0] ^= True
        object.__setattr__(history.predictions[0], "mask", mask)
        kill(there)
        result = there.add("s", at(7, 10, 10))
        assert any("anew with small differences" in warning for warning in result.warnings)
        assert np.array_equal(there.mask("s"), expected[1])


def test_other_volumes_and_caches_are_not_mixed_up() -> None:
    with session() as there:
        other = Volume(VOLUME.array + 1, VOLUME.ijk_to_ras)
        with pytest.raises(WorkerError, match="another volume"):
            there.model.segmenter(other, EmbeddingCache())
        prediction = there.model.segmenter(VOLUME, EmbeddingCache()).predict(((ON,),), None)
        assert prediction.mask.any() and there.segments() == []


def test_path_of_the_interpreter_with_a_launcher(tmp_path: Path, expected: list[np.ndarray]) -> None:
    """As PythonSlicer: what is started is not what computes, and killing it must reach the other."""
    launcher = tmp_path / "launcher"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\n')
    launcher.chmod(0o755)
    with session(model_of("fall_silent"), python=os.fspath(launcher)) as there:  # deaf to the end of its input, too
        there.add("s", ON)
        pid, token = there.worker.pid, CancelToken()
        assert pid != there.worker._link._process.pid
        with pytest.raises(Cancelled):
            there.add("s", OFF, cancel=token, progress=lambda stage, _: token.cancel() if stage == "decode" else None)
        until = time.monotonic() + 10
        while Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < until:
            if Path(f"/proc/{pid}/cmdline").read_bytes() == b"":
                break  # dead, and not yet collected
            time.sleep(0.01)
        else:
            assert not Path(f"/proc/{pid}").exists()
        goes_on(there, expected)
