# SPDX-License-Identifier: Apache-2.0
"""One file from the Hub into the Hub's own cache: resumed after any interruption, verified before it is in place.

huggingface_hub's `hf_hub_download` deletes what it has when a transfer ends early and begins from zero after a killed
process. So its transfer function (`http_get`: proxies, redirects, retries, ranges) writes to a file of ours beside the
cache's blob, named by the file's ETag; only when its size and checksum are right does that take the blob's name, and
`hf_hub_download` then finds it there and links it into the cache as after a download of its own.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import FoundationSegError, ModelError
from ..predictor import CancelToken, Progress
from .answers import answer
from .home import made, megabytes, only_one

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RETRY_AFTER_S = (1.0, 2.0)
_FRUITLESS_TRIES = 3
_CHUNK = 2**20
_BLOCK = 2**17
# Room for what else is written meanwhile.
_SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class HubFile:
    """A file on the Hub, and what is known of it. `revision` is a commit, a tag or a branch."""

    repo: str
    file: str
    revision: str
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Fetched:
    """A file that lies in the Hub's cache and whose checksum was computed from its bytes."""

    path: Path
    commit: str
    sha256: str
    size_bytes: int


def fetch(
    wanted: HubFile,
    room: Callable[[int], tuple[Path, int]],
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Fetched:
    """The file from the cache or from the Hub.

    `room` is told the file's size and says where how many bytes will be needed besides (for the converted copy).

    Raises:
        ModelError: every failure, in one sentence. A part that was downloaded is kept for the next try, unless it
            turned out to be of another file.
        Cancelled: after `cancel.cancel()`; the part is kept as well.
    """
    if find_spec("huggingface_hub") is None:
        raise ModelError(
            f'Downloading {wanted.repo} needs the package "huggingface_hub", which is not installed; install it with: '
            "python -m pip install huggingface_hub"
        )
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    try:
        with _adapted(constants):
            return _fetch(wanted, room, _Watch(progress, cancel), place, constants.ENDPOINT)
    except FoundationSegError:
        raise
    except Exception as error:
        known = answer(error, wanted.repo, wanted.file, wanted.revision, constants.ENDPOINT, os.fspath(place))
        if known is None:
            raise
        raise known from error


def cached(wanted: HubFile) -> tuple[Path, str] | None:
    """The file in the Hub's cache and its commit; None if it is not there. No network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(wanted.repo, wanted.file, revision=wanted.revision)
    if not isinstance(found, str):
        return None
    # .../snapshots/<commit>/<file>, where the file may lie in folders of the repository
    return Path(found), Path(found).parents[len(Path(wanted.file).parts) - 1].name


def remove_cached(wanted: HubFile) -> int:
    """Deletes the file from the Hub's cache, if no other revision there uses it; the number of bytes freed."""
    found = cached(wanted)
    if found is None:
        return 0
    pointer, _ = found
    blob = pointer.resolve()
    size = blob.stat().st_size
    pointer.unlink()
    if blob == pointer:
        return size
    snapshots = blob.parent.parent / "snapshots"
    if any(other.is_symlink() and other.resolve() == blob for other in snapshots.rglob("*")):
        return 0
    blob.unlink(missing_ok=True)
    return size


def sha256_of(path: Path, progress: Progress | None = None, cancel: CancelToken | None = None) -> str:
    """Hex digest of a file's bytes. Raises ModelError if it cannot be read."""
    watch = _Watch(progress, cancel)
    digest, done = hashlib.sha256(), 0
    try:
        size = max(1, path.stat().st_size)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                done += len(chunk)
                watch("verify", done / size)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check that it exists and is readable.") from error
    return digest.hexdigest()


class _Watch:
    """Tells of progress, at most ten times a second, and raises Cancelled."""

    def __init__(self, progress: Progress | None, cancel: CancelToken | None) -> None:
        self.progress, self.cancel, self._last = progress, cancel, 0.0

    def __call__(self, stage: str, fraction: float) -> None:
        if self.cancel is not None:
            self.cancel.check()
        moment = time.monotonic()
        if self.progress is not None and (fraction >= 1 or moment - self._last >= 0.1):
            self._last = moment
            self.progress(stage, min(1.0, fraction))


def _fetch(
    wanted: HubFile, room: Callable[[int], tuple[Path, int]], watch: _Watch, place: Path, endpoint: str
) -> Fetched:
    if _COMMIT.fullmatch(wanted.revision) and (found := cached(wanted)):
        return _verified(wanted, *found, watch)  # commits do not change: nobody has to be asked
    try:
        meta = _metadata(wanted)
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if (kinds & {"OfflineModeIsEnabled", "TransportError"}) and (found := cached(wanted)):
            return _verified(wanted, *found, watch)  # what another tool has downloaded serves without a network
        raise
    _check_metadata(wanted, meta, endpoint)
    exact = HubFile(wanted.repo, wanted.file, meta.commit_hash, wanted.sha256, meta.size)
    if (found := cached(exact)) is None:
        found = _download(exact, meta, room, watch, place), meta.commit_hash
    return _verified(wanted, *found, watch)


def _metadata(wanted: HubFile) -> Any:
    """Commit, ETag and size; a fault of the server is given two more chances, everything else is told at once."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    url = hf_hub_url(wanted.repo, wanted.file, revision=wanted.revision)
    for pause in (*_RETRY_AFTER_S, None):
        try:
            return get_hf_file_metadata(url)
        except HfHubHTTPError as error:
            if pause is None or error.response.status_code < 500:
                raise
            time.sleep(pause)
    raise AssertionError("not reached")


def _check_metadata(wanted: HubFile, meta: Any, endpoint: str) -> None:
    """Refuses before the download what cannot be right after it."""
    if meta.commit_hash is None or meta.etag is None or not re.fullmatch(r"[\w.-]{8,128}", meta.etag):
        raise ModelError(
            f"What answers at {endpoint} is not a Hub (it does not say which version of {wanted.repo}/{wanted.file} it "
            "has); check HF_ENDPOINT, the proxy and the firewall."
        )
    if _COMMIT.fullmatch(wanted.revision) and meta.commit_hash != wanted.revision:
        raise _changed(wanted, f"commit {meta.commit_hash[:12]} instead of {wanted.revision[:12]}")
    if wanted.size_bytes is not None and meta.size is not None and meta.size != wanted.size_bytes:
        raise _changed(wanted, f"{meta.size} bytes instead of {wanted.size_bytes}")
    if wanted.sha256 and _SHA256.fullmatch(meta.etag) and meta.etag != wanted.sha256:
        raise _changed(wanted, f"sha256 {meta.etag[:12]}... instead of {wanted.sha256[:12]}...")


def _changed(wanted: HubFile, how: str) -> ModelError:
    return ModelError(
        f"{wanted.repo}/{wanted.file} is not what was expected ({how}), so it is not used; the file on the Hub was "
        "changed, or the connection is tampered with: look for a newer version of FoundationSeg, or ask the "
        "model's authors."
    )


def _download(exact: HubFile, meta: Any, room: Callable[[int], tuple[Path, int]], watch: _Watch, place: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    blob = place / repo_folder_name(repo_id=exact.repo, repo_type="model") / "blobs" / meta.etag
    part = blob.with_name(f"{blob.name}.foundationseg.incomplete")
    made(blob.parent)
    name = hashlib.sha256(os.fspath(blob).encode()).hexdigest()[:24]
    with only_one(f"download-{name}", lambda: watch("waiting for another download", 0.0)):
        if not blob.exists():
            _require_space(exact, part, room)
            _transfer(exact, part, watch)
            digest = sha256_of(part, watch.progress, watch.cancel)
            expected = exact.sha256 or (meta.etag if _SHA256.fullmatch(meta.etag) else digest)
            if digest != expected:
                part.unlink()  # resuming it would never make it right
                raise ModelError(
                    f"{exact.repo}/{exact.file} arrived with a wrong checksum and was deleted; try again, and if that "
                    "does not help, ask the model's authors whether the file was changed."
                )
            os.replace(part, blob)
        return Path(hf_hub_download(exact.repo, exact.file, revision=exact.revision))


def _require_space(exact: HubFile, part: Path, room: Callable[[int], tuple[Path, int]]) -> None:
    """Before the download, for the file and for the converted copy. Raises ModelError."""
    if exact.size_bytes is None:
        return
    there = part.stat().st_size if part.exists() else 0
    other, more = room(exact.size_bytes)
    needs = [(part.parent, exact.size_bytes - there), (_existing(other), more)]
    if os.stat(needs[0][0]).st_dev == os.stat(needs[1][0]).st_dev:
        needs = [(part.parent, needs[0][1] + more)]
    for folder, need in needs:
        free = shutil.disk_usage(folder).free
        if free < need + _SPARE_BYTES:
            raise ModelError(
                f"{exact.repo}/{exact.file} needs {megabytes(need + _SPARE_BYTES)} on the disk that holds {folder}, "
                f"which has {megabytes(free)} free; free some space, or move the caches "
                "(HF_HUB_CACHE, FOUNDATIONSEG_HOME)."
            )


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _transfer(exact: HubFile, part: Path, watch: _Watch) -> None:
    """Appends to `part` what it lacks. huggingface_hub goes on by itself after short interruptions."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    # Compression would make ranges and sizes those of the compressed bytes.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    with part.open("ab") as file:
        there = file.tell()
        if exact.size_bytes is not None and there > exact.size_bytes:
            file.truncate(0)
            there = 0
        fruitless = 0
        while True:
            try:
                http_get(
                    hf_hub_url(exact.repo, exact.file, revision=exact.revision),
                    file,
                    resume_size=there,
                    headers=headers,
                    expected_size=exact.size_bytes,
                    tqdm_class=_bar(watch),
                )
                break
            except OSError as error:
                if type(error) is OSError and error.errno is None:  # its own check: there are more or fewer bytes
                    file.truncate(0)
                    raise ModelError(
                        f"{exact.repo}/{exact.file} arrived with a wrong size and was deleted; try again, and check "
                        "the proxy if that does not help."
                    ) from error
                raise
            except Exception as error:
                # A connection that breaks while it is read from is the one thing that huggingface_hub does not retry.
                file.flush()
                fruitless = fruitless + 1 if file.tell() == there else 0
                if type(error).__name__ != "ReadError" or fruitless >= _FRUITLESS_TRIES:
                    raise
                there = file.tell()
                time.sleep(_RETRY_AFTER_S[0])
        file.flush()
        os.fsync(file.fileno())


def _bar(watch: _Watch) -> Any:
    """What huggingface_hub takes for a progress bar."""

    class Bar:
        def __init__(self, *_: object, total: float | None = None, initial: float = 0, **__: object) -> None:
            self.total, self.done = total or 1, initial

        def update(self, count: float | None = 1) -> None:
            self.done += count or 0
            watch("download", self.done / self.total)

        def close(self) -> None:
            """There is nothing to close."""

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    return Bar


def _verified(wanted: HubFile, path: Path, commit: str, watch: _Watch) -> Fetched:
    digest = sha256_of(path, watch.progress, watch.cancel)
    if wanted.sha256 and digest != wanted.sha256:
        raise ModelError(
            f"{wanted.repo}/{wanted.file} in the Hub's cache ({path}) has another checksum than it should, so it is "
            "not used; delete that file (its real place is what the link points to), then download it again."
        )
    return Fetched(path, commit, digest, path.stat().st_size)


@contextmanager
def _adapted(constants: Any) -> Iterator[None]:
    """huggingface_hub made quiet, and made to hand on what it receives at once, for the length of a block.

    It reports each retry as a warning, with its addresses; the sentence at the end is ours. It collects 10 MB before it
    writes: on a slow line that is lost with every interruption, and cancelling would wait for it.
    """
    logger = logging.getLogger("huggingface_hub")
    level, block = logger.level, getattr(constants, "DOWNLOAD_CHUNK_SIZE", None)
    logger.setLevel(logging.ERROR)
    constants.DOWNLOAD_CHUNK_SIZE = _BLOCK
    try:
        yield
    finally:
        logger.setLevel(level)
        constants.DOWNLOAD_CHUNK_SIZE = block
