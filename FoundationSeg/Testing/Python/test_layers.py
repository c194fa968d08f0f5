# SPDX-License-Identifier: Apache-2.0
"""Who imports whom, read from the source of every module: engine, scene and panel keep to their layers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = sorted(path for path in ROOT.glob("Foundation*/Foundation*Lib") if path.is_dir())
# The scene layer is mrml.py and the folder scene/, the panel layer the module's file and the folder panel/.
SCENE = [path for p in PACKAGES for path in (p / "mrml.py", *sorted((p / "scene").rglob("*.py"))) if path.exists()]
PANELS = sorted(path for path in ROOT.glob("Foundation*/Foundation*.py"))
PANELS += [path for package in PACKAGES for path in sorted((package / "panel").rglob("*.py"))]

DESKTOP = {"qt", "ctk", "PythonQt", "PySide6", "PyQt5"}
SLICER = {"slicer", "vtk", "vtkmodules", "mrml"}
HEAVY = {"torch", "torchvision", "transformers", "monai", "highdicom", "pydicom", "scipy", "skimage", "pandas"}
# Paid for when they are needed, not when the package is imported.
LATER = HEAVY | {"SimpleITK", "onnxruntime", "openvino", "matplotlib", "slicerio", "nrrd", "cc3d", "jsonschema"}


@dataclass(frozen=True)
class Import:
    """One import: the full name, where it stands, and whether it runs when the file is imported."""

    name: str
    place: str
    at_file_scope: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[Import]:
    """All imports of a file but those for type checkers only."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]

    def walk(node: ast.AST, at_file_scope: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            place = f"{path.relative_to(ROOT)}:{getattr(child, 'lineno', 0)}"
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, place, at_file_scope) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
                base = ".".join([*above, *([child.module] if child.module else [])])
                # "from package import x" may name a module or something in it; both are kept.
                yield Import(base, place, at_file_scope)
                yield from (Import(f"{base}.{alias.name}", place, at_file_scope) for alias in child.names)
            else:
                inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, at_file_scope and not inner)

    return list(walk(ast.parse(path.read_text(encoding="utf-8")), True))


ENGINE = [p for package in PACKAGES for p in sorted(package.rglob("*.py")) if p not in SCENE and p not in PANELS]
IMPORTS = {path: imports(path) for path in (*ENGINE, *SCENE, *PANELS)}
BY_NAME = {module_name(path): path for path in (*ENGINE, *SCENE, *PANELS)}


def offences(paths: list[Path], forbidden: set[str]) -> list[str]:
    return [f"{i.place} imports {i.name}" for path in paths for i in IMPORTS[path] if i.top in forbidden]


def upwards(paths: list[Path], above: list[Path]) -> list[str]:
    names = {module_name(path) for path in above}
    return [f"{i.place} imports {i.name}" for path in paths for i in IMPORTS[path] if i.name in names]


def reachable(start: Path, *, lazily: bool) -> set[Path]:
    """The package's own files that importing `start` runs; with `lazily`, those that using it can run."""
    seen, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for found in IMPORTS[path]:
            if found.at_file_scope or lazily:
                names = found.name.split(".")
                parents = (".".join(names[:n]) for n in range(1, len(names) + 1))
                waiting += [BY_NAME[name] for name in parents if name in BY_NAME]
    return seen


def test_there_is_something_to_check() -> None:
    assert len(ENGINE) > 10 and SCENE and PANELS
    assert any(i.top == "slicer" for path in SCENE for i in IMPORTS[path])


def test_engine_knows_nothing_of_slicer_and_qt() -> None:
    assert not offences(ENGINE, SLICER | DESKTOP)
    assert not upwards(ENGINE, [*SCENE, *PANELS])


def test_scene_knows_nothing_of_qt() -> None:
    assert not offences(SCENE, DESKTOP)
    assert not upwards(SCENE, PANELS)


def test_panel_never_imports_a_model_library() -> None:
    assert not offences(PANELS, HEAVY)


def test_torch_is_out_of_reach_of_what_users_run() -> None:
    """The base install has no torch: only training and export, which nothing else imports, may need it at once."""
    roots = [package / "__init__.py" for package in PACKAGES] + SCENE + PANELS
    roots += [path for path in ENGINE if path.name in ("cli.py", "__main__.py")]
    for root in roots:
        for path in reachable(root, lazily=True):
            found = [f"{i.place} imports {i.name}" for i in IMPORTS[path] if i.top in HEAVY and i.at_file_scope]
            assert not found, f"{root.relative_to(ROOT)} leads to {found}"


@pytest.mark.parametrize("root", [*(package / "__init__.py" for package in PACKAGES), *SCENE, *PANELS], ids=module_name)
def test_nothing_heavy_is_imported_at_file_scope(root: Path) -> None:
    for path in reachable(root, lazily=False):
        assert not [f"{i.place} imports {i.name}" for i in IMPORTS[path] if i.top in LATER and i.at_file_scope]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_import_of_the_engine_brings_neither_slicer_nor_anything_heavy(package: Path) -> None:
    """The same at run time, where imports that the source hides would show."""
    code = f"import sys, {package.name}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=True, cwd=package.parent, capture_output=True, text=True, timeout=60)
    assert not set(result.stdout.split()) & (SLICER | DESKTOP | LATER)
