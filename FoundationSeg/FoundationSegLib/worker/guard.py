# SPDX-License-Identifier: Apache-2.0
"""What the worker process does to itself before anything else runs in it."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from typing import Any

from ..errors import ModelError


def take_stdout() -> int:
    """A file descriptor of the pipe to the parent; whatever else writes to stdout goes to stderr from now on."""
    sys.stdout.flush()
    pipe = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr
    return pipe


def report_crashes() -> None:
    """Has a crash in native code write to stderr where it happened; leaves Ctrl-C to the parent."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def limit_memory(size: int) -> None:
    """The most bytes of address space that this process may take; Windows has no such limit."""
    if sys.platform == "win32":
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def forbid_network() -> None:
    """Refuses every connection and look-up of this process, whichever library asks; there is no way back."""
    asked = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in asked and getattr(getattr(arguments[0], "family", None), "name", "") != "AF_UNIX":
            raise ModelError(
                "The worker process tried to use the network, which it may not; download the model beforehand, or "
                "allow it in the settings."
            )

    sys.addaudithook(refuse)
