# SPDX-License-Identifier: Apache-2.0
"""The session in a worker process: the same bits as in process, without waiting, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slicerio
from FoundationSegLib import (
    Cancelled,
    CancelToken,
    FoundationSegError,
    MaskPrompt,
    ModelError,
    PromptError,
    SegmentationSession,
    Volume,
)
from FoundationSegLib.segmentation_io import read_segmentation
from FoundationSegLib.worker import Pending, Worker, WorkerSession, WorkerSettings, wire
from FoundationSegLib.worker.blocks import Block
from FoundationSegLib.worker.settings import default_python, physical_cores
from worker_case import HERE, OFF, ON, SHARED_MEMORY, VOLUME, at, in_process, left_behind, model_of, session, settings

pytestmark = pytest.mark.timeout(120)
CT = Path(slicerio.__file__).parent / "data" / "CTChest4.nrrd"


@pytest.fixture
def clean() -> Iterator[None]:
    """Nothing is left in shared memory."""
    before = left_behind()
    yield
    assert left_behind() == before


def wait_for(pending: Pending, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not pending.done and time.monotonic() < until:
        time.sleep(0.005)
        pending._worker.poll()
    assert pending.done


def same(one: SegmentationSession, other: SegmentationSession, segment: str) -> bool:
    return (
        np.array_equal(one.mask(segment), other.mask(segment))
        and np.array_equal(one.uncertainty(segment), other.uncertainty(segment))
        and one.rounds(segment) == other.rounds(segment)
    )


def test_every_call_gives_the_same_as_in_process(clean: None, tmp_path: Path) -> None:
    here, stages = in_process(), []
    with session() as there:
        for each in (here, there):
            each.add("a", ON)
            each.add("b", at(8, 12, 12))
        for prompt in (OFF, at(7, 10, 10)):
            one = here.add("a", prompt)
            other = there.add("a", prompt, progress=lambda stage, _: stages.append(stage))
            assert replace(one, timings={}) == replace(other, timings={}) and set(one.timings) == set(other.timings)
            assert same(here, there, "a")
        assert {"decode", "voxels", "done"} <= set(stages)
        for step in ("undo", "undo", "redo", "reset", "redo"):
            one, other = getattr(here, step)("a"), getattr(there, step)("a")
            assert one is not None and other is not None
            assert replace(one, timings={}) == replace(other, timings={}) and same(here, there, "a")
        assert there.replay("a", [(ON,), (OFF,)]) and same(there, here, "b")
        mask = MaskPrompt(here.mask("b") & (np.indices(VOLUME.shape).sum(axis=0) % 3 > 0))
        assert len(wire.to_line({"round": wire.round_to_list((mask,))})) > 300, "runs"
        for each in (here, there):
            each.add("c", mask)
            each.remove("b")
        assert same(here, there, "c") and there.segments() == ["a", "c"]
        ours, theirs = (each.provenance("a") for each in (here, there))
        assert ours["model"] == theirs["model"] and ours["volume"] == theirs["volume"]
        there.save(tmp_path / "out.seg.nrrd")
        saved = {record.name: record for record in read_segmentation(tmp_path / "out.seg.nrrd").records}
        assert np.array_equal(saved["c"].mask, here.mask("c")) and set(saved["a"].tags) >= set(here.tags("a"))
        with pytest.raises(PromptError, match="negative"):
            there.add("d", OFF)
        with pytest.raises(PromptError, match="No prompt"):
            there.add("d")
        assert there.worker.starts == 1
    assert there.mask("c").any(), "what was segmented outlives the worker"


@pytest.mark.timeout(300)
def test_embedded_model_gives_the_same_bits_also_after_its_worker_was_killed(clean: None) -> None:
    """On a small part of a real CT. The second worker makes the first round anew, to go on from it."""
    whole = Volume.read(CT)
    volume = Volume(whole.array[12:28, 56:88, 70:100], whole.ijk_to_ras, "CT")
    points = [replace(ON, ras=tuple(volume.kji_to_ras(np.array(kji)).tolist())) for kji in ([8, 14, 15], [8, 4, 4])]
    points[1] = replace(points[1], positive=False)
    here = SegmentationSession(volume, device="cpu")
    with WorkerSession(volume, device="cpu") as there:
        for number, point in enumerate(points):
            here.add("s", point)
            there.add("s", point)
            if number == 0:
                os.kill(there.worker.pid or 0, signal.SIGTERM)
            assert np.array_equal(here.mask("s"), there.mask("s")) and here.mask("s").any()
        assert np.array_equal(here.uncertainty("s"), there.uncertainty("s"))
        assert there.worker.starts == 2 and there.model.identity == here.model.identity
        assert not there._result("s", None, there._histories["s"].current).warnings


def test_a_panel_polls_and_is_called_back(clean: None) -> None:
    told: list[str] = []
    with session() as there:
        start = time.perf_counter()
        first = there.add_async("s", ON, progress=lambda stage, _: told.append(stage), done=lambda p: told.append("1"))
        second = there.add_async("s", OFF, done=lambda pending: told.append(str(pending.result().segment)))
        with pytest.raises(FoundationSegError, match="not done yet"):
            first.result()
        assert there.busy and time.perf_counter() - start < 1, "submitting does not wait for the worker"
        wait_for(second)
        assert first.done and not there.busy
        assert told.index("crop") < told.index("done") < told.index("1") < told.index("s")
        assert len(there.rounds("s")) == 2, "the second click built on the first one"
        shown = there.uncertainty_async("s")
        assert shown is not None
        wait_for(shown)
        here = in_process()
        here.add("s", ON)
        here.add("s", OFF)
        assert np.array_equal(shown.result(), here.uncertainty("s")) and same(here, there, "s")
        assert there.worker.fileno() is not None


def test_a_callback_may_use_the_session(clean: None) -> None:
    with session() as there:
        masks = []
        pending = there.add_async("s", ON, done=lambda _: masks.append(there.add("s", OFF)))
        wait_for(pending)
        assert len(masks) == 1 and len(there.rounds("s")) == 2


def test_a_segment_that_is_predicted_cannot_be_undone_meanwhile(clean: None) -> None:
    with session(model_of("hang")) as there:
        there.add("s", ON)
        stages: list[str] = []
        pending = there.add_async("s", OFF, progress=lambda stage, _: stages.append(stage))
        until = time.monotonic() + 60
        while "decode" not in stages and time.monotonic() < until:
            there.poll(0.05)
        for change in (there.undo, there.redo, there.reset, there.remove):
            with pytest.raises(FoundationSegError, match="being predicted"):
                change("s")
        assert there.undo("other") is None
        pending.cancel()
        wait_for(pending)
        assert pending.cancelled and len(there.rounds("s")) == 1
        assert there.undo("s") is not None and there.redo("s") is not None


def test_cancelled_while_it_waits_or_runs(clean: None) -> None:
    with session(model_of("dawdle"), grace_s=60.0) as there:
        token = CancelToken()
        token.cancel()
        with pytest.raises(Cancelled):
            there.add("s", ON, cancel=token)
        assert there.segments() == []
        there.add("s", ON)
        token, pid = CancelToken(), there.worker.pid
        with pytest.raises(Cancelled):
            there.add("s", OFF, cancel=token, progress=lambda stage, _: stage == "decode" and token.cancel())
        assert len(there.rounds("s")) == 1 and there.worker.pid == pid, "it yielded and lives on"
        there.add("s", OFF)


def test_prefetch_makes_the_click_cheaper_and_gives_way(clean: None) -> None:
    with session() as there:
        fetched = there.prefetch(ON.ras)
        assert fetched is not None and there.prefetch(ON.ras) is None, "the worker is at work"
        assert fetched.wait() is True
        assert "encode" not in there.add("s", ON).timings, "the embeddings are at hand"
        assert there.prefetch((1e4, 0, 0)) is None, "there is nothing to look at"
        again = there.prefetch(at(2, 2, 2).ras)
        there.add("s", OFF)
        assert again is not None and again.done
        here = in_process()
        here.add("s", ON)
        here.add("s", OFF)
        assert same(here, there, "s")


def test_sessions_share_a_worker(clean: None) -> None:
    worker = Worker(settings())
    other = Volume(VOLUME.array[::-1].copy(), VOLUME.ijk_to_ras)
    try:
        one = WorkerSession(VOLUME, "worker_case:good", worker=worker)
        two = WorkerSession(other, "worker_case:good", worker=worker)
        one.add("s", ON)
        two.add("s", ON)
        one.close()
        with pytest.raises(FoundationSegError, match="another volume"):
            one.model.segmenter(other, one.cache)
        two.add("s", OFF)
        three = WorkerSession(VOLUME, "worker_case:good", worker=worker)
        three.warm()
        three.close()  # a model that is being loaded is not waited for
        two.add("s", at(7, 10, 10))
        assert worker.starts <= 2 and len(two.rounds("s")) == 3 and one.mask("s").any()
    finally:
        worker.close()
    with pytest.raises(FoundationSegError, match="closed"):
        two.add("s", ON)


def test_an_idle_worker_ends_and_another_one_goes_on(clean: None) -> None:
    here = in_process()
    with session(idle_s=0.2) as there:
        there.add("s", ON)
        pid = there.worker.pid
        until = time.monotonic() + 30
        while there.worker.pid is not None and time.monotonic() < until:
            time.sleep(0.05)
            there.poll()
        assert there.worker.pid is None, "poll notices"
        there.add("s", OFF)
        assert there.worker.starts == 2 and there.worker.pid != pid
    here.add("s", ON)
    here.add("s", OFF)
    assert np.array_equal(here.mask("s"), there.mask("s"))


def test_a_thousand_prompts_without_growth(clean: None) -> None:
    """Of the worker's memory and of shared memory; the parent keeps only what undo needs of the segments that exist."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("memory is measured through /proc")

    def size(pid: int | None) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    with session() as there:
        first: dict[str, int] = {}
        for number in range(1000):
            there.add("s", (ON, OFF, at(7, 10, 10))[number % 3 if number % 20 else 0])
            if number % 20 == 19:
                there.remove("s")
                assert left_behind() == []
            if number == 199:
                first = {"worker": size(there.worker.pid), "parent": size(os.getpid())}
        assert there.worker.starts == 1
        assert size(there.worker.pid) - first["worker"] < 10_000, "kB"
        assert size(os.getpid()) - first["parent"] < 10_000, "kB"


def test_states_that_the_worker_dropped_are_made_again(clean: None) -> None:
    """It keeps the last 32; who undoes further and goes on from there gets the same as ever."""
    here, prompts = in_process(), [ON, OFF, *(at(7, 8 + n / 10, 10) for n in range(36))]
    with session() as there:
        for prompt in prompts:
            here.add("s", prompt)
            there.add("s", prompt)
        for _ in range(36):
            here.undo("s")
            there.undo("s")
        for each in (here, there):
            each.add("s", at(12, 10, 10))
        assert there.worker.starts == 1 and same(here, there, "s")


def test_nothing_is_left_when_the_parent_is_killed() -> None:
    """The worker ends by itself, and no name stays in shared memory."""
    code = (
        "import os, sys, worker_case as c\n"
        "s = c.session(); s.add('s', c.ON)\n"
        "p = s.warm(); q = c.WorkerSession(c.VOLUME, 'worker_case:good', worker=s.worker); q.warm()\n"
        "print(s.worker.pid, c.OWN_PREFIX, flush=True); os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=HERE, timeout=90)
    worker, prefix = int(result.stdout.split()[0]), result.stdout.split()[1]
    until = time.monotonic() + 30
    while (alive := _alive(worker)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive and not list(SHARED_MEMORY.glob(f"{prefix}*"))


def _alive(pid: int) -> bool:
    """A process that is dead but not yet collected does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_handing_over_a_large_volume_does_not_hold_up_the_caller(clean: None) -> None:
    voxels = np.zeros((100, 512, 512), np.int16)  # 52 MB
    voxels[::7] = 1000
    with session(volume=Volume(voxels, np.eye(4))) as there:
        start = time.thread_time()
        there.warm()
        held_up = time.thread_time() - start
        assert there.warm().wait() is True
    assert held_up < 0.05, "seconds of this thread's own work, starting a process included"


def test_environment_of_the_worker() -> None:
    variables = WorkerSettings(environment={}).variables()
    assert variables["OMP_NUM_THREADS"] == str(physical_cores()) and 1 <= physical_cores() <= (os.cpu_count() or 1)
    assert variables["HF_HUB_OFFLINE"] == "1" and variables["PYTHONSAFEPATH"] == "1"
    assert ("MALLOC_TRIM_THRESHOLD_" in variables) == (sys.platform == "linux")
    assert "HF_HUB_OFFLINE" not in WorkerSettings(environment={}, network=True).variables()
    assert WorkerSettings(environment={"OMP_NUM_THREADS": "3"}).variables()["OMP_NUM_THREADS"] == "3"
    assert WorkerSettings(environment={}, threads=2).variables()["MKL_NUM_THREADS"] == "2"


def test_python_is_found_beside_the_application(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    suffix = ".exe" if sys.platform == "win32" else ""
    slicer = tmp_path / "bin" / f"PythonSlicer{suffix}"
    monkeypatch.setattr(sys, "executable", os.fspath(tmp_path / f"SlicerApp-real{suffix}"))
    with pytest.raises(FoundationSegError, match="not found beside the application"):
        default_python()
    slicer.parent.mkdir()
    slicer.touch()
    assert default_python() == os.fspath(slicer)
    monkeypatch.setattr(sys, "executable", os.fspath(slicer))
    assert default_python() == os.fspath(slicer)


def test_errors_keep_their_kind_on_the_way() -> None:
    class Special(ModelError):
        """Not one that the other side knows."""

    for error in (PromptError("a"), Cancelled("b"), Special("c"), FoundationSegError("d")):
        back = wire.error_from_message(wire.error_to_message(error))
        assert isinstance(error, type(back)) and str(back) == str(error)
    assert type(wire.error_from_message({"kind": "annotations", "message": "x"})) is wire.WorkerError


def test_blocks_are_gone_when_forgotten(clean: None) -> None:
    block = Block.create(100)
    other = Block.attach(block.name)
    block.array((3,))[:] = [1, 2, 3]
    assert other.array((3,)).tolist() == [1, 2, 3]
    view = other.array((3,))
    assert not other.close() and view[0] == 1, "what is in use stays"
    del view
    assert other.close() and block.close()
    with pytest.raises(FileNotFoundError):
        Block.attach(block.name)
    Block.create(10)  # forgotten at once
    with pytest.raises(OSError):
        Block.create(2**50)
