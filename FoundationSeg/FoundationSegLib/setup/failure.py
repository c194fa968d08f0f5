# SPDX-License-Identifier: Apache-2.0
"""What pip's log says went wrong, in one sentence that says what to do."""

from __future__ import annotations

import re

_NO_NAME = ("no matching distribution found", "could not find a version that satisfies")
# What to look for (in lower case), and the answer; the first that fits counts. {what} is what was to be installed.
_ANSWERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("no space left on device", "errno 28", "disk quota exceeded", "not enough space on the disk"),
        "The disk is full, so {what} could not be installed; free some space and try again.",
    ),
    (
        ("winerror 206", "errno 36", "file name too long", "filename or extension is too long"),
        "A path became too long for Windows; install 3D Slicer in a folder with a short name, such as C:\\Slicer, "
        "and try again.",
    ),
    (
        ("proxyerror", "407 proxy authentication", "tunnel connection failed"),
        "The proxy did not let pip through; check HTTPS_PROXY and its password, then try again.",
    ),
    (
        ("certificate_verify_failed", "certificate verify failed", "sslcertverificationerror"),
        "The certificate of the package index is not trusted; if a proxy of your institution is in between, name its "
        "certificates in PIP_CERT, then try again.",
    ),
    (
        ("do not match the hashes",),
        "A package arrived damaged and was not installed; try again, and if that does not help, check the proxy.",
    ),
    (
        ("error: resolutionimpossible",),  # the traceback in the log names it for other failures too
        "{what} cannot be installed beside what other extensions have installed ({detail}); nothing was changed. "
        "Remove the extension that needs the other version, or use a second copy of 3D Slicer.",
    ),
    (
        ("winerror 5", "winerror 32", "being used by another process"),
        "A file of a package is in use; close other windows of 3D Slicer, restart this one, and try again.",
    ),
    (
        ("permission denied", "errno 13", "access is denied", "read-only file system"),
        "The folder of Python packages cannot be written to; ask who manages this installation of 3D Slicer, or "
        "install it in a folder of your own.",
    ),
    (
        (
            "newconnectionerror",
            "failed to establish a new connection",
            "name or service not known",
            "temporary failure in name resolution",
            "getaddrinfo failed",
            "network is unreachable",
            "nameresolutionerror",
            "connecttimeouterror",
            "readtimeouterror",
            "read timed out",
            "connection reset",
            "connection aborted",
            "incompleteread",
            "connectionerror",
        ),
        "The package index could not be reached; check the network, the proxy (HTTPS_PROXY) and the firewall, then try "
        "again.",
    ),
    (
        _NO_NAME,
        "There is no {detail} for this system and this version of Python; look for a newer version of the extension.",
    ),
)


def explain(log: str, what: str) -> str:
    """One sentence. `what` names the packages that were to be installed; `log` is all that pip said.

    No address is repeated: those of private indexes can hold passwords.
    """
    lower = log.lower()
    for signs, answer in _ANSWERS:
        if any(sign in lower for sign in signs):
            return answer.format(what=what, detail=_detail(log, what))
    last = next((line for line in reversed(_lines(log)) if "error" in line.lower()), "")
    return f"{what} could not be installed" + (f" ({last[:200]})" if last else "") + "; the log has the details."


def _detail(log: str, what: str) -> str:
    """The requirement that the message is about."""
    found = re.search(r"(?:no matching distribution found for|satisfies the requirement) ([^\s(;]+)", log, re.I)
    if found:
        return found[1]
    lines = _lines(log)
    conflict = [line for line in lines if re.search(r"( depends on |user requested)", line)]
    return " and ".join(dict.fromkeys(conflict[:2]))[:200] or what


def _lines(log: str) -> list[str]:
    """Without the time stamps of pip's log files, and without addresses."""
    plain = (re.sub(r"^\d{4}-\d\d-\d\dT[\d:,.]+\s*", "", line).strip() for line in log.splitlines())
    return [re.sub(r"\w+://\S+", "(address)", line) for line in plain if line]
