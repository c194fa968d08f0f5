# SPDX-License-Identifier: Apache-2.0
"""What each part of a module needs, in which tested version, and how large that is: read from the module's Resources.

`requirements.txt` says what the first run needs (one bare requirement a line, as `slicer.packaging` wants it);
`packages.json` says what models of the Hub need besides, and pins everything.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import FoundationSegError

EMBEDDED = "embedded"
_HUB = "hub"


@dataclass(frozen=True)
class Package:
    """A package in the version that was tested.

    Attributes:
        version: what is installed where nothing is yet.
        module: the name that is imported.
        download_bytes, installed_bytes: of the wheel for this system, and of what it unpacks to (measured on Linux).
        requires: requirements of its own, as texts.
    """

    name: str
    version: str
    module: str
    download_bytes: int
    installed_bytes: int
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Need:
    """What one use of the module needs: requirements as texts, and the range of torch versions ("" for no torch)."""

    key: str
    requirements: tuple[str, ...]
    torch: str = ""


@dataclass(frozen=True)
class Recipe:
    """All needs of a module, and the packages that they lead to, by canonical name.

    Attributes:
        torch_bytes: (least, most) that a download of torch takes: for the CPU alone, and with a GPU's libraries.
    """

    requester: str
    needs: dict[str, tuple[str, ...]]
    packages: dict[str, Package]
    torch: str
    torch_bytes: tuple[int, int]

    @classmethod
    def read(cls, resources: Path, requester: str = "FoundationSeg") -> Recipe:
        """From the Resources folder of a module. Raises FoundationSegError if a file is missing or damaged."""
        try:
            lines = (resources / "requirements.txt").read_text(encoding="utf-8").splitlines()
            first = tuple(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
            data = json.loads((resources / "packages.json").read_text(encoding="utf-8"))
            least, most = data["torch"]["download_bytes"]
            return cls(
                requester=requester,
                needs={EMBEDDED: first, **{key: tuple(texts) for key, texts in data["needs"].items()}},
                packages={name: _package(name, entry) for name, entry in data["packages"].items()},
                torch=data["torch"]["versions"],
                torch_bytes=(int(least), int(most)),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FoundationSegError(
                f"The list of packages that {requester} needs is missing or damaged; install the extension again."
            ) from error

    def need(self, key: str) -> Need:
        """`EMBEDDED`, or the family of a model card: what every model of the Hub needs, and what that family adds."""
        if key == EMBEDDED:
            return Need(EMBEDDED, self.needs[EMBEDDED])
        texts = (*self.needs[EMBEDDED], *self.needs[_HUB], *self.needs.get(key, ()))
        return Need(key, tuple(dict.fromkeys(texts)), self.torch)


def _package(name: str, entry: dict[str, Any]) -> Package:
    sizes = entry["download_bytes"]
    return Package(
        name=name,
        version=entry["version"],
        module=entry.get("module", name.replace("-", "_")),
        download_bytes=int(sizes.get(sys.platform, max(sizes.values()))),
        installed_bytes=int(entry["installed_bytes"]),
        requires=tuple(entry.get("requires", ())),
    )


# --- Requirements ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def requirement(text: str) -> Any:
    """A `packaging.requirements.Requirement`. Raises ValueError."""
    parts = _packaging()
    try:
        return parts.Requirement(text)
    except parts.InvalidRequirement as error:
        raise ValueError(str(error)) from error


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it: PyYAML and pyyaml are one."""
    import re

    return re.sub(r"[-_.]+", "-", name).lower()


def applies(text: str) -> bool:
    """Whether a requirement is one for this system (its marker), leaving extras out."""
    marker = requirement(text).marker
    return marker is None or bool(marker.evaluate({"extra": ""}))


def accepts(text: str, version: str) -> bool:
    """Whether a version satisfies a requirement; builds of a development version count."""
    try:
        return bool(requirement(text).specifier.contains(version, prereleases=True))
    except ValueError:  # a version that no standard knows
        return False


@dataclass(frozen=True)
class _Parts:
    Requirement: Any
    InvalidRequirement: type[Exception]


@lru_cache(maxsize=1)
def _packaging() -> _Parts:
    """The library `packaging`; pip carries a copy, for applications that do not have it by itself."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement

        return _Parts(Requirement, InvalidRequirement)
    except ImportError:
        from pip._vendor.packaging import requirements

        return _Parts(requirements.Requirement, requirements.InvalidRequirement)
