# SPDX-License-Identifier: Apache-2.0
"""The session behind a process boundary: a panel stays alive whatever a model, a driver or a prediction does.

Worker
======

>>> with WorkerSession(volume, "compact") as session:  # the interface of SegmentationSession
...     result = session.add("Left kidney", Point((60.0, -30.0, 120.0)))

A panel does not wait. It starts a prediction, and a timer polls:

>>> pending = session.add_async("Left kidney", point, progress=show, done=lambda pending: update(pending.result()))
>>> timer.timeout.connect(session.poll)  # calls `progress` and `done` in the thread that polls, and no other

What lives where
    The parent keeps the truth: prompts, masks, undo and redo. The worker keeps what can be made again: the model, its
    embeddings, and the states that the next round goes on from. A worker can therefore be killed at any moment; the
    next one makes the states that it needs from the prompts, with the same code from the same input, hence the same
    bits. (The new state's mask is compared with the one that the parent holds, and a warning says if they differ.)

What goes over the pipes
    One JSON object a line, never more than 16 kB to the worker: whatever is longer travels in a block of shared memory.
    parent to worker (each names its `op`):
        adopt      block                                  take this block of shared memory, and its name off the system
        open       id, session, volume, mailbox, ...      a volume and the model to apply to it
        predict    id, session, after, key, round         a round of prompts on top of the state `after`
        uncertainty, prefetch, close                      see `WorkerSession`
        cancel     id                                     stop as soon as you can
    worker to parent (each names its `event`):
        hello      protocol, version, pid                 first of all; another version is refused
        progress   id, stage, fraction
        beat                                              every second while busy
        result     id, ...                                masks: bits in the mailbox, of the changed box only
        error      id, kind, message                      one of the package's own errors, or `internal`
        bye                                               the idle time is over
    The worker's own stdout is taken away from whatever runs in it, so that stray prints end in stderr, whose tail is
    kept for error messages.

Shared memory
    Names are random. The worker removes a block's name as soon as it has it open (it hears of the name before the block
    is filled), so nothing is left behind however either of the two ends. Python's resource tracker is kept out of it:
    it would start a process of its own, inside 3D Slicer even a second Slicer, and remove blocks that are in use.

Cancelling
    The worker is asked first. If it has not yielded after `WorkerSettings.grace_s` it is killed and another one is
    started.
"""

from __future__ import annotations

from ..errors import WorkerError
from .client import Worker
from .jobs import Pending
from .session import WorkerSession
from .settings import WorkerSettings

__all__ = ["Pending", "Worker", "WorkerError", "WorkerSession", "WorkerSettings"]
