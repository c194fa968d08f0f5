# SPDX-License-Identifier: Apache-2.0
"""`Testing/run.py`: what it installs when, what it refuses, and the wheel. No network is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bootstrap
import pytest
import run
from bootstrap import CONSTRAINTS, ROOT, STAMP, BootstrapError, Environment


class Recorded(Environment):
    """Notes what would be installed instead of installing it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: list[tuple[str, ...]] = []
        self.made = 0
        self.failing = False

    def _pip(self, what: str, *arguments: str) -> None:
        if self.failing:
            raise BootstrapError("no network")
        self.calls.append(arguments)

    def take(self) -> list[tuple[str, ...]]:
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The environment of a checkout, whose interpreter is an empty file."""
    (tmp_path / "Testing").mkdir()
    (tmp_path / "pyproject.toml").write_text("[project]", encoding="utf-8")
    (tmp_path / CONSTRAINTS).write_text("numpy==2.0", encoding="utf-8")
    result = Recorded(tmp_path)

    def create(folder: Path, **_: Any) -> None:
        result.made += 1
        result.python.parent.mkdir(parents=True, exist_ok=True)
        result.python.touch()
        (folder / "pyvenv.cfg").touch()

    monkeypatch.setattr("venv.create", create)
    return result


BASE = [("hatchling",), ("--no-build-isolation", "-e", ".")]


def test_the_base_install_has_no_extras_and_is_done_once(environment: Recorded) -> None:
    environment.ensure()
    assert environment.take() == BASE
    environment.ensure()
    assert environment.take() == [] and environment.made == 1


def test_extras_add_up_and_torch_comes_first(environment: Recorded) -> None:
    environment.ensure()
    environment.take()
    environment.ensure(["test"])
    assert environment.take()[-1] == ("--no-build-isolation", "-e", ".[test]")
    environment.ensure(["test", "torch"])
    assert environment.take() == [("torch",), ("hatchling",), ("--no-build-isolation", "-e", ".[test,torch]")]
    for wanted in ((), ("test",), ("torch",), ("test", "torch")):
        environment.ensure(wanted)
    assert environment.take() == [] and environment.made == 1


def test_what_was_installed_before_is_not_forgotten(environment: Recorded) -> None:
    environment.ensure(["test"])
    environment.ensure(["torch"])
    assert environment.installed() == {"base", "test", "torch"}


@pytest.mark.parametrize("name", ["pyproject.toml", str(CONSTRAINTS)])
def test_changed_requirements_are_installed_into_the_same_environment(environment: Recorded, name: str) -> None:
    environment.ensure(["test"])
    environment.take()
    with (environment.root / name).open("a", encoding="utf-8") as file:
        file.write("\n# changed")
    environment.ensure()
    assert environment.take() == BASE and environment.made == 1
    assert environment.installed() == {"base"}, "the extras are not known to be right any more"


def test_another_python_makes_the_environment_anew(environment: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.ensure()
    (environment.folder / "left-over").touch()
    (environment.folder / "lib").mkdir(exist_ok=True)
    environment.take()
    monkeypatch.setattr(sys, "version", "3.12.99 (another)")
    environment.ensure()
    assert environment.take() == BASE and environment.made == 2
    assert not (environment.folder / "left-over").exists() and not (environment.folder / "lib").exists()


def test_a_checkout_that_was_moved_installs_anew(environment: Recorded, tmp_path: Path) -> None:
    """An editable install points at the old place."""
    environment.ensure()
    moved = Recorded(environment.root.rename(tmp_path.with_name("moved")))
    assert moved.installed() == set()


def test_a_run_that_was_cut_off_goes_on(environment: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(folder: Path, **_: Any) -> None:
        (folder / "pyvenv.cfg").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("venv.create", cut_off)
        with pytest.raises(KeyboardInterrupt):
            environment.ensure()
    environment.failing = True
    with pytest.raises(BootstrapError):
        environment.ensure()
    assert environment.made == 1 and environment.installed() == set()
    environment.failing = False
    environment.ensure()
    assert environment.take() == BASE and environment.made == 1
    (environment.folder / STAMP).write_text("{", encoding="utf-8")  # cut off while it was written
    environment.ensure()
    assert environment.take() == BASE


def test_an_interpreter_that_is_gone_makes_the_environment_anew(environment: Recorded) -> None:
    environment.ensure()
    environment.python.unlink()
    environment.ensure()
    assert environment.made == 2


def test_a_user_s_own_environment_is_not_touched(environment: Recorded) -> None:
    environment.folder.mkdir()
    (environment.folder / "pyvenv.cfg").touch()
    with pytest.raises(BootstrapError, match="was not made by this script"):
        environment.ensure()
    assert environment.made == 0 and [path.name for path in environment.folder.iterdir()] == ["pyvenv.cfg"]


def test_a_python_without_venv_is_told_what_to_install(environment: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootstrap.find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(BootstrapError, match=rf"python3\.{sys.version_info[1]}-venv"):
        environment.ensure()
    assert not environment.folder.exists()


def test_a_folder_that_cannot_be_made_is_named(environment: Recorded) -> None:
    environment.folder.touch()
    with pytest.raises(BootstrapError, match="cannot be made"):
        environment.ensure()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Environment]:
    """An environment whose interpreter is this one, so that a real pip can fail in it."""
    if os.name == "nt":
        pytest.skip("needs a symbolic link")
    result = Environment(tmp_path)
    result.python.parent.mkdir(parents=True)
    result.python.symlink_to(sys.executable)
    (tmp_path / "Testing").mkdir()
    (tmp_path / CONSTRAINTS).touch()
    yield result


def test_what_pip_says_is_shown_when_it_fails(real: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BootstrapError, match="pip could not install the impossible"):
        real._pip("the impossible", "--no-index", "no-such-package-in-an-empty-index")
    shown = capsys.readouterr().err
    assert "Installing the impossible ..." in shown and "no-such-package-in-an-empty-index" in shown
    assert "no-such-package" in real.log.read_text(encoding="utf-8")


def test_the_exit_status_of_what_was_run_is_passed_on(real: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    code = "import os, sys; sys.exit(7 if 'PYTHONPATH' not in os.environ else 8)"
    assert real.run(["-c", code]) == 7
    assert real.run(["-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"]) == 128 + 15


@pytest.mark.parametrize(
    ("arguments", "extras", "command"),
    [
        (["demo"], (), ["-P", "-m", "FoundationSegLib", "demo"]),
        (["demo", "x.nrrd", "--out", "y"], (), ["-P", "-m", "FoundationSegLib", "demo", "x.nrrd", "--out", "y"]),
        (["test"], ("test",), ["-m", "pytest"]),
        (["test", "-k", "a", "--with-torch"], ("test", "torch"), ["-m", "pytest", "-k", "a"]),
    ],
    ids=str,
)
def test_the_two_commands(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], extras: tuple[str, ...], command: list[str]
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(Environment, "ensure", lambda self, extras=(): done.append(tuple(extras)))
    monkeypatch.setattr(Environment, "run", lambda self, arguments, cwd=None: done.append(arguments) or 5)
    assert bootstrap.main(arguments) == 5
    assert done == [extras, command]


def test_failures_are_a_sentence_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: BaseException) -> None:
        def ensure(self: Environment, extras: Any = ()) -> None:
            raise error

        monkeypatch.setattr(Environment, "ensure", ensure)

    fail(BootstrapError("Do this."))
    assert bootstrap.main(["demo"]) == 1 and capsys.readouterr().err == "Do this.\n"
    fail(KeyboardInterrupt())
    assert bootstrap.main(["test"]) == 130 and "Cancelled" in capsys.readouterr().err
    with pytest.raises(SystemExit) as wrong:
        bootstrap.main(["tset"])
    assert wrong.value.code == 2


def test_another_python_is_looked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "SUPPORTED", ((2, 0),))
    monkeypatch.setattr(run, "another_python", lambda: None)
    assert run.main() == 2
    assert "needs 3.11 or 3.12" in capsys.readouterr().err
    monkeypatch.setattr(run, "another_python", lambda: [sys.executable, "-c", "import sys; sys.exit(9)"])
    assert run.main() == 9
    assert "using" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="writes shell scripts")
def test_a_stand_in_for_a_python_that_is_not_there_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, status in (("python3.12", 127), ("python3.11", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run.another_python() == ["python3.11"]
    (tmp_path / "python3.11").unlink()
    assert run.another_python() is None


def test_any_python_can_read_the_file_that_is_run() -> None:
    """It has to get as far as saying that it is the wrong one: no f-strings, annotations or walrus."""
    source = (ROOT / "Testing" / "run.py").read_text(encoding="utf-8")
    compile(source, "run.py", "exec", dont_inherit=True)
    for novelty in ('f"', "f'", ":=", "->", "from __future__"):
        assert novelty not in source


def test_every_pin_is_exact() -> None:
    pins = [line for line in (ROOT / CONSTRAINTS).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    names = {name.lower() for name, _ in (line.split("==") for line in pins)}
    assert len(names) == len(pins) > 30
    for name in ("numpy", "simpleitk", "slicerio", "onnxruntime", "pytest", "slicer-core", "torch"):
        assert name in names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_with_its_resources(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    parts = {path.name for path in (ROOT / "Resources").iterdir()} - {"Icons", "Screenshots"}
    assert {"Models", "ReportTemplates", "Weights"} <= parts
    for part in parts:
        found = [path.relative_to(ROOT) for path in (ROOT / "Resources" / part).rglob("*") if path.is_file()]
        assert found and {f"FoundationSegLib/{path.as_posix()}" for path in found} <= packed
    for name in ("FoundationSeg", "FoundationReport"):
        module = ROOT / name
        assert {path.relative_to(module).as_posix() for path in module.glob(f"{name}Lib/**/*.py")} <= packed
        assert not [entry for entry in packed if entry.startswith((f"{name}/", "Testing/", f"{name}.py"))]


def test_the_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = (
        "import sys, FoundationSegLib\n"
        "from FoundationSegLib.cli import main\n"
        "print(FoundationSegLib.__file__)\n"
        "sys.exit(main(['demo', '--json']))"
    )
    command = [sys.executable, "-P", "-c", code]
    options: dict[str, Any] = {"env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(command, cwd=tmp_path, check=False, **options)
    assert done.returncode == 0, done.stderr
    where, data = done.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path / "site")
    assert json.loads(data)["command"] == "demo"
    assert (tmp_path / "demo-output" / "segmentation.seg.nrrd").is_file()
    report = [sys.executable, "-P", "-m", "FoundationReportLib", "templates", "list", "--json"]
    done = subprocess.run(report, cwd=tmp_path, check=False, **options)
    assert done.returncode == 0, done.stderr
    assert "ct-chest" in done.stdout
