# SPDX-License-Identifier: Apache-2.0
"""Which steps lead to a need that is met, with the mechanisms that this Slicer has, and what pip may choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..atomic import atomic_output
from ..errors import FoundationSegError
from .installed import Installed
from .preflight import Finding, Preflight
from .recipe import Recipe

EXTENSION, TORCH, REPAIR, PIP = "extension", "torch", "repair", "pip"
TORCH_EXTENSION = "PyTorch"


@dataclass(frozen=True)
class Host:
    """What the application can do.

    Attributes:
        name: "3D Slicer 5.12.3".
        packaging: it has `slicer.packaging` (5.12), which installs without freezing; otherwise `slicer.util` does it.
        pytorch_utils: the extension PyTorch is loaded.
        extensions: its extensions manager can install extensions.
    """

    name: str
    packaging: bool
    pytorch_utils: bool
    extensions: bool


@dataclass(frozen=True)
class Step:
    """One installation.

    Attributes:
        kind: EXTENSION (then the application has to be restarted), TORCH, REPAIR (packages that are there in part) or
            PIP.
        requirements: as pip takes them; for TORCH the range of versions alone.
        replaces: packages whose present version, or what is left of it, is lost.
        download_bytes: (least, most).
    """

    kind: str
    requirements: tuple[str, ...] = ()
    replaces: tuple[Finding, ...] = ()
    download_bytes: tuple[int, int] = (0, 0)

    @property
    def restart(self) -> bool:
        """Whether the application has to be started anew before the next step."""
        return self.kind == EXTENSION


def plan(recipe: Recipe, report: Preflight, host: Host) -> tuple[Step, ...]:
    """The steps that are left, in order; none where the need is met. torch comes first: others build on it.

    Raises FoundationSegError where this application has no way to install what is missing.
    """
    return tuple(_steps(recipe, report, host))


def _steps(recipe: Recipe, report: Preflight, host: Host) -> Iterator[Step]:
    torch = report.torch
    if torch is not None and torch.state != "ok":
        if not host.pytorch_utils:
            if not host.extensions:
                raise FoundationSegError(
                    f"PyTorch is installed with the extension {TORCH_EXTENSION}, which {host.name} does not have and "
                    "cannot install; install it with the Extensions Manager, start 3D Slicer again, and come back here."
                )
            yield Step(EXTENSION)
        replaces = (torch,) if torch.state in ("old", "broken") else ()
        yield Step(TORCH, (report.need.torch,), replaces, recipe.torch_bytes)
    broken = [finding for finding in report.wanted if finding.state == "broken"]
    if broken:
        size = sum(finding.download_bytes for finding in broken)
        texts = (f"{f.name}=={f.target}" if f.target else f.text for f in broken)
        yield Step(REPAIR, tuple(texts), (), (size, size))
    rest = [finding for finding in report.wanted if finding.state != "broken"]
    if rest:
        size = sum(finding.download_bytes for finding in rest)
        # By name only what the need itself names: what that brings along is pip's affair, within the constraints.
        # Where everything of that is there, something that it requires is not.
        named = [finding for finding in rest if finding.text in report.need.requirements] or rest
        yield Step(PIP, tuple(finding.text for finding in named), report.replaced, (size, size))


def pip_arguments(step: Step, log: Path) -> list[str]:
    """What `pip install` is given besides the constraints: wheels only, no questions, a log that can be read later."""
    arguments = ["--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--log", str(log)]
    if step.kind == REPAIR:
        # Without looking at what is there: pip cannot uninstall what lacks its list of files.
        arguments += ["--ignore-installed", "--no-deps"]
    return [*step.requirements, *arguments]


def constraints(recipe: Recipe, report: Preflight, installed: Installed) -> list[str]:
    """The lines of pip's constraints file: what is there stays as it is, what comes has the version that was tested.

    So no package of Slicer's or of another extension's is ever replaced without having been named to the user.
    """
    wanted = {finding.name: finding.target for finding in report.wanted}
    versions = {name: package.version for name, package in recipe.packages.items()}
    versions |= {name: version for name, version in installed.versions.items() if version}
    versions |= {name: target for name, target in wanted.items() if target is not None}
    return sorted(
        f"{name}=={version}" for name, version in versions.items() if name not in wanted or wanted[name] is not None
    )


def write_constraints(path: Path, lines: list[str]) -> None:
    """Raises OutputError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path) as file:
        file.write(("\n".join(lines) + "\n").encode())
