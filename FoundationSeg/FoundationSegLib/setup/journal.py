# SPDX-License-Identifier: Apache-2.0
"""What an installation was about when the application ended, and what came because of us: to go on, and to go back.

One file for each installation of Python and module, in the folder that `hub.home` names.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..hub.home import home
from ..hub.records import now, read_json, write_json
from .installed import Installed, difference

_VERSION = 1


@dataclass(frozen=True)
class Pending:
    """An installation that has begun and has not ended.

    Attributes:
        need: its key.
        step: the kind of the step that was under way.
        pid: of the process that began it.
        before: the versions that were there before the first step.
        restart: it ended well, and the application has to be restarted before the next step.
    """

    need: str
    step: str
    started: str
    pid: int
    before: dict[str, str]
    restart: bool = False

    @property
    def interrupted(self) -> bool:
        """Whether the step was cut off, by an application that ended: packages may be there in part."""
        return not self.restart and self.pid != os.getpid()


@dataclass(frozen=True)
class Arrival:
    """A package that came because of us, or that we replaced (`before` is the version that was there)."""

    version: str
    before: str | None
    need: str
    when: str


@dataclass(frozen=True)
class Removal:
    """The way back.

    Attributes:
        remove: (name, version) of what can be uninstalled.
        kept: (name, why it stays).
    """

    remove: tuple[tuple[str, str], ...]
    kept: tuple[tuple[str, str], ...]


class Journal:
    """The file. Every method reads it anew and writes it whole, so that nothing is lost with the process."""

    def __init__(self, requester: str, folder: Path | None = None, site: Path | None = None) -> None:
        """`site` is the installation of Python, `folder` where the file goes; both default to this process's own."""
        place = Path(sysconfig.get_path("purelib")) if site is None else site
        digest = hashlib.sha256(os.fspath(place.absolute()).encode()).hexdigest()[:16]
        self.path = (home() / "setup" if folder is None else folder) / f"{requester}-{digest}.json"

    @property
    def pending(self) -> Pending | None:
        """What is not finished yet. Another process's step counts too."""
        return self._read()[0]

    @property
    def arrivals(self) -> dict[str, Arrival]:
        """What came because of us, by canonical name."""
        return self._read()[1]

    def begin(self, need: str, step: str, installed: Installed) -> None:
        """Before a step; `installed` is what is there now. Raises OutputError."""
        pending, arrivals = self._read()
        before = installed.versions if pending is None else pending.before
        self._write(Pending(need, step, now(), os.getpid(), before), arrivals)

    def restarting(self) -> None:
        """The step has ended well; the next one waits for a restart."""
        pending, arrivals = self._read()
        if pending is not None:
            self._write(replace(pending, restart=True), arrivals)

    def record(self, installed: Installed) -> None:
        """Notes what has come since the first step began; after every step, and after one that was cut off.

        Of a package that changes several times, the version before the first change is the one to know.
        """
        pending, arrivals = self._read()
        if pending is None:
            return
        for name, (old, new) in difference(Installed(pending.before), installed).items():
            known = arrivals.get(name)
            if known is None or known.version != new:
                arrivals[name] = Arrival(new, known.before if known else old, pending.need, now())
        self._write(pending, arrivals)

    def done(self) -> None:
        """Nothing is under way any more: it ended, well or not, or was given up."""
        pending, arrivals = self._read()
        if pending is not None:
            self._write(None, arrivals)

    def removal(self, installed: Installed) -> Removal:
        """What can be uninstalled again: what we brought, is as we brought it, and nobody else requires."""
        remove: dict[str, str] = {}
        kept: dict[str, str] = {}
        for name, arrival in self.arrivals.items():
            if name not in installed.versions:
                continue
            if installed.versions[name] != arrival.version:
                kept[name] = f"was changed to {installed.versions[name]} since"
            elif arrival.before is not None:
                kept[name] = f"took the place of {arrival.before}, which was there before"
            else:
                remove[name] = arrival.version
        while blocked := {
            name: others
            for name in remove
            if (others := [other for other in installed.requirers(name) if other not in remove])
        }:
            for name, others in blocked.items():
                del remove[name]
                kept[name] = f"is required by {', '.join(others)}"
        return Removal(tuple(sorted(remove.items())), tuple(sorted(kept.items())))

    def removed(self, installed: Installed) -> None:
        """Forgets what is not there any more."""
        pending, arrivals = self._read()
        self._write(pending, {name: entry for name, entry in arrivals.items() if name in installed.versions})

    def _read(self) -> tuple[Pending | None, dict[str, Arrival]]:
        """A damaged file is as good as none: it says nothing that cannot be found out or done without."""
        try:
            data: Any = read_json(self.path, {})
            pending = data.get("pending")
            arrivals = {name: Arrival(**entry) for name, entry in data.get("installed", {}).items()}
            return (None if pending is None else Pending(**pending)), arrivals
        except (ModelError, TypeError, AttributeError):
            return None, {}

    def _write(self, pending: Pending | None, arrivals: dict[str, Arrival]) -> None:
        write_json(
            self.path,
            {
                "version": _VERSION,
                "pending": None if pending is None else asdict(pending),
                "installed": {name: asdict(arrival) for name, arrival in arrivals.items()},
            },
        )
