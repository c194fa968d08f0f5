# SPDX-License-Identifier: Apache-2.0
"""The distributions of a Python installation, as their metadata tell it. Nothing of them is imported."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .recipe import applies, canonical, requirement


@dataclass(frozen=True)
class Installed:
    """Versions by canonical name, as they were at one moment.

    Attributes:
        versions: "" where a distribution's metadata are damaged.
        requires: the requirements of each (texts, markers included).
        path: where was looked; None for this process's own path.
    """

    versions: dict[str, str]
    requires: dict[str, tuple[str, ...]] = field(default_factory=dict)
    path: tuple[str, ...] | None = None

    @classmethod
    def read(cls, path: Sequence[str] | None = None) -> Installed:
        """What is there now. The first of two copies counts, as for imports."""
        importlib.invalidate_caches()
        versions: dict[str, str] = {}
        requires: dict[str, tuple[str, ...]] = {}
        for found in importlib.metadata.distributions(path=list(sys.path if path is None else path)):
            name = canonical(found.metadata["Name"] or "")
            if name and name not in versions:
                versions[name] = found.metadata["Version"] or ""
                requires[name] = tuple(found.requires or ())
        return cls(versions, requires, None if path is None else tuple(path))

    def requirers(self, name: str) -> tuple[str, ...]:
        """The distributions that require one, extras and other systems left out."""
        found = []
        for other, texts in self.requires.items():
            for text in texts:
                try:
                    if canonical(requirement(text).name) == name and applies(text):
                        found.append(other)
                        break
                except ValueError:  # another project's typing error is none of our business
                    continue
        return tuple(sorted(found))

    def broken(self, name: str, module: str) -> bool:
        """Whether a distribution is known but not usable: an interrupted installation leaves such things behind."""
        if not self.versions.get(name):
            return True
        # A folder without __init__ counts as a package to Python, and has nothing in it.
        if not importable(module, self.path):
            return True
        try:
            found = next(iter(importlib.metadata.distributions(name=name, path=self._path)))
        except StopIteration:
            return True
        # No list of files at all is normal for packages of a Linux distribution.
        return any(not Path(str(file.locate())).exists() for file in found.files or () if file.suffix != ".pyc")

    @property
    def _path(self) -> list[str]:
        return list(sys.path if self.path is None else self.path)


def importable(module: str, path: Sequence[str] | None = None) -> bool:
    """Whether a module or package with code is there; a dotted name is looked for in its package. Runs nothing."""
    name, places = "", None if path is None else list(path)
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        found = importlib.machinery.PathFinder.find_spec(name, places)
        if found is None:
            return False
        origin, places = found.origin, list(found.submodule_search_locations or ())
    return origin is not None


def difference(before: Installed, after: Installed) -> dict[str, tuple[str | None, str]]:
    """What was installed or replaced between two moments: (version before or None, version after) by name."""
    return {
        name: (before.versions.get(name), version)
        for name, version in sorted(after.versions.items())
        if before.versions.get(name) != version
    }


def updated_modules(before: Installed, after: Installed) -> tuple[str, ...]:
    """The packages that were replaced while this process has their old modules loaded: it should be started anew."""
    replaced = {name for name, (old, _) in difference(before, after).items() if old is not None}
    if not replaced:
        return ()
    loaded = {
        canonical(name)
        for module, names in importlib.metadata.packages_distributions().items()
        if module in sys.modules
        for name in names
    }
    return tuple(sorted(replaced & loaded))
