# SPDX-License-Identifier: Apache-2.0
"""Work on weights in a process of its own: progress, cancelling, faults of the Hub, ends of every kind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from FoundationSegLib.errors import Cancelled, FoundationSegError, ModelError, WorkerError
from FoundationSegLib.hub import licence
from FoundationSegLib.hub.jobs import Job, JobSettings
from FoundationSegLib.hub.records import pins
from hub_case import TINY, Case, checkpoint, hub_case
from job_case import settings
from tiny_family import CARD, write_cards

DOWNLOAD = {"what": "download", "name": "tiny", "accepted": ["tiny"]}


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    yield from hub_case(tmp_path, monkeypatch)


def finish(job: Job, limit_s: float = 60.0, until: Callable[[], Any] | None = None) -> Job:
    deadline = time.monotonic() + limit_s
    while not job.finished and not (until is not None and until()):
        job.poll()
        assert time.monotonic() < deadline, "the job did not end"
        time.sleep(0.01)
    return job


def run(case: Case, request: dict[str, Any], **options: Any) -> dict[str, Any]:
    return finish(Job(request, settings=settings(case.cards, case.environment()), **options)).result


def test_download_tells_of_its_stages_and_the_answer_is_the_command_s(case: Case) -> None:
    ended: list[Job] = []
    stages: list[tuple[str, float]] = []
    data = run(case, DOWNLOAD, progress=lambda *told: stages.append(told), done=ended.append)
    assert data["name"] == "tiny" and Path(data["path"]).is_file()
    assert [stage for stage, fraction in stages if fraction == 1.0][-1] == "convert"
    assert {"download", "verify", "convert"} <= {stage for stage, _ in stages} and len(ended) == 1
    assert licence.accepted(case.card) and pins()["tiny"].sha256 == data["sha256"]


def test_nobody_s_licence_is_accepted_for_them(case: Case) -> None:
    with pytest.raises(ModelError, match="was not accepted"):
        run(case, {**DOWNLOAD, "accepted": []})
    assert not case.hub.requests


def test_cancelling_keeps_what_there_is_and_the_next_job_goes_on_from_there(case: Case) -> None:
    write_cards(case.cards, {**CARD, "architecture": {"width": 700}})
    case.hub.files[TINY] = checkpoint(width=700)
    case.hub.faults.slow_s = 0.02
    job = Job(DOWNLOAD, settings=settings(case.cards, case.environment()))
    finish(job, until=lambda: case.hub.sent > 500_000)
    job.cancel()
    start = time.monotonic()
    finish(job)
    assert time.monotonic() - start < 3
    with pytest.raises(Cancelled, match="what was downloaded so far is kept"):
        _ = job.result
    (part,) = case.parts()
    kept = part.stat().st_size
    assert kept > 200_000
    case.hub.faults.slow_s = 0
    run(case, DOWNLOAD)
    assert case.hub.asked("GET", "/cdn/")[-1]["range"] == f"bytes={kept}-"


def test_a_process_that_is_killed_is_told_of_and_harms_nothing(case: Case) -> None:
    case.hub.faults.slow_s = 0.05
    job = Job(DOWNLOAD, settings=settings(case.cards, case.environment()))
    finish(job, until=lambda: case.hub.sent > 60_000)
    assert job._link is not None
    os.kill(job._link.pid, signal.SIGKILL)
    finish(job)
    with pytest.raises(WorkerError, match=r"ended early .*SIGKILL"):
        _ = job.result
    case.hub.faults.slow_s = 0
    assert run(case, DOWNLOAD)["name"] == "tiny"


def test_a_process_that_does_not_stop_is_stopped(case: Case) -> None:
    case.hub.faults.stall_at = 100_000
    slow = settings(case.cards, {**case.environment(), "HF_HUB_DOWNLOAD_TIMEOUT": "60"}, grace_s=0.3)
    job = Job(DOWNLOAD, settings=slow)
    finish(job, until=lambda: case.hub.sent >= 90_000)
    job.cancel()
    start = time.monotonic()
    finish(job)
    assert time.monotonic() - start < 3
    with pytest.raises(Cancelled):
        _ = job.result


def test_without_torch_it_is_one_sentence(tmp_path: Path) -> None:
    cards = write_cards(tmp_path / "cards")
    environment = {**os.environ, "FOUNDATIONSEG_HOME": str(tmp_path), "NO_TORCH": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(__file__).parents[up]) for up in (2, 0))
    for request in (DOWNLOAD, {"what": "checkpoint", "path": "x.pth"}):
        with pytest.raises(ModelError, match='needs the package "torch", which is not installed'):
            _ = finish(Job(request, settings=settings(cards, environment))).result
    assert not list(tmp_path.rglob("licences.json"))


def test_what_else_can_end_a_job(tmp_path: Path) -> None:
    for code, sentence in (
        ("import sys; sys.exit(7)", "ended early .*status 7"),
        ('print(\'{"event": "hello", "pid": 1}\'); print(\'garbage\')', "said what it should not"),
    ):
        script = tmp_path / "other.py"
        script.write_text(code, encoding="utf-8")
        with pytest.raises(WorkerError, match=sentence):
            _ = finish(Job(DOWNLOAD, settings=JobSettings(python=(sys.executable, str(script))))).result
    with pytest.raises(WorkerError, match="could not be started"):
        Job(DOWNLOAD, settings=JobSettings(python=str(tmp_path / "no-python")))
    unknown = Job({"what": "dance"}, settings=JobSettings(python=sys.executable))
    with pytest.raises(FoundationSegError, match="Something went wrong"):
        _ = finish(unknown).result
