# SPDX-License-Identifier: Apache-2.0
"""Worker sessions for volumes of the scene: opened without waiting, kept while their volume stays as it is."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import slicer

from ..errors import FoundationSegError, VolumeError
from ..mrml import ijkToWorld, modality, volumeKey
from ..prompts import Round
from ..volume import Volume
from ..worker import Worker, WorkerSession, WorkerSettings

SESSIONS_KEPT = 2

SessionKey = tuple[Any, ...]


class _Reading:
    """Voxels that are being copied and checked in a thread: on a large volume this takes half a second."""

    def __init__(self, volumeNode: Any) -> None:
        array = slicer.util.arrayFromVolume(volumeNode)
        matrix, code = ijkToWorld(volumeNode), modality(volumeNode)
        self.volume: Volume | None = None
        self.error: FoundationSegError | None = None

        def read() -> None:
            try:
                volume = Volume(array.copy(), matrix, code)
                _ = volume.fingerprint  # kept with the volume; provenance needs it
                self.volume = volume
            except FoundationSegError as error:
                self.error = error
            except MemoryError:
                self.error = VolumeError("There is not enough memory for a copy of the volume; close other programs.")

        self.thread = threading.Thread(target=read, name="FoundationSeg volume", daemon=True)
        self.thread.start()


class Sessions:
    """The sessions that a panel works with. All of them share one worker process, and with it loaded models."""

    def __init__(self, settings: WorkerSettings | None = None, worker: Worker | None = None) -> None:
        """Without a `worker` of somebody else's there is an own one, by `settings`, which ends with `close`."""
        self._owned = worker is None
        self.worker = worker or Worker(settings)
        self._sessions: dict[SessionKey, WorkerSession] = {}
        self._reading: dict[SessionKey, _Reading] = {}

    def get(self, volumeNode: Any, model: str, device: str, checkpoint: Path | None) -> WorkerSession | None:
        """The session of the volume as it is now; None while its voxels are being read: ask again.

        Raises:
            FoundationSegError: if the node is no volume that can be segmented, or there is no such model.
        """
        volume = volumeKey(volumeNode)
        key = (*volume, model, device, checkpoint)
        session = self._sessions.pop(key, None)
        if session is None:
            known = next((s.volume for k, s in self._sessions.items() if k[: len(volume)] == volume), None)
            if known is None:
                reading = self._reading.get(volume)
                if reading is None:
                    self._forgetOthers(volumeNode.GetID(), volume)
                    reading = self._reading[volume] = _Reading(volumeNode)
                if reading.thread.is_alive():
                    return None
                if reading.error is not None:
                    del self._reading[volume]
                    raise reading.error
                known = reading.volume
            if known is None:
                del self._reading[volume]
                raise VolumeError("The volume could not be read; choose it again.")
            session = WorkerSession(known, model, device, checkpoint=checkpoint, worker=self.worker)
            self._reading.pop(volume, None)
        self._sessions[key] = session
        while len(self._sessions) > SESSIONS_KEPT:
            self._sessions.pop(next(iter(self._sessions))).close()  # the one that was used longest ago
        return session

    @property
    def reading(self) -> bool:
        """Whether voxels are being read."""
        return any(reading.thread.is_alive() for reading in self._reading.values())

    def forget(self, nodeId: str) -> None:
        """The volume node is gone."""
        self._forgetOthers(nodeId, ())

    def clear(self) -> None:
        """The scene is closed."""
        for session in self._sessions.values():
            session.close(wait=True)
        self._sessions.clear()
        self._reading.clear()

    def close(self) -> None:
        """End the worker process; what is under way is cancelled."""
        self.clear()
        if self._owned:
            self.worker.close()

    def _forgetOthers(self, nodeId: str, current: SessionKey) -> None:
        """Let go of the sessions of a volume node whose voxels or place have changed."""
        stale = [k for k in self._sessions if k[0] == nodeId and (not current or k[: len(current)] != current)]
        for key in stale:
            self._sessions.pop(key).close()
        for key in [k for k in self._reading if k[0] == nodeId and k != current]:
            del self._reading[key]


def align(session: WorkerSession, segment: str, rounds: tuple[Round, ...]) -> tuple[Round, ...]:
    """Goes back and forth in the session's history to where it agrees with `rounds`; returns what is still to do."""
    if segment not in session.segments():
        return rounds
    common = 0
    for have, want in zip(session.rounds(segment), rounds, strict=False):
        if have != want:
            break
        common += 1
    while len(session.rounds(segment)) > common:
        session.undo(segment)
    while common < len(rounds) and session.redo(segment) is not None:
        if session.rounds(segment)[common] != rounds[common]:
            session.undo(segment)
            break
        common += 1
    return rounds[common:]
