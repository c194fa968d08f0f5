# SPDX-License-Identifier: Apache-2.0
"""Downloads from a Hub that is served here: what is asked for, what is kept, and every way in which it can go wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from FoundationSegLib import Cancelled, CancelToken, ModelError
from FoundationSegLib.catalogue import load_model
from FoundationSegLib.hub import licence, transfer
from FoundationSegLib.hub.records import lock_file, pins
from FoundationSegLib.hub.weights import Ask, ensure_weights, on_disk, remove, verify
from hub_case import CARD, TINY, Case, checkpoint, hub_case, make_state, write_cards
from loopback_hub import COMMIT, Faults

torch = pytest.importorskip("torch")
DRIVER = Path(__file__).parent / "tiny_family.py"


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    monkeypatch.setattr(transfer, "_RETRY_AFTER_S", (0.01, 0.01))
    # The library's own pause before it resumes; not time.sleep itself, which the Hub uses as well.
    hurried = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.file_download.time", hurried)
    yield from hub_case(tmp_path, monkeypatch)


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a socket from here on fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_first_use_downloads_and_the_second_needs_no_network(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(case.hub.files[TINY]).hexdigest()
    weights = ensure_weights(case.card, ask=case.ask())
    assert weights.sha256 == digest and weights.revision == COMMIT
    from safetensors.torch import load_file

    found = load_file(weights.path)
    assert found.keys() == make_state().keys() and all(torch.equal(found[k], v) for k, v in make_state().items())
    assert {"download", "verify", "convert"} <= set(case.stages)
    pin = pins()["tiny"]
    assert (pin.commit, pin.sha256, pin.size_bytes) == (COMMIT, digest, len(case.hub.files[TINY]))
    cached = case.cache / "models--someone--tiny" / "snapshots" / COMMIT / "folder" / "tiny.pth"
    assert cached.read_bytes() == case.hub.files[TINY], "other tools cannot find it"
    assert not case.parts() and not case.temporary()
    assert weights.path.stat().st_mode == lock_file().stat().st_mode, "a shared installation cannot read it"
    no_network(monkeypatch)
    assert ensure_weights(case.card) == weights
    identity = load_model("tiny", "cpu").identity
    assert (identity.sha256, identity.revision) == (digest, COMMIT)


def test_using_what_is_here_does_not_even_import_the_hub_s_library(case: Case) -> None:
    ensure_weights(case.card, ask=case.ask())
    code = (
        "import sys; from pathlib import Path; import tiny_family; tiny_family.install(Path(sys.argv[1]));"
        "from FoundationSegLib.catalogue import load_model; load_model('tiny', 'cpu');"
        "print('huggingface_hub' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(case.cards)]
    done = subprocess.run(command, check=False, env=case.environment(), capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr


def test_what_another_tool_has_downloaded_is_not_downloaded_again(case: Case) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download("someone/tiny", "folder/tiny.pth")
    sent = case.hub.sent
    ensure_weights(case.card, ask=case.ask())
    assert case.hub.sent == sent


def test_a_branch_that_another_tool_has_downloaded_serves_offline(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download("someone/tiny", "folder/tiny.pth")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    no_network(monkeypatch)
    assert ensure_weights(case.card, ask=case.ask()).revision == COMMIT


def test_without_consent_nothing_is_asked_for(case: Case) -> None:
    for ask in (None, Ask(), case.ask(agrees=False)):
        with pytest.raises(ModelError, match=r"licence of tiny \(CC-BY-NC-SA-4.0\) was not accepted.*--accept-licence"):
            ensure_weights(case.card, ask=ask)
    assert not case.hub.requests and not licence.accepted(case.card)


def test_consent_is_asked_for_once_and_again_when_the_licence_changes(case: Case) -> None:
    asked: list[str] = []

    def consent(card: Any) -> bool:
        asked.append(licence.statement(card))
        return True

    ensure_weights(case.card, ask=Ask(consent))
    remove(case.card)
    ensure_weights(case.card, ask=Ask(consent))
    assert len(asked) == 1 and "NON-COMMERCIAL" in asked[0] and "SHARE-ALIKE" in asked[0]
    remove(case.card)
    write_cards(case.cards, {**CARD, "licence": "CC-BY-ND-4.0"})
    ensure_weights(case.card, ask=Ask(consent))
    assert len(asked) == 2


# --- Pins ------------------------------------------------------------------------------------------------------------


def test_the_first_download_is_enforced_on_later_ones(case: Case) -> None:
    ensure_weights(case.card, ask=case.ask())
    remove(case.card)
    assert on_disk(case.card) is None and not list(case.cache.rglob("tiny.pth"))
    case.hub.files[TINY] = checkpoint(seed=2)
    with pytest.raises(ModelError, match=r"is not what was expected.*changed"):
        ensure_weights(case.card, ask=case.ask())
    case.hub.files[TINY] = checkpoint()
    case.hub.faults.commit = "f" * 40  # the branch has moved on; the pinned commit is asked for and refused as unknown
    with pytest.raises(ModelError, match="no revision 1234567890abcdef1234567890abcdef12345678 any more"):
        ensure_weights(case.card, ask=case.ask())
    case.hub.faults.commit = COMMIT
    assert ensure_weights(case.card, ask=case.ask()).revision == COMMIT


def test_a_checksum_on_the_card_rules(case: Case) -> None:
    weights = {**CARD["weights"], "sha256": "0" * 64}
    write_cards(case.cards, {**CARD, "weights": weights})
    with pytest.raises(ModelError, match=r"is not what was expected.*sha256"):
        ensure_weights(case.card, ask=case.ask())
    assert case.hub.sent == 0, "downloaded although the Hub had said that it is another file"
    assert not pins()


def test_a_size_on_the_card_that_is_known_to_the_byte_rules(case: Case) -> None:
    weights = {**CARD["weights"], "size_exact": True}
    write_cards(case.cards, {**CARD, "weights": weights})
    with pytest.raises(ModelError, match="bytes instead of 1000000"):
        ensure_weights(case.card, ask=case.ask())
    assert case.hub.sent == 0


def test_a_card_may_name_the_commit_itself(case: Case) -> None:
    weights = {**CARD["weights"], "revision": COMMIT}
    write_cards(case.cards, {**CARD, "weights": weights})
    assert ensure_weights(case.card, ask=case.ask()).revision == COMMIT


def test_a_damaged_lock_file_is_answered(case: Case) -> None:
    ensure_weights(case.card, ask=case.ask())
    for damage in ("{", '{"models": {"tiny": {"repo": 1}}}', '{"version": 1}'):
        lock_file().write_text(damage, encoding="utf-8")
        with pytest.raises(ModelError, match=r"models\.lock\.json cannot be read or is damaged; restore it, or delete"):
            ensure_weights(case.card, ask=case.ask())


# --- Interruptions ---------------------------------------------------------------------------------------------------


def test_a_connection_that_breaks_is_resumed_at_once(case: Case) -> None:
    case.hub.faults = Faults(cut_after=200_000, cuts=3)
    ensure_weights(case.card, ask=case.ask())
    size = len(case.hub.files[TINY])
    ranges = [headers["range"] for headers in case.hub.asked("GET", "/cdn/") if "range" in headers]
    assert len(ranges) == 3 and size <= case.hub.sent < size + 3 * 2**18, (ranges, case.hub.sent)


def test_a_connection_that_keeps_breaking_leaves_a_part_that_the_next_try_goes_on_from(case: Case) -> None:
    case.hub.faults = Faults(stall_at=300_000)
    with pytest.raises(ModelError, match=r"stopped answering while someone/tiny/folder/tiny.pth"):
        ensure_weights(case.card, ask=case.ask())
    (part,) = case.parts()
    assert part.stat().st_size >= 250_000 and not pins() and on_disk(case.card) is None
    case.hub.faults.stall_at = None
    sent, there = case.hub.sent, part.stat().st_size
    ensure_weights(case.card, ask=case.ask())
    assert case.hub.sent - sent == len(case.hub.files[TINY]) - there and not case.parts()


def test_a_server_without_ranges_sends_all_again(case: Case) -> None:
    case.hub.faults = Faults(cut_after=300_000, cuts=1, no_ranges=True)
    ensure_weights(case.card, ask=case.ask())
    assert case.hub.sent > len(case.hub.files[TINY])


def test_a_slow_server_is_waited_for(case: Case) -> None:
    case.hub.faults = Faults(slow_s=0.03)
    ensure_weights(case.card, ask=case.ask())
    assert case.stages.count("download") > 3


def test_cancelling_keeps_the_part(case: Case) -> None:
    token = CancelToken()

    def progress(stage: str, fraction: float) -> None:
        if stage == "download" and fraction > 0.3:
            token.cancel()

    case.hub.faults = Faults(slow_s=0.02)
    with pytest.raises(Cancelled):
        ensure_weights(case.card, ask=Ask(lambda card: True, progress, token))
    (part,) = case.parts()
    assert part.stat().st_size < len(case.hub.files[TINY])
    ensure_weights(case.card, ask=case.ask())


def command(case: Case, *arguments: str) -> list[str]:
    return [sys.executable, str(DRIVER), str(case.cards), *arguments]


def wait_for(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_process_leaves_nothing_that_counts_and_the_next_one_resumes(case: Case) -> None:
    case.hub.faults = Faults(stall_at=400_000)
    process = subprocess.Popen(
        command(case, "models", "download", "tiny", "--accept-licence"),
        env={**case.environment(), "HF_HUB_DOWNLOAD_TIMEOUT": "60"},
    )
    wait_for(lambda: any(part.stat().st_size >= 350_000 for part in case.parts()))
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert not pins() and on_disk(case.card) is None and not list(case.cache.rglob("tiny.pth"))
    (part,) = case.parts()
    there, sent = part.stat().st_size, case.hub.sent
    case.hub.faults.stall_at = None
    done = subprocess.run(
        command(case, "models", "download", "tiny"),
        check=False,
        env=case.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert case.hub.sent - sent == len(case.hub.files[TINY]) - there
    assert verify(case.card) and not case.parts()


def test_two_processes_at_once_download_once(case: Case) -> None:
    case.hub.faults = Faults(slow_s=0.02)
    arguments = command(case, "models", "download", "tiny", "--accept-licence", "--json")
    processes = [
        subprocess.Popen(arguments, env=case.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["sha256"] == hashlib.sha256(case.hub.files[TINY]).hexdigest()
    assert case.hub.sent == len(case.hub.files[TINY])
    assert verify(case.card) and not case.parts() and not case.temporary()


# --- Wrong bytes -----------------------------------------------------------------------------------------------------


def test_a_wrong_checksum_is_deleted_and_never_used(case: Case) -> None:
    case.hub.faults = Faults(wrong_bytes=True)
    with pytest.raises(ModelError, match="arrived with a wrong checksum and was deleted"):
        ensure_weights(case.card, ask=case.ask())
    assert not case.parts() and not list(case.cache.rglob("tiny.pth")) and not pins()
    case.hub.faults = Faults()
    ensure_weights(case.card, ask=case.ask())


@pytest.mark.parametrize("more", [-1000, 1000])
def test_a_wrong_size_is_deleted_and_never_used(case: Case, more: int) -> None:
    case.hub.faults = Faults(linked_size=len(case.hub.files[TINY]) + more)
    with pytest.raises(ModelError, match="arrived with a wrong size and was deleted"):
        ensure_weights(case.card, ask=case.ask())
    assert not any(part.stat().st_size for part in case.parts()) and not pins()
    case.hub.faults = Faults()
    ensure_weights(case.card, ask=case.ask())


def test_a_damaged_file_in_the_hub_s_cache_is_not_used(case: Case) -> None:
    ensure_weights(case.card, ask=case.ask())
    remove(case.card, keep_cache=True)
    (cached,) = case.cache.rglob("tiny.pth")
    content = bytearray(cached.read_bytes())
    content[5000] ^= 1
    cached.resolve().write_bytes(content)
    with pytest.raises(ModelError, match=r"in the Hub's cache .* has another checksum than it should"):
        ensure_weights(case.card, ask=case.ask())


def test_what_was_kept_and_then_changed_is_not_used(case: Case) -> None:
    path = ensure_weights(case.card, ask=case.ask()).path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="were changed or damaged since they were made ready"):
        verify(case.card)
    with pytest.raises(ModelError, match="were changed or damaged since they were made ready"):
        ensure_weights(case.card, ask=case.ask())
    path.unlink()
    sent = case.hub.sent
    assert ensure_weights(case.card, ask=case.ask()).path == path and case.hub.sent == sent
    assert "as expected" in verify(case.card)


# --- Answers of the Hub ----------------------------------------------------------------------------------------------

STATUS = [
    (
        401,
        "GatedRepo",
        {},
        r"is gated \(401\): sign in and accept its terms at http://127\S+/someone/tiny, make a token",
    ),
    (401, "RepoNotFound", {}, r"\(401\): it is private, or gated, or the token is wrong or expired"),
    (401, "", {}, r"\(401\): it is private, or gated, or the token is wrong or expired"),
    (403, "GatedRepo", {}, r"is gated \(403\)"),
    (
        403,
        "",
        {},
        r"refused someone/tiny to you \(403\): accept its terms at http://127\S+/someone/tiny with the account",
    ),
    (404, "EntryNotFound", {}, r"has no file folder/tiny.pth at revision main \(404\); look for a newer version"),
    (404, "RevisionNotFound", {}, r"has no revision main any more \(404\)"),
    (404, "RepoNotFound", {}, r"There is no repository someone/tiny at http://127"),
    (404, "", {}, r"\(404\)"),
    (429, "", {"Retry-After": "37"}, r"too many requests from here \(429\); try again in 37 s"),
    (429, "", {}, r"too many requests from here \(429\); try again in some minutes"),
    (500, "", {}, r"fault of its own \(500\); try again later"),
    (503, "", {}, r"fault of its own \(503\)"),
    (418, "", {}, r"answered with status 418"),
]


@pytest.mark.parametrize(("status", "code", "headers", "sentence"), STATUS)
def test_refusals_of_the_hub_are_answered_in_a_sentence(
    case: Case, status: int, code: str, headers: dict[str, str], sentence: str
) -> None:
    case.hub.faults = Faults(status=status, error_code=code, headers=headers)
    with pytest.raises(ModelError, match=sentence) as caught:
        ensure_weights(case.card, ask=case.ask())
    text = str(caught.value)
    assert "secret" not in text and "\n" not in text and text.endswith(("try again.", ".", "kept."))
    if status in (401, 403):
        assert "settings/tokens" in text and "HF_TOKEN" in text
    assert not pins()


def test_a_short_fault_of_the_hub_is_not_even_noticed(case: Case) -> None:
    case.hub.faults = Faults(status=503, only_first=2)
    ensure_weights(case.card, ask=case.ask())


def test_a_token_reaches_the_hub_and_nobody_else(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case.hub.token = "hf_SecretSecretSecret"
    with pytest.raises(ModelError, match="gated"):
        ensure_weights(case.card, ask=case.ask())
    monkeypatch.setenv("HF_TOKEN", "hf_WrongWrongWrong")
    with pytest.raises(ModelError, match="the token is wrong or expired") as caught:
        ensure_weights(case.card, ask=case.ask())
    assert "hf_Wrong" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", case.hub.token)
    with caplog.at_level("DEBUG"):
        ensure_weights(case.card, ask=case.ask())
    assert case.hub.asked("GET", "/cdn/") and not any("authorization" in h for h in case.hub.asked("GET", "/cdn/"))
    written = b"".join(path.read_bytes() for path in case.home.rglob("*") if path.is_file())
    assert case.hub.token.encode() not in written and case.hub.token not in caplog.text


def test_no_network_offline_mode_and_what_is_no_hub(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"offline mode is on \(HF_HUB_OFFLINE\); switch it off, or import a bundle"):
        ensure_weights(case.card, ask=case.ask())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert not case.hub.requests
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", nobody)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", nobody + "/{repo_id}/resolve/{revision}/{filename}"
        )
        with pytest.raises(ModelError, match=r"There is no connection to http://127.*check the network, the proxy"):
            ensure_weights(case.card, ask=case.ask())


# --- Disk ------------------------------------------------------------------------------------------------------------


def test_disk_space_is_looked_at_before_the_download(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 10**6))
    with pytest.raises(
        ModelError, match=r"needs 6\d MB on the disk that holds .*, which has 1 MB free; free some space"
    ):
        ensure_weights(case.card, ask=case.ask())
    assert case.hub.sent == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("megabytes", [0.4, 0.72], ids=["in the download", "in the conversion"])
def test_a_full_disk_is_answered_and_the_next_try_resumes(case: Case, megabytes: float) -> None:
    """The largest file that the process may write stands for the disk: the system refuses in the same way."""
    size = len(case.hub.files[TINY])
    limit = int(size * megabytes) if megabytes < 0.5 else size
    code = (
        "import resource, runpy, sys; limit = int(sys.argv[1]); sys.argv = sys.argv[2:];"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    if limit == size:
        # What is converted is larger than what is downloaded: half precision in the file.
        state = {name: value.half() for name, value in make_state().items()}
        import io

        buffer = io.BytesIO()
        torch.save({"model_state_dict": state}, buffer)
        case.hub.files[TINY] = buffer.getvalue()
        limit = len(case.hub.files[TINY]) + 1000
    arguments = [str(limit), str(DRIVER), str(case.cards), "models", "download", "tiny", "--accept-licence"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        env=case.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "is full; free some space" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not pins() and not case.temporary()
    sent = case.hub.sent
    ensure_weights(case.card, ask=case.ask())
    assert case.hub.sent - sent < len(case.hub.files[TINY]), "it began anew"
