# SPDX-License-Identifier: Apache-2.0
"""Embeddings on disk, so that a volume that was open before costs no encoder run.

An embedding of a patient's image is a patient's data: something of the image can be made of it. So the folder is the
user's own (modes 0700 and 0600; on Windows the rights of the user's profile), names and contents hold no identifier
(names are hashes), the number of bytes is bounded (what was used longest ago goes first), `clear` empties it, and the
environment variable FOUNDATIONSEG_EMBEDDINGS=off, or `EmbeddingCache(on_disk=False)`, keeps embeddings in memory only.

The families with large encoders use it. The embedded model does not: it encodes a region in a fraction of a second and
tries many regions per click, which would be more bytes written than time saved.

Values are kept as they are, not rounded, so that a result is the same to the bit with the store and without.

A file: magic, format, length and CRC of a JSON header, the header (key; per tensor name, type, shape, place; CRC of the
tensors), tensors at multiples of 64 bytes, little-endian. It is written beside, then renamed, so a reader sees all of
it or nothing, whatever other processes do and whenever they are killed; nothing waits for the disk, because what a
power cut leaves half written fails its checksums. Then, as with any file under one of our names that is not ours, it is
removed and the embedding made again. Nothing in a file is ever executed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import mmap
import os
import re
import secrets
import shutil
import struct
import threading
import time
import zlib
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import __version__
from .errors import FoundationSegError
from .hub.home import home
from .predictor import Embedding, ModelIdentity
from .resources import resource_folder
from .volume import Volume

VARIABLE = "FOUNDATIONSEG_EMBEDDINGS"
CAPACITY_BYTES = 4 * 10**9
FORMAT = 1

_logger = logging.getLogger(__name__)
_MAGIC = b"FSegEmb\0"
_START = struct.Struct("<8sIII")  # magic, format, bytes of the header, CRC-32 of the header
_ALIGNMENT = 64
_LARGEST_HEADER = 2**20
_NAME = re.compile(r"[0-9a-f]{64}\.embedding")
_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.new")
_ABANDONED_S = 3600.0  # an unfinished file of that age is of a process that was killed
_FREE_BYTES = 10**9  # what the store leaves free on the disk
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Unusable(Exception):
    """The file is damaged, of another format, or not ours."""


@dataclass(frozen=True)
class Usage:
    """What the store takes up."""

    folder: Path
    files: int
    size_bytes: int


class EmbeddingStore:
    """A folder of embeddings under keys of 64 hexadecimal digits. Several processes may use it at once.

    The folder is never larger than `capacity_bytes` plus the files that other processes are writing at the moment.
    Files with names that are not ours are left alone.
    """

    def __init__(self, folder: Path, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self.folder = folder
        self.capacity_bytes = capacity_bytes
        self._failed = False

    def get(self, key: str) -> Embedding | None:
        """The embedding under `key`, mapped into memory (writes to it stay private); None if there is none."""
        path = self._path(key)
        try:
            embedding = _read(path, key)
        except FileNotFoundError:
            return None
        except (OSError, _Unusable) as error:
            _logger.warning("An embedding on disk cannot be used (%s); it is made again.", error)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # a folder that became read-only still serves
            os.utime(path)
        return embedding

    def put(self, key: str, embedding: Embedding) -> None:
        """Keeps an embedding if that can be done. A folder that cannot be written costs a warning, no result."""
        if self._failed or embedding.nbytes > self.capacity_bytes:
            return
        header, size = _header(key, embedding)
        if size > self.capacity_bytes:
            return
        new = self.folder / f".{secrets.token_hex(8)}.new"
        try:
            self._make_folder()
            self._make_room(size)
            _write(new, header, embedding)
            self._make_room(0)  # again, with all that others wrote meanwhile
            os.replace(new, self._path(key))
        except FileNotFoundError:
            _logger.info("The embeddings were cleared while one more was being written; it is not kept.")
        except OSError as error:
            self._failed = True
            _logger.warning(
                "Embeddings cannot be kept in %s (%s), so they will be computed again next time; make it writable, or "
                "set %s=off.",
                self.folder,
                error.strerror,
                VARIABLE,
            )
        finally:
            with suppress(OSError):  # it is not there any more if all went well
                new.unlink()

    def usage(self) -> Usage:
        """Files and bytes, those that are being written included."""
        sizes = [size for _, size, _ in self._files()]
        return Usage(self.folder, len(sizes), sum(sizes))

    def clear(self) -> int:
        """Removes all embeddings. Returns the bytes that became free."""
        freed = 0
        for _, size, path in self._files():
            with suppress(OSError):  # gone already, or open in another process on Windows
                path.unlink()
                freed += size
        return freed

    def _path(self, key: str) -> Path:
        assert _SHA256.fullmatch(key), "keys are hashes, never anything that a person wrote"
        return self.folder / f"{key}.embedding"

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        if os.name == "posix" and self.folder.stat().st_mode & 0o077:
            self.folder.chmod(0o700)

    def _files(self) -> list[tuple[int, int, Path]]:
        """(time of last use in ns, size, path) of our files, the one used longest ago first."""
        found = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if _NAME.fullmatch(entry.name) or _UNFINISHED.fullmatch(entry.name):
                        with suppress(FileNotFoundError):  # another process removed it just now
                            status = entry.stat(follow_symlinks=False)
                            found.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        except FileNotFoundError:
            return []
        return sorted(found)

    def _make_room(self, size: int) -> None:
        """Removes what was used longest ago until `size` more bytes fit, and what killed processes left behind."""
        files = self._files()
        total = sum(size for _, size, _ in files)
        allowed = min(self.capacity_bytes, total + shutil.disk_usage(self.folder).free - _FREE_BYTES) - size
        abandoned = time.time_ns() - int(_ABANDONED_S * 1e9)
        for used, length, path in files:
            unfinished = _UNFINISHED.fullmatch(path.name) is not None
            if (unfinished and used < abandoned) or (not unfinished and total > allowed):
                with suppress(OSError):
                    path.unlink()
                    total -= length
        if total > allowed:
            raise OSError(errno.ENOSPC, "the disk is nearly full")


def _header(key: str, embedding: Embedding) -> tuple[bytes, int]:
    """The bytes before the first tensor, and the size of the whole file."""
    tensors, start, checksum = [], 0, 0
    for name, tensor in embedding.tensors.items():
        data = _bytes(tensor)
        padding = -data.size % _ALIGNMENT
        tensors.append({"name": name, "type": _little(tensor).str, "shape": list(tensor.shape), "start": start})
        checksum = zlib.crc32(bytes(padding), zlib.crc32(data.data, checksum))
        start += data.size + padding
    text = json.dumps({"key": key, "size": start, "crc": checksum, "tensors": tensors}).encode()
    text += b" " * (-(_START.size + len(text)) % _ALIGNMENT)
    head = _START.pack(_MAGIC, FORMAT, len(text), zlib.crc32(text)) + text
    return head, len(head) + start


def _write(path: Path, header: bytes, embedding: Embedding) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with open(descriptor, "wb") as file:
        file.write(header)
        for tensor in embedding.tensors.values():
            data = _bytes(tensor)
            file.write(data.data)
            file.write(bytes(-data.size % _ALIGNMENT))


def _little(tensor: npt.NDArray[Any]) -> np.dtype[Any]:
    if tensor.dtype.kind not in "fiub":
        raise TypeError(f"Embeddings hold numbers, not {tensor.dtype}.")
    return tensor.dtype.newbyteorder("<")


def _bytes(tensor: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(tensor, dtype=_little(tensor)).reshape(-1).view(np.uint8)


def _read(path: Path, key: str) -> Embedding:
    """Raises FileNotFoundError, OSError, and _Unusable."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < _START.size:
            raise _Unusable("it is cut off")
        # Private: nobody can change the file through the arrays, and PyTorch takes only arrays that can be written to.
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    magic, version, length, checksum = _START.unpack_from(memory)
    if magic != _MAGIC:
        raise _Unusable("it is none of ours")
    if version != FORMAT:
        raise _Unusable(f"its format is {version}, not {FORMAT}")
    begin = _START.size + length
    if length > _LARGEST_HEADER or begin > len(memory) or zlib.crc32(memory[_START.size : begin]) != checksum:
        raise _Unusable("its header is damaged")
    header = json.loads(memory[_START.size : begin])  # what passes its checksum was written by `_header`
    if header["key"] != key:
        raise _Unusable("it belongs to another key")
    if begin + header["size"] != len(memory):
        raise _Unusable("it is cut off")
    if zlib.crc32(memoryview(memory)[begin:]) != header["crc"]:
        raise _Unusable("its checksum is wrong")
    tensors = {}
    for entry in header["tensors"]:
        flat = np.frombuffer(memory, entry["type"], int(np.prod(entry["shape"])), begin + entry["start"])
        tensors[entry["name"]] = flat.reshape(entry["shape"])
    return Embedding(tensors)


class VolumeShelf:
    """The store's embeddings of one volume by one model; keys are those of `EmbeddingCache`.

    An embedding is found again only if everything is the same that it depends on: voxels, geometry and modality of the
    volume, the weights (name, revision, SHA-256), device and precision, versions of what computes it, and this package
    with its model cards.
    """

    def __init__(self, store: EmbeddingStore, volume: Volume, identity: ModelIdentity) -> None:
        self._store = store
        self._volume = volume
        self._identity = identity
        # The hash of a large volume takes longer than reading an embedding; it is ready when the first click comes.
        self._hashing = threading.Thread(target=self._model_and_volume, name="fingerprint", daemon=True)
        self._hashing.start()

    def get(self, key: Hashable) -> Embedding | None:
        """See `EmbeddingStore.get`."""
        return self._store.get(self._digest(key))

    def put(self, key: Hashable, embedding: Embedding) -> None:
        """See `EmbeddingStore.put`."""
        self._store.put(self._digest(key), embedding)

    def _model_and_volume(self) -> list[Any]:
        model = {field.name: getattr(self._identity, field.name) for field in fields(self._identity)}
        return [FORMAT, _software(), self._volume.fingerprint, self._volume.modality, model]

    def _digest(self, key: Hashable) -> str:
        self._hashing.join()
        text = json.dumps([*self._model_and_volume(), _plain(key)], sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def shelf_of(volume: Volume, identity: ModelIdentity) -> VolumeShelf | None:
    """Where a model's embeddings of a volume are kept; None if they are not.

    That is so where the user turned it off, and for a model whose weights have no checksum: two of them could not be
    told apart. Raises FoundationSegError if the variable FOUNDATIONSEG_EMBEDDINGS cannot be understood.
    """
    store = default_store()
    if store is None or not _SHA256.fullmatch(identity.sha256):
        return None
    return VolumeShelf(store, volume, identity)


def default_store() -> EmbeddingStore | None:
    """The user's store, in the folder "embeddings" of `home()`; None if FOUNDATIONSEG_EMBEDDINGS turns it off.

    The variable may be "off", "on", or a number of GB (10^9 bytes) as its capacity. Raises FoundationSegError for
    anything else: who misspells "off" must not find a patient's data on the disk.
    """
    chosen = os.environ.get(VARIABLE, "on").strip().lower()
    if chosen == "off":
        return None
    capacity = CAPACITY_BYTES
    if chosen not in ("on", ""):
        if not re.fullmatch(r"\d{1,5}(\.\d+)?", chosen):
            raise FoundationSegError(
                f"The environment variable {VARIABLE} is {chosen!r}; set it to off, to on, or to a number of GB."
            )
        capacity = int(float(chosen) * 1e9)
    return EmbeddingStore(stored_in(), capacity) if capacity else None


def stored_in() -> Path:
    """The folder of `default_store`, whether it is turned on or not: what is in it can be cleared in any case."""
    return home() / "embeddings"


def _plain(key: Any) -> Any:
    """A key as JSON can say it, without loss and with its types; TypeError for what has no lasting meaning."""
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, float):
        return ["float", key.hex()]
    if key is None or isinstance(key, str | int):
        return key
    if isinstance(key, tuple | list):
        return ["tuple", *map(_plain, key)]
    if is_dataclass(key) and not isinstance(key, type):
        return [type(key).__qualname__, *(_plain(getattr(key, field.name)) for field in fields(key))]
    raise TypeError(f"An embedding cannot be kept on disk under a key with a {type(key).__name__} in it.")


@lru_cache(maxsize=1)
def _software() -> str:
    """Hash of this package and its model cards: other code or settings may prepare or encode a region otherwise."""
    digest = hashlib.sha256(__version__.encode())
    for folder, pattern in ((Path(__file__).parent, "*.py"), (resource_folder("Models"), "*.json")):
        for path in sorted(folder.rglob(pattern)):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
