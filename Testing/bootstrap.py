# SPDX-License-Identifier: Apache-2.0
"""Makes the environment `.venv` of a checkout and runs the demo or the tests in it, with the standard library only.

The environment is the checkout's own: nothing is installed anywhere else. What is in it is written down in a stamp, so
that the next run installs only what is missing, which is mostly nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = Path("Testing", "constraints.txt")
STAMP = "foundationseg.json"
LOG = "foundationseg-install.log"
_TICK_S = 0.2
_LOG_LINES = 12


class BootstrapError(Exception):
    """A sentence for the user: what went wrong and what to do."""


class Environment:
    """The virtual environment `.venv` of a checkout."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.log = self.folder / LOG

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def key(self) -> str:
        """Changes with everything that an installation depends on: Python, place, requirements, pins."""
        digest = hashlib.sha256(f"{sys.version} {self.root}".encode())
        for name in ("pyproject.toml", CONSTRAINTS):
            digest.update((self.root / name).read_bytes())
        return digest.hexdigest()

    def installed(self) -> set[str]:
        """What is installed as of today's requirements: "base", and the names of extras."""
        stamp = self._stamp() or {}
        return set(stamp["installed"]) if stamp.get("key") == self.key() and self.python.exists() else set()

    def ensure(self, extras: Iterable[str] = ()) -> None:
        """Installs the project with `extras` unless it is there. Raises BootstrapError."""
        present = self.installed()
        wanted = {"base", *extras}
        if wanted <= present:
            return
        self._create()
        started = time.monotonic()
        if "torch" in wanted:
            # Alone and first: a CPU build of exactly the pinned version is taken where pip finds one, whereas the
            # ranges of other requirements would bring the newest build with its GPU libraries.
            self._pip("torch", "torch")
        self._pip("the build tool", "hatchling")
        names = sorted((wanted | present) - {"base"})
        self._pip(" with ".join(["FoundationSeg", *names[:1]]), "--no-build-isolation", "-e", _requirement(names))
        self._write_stamp({"python": sys.version, "key": self.key(), "installed": ["base", *names]})
        _say(f"Installed into {self.folder} in {time.monotonic() - started:.0f} s.")

    def run(self, arguments: Sequence[str], cwd: Path | None = None) -> int:
        """Runs the environment's Python on `arguments`; its exit status."""
        process = subprocess.Popen([self.python, *arguments], cwd=cwd, env=_environment())
        while True:
            try:
                status = process.wait()
                return status if status >= 0 else 128 - status
            except KeyboardInterrupt:
                continue  # the terminal has told the process too; it ends by itself and says so

    def _create(self) -> None:
        """Makes the folder, or makes it anew where it is of another Python or was left half made."""
        stamp = self._stamp()
        if stamp is None and self.folder.exists() and any(self.folder.iterdir()):
            raise BootstrapError(
                f"The folder {self.folder} was not made by this script and is left as it is; rename it, then run the "
                "same command again."
            )
        if stamp is not None and stamp.get("python") == sys.version and self.python.exists():
            return
        if find_spec("venv") is None or find_spec("ensurepip") is None:
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise BootstrapError(
                "This Python cannot make virtual environments; install the package that adds this (Debian and Ubuntu: "
                f"sudo apt install python{version}-venv), then run the same command again."
            )
        _say(f"Making {self.folder} with Python {sys.version.split()[0]} ...")
        try:
            # The stamp comes first and stays: a run that is cut off must not leave a folder that looks like the user's.
            self._write_stamp({})
            for item in self.folder.iterdir():
                if item.name != STAMP:
                    shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
            venv.create(self.folder, with_pip=True, symlinks=os.name != "nt")
        except (OSError, subprocess.CalledProcessError) as error:
            message = f"{self.folder} cannot be made ({error}); see that the folder can be written to."
            raise BootstrapError(message) from error
        self._write_stamp({"python": sys.version})

    def _pip(self, what: str, *arguments: str) -> None:
        """Installs, quietly but for a line that counts the seconds; pip's own words go to a log."""
        command = [str(self.python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        started = time.monotonic()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*command, "-c", str(CONSTRAINTS), *arguments],
                cwd=self.root,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                with _Clock(f"Installing {what}", started) as clock:
                    while process.poll() is None:
                        clock.tick()
                        time.sleep(_TICK_S)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if process.returncode != 0:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            _say("\n".join(lines[-_LOG_LINES:]))
            raise BootstrapError(
                f"pip could not install {what} (its last lines are above, all of them in {self.log}); see that this "
                "computer reaches a Python package index, then run the same command again."
            )

    def _stamp(self) -> dict[str, Any] | None:
        """What the last run wrote down; None where this script has never been."""
        try:
            stamp = json.loads((self.folder / STAMP).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {}  # cut off while it was written
        return stamp if isinstance(stamp, dict) else {}

    def _write_stamp(self, stamp: dict[str, Any]) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")


class _Clock:
    """A line that counts seconds on a terminal; elsewhere one line at the beginning."""

    def __init__(self, text: str, started: float) -> None:
        self.text, self.started = text, started
        self.live = sys.stderr.isatty()

    def __enter__(self) -> _Clock:
        if not self.live:
            _say(f"{self.text} ...")
        return self

    def tick(self) -> None:
        if self.live:
            sys.stderr.write(f"\r{self.text} ... {time.monotonic() - self.started:.0f} s ")
            sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self.live:
            sys.stderr.write("\n")


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python Testing/run.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Runs the demo or the tests in the checkout's own environment (.venv), which the first run makes.",
        epilog="demo: what follows goes to `foundation-seg demo` (try: demo --help).\n"
        "test: what follows goes to pytest; --with-torch also installs torch (several GB where only the GPU\n"
        "      build is to be had) and so runs the tests of training, which are skipped without it.",
    )
    parser.add_argument("command", choices=("demo", "test"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on")
    parsed = parser.parse_args(arguments)
    rest: list[str] = parsed.arguments
    environment = Environment()
    try:
        if parsed.command == "demo":
            environment.ensure()
            return environment.run(["-P", "-m", "FoundationSegLib", "demo", *rest])
        with_torch = "--with-torch" in rest
        environment.ensure(["test", "torch"] if with_torch else ["test"])
        return environment.run(["-m", "pytest", *(item for item in rest if item != "--with-torch")], cwd=ROOT)
    except BootstrapError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("Cancelled; the next run goes on from here.")
        return 130


def _requirement(extras: Sequence[str]) -> str:
    return f".[{','.join(extras)}]" if extras else "."


def _environment() -> dict[str, str]:
    """The user's variables less those that would put other packages before the environment's own."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
