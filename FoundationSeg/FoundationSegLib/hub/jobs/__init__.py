# SPDX-License-Identifier: Apache-2.0
"""Downloads and other long work on weights in a process of its own, so that a panel stays alive and can cancel.

>>> job = Job({"what": "download", "name": "sam-med3d-turbo", "accepted": ["sam-med3d-turbo"]}, progress=show)
>>> timer.timeout.connect(job.poll)  # calls `progress` and `done` in the thread that polls
>>> job.cancel()  # what was downloaded is kept for the next time

What a request holds (`what`, and):
    download    name
    verify      names
    remove      names
    bundle      names, folder
    import      folder
    checkpoint  path, and name where the user said which model it was made for
`accepted` names the models whose licences a person has just accepted; nothing else makes a download begin.
The answer (`Job.result`) is the data of the command of the same name, see `commands_models`.
"""

from __future__ import annotations

from .client import Job, JobSettings

__all__ = ["Job", "JobSettings"]
