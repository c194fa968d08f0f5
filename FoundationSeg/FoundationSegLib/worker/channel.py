# SPDX-License-Identifier: Apache-2.0
"""A session's part of a worker, as the parent holds it: its shared memory, and what opens it in a new process."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..predictor import ModelIdentity
from ..volume import Volume
from .blocks import Block, VolumeCopy
from .link import Link
from .wire import Message, ProtocolError

_keys = itertools.count(1)


class Channel:
    """What one worker process after the other is told of a session."""

    def __init__(self, volume: Volume, model: str, device: str, checkpoint: Path | None) -> None:
        self.key = next(_keys)
        self.volume, self.model, self.device, self.checkpoint = volume, model, device, checkpoint
        self.identity: ModelIdentity | None = None  # of the model in the process that was the last to open it
        self.identified = False  # the session is open in the process of now
        self.closed = False
        self._copy: VolumeCopy | None = None
        self._mailbox: Block | None = None
        self._retired: list[VolumeCopy] = []
        self._stuck: list[Block] = []

    def prepare(self, link: Link) -> None:
        """Begins to copy the voxels, for a process that has just been started. Raises OSError without room for them."""
        self.let_go()
        self._copy = VolumeCopy(self.volume.array)
        self._mailbox = Block.create(self._mailbox_bytes, reserve=False)  # most of it is never touched
        for block in (self._copy.block, self._mailbox):
            link.send({"op": "adopt", "block": block.name})

    @property
    def names(self) -> list[str]:
        """Of the blocks that the process was told of."""
        blocks = [self._mailbox, None if self._copy is None else self._copy.block]
        return [block.name for block in blocks if block is not None]

    @property
    def filled(self) -> bool:
        """Whether the voxels are there, or not needed any more."""
        return self._copy is None or self._copy.ready()

    def wait(self, timeout: float) -> None:
        """Until the voxels are there, or the time is over."""
        if self._copy is not None:
            self._copy.ready(timeout)

    @property
    def mailbox(self) -> npt.NDArray[np.uint8]:
        """What the worker wrote; copy it."""
        assert self._mailbox is not None, "the session is open"
        return self._mailbox.array((self._mailbox_bytes,), writable=False)

    def opening(self) -> Message:
        """The request that opens the session. Raises OSError if there was no room for the voxels."""
        assert self._copy is not None and self._mailbox is not None, "it was prepared"
        if self._copy.error is not None:
            raise self._copy.error
        volume = self.volume
        return {
            "session": self.key,
            "block": self._copy.block.name,
            "mailbox": self._mailbox.name,
            "mailbox_bytes": self._mailbox_bytes,
            "shape": list(volume.shape),
            "dtype": volume.array.dtype.name,
            "ijk_to_ras": volume.ijk_to_ras.tolist(),
            "modality": volume.modality,
            "fingerprint": vars(volume).get("fingerprint"),  # if it was computed already
            "model": self.model,
            "device": self.device,
            "checkpoint": None if self.checkpoint is None else str(Path(self.checkpoint).absolute()),
        }

    def opened(self, message: Message) -> None:
        """The worker has the session; the parent's hold on the voxels' copy ends. Raises ProtocolError."""
        try:
            self.identity = ModelIdentity(**message["identity"])
        except (KeyError, TypeError):
            raise ProtocolError("a model without identity") from None
        self.identified = True
        self._retire()

    def let_go(self, wait: bool = False) -> None:
        """The process is gone, or has let go of the session: nothing of it is left."""
        self.identified = False
        self._retire(wait)
        mailboxes = [*self._stuck, *([] if self._mailbox is None else [self._mailbox])]
        self._stuck = [block for block in mailboxes if not block.close()]
        self._mailbox = None

    def _retire(self, wait: bool = False) -> None:
        if self._copy is not None:
            self._retired.append(self._copy)
            self._copy = None
        self._retired = [copy for copy in self._retired if not copy.close(wait)]

    @property
    def _mailbox_bytes(self) -> int:
        return math.ceil(math.prod(self.volume.shape) / 8) + 1
