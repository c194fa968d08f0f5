# SPDX-License-Identifier: Apache-2.0
"""What is missing for a use of the module, how much that is, and what would go wrong: all without the network."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..hub.home import megabytes
from .installed import Installed, importable
from .recipe import Need, Package, Recipe, accepts, applies, canonical, requirement

State = Literal["ok", "missing", "old", "broken"]

# Beyond what the packages take: pip unpacks wheels before it moves them.
_SPARE_BYTES = 200 * 2**20
_UNKNOWN_BYTES = 5 * 10**6
# Windows allows 260 characters in a path; the longest within torch has about 140.
_LONG_PATH = 115
_TORCH = "torch"


@dataclass(frozen=True)
class Finding:
    """One package that is needed.

    Attributes:
        text: the requirement.
        found: the version that is there; None if none is.
        target: the version that would be installed; None where that is left to the installer (torch).
        required_by: who else requires the one that is there (and might not get on with another).
    """

    name: str
    text: str
    state: State
    found: str | None
    target: str | None
    download_bytes: int = 0
    installed_bytes: int = 0
    required_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preflight:
    """What `preflight` found out.

    Attributes:
        findings: the need's own requirements, and what those that are missing bring along.
        torch: PyTorch, where the need includes it.
        folder: where packages would go.
        free_bytes: on its disk; None if unknown.
        problems: what has to be put right before an installation can work; one sentence each.
        notes: what a person may want to know.
    """

    need: Need
    findings: tuple[Finding, ...]
    torch: Finding | None
    folder: Path
    free_bytes: int | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing has to be installed."""
        return not self.wanted and (self.torch is None or self.torch.state == "ok")

    @property
    def wanted(self) -> tuple[Finding, ...]:
        """The packages to install, torch left out."""
        return tuple(finding for finding in self.findings if finding.state != "ok")

    @property
    def replaced(self) -> tuple[Finding, ...]:
        """Of these, those that take the place of a version that works but is too old."""
        return tuple(finding for finding in self.findings if finding.state == "old")

    @property
    def download_bytes(self) -> int:
        """Without torch."""
        return sum(finding.download_bytes for finding in self.wanted)


def ready(need: Need) -> bool:
    """Whether a need seems met: versions as metadata tell them, and modules that are there. Takes milliseconds."""
    texts = [*need.requirements, *([f"{_TORCH}{need.torch}"] if need.torch else [])]
    for text in texts:
        if not applies(text):
            continue
        try:
            version = importlib.metadata.version(requirement(text).name)
        except importlib.metadata.PackageNotFoundError:
            return False
        if not version or not accepts(text, version):
            return False
    return not need.torch or importable(_TORCH)


def preflight(
    recipe: Recipe,
    need: Need,
    installed: Installed | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Preflight:
    """Looks at an installation of Python; this one, unless told otherwise. Uses no network, imports no package."""
    installed = Installed.read() if installed is None else installed
    folder = Path(sysconfig.get_path("purelib")) if folder is None else folder
    environment = os.environ if environment is None else environment
    torch = _torch(recipe, need, installed)
    findings = _findings(recipe, need, installed)
    free = _free(folder)
    problems, notes = [], []
    size = sum(finding.download_bytes + finding.installed_bytes for finding in findings)
    if torch is not None and torch.state != "ok":
        size += torch.download_bytes + torch.installed_bytes
        if sys.platform == "win32" and len(str(folder)) > _LONG_PATH:
            problems.append(
                f"The folder {folder} has so long a name that Windows cannot hold PyTorch's files in it; install 3D "
                "Slicer in a folder with a short name, such as C:\\Slicer."
            )
    wanted = size > 0
    if wanted and not os.access(_existing(folder), os.W_OK):
        problems.append(
            f"The folder {folder}, where Python packages belong, cannot be written to (a shared or read-only "
            "installation); ask who manages it, or install 3D Slicer in a folder of your own."
        )
    if wanted and free is not None and free < size + _SPARE_BYTES:
        problems.append(
            f"The packages need {megabytes(size + _SPARE_BYTES)} on the disk that holds {folder}, which has "
            f"{megabytes(free)} free; free some space."
        )
    if wanted:
        notes += _notes(environment)
    return Preflight(need, findings, torch, folder, free, tuple(problems), tuple(notes))


def _torch(recipe: Recipe, need: Need, installed: Installed) -> Finding | None:
    if not need.torch:
        return None
    text = f"{_TORCH}{need.torch}"
    state, found = _state(text, Package(_TORCH, "", _TORCH, 0, 0), installed)
    if state == "ok":
        return Finding(_TORCH, text, state, found, None)
    least, _ = recipe.torch_bytes
    # What it unpacks to is about three times its wheel; the least is what has to fit in any case.
    return Finding(_TORCH, text, state, found, None, least, 3 * least, installed.requirers(_TORCH))


def _findings(recipe: Recipe, need: Need, installed: Installed) -> tuple[Finding, ...]:
    """The need's requirements in their order, each followed by what it brings along if it has to be installed."""
    found: dict[str, Finding] = {}
    waiting = [text for text in need.requirements if applies(text)]
    while waiting:
        text = waiting.pop(0)
        name = canonical(requirement(text).name)
        if name in found or name == _TORCH or not applies(text):
            continue
        package = recipe.packages.get(name) or Package(name, "", name.replace("-", "_"), _UNKNOWN_BYTES, 0)
        state, version = _state(text, package, installed)
        if state == "ok":
            if text in need.requirements:
                found[name] = Finding(name, text, state, version, None)
            continue
        others = installed.requirers(name) if state == "old" else ()
        sizes = package.download_bytes, package.installed_bytes
        # What is there in part is completed: another version beside it would leave two halves.
        completed = version if state == "broken" and version and accepts(text, version) else None
        found[name] = Finding(name, text, state, version, completed or package.version or None, *sizes, others)
        waiting += package.requires
    return tuple(found.values())


def _state(text: str, package: Package, installed: Installed) -> tuple[State, str | None]:
    name = canonical(requirement(text).name)
    if name not in installed.versions:
        return "missing", None
    version = installed.versions[name]
    if installed.broken(name, package.module):
        return "broken", version or None
    return ("ok" if accepts(text, version) else "old"), version


def _notes(environment: Mapping[str, str]) -> list[str]:
    """Values are left out: addresses of proxies and indexes can hold passwords."""
    lower = {name.lower() for name, value in environment.items() if value}
    notes = []
    if lower & {"https_proxy", "all_proxy", "pip_proxy"}:
        notes.append("The proxy named in the environment is used.")
    if "pip_no_index" in lower:
        notes.append("The environment forbids pip to use an index (PIP_NO_INDEX).")
    elif lower & {"pip_index_url", "pip_extra_index_url", "pip_find_links", "pip_config_file"}:
        notes.append("The package index named in the environment is used.")
    return notes


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(_existing(folder)).free
    except OSError:
        return None


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
