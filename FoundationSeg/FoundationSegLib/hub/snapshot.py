# SPDX-License-Identifier: Apache-2.0
"""Models of many files (weights, tokenizer, configuration) from the Hub, as one commit that is pinned and verified.

Only data are taken: safetensors, JSON, chat templates and tokenizers. A repository without safetensors is refused, and
so is anything that could run code. The files lie in the Hub's own cache, in the folder of the commit, and are compared
with what was recorded at their first download before they are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..catalogue import ModelCard
from ..errors import FoundationSegError, ModelError
from ..predictor import CancelToken, Progress
from .answers import answer
from .home import home, only_one
from .records import now, read_json, write_json
from .transfer import HubFile, fetch, remove_cached, sha256_of
from .weights import Ask, require_consent

LOCK_FILE = "snapshots.lock.json"
# What a repository is read for. Weights of other kinds, scripts and pictures stay where they are.
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "vocab.txt", "merges.txt")
_SHA256, _COMMIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_SHARD, _INDEX = re.compile(r"model-\d+-of-\d+\.safetensors"), "model.safetensors.index.json"
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")

# Files whose bytes this process has compared: path, checksum, size, time of change, inode.
_checked: set[tuple[str, str, int, int, int]] = set()


@dataclass(frozen=True)
class Pinned:
    """A file of a snapshot when it first came here."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Snapshot:
    """The files of a model at one commit, all verified.

    Attributes:
        folder: that holds them, to be given to `from_pretrained` with `local_files_only`.
        files: by their names in the repository.
    """

    folder: Path
    repo: str
    commit: str
    files: Mapping[str, Pinned]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())


def ensure_snapshot(card: ModelCard, ask: Ask | None = None) -> Snapshot:
    """The files of a card, downloaded if need be; once they are here, no network is used.

    An interrupted download is resumed. Stages that `ask.progress` is told: "download" and "verify", over all files.

    Raises:
        ModelError: every failure, in one sentence.
        Cancelled: after `ask.cancel.cancel()`; what was downloaded is kept.
    """
    ask = ask or Ask()
    if find_spec("huggingface_hub") is None:
        raise ModelError(
            f'The model {card.name} needs the package "huggingface_hub", which is not installed; install it with: '
            "python -m pip install huggingface_hub"
        )
    if (ready := on_disk(card)) is not None:
        return verified(ready, ask.progress, ask.cancel)
    require_consent(card, ask)
    with only_one(f"model-{card.name}", lambda: _tell(ask, "waiting for another process", 0.0)):
        if (ready := on_disk(card)) is None:  # else it came by the process that was waited for
            ready = _download(card, ask)
    return verified(ready, ask.progress, ask.cancel)


def on_disk(card: ModelCard) -> Snapshot | None:
    """The pinned files of a card where all of them lie in the Hub's cache; else None. No network, no checksum."""
    pinned = _pinned(card)
    if pinned is None or find_spec("huggingface_hub") is None:
        return None
    repo, commit, files = pinned
    folder = _folder(repo, commit)
    if all((folder / name).is_file() for name in files):
        return Snapshot(folder, repo, commit, files)
    return None


def verified(
    snapshot: Snapshot, progress: Progress | None = None, cancel: CancelToken | None = None, again: bool = False
) -> Snapshot:
    """The same, after every file was compared with its checksum; once per process if the files stay as they are.

    Raises ModelError, Cancelled.
    """
    done = 0
    for name, wanted in snapshot.files.items():
        path = snapshot.folder / name
        state = path.stat()
        seen = (str(path), wanted.sha256, state.st_size, state.st_mtime_ns, state.st_ino)
        if seen not in _checked or again:
            part = _Part(progress, "verify", done, wanted.size_bytes, snapshot.size_bytes)
            if state.st_size != wanted.size_bytes or sha256_of(path, part, cancel) != wanted.sha256:
                raise ModelError(
                    f"{snapshot.repo}/{name} in the Hub's cache ({path}) was changed or damaged since it was "
                    "downloaded (wrong checksum), so the model is not used; delete that file (its real place is what "
                    "the link points to), then use the model again, which downloads it anew."
                )
            _checked.add(seen)
        done += wanted.size_bytes
    return snapshot


def remove(card: ModelCard) -> int:
    """Deletes a card's files from the Hub's cache; the number of bytes freed. What was pinned stays pinned."""
    pinned = _pinned(card)
    if pinned is None or find_spec("huggingface_hub") is None:
        return 0
    repo, commit, files = pinned
    return sum(remove_cached(HubFile(repo, name, commit)) for name in files)


def local_snapshot(folder: Path, ask: Ask | None = None) -> Snapshot:
    """A folder of the user's own with a model as transformers saves it. Raises ModelError, Cancelled.

    Its "commit" is the SHA-256 over the names and checksums of its files, so that a report says which model wrote.
    """
    import hashlib

    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no model (there is no config.json in it); give the folder of a saved model.")
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and _wanted(path.name))
    _require_safetensors(str(folder), names)
    ask = ask or Ask()
    sizes = {name: (folder / name).stat().st_size for name in names}
    total, done, files = sum(sizes.values()), 0, {}
    for name, size in sizes.items():
        part = _Part(ask.progress, "verify", done, size, total)
        files[name] = Pinned(sha256_of(folder / name, part, ask.cancel), size)
        done += size
    digest = hashlib.sha256("".join(f"{name} {files[name].sha256}\n" for name in names).encode()).hexdigest()
    return Snapshot(folder, "file", digest, files)


class _Part:
    """Progress of one file as progress of all."""

    def __init__(self, progress: Progress | None, stage: str, done: int, size: int, total: int) -> None:
        self._progress, self._stage, self._done, self._size, self._total = progress, stage, done, size, max(1, total)

    def __call__(self, stage: str, fraction: float) -> None:
        if self._progress is None:
            return
        if stage not in ("download", "verify"):
            self._progress(stage, fraction)  # waiting for somebody
            return
        # What has come is looked at while it is downloaded; that is no step back.
        part = 1.0 if (self._stage, stage) == ("download", "verify") else fraction
        self._progress(self._stage, min(1.0, (self._done + part * self._size) / self._total))


def _download(card: ModelCard, ask: Ask) -> Snapshot:
    repo, revision = card.weights["repo"], card.weights["revision"]
    pinned = _pinned(card)
    if pinned is not None:
        commit, sizes = pinned[1], {name: file.size_bytes for name, file in pinned[2].items()}
    else:
        commit, sizes = _listed(repo, revision)
    _require_safetensors(repo, sizes)
    place, total, done, files = _folder(repo, commit), sum(sizes.values()), 0, {}
    for name, size in sizes.items():
        known = pinned[2][name] if pinned is not None else None
        wanted = HubFile(repo, name, commit, known.sha256 if known else None, size)
        part, remaining = _Part(ask.progress, "download", done, size, total), total - done - size
        # Nothing is converted: what is needed besides is room for the files that follow.
        fetched = fetch(wanted, lambda _, rest=remaining: (place, rest), part, ask.cancel)  # type: ignore[misc]
        files[name] = Pinned(fetched.sha256, fetched.size_bytes)
        state = fetched.path.stat()
        path = str(place / name)
        _checked.add((path, fetched.sha256, state.st_size, state.st_mtime_ns, state.st_ino))
        done += size
    if pinned is None:
        _pin(card, repo, commit, files)
    return Snapshot(_folder(repo, commit), repo, commit, files)


def _listed(repo: str, revision: str) -> tuple[str, dict[str, int]]:
    """The commit that a revision is now, and its files that are wanted with their sizes; small ones first."""
    from huggingface_hub import HfApi, constants

    try:
        # The address is asked for now, not when the library was imported.
        info = HfApi(endpoint=constants.ENDPOINT).model_info(repo, revision=revision, files_metadata=True, timeout=30)
    except FoundationSegError:
        raise
    except Exception as error:
        known = answer(error, repo, "config.json", revision, constants.ENDPOINT, constants.HF_HUB_CACHE)
        if known is None:
            raise
        raise known from error
    if not _COMMIT.fullmatch(info.sha or ""):
        raise ModelError(
            f"What answers at {constants.ENDPOINT} is not a Hub (it does not say which commit {repo} is at); check "
            "HF_ENDPOINT, the proxy and the firewall."
        )
    if _COMMIT.fullmatch(revision) and info.sha != revision:
        raise ModelError(f"The Hub gave commit {info.sha} of {repo} instead of {revision}, so nothing was downloaded.")
    sizes = {item.rfilename: int(item.size or 0) for item in info.siblings or [] if _wanted(item.rfilename)}
    surplus = _surplus_weights(sizes)
    sizes = {name: size for name, size in sizes.items() if name not in surplus}
    return info.sha, dict(sorted(sizes.items(), key=lambda entry: (entry[1], entry[0])))


def _wanted(name: str) -> bool:
    """Files of the repository's top folder that are data; names become paths, so none is taken as it comes."""
    return bool(_NAME.fullmatch(name)) and "/" not in name and any(fnmatchcase(name, pattern) for pattern in PATTERNS)


def _surplus_weights(names: Mapping[str, int]) -> set[str]:
    """Weights beside those that `from_pretrained` reads: other precisions, other programs' copies."""
    weights = {name for name in names if name.endswith(".safetensors")}
    shards = {name for name in weights if _SHARD.fullmatch(name)}
    read = shards if _INDEX in names and shards else {"model.safetensors"} & weights
    return weights - read if read else set()


def _require_safetensors(where: str, names: Any) -> None:
    if not any(name.endswith(".safetensors") for name in names) or "config.json" not in names:
        raise ModelError(
            f"{where} has no weights as safetensors (or no config.json); other kinds of files can run code when they "
            "are read, so choose a model or revision that has them."
        )


def _folder(repo: str, commit: str) -> Path:
    """Of a commit in the Hub's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "snapshots" / commit


def _tell(ask: Ask, stage: str, fraction: float) -> None:
    if ask.cancel is not None:
        ask.cancel.check()
    if ask.progress is not None:
        ask.progress(stage, fraction)


def _pinned(card: ModelCard) -> tuple[str, str, dict[str, Pinned]] | None:
    """Repository, commit and files that were recorded for a card. Raises ModelError if the record is damaged."""
    entries = _entries()
    entry = entries.get(card.name)
    if entry is None:
        return None
    try:
        files = {name: Pinned(**file) for name, file in entry["files"].items()}
        sound = _COMMIT.fullmatch(entry["commit"]) and all(
            _wanted(name) and _SHA256.fullmatch(file.sha256) and isinstance(file.size_bytes, int)
            for name, file in files.items()
        )
        if not (sound and files):
            raise ValueError("a name, a checksum or a commit is malformed")
        repo, commit = str(entry["repo"]), str(entry["commit"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"The file {_lock_file()} is damaged; restore it, or delete it to begin anew.") from error
    if repo != card.weights.get("repo"):
        return None
    wanted = card.weights.get("revision", "")
    if _COMMIT.fullmatch(wanted) and wanted != commit:
        return None  # the card names another commit than was used before
    return repo, commit, files


def _pin(card: ModelCard, repo: str, commit: str, files: Mapping[str, Pinned]) -> None:
    with only_one("records"):
        entries = _entries()
        entries[card.name] = {
            "repo": repo,
            "commit": commit,
            "first": now(),
            "files": {name: asdict(file) for name, file in files.items()},
        }
        write_json(_lock_file(), {"version": 1, "models": entries})


def _entries() -> dict[str, Any]:
    data = read_json(_lock_file(), {"version": 1, "models": {}})
    if not isinstance(data, dict) or not isinstance(data.get("models"), dict):
        raise ModelError(f"The file {_lock_file()} is damaged; restore it, or delete it to begin anew.")
    return data["models"]


def _lock_file() -> Path:
    return home() / LOCK_FILE
