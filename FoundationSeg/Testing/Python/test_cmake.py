# SPDX-License-Identifier: Apache-2.0
"""The extension's CMake files, configured with a stub of Slicer's build system: nothing forgotten, nothing invented."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
STUB = ROOT / "Testing" / "cmake"
SCRIPTED = Path("lib/Slicer-stub/qt-scripted-modules")
MODULES = ("FoundationReport", "FoundationSeg")
SHARED = sorted(path.name for path in (ROOT / "Resources").iterdir() if path.name not in ("Icons", "Screenshots"))

# The wheel's, which lies beside the interpreter, before the system's.
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
CMAKE, CTEST = shutil.which("cmake", path=TOOLS), shutil.which("ctest", path=TOOLS)

pytestmark = pytest.mark.skipif(CMAKE is None, reason="cmake is not installed")


def run(*command: str | None, **options: Any) -> subprocess.CompletedProcess[str]:
    arguments = [part or "" for part in command]
    return subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=120, **options)


def configure(source: Path, build: Path) -> subprocess.CompletedProcess[str]:
    return run(CMAKE, "-S", str(source), "-B", str(build), f"-DSlicer_DIR={STUB}", "-DBUILD_TESTING=ON")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    result = configure(ROOT, folder)
    assert result.returncode == 0, result.stderr
    assert "This is not 3D Slicer" in result.stdout
    return folder


def files(folder: Path, *, under: Path | None = None) -> set[str]:
    """Files below a folder, as paths relative to it (or to `under`)."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(under or folder).as_posix() for path in found if not path.name.startswith(".")}


def test_package_holds_every_file_and_nothing_else(build: Path) -> None:
    expected: set[str] = set()
    for name in MODULES:
        module = ROOT / name
        expected |= {f"{name}.py"}
        expected |= {file for file in files(module / f"{name}Lib", under=module) if file.endswith((".py", ".json"))}
        expected |= files(module / "Resources", under=module)
    for name in SHARED:
        expected |= files(ROOT / "Resources" / name, under=ROOT)
    assert files(build / SCRIPTED) == expected


def test_engine_finds_its_resources_in_the_package(build: Path) -> None:
    """Run from the package alone, in a process that knows nothing of the checkout."""
    code = (
        "from FoundationSegLib.catalogue import load_model\n"
        "from FoundationSegLib.terminology import lookup\n"
        "print(load_model('compact', 'cpu').identity.name, lookup('Liver').type.meaning)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = run(sys.executable, "-c", code, cwd=build / SCRIPTED, env=environment)
    assert result.stdout.split() == ["compact", "Liver"], result.stderr


def test_slicer_s_runner_gets_the_module_and_its_tests(build: Path) -> None:
    listed = run(CTEST, "--show-only=json-v1", cwd=build)
    names = {test["name"] for test in json.loads(listed.stdout)["tests"]}
    own = {
        *("py_test_live", "py_test_live_names", "py_test_live_scene", "py_test_logic", "py_test_mrml", "py_test_panel"),
        *("py_test_place", "py_test_strokes"),
        *("py_test_panel_report", "py_test_report_logic"),
    }
    for name in MODULES:
        own |= {f"py_{name}", f"py_nomainwindow_qSlicer{name}ModuleGenericTest"}
    assert names == own


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("slicerMacroBuildScriptedModule(NAME M COLOUR red SCRIPTS M.py)", "Unknown keywords"),
        ("slicerMacroBuildScriptedModule(NAME M SCRIPTS Gone.py)", "nonexistent file 'Gone.py'"),
        ("slicerMacroBuildScriptedModule(SCRIPTS M.py)", "NAME is mandatory"),
        ("slicer_add_python_unittest(SCRIPT gone.py)", "nonexistent file 'gone.py'"),
        ("slicerMacroBuildScriptedModules(NAME M)", "Unknown CMake command"),
        ("set(EXTENSION_DEPENDS)\ninclude(${Slicer_EXTENSION_GENERATE_CONFIG})", "EXTENSION_DEPENDS is not set"),
    ],
)
def test_stub_refuses_what_slicer_refuses(tmp_path: Path, call: str, complaint: str) -> None:
    names = ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "DEPENDS")
    lines = ["cmake_minimum_required(VERSION 3.20)", "project(M LANGUAGES NONE)"]
    lines += [f"set(EXTENSION_{name} x)" for name in names]
    lines += ["find_package(Slicer REQUIRED)", "include(${Slicer_USE_FILE})", call]
    (tmp_path / "CMakeLists.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "M.py").touch()
    result = configure(tmp_path, tmp_path / "build")
    assert result.returncode != 0
    assert complaint in " ".join(result.stderr.split())
