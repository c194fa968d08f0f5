# SPDX-License-Identifier: Apache-2.0
"""What a first run finds out and plans, on installations made of files, and with the real pip where pip matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from FoundationSegLib import setup
from FoundationSegLib.errors import FoundationSegError
from FoundationSegLib.hub.home import home
from FoundationSegLib.setup import EMBEDDED, Host, Installed, Journal, Recipe
from FoundationSegLib.setup.installed import importable, updated_modules
from FoundationSegLib.setup.plan import pip_arguments, write_constraints
from FoundationSegLib.setup.probe import Probe
from FoundationSegLib.setup.recipe import accepts, applies, canonical, requirement

ROOT = Path(__file__).resolve().parents[3]
RESOURCES = ROOT / "FoundationSeg" / "Resources"
RECIPE = Recipe.read(RESOURCES)
NEW = Host("3D Slicer 5.12.3", packaging=True, pytorch_utils=True, extensions=True)
OLD = Host("3D Slicer 5.10.0", packaging=False, pytorch_utils=False, extensions=True)


def wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = (), code: str = "") -> Path:
    """A wheel with one module."""
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {text}" for text in requires]
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, content in files.items():
            archive.writestr(place, content)
    return path


def unpack(site: Path, *arguments: object, **options: object) -> None:
    """What pip would leave behind."""
    site.mkdir(exist_ok=True)
    path = wheel(site.parent, *arguments, **options)  # type: ignore[arg-type]
    with zipfile.ZipFile(path) as archive:
        archive.extractall(site)
    path.unlink()


def recipe(**needs: tuple[str, ...]) -> Recipe:
    """One with packages `a` 1.5 (which requires `b`) and `b` 2.0."""
    packages = {
        "a": setup.Package("a", "1.5", "a", 10, 30, ("b>=2",)),
        "b": setup.Package("b", "2.0", "b", 5, 15),
    }
    return Recipe("FoundationSeg", {EMBEDDED: ("a>=1",), "hub": ("b>=1",), **needs}, packages, ">=2.8,<3", (100, 1000))


def look(site: Path, key: str = EMBEDDED, **environment: str) -> setup.Preflight:
    own = recipe()
    site.mkdir(exist_ok=True)
    return setup.preflight(own, own.need(key), Installed.read([str(site)]), site, environment)


# --- The lists in Resources ------------------------------------------------------------------------------------------


def test_what_is_pinned_was_tested() -> None:
    constraints = (ROOT / "Testing" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonical(line.partition("==")[0]): line.partition("==")[2] for line in constraints if "==" in line}
    pinned = {name: package.version for name, package in RECIPE.packages.items()}
    assert {name: tested[name] for name in pinned if name in tested} == {
        name: version for name, version in pinned.items() if name in tested
    }


def test_the_pins_fit_together_and_lead_nowhere_else() -> None:
    slicers_own = {"numpy", "scipy", "packaging", "setuptools", "requests"}  # Slicer 5.10 and 5.12 have them
    texts = [text for needs in RECIPE.needs.values() for text in needs]
    texts += [text for package in RECIPE.packages.values() for text in package.requires]
    assert len(texts) > 40
    for text in texts:
        name = canonical(requirement(text).name)
        if name in RECIPE.packages:
            assert accepts(text, RECIPE.packages[name].version), text
        else:
            assert name in slicers_own, f"{text} is not pinned"


def test_requirements_are_those_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = set(project["dependencies"])
    assert set(RECIPE.needs[EMBEDDED]) <= base
    for key, texts in RECIPE.needs.items():
        if key != EMBEDDED:
            assert set(texts) <= set(project["optional-dependencies"]["torch"]), key


def test_every_family_of_the_hub_has_its_needs_and_the_embedded_model_needs_no_torch() -> None:
    assert RECIPE.need(EMBEDDED).torch == ""
    cards = [json.loads(path.read_text("utf-8")) for path in (ROOT / "Resources" / "Models").glob("*[!a].json")]
    families = {card["family"] for card in cards if card["weights"].get("source") in ("hub", "user")}
    assert set(RECIPE.needs) - {EMBEDDED, "hub"} <= families
    for family in families:
        need = RECIPE.need(family)
        assert need.torch and "safetensors>=0.5" in need.requirements and "onnxruntime>=1.20" in need.requirements


def test_the_first_run_is_small() -> None:
    """The issue asks for about 20 MB."""
    slicer = Installed({"numpy": "2.4.6", "scipy": "1.17.1", "packaging": "26.0", "requests": "2.34.2"})
    report = setup.preflight(RECIPE, RECIPE.need(EMBEDDED), slicer)
    assert [finding.name for finding in report.wanted][:2] == ["connected-components-3d", "onnxruntime"]
    assert report.torch is None and 10e6 < report.download_bytes < 31e6
    assert sum(finding.installed_bytes for finding in report.wanted) < 100e6


@pytest.mark.parametrize("damage", ["{", "[]", '{"needs": {}}', '{"needs": 1, "packages": {}, "torch": {}}'])
def test_a_damaged_list_is_one_sentence(damage: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("a>=1\n", encoding="utf-8")
    (tmp_path / "packages.json").write_text(damage, encoding="utf-8")
    with pytest.raises(FoundationSegError, match="missing or damaged; install the extension again"):
        Recipe.read(tmp_path)


# --- Preflight -------------------------------------------------------------------------------------------------------


def test_what_is_missing_old_and_there(tmp_path: Path) -> None:
    site = tmp_path / "site"
    report = look(site)
    assert [(f.name, f.state, f.target) for f in report.wanted] == [("a", "missing", "1.5"), ("b", "missing", "2.0")]
    assert (report.download_bytes, report.ready, report.problems) == (15, False, ())
    unpack(site, "b", "1.9")
    unpack(site, "other", "1", ("b<2; python_version > '3'", "b; extra == 'x'"))
    report = look(site)
    assert [(f.name, f.state, f.found, f.required_by) for f in report.replaced] == [("b", "old", "1.9", ("other",))]
    unpack(site, "a", "1.0")
    assert look(site).ready  # what `a` requires in its tested version does not matter where another one works


def test_half_an_installation_is_broken(tmp_path: Path) -> None:
    site = tmp_path / "site"
    unpack(site, "a", "1.2")
    assert look(site).ready
    (site / "a.py").unlink()
    (finding,) = (f for f in look(site).wanted if f.name == "a")
    assert (finding.state, finding.found, finding.target) == ("broken", "1.2", "1.2")
    (site / "a").mkdir()  # a folder without code, as an interrupted installation of torch leaves it
    assert not importable("a", [str(site)])
    assert look(site).wanted[0].state == "broken"
    (site / "a" / "__init__.py").touch()
    (site / "a-1.2.dist-info" / "RECORD").write_text("a/__init__.py,,\na/gone.so,,\n", encoding="utf-8")
    assert look(site).wanted[0].state == "broken"
    (site / "a" / "gone.so").touch()
    assert look(site).ready


def test_torch_that_was_interrupted_is_broken(tmp_path: Path) -> None:
    site = tmp_path / "site"
    unpack(site, "torch", "2.13.0+cpu")
    report = look(site, "hub")
    assert report.torch is not None and report.torch.state == "ok"
    (site / "torch.py").unlink()
    (site / "torch").mkdir()
    report = look(site, "hub")
    assert report.torch is not None and report.torch.state == "broken"
    (step, *_) = setup.plan(recipe(), report, NEW)
    assert (step.kind, step.replaces) == ("torch", (report.torch,))


def test_problems_are_said_before_anything_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["FoundationSegLib.setup.preflight"]  # the package's name for it is the function

    site = tmp_path / "site"
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    assert "cannot be written to (a shared or read-only installation)" in look(site).problems[0]
    monkeypatch.undo()
    monkeypatch.setattr(module, "_free", lambda folder: 10**6)
    assert look(site).problems[0].endswith("which has 1 MB free; free some space.")
    monkeypatch.undo()
    unpack(site, "a", "1.5")
    monkeypatch.setattr(module, "_free", lambda folder: 0)
    assert look(site).problems == ()  # nothing has to be installed
    monkeypatch.setattr(module.sys, "platform", "win32")
    monkeypatch.setattr(module, "_free", lambda folder: None)
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    own = recipe()
    report = setup.preflight(own, own.need("hub"), Installed({}), deep, {})
    assert "so long a name that Windows cannot hold PyTorch's files" in report.problems[0]


def test_notes_never_hold_addresses(tmp_path: Path) -> None:
    notes = look(tmp_path / "site", HTTPS_PROXY="http://me:secret@proxy", PIP_INDEX_URL="https://me:secret@index").notes
    assert len(notes) == 2 and "secret" not in "".join(notes)
    assert look(tmp_path / "site", PIP_NO_INDEX="1").notes == (
        "The environment forbids pip to use an index (PIP_NO_INDEX).",
    )


def test_the_question_of_every_opening_is_cheap() -> None:
    need = RECIPE.need(EMBEDDED)
    assert setup.ready(need)
    start = time.perf_counter()
    setup.ready(need)
    assert time.perf_counter() - start < 0.05
    missing = setup.Need("x", ("not-a-package-that-exists>=1",))
    assert not setup.ready(missing)
    assert not setup.ready(setup.Need("x", ("numpy>=999",)))


def test_looking_imports_nothing_and_uses_no_network() -> None:
    code = (
        "import sys, socket; from pathlib import Path; from FoundationSegLib import setup\n"
        "def refuse(*_, **__): raise AssertionError('a network call')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        f"recipe = setup.Recipe.read(Path({os.fspath(RESOURCES)!r}))\n"
        "for key in recipe.needs: setup.preflight(recipe, recipe.need(key)); setup.ready(recipe.need(key))\n"
        "names = {'onnxruntime', 'torch', 'cc3d', 'safetensors', 'transformers', 'monai', 'skimage', 'PIL', 'pip'}\n"
        "print(sorted(names & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT / "FoundationSeg",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "[]"


# --- Plan ------------------------------------------------------------------------------------------------------------


def test_each_slicer_gets_its_mechanism(tmp_path: Path) -> None:
    report = look(tmp_path / "site", "hub")
    assert [step.kind for step in setup.plan(recipe(), report, NEW)] == ["torch", "pip"]
    steps = setup.plan(recipe(), report, OLD)
    assert [step.kind for step in steps] == ["extension", "torch", "pip"] and steps[0].restart
    assert (steps[1].requirements, steps[1].download_bytes) == ((">=2.8,<3",), (100, 1000))
    nothing = Host("3D Slicer", packaging=False, pytorch_utils=False, extensions=False)
    with pytest.raises(FoundationSegError, match="install it with the Extensions Manager"):
        setup.plan(recipe(), report, nothing)
    assert [step.kind for step in setup.plan(recipe(), look(tmp_path / "site"), nothing)] == ["pip"]
    unpack(tmp_path / "site", "a", "1.5")
    assert setup.plan(recipe(), look(tmp_path / "site"), nothing) == ()


def test_constraints_keep_what_is_there_and_pin_what_comes(tmp_path: Path) -> None:
    site = tmp_path / "site"
    unpack(site, "numpy", "2.0.2")
    unpack(site, "b", "1.9")
    report = look(site)
    assert setup.constraints(recipe(), report, Installed.read([str(site)])) == ["a==1.5", "b==2.0", "numpy==2.0.2"]
    (step,) = setup.plan(recipe(), report, NEW)
    assert step.requirements == ("a>=1",) and [finding.name for finding in step.replaces] == ["b"]


# --- With the real pip -----------------------------------------------------------------------------------------------


def pip(site: Path, step: setup.Step, lines: list[str], *more: str) -> str:
    """Runs pip as Slicer does, into a folder; its log."""
    log, constraints = site.parent / "pip.log", site.parent / "constraints.txt"
    write_constraints(constraints, lines)
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pip", "install", *pip_arguments(step, log), "-c", str(constraints)]
    environment = {key: value for key, value in os.environ.items() if not key.upper().startswith("PIP_")}
    environment["PIP_CONFIG_FILE"] = os.devnull
    subprocess.run(
        [*command, "--target", str(site), *more], check=False, capture_output=True, timeout=120, env=environment
    )
    return log.read_text(encoding="utf-8")


def test_pip_installs_the_plan_and_the_way_back_is_known(tmp_path: Path) -> None:
    index, site = tmp_path / "index", tmp_path / "site"
    index.mkdir()
    for arguments in (("a", "1.5", ("b>=2",)), ("a", "1.6"), ("b", "2.0"), ("b", "2.1")):
        wheel(index, *arguments)
    report = look(site)
    journal, before = Journal("FoundationSeg", tmp_path / "journal", site), Installed.read([str(site)])
    journal.begin(EMBEDDED, "pip", before)
    (step,) = setup.plan(recipe(), report, NEW)
    pip(site, step, setup.constraints(recipe(), report, before), "--no-index", "--find-links", str(index))
    after = Installed.read([str(site)])
    assert after.versions == {"a": "1.5", "b": "2.0"}  # the tested ones, not the newest
    journal.record(after)
    journal.done()
    assert look(site).ready
    assert journal.removal(after).remove == (("a", "1.5"), ("b", "2.0"))

    # A file is lost: the plan repairs it, in its version, without its requirements.
    (site / "a.py").unlink()
    report = look(site)
    (step,) = setup.plan(recipe(), report, NEW)
    assert (step.kind, step.requirements) == ("repair", ("a==1.5",))
    pip(site, step, setup.constraints(recipe(), report, after), "--no-index", "--find-links", str(index), "--upgrade")
    assert look(site).ready


def test_failures_of_pip_are_one_sentence(tmp_path: Path) -> None:
    index, site = tmp_path / "index", tmp_path / "site"
    index.mkdir()
    site.mkdir()
    wheel(index, "a", "1.5", ("b>=2",))
    local = ("--no-index", "--find-links", str(index))
    step = setup.Step("pip", ("a>=1",))
    for lines, options, sentence in (
        (["b==1.0"], local, "cannot be installed beside what other extensions have installed"),
        ([], local, "There is no b>=2 for this system"),
        ([], ("--index-url", "http://me:secret@127.0.0.1:9/simple", "--retries", "0"), "could not be reached"),
    ):
        answer = setup.explain(pip(site, step, lines, *options), "a")
        assert sentence in answer and "secret" not in answer, answer
        assert "\n" not in answer


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full, so a, b could not be installed"),
        ("OSError: [WinError 206] The filename or extension is too long: 'C:\\\\x'", "A path became too long"),
        ("ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407'))", "check HTTPS_PROXY"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))", "PIP_CERT"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "arrived damaged"),
        ("[WinError 5] Access is denied: 'onnxruntime.dll'", "close other windows of 3D Slicer"),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied", "cannot be written to"),
        ("ReadTimeoutError: Read timed out.", "could not be reached"),
        ("ERROR: something new at https://me:secret@index/x", "(ERROR: something new at (address))"),
        ("", "a, b could not be installed; the log has the details."),
    ],
)
def test_other_failures_of_pip(log: str, sentence: str) -> None:
    answer = setup.explain(log, "a, b")
    assert sentence in answer and "secret" not in answer


# --- Journal ---------------------------------------------------------------------------------------------------------


def test_the_journal_survives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal("FoundationSeg", tmp_path, tmp_path / "site")
    assert journal.pending is None and journal.arrivals == {}
    journal.begin("sam", "torch", Installed({"numpy": "2.0.2"}))
    again = Journal("FoundationSeg", tmp_path, tmp_path / "site")
    assert again.pending is not None and not again.pending.interrupted and again.pending.need == "sam"
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert again.pending.interrupted
    again.restarting()
    assert again.pending.restart and not again.pending.interrupted
    again.begin("sam", "pip", Installed({"numpy": "2.0.2", "torch": "2.13.0"}))  # the next step, after the restart
    again.record(Installed({"numpy": "2.0.2", "torch": "2.13.0", "a": "1.5"}))
    assert sorted(again.arrivals) == ["a", "torch"]  # what came since the first step
    again.done()
    assert Journal("FoundationSeg", tmp_path, tmp_path / "other").arrivals == {}  # another copy of Slicer
    (path,) = tmp_path.glob("*.json")
    path.write_text("{", encoding="utf-8")
    assert again.pending is None and again.arrivals == {}


def test_the_way_back_takes_nobody_s_packages(tmp_path: Path) -> None:
    journal = Journal("FoundationSeg", tmp_path, tmp_path)
    journal.begin(EMBEDDED, "pip", Installed({"old": "1"}))
    ours = {"old": "2", "a": "1", "b": "1", "c": "1", "d": "1", "gone": "1"}
    journal.record(Installed(ours))
    journal.done()
    now = Installed(
        {"old": "2", "a": "1", "b": "1", "c": "1", "d": "3", "theirs": "1"},
        {"theirs": ("c>=1",), "c": ("b",), "a": ("b",)},
    )
    removal = journal.removal(now)
    assert removal.remove == (("a", "1"),)
    assert dict(removal.kept) == {
        "b": "is required by c",
        "c": "is required by theirs",
        "d": "was changed to 3 since",
        "old": "took the place of 1, which was there before",
    }
    journal.removed(Installed({"old": "2"}))
    assert list(journal.arrivals) == ["old"]


def test_a_package_replaced_twice_remembers_the_first(tmp_path: Path) -> None:
    journal = Journal("FoundationSeg", tmp_path, tmp_path)
    for before, after in (("1", "2"), ("2", "3")):
        journal.begin(EMBEDDED, "pip", Installed({"a": before}))
        journal.record(Installed({"a": after}))
        journal.done()
    assert (journal.arrivals["a"].before, journal.arrivals["a"].version) == ("1", "3")


# --- The rest --------------------------------------------------------------------------------------------------------


def test_modules_in_use_that_were_replaced_ask_for_a_restart() -> None:
    now = Installed.read()
    before = Installed({**now.versions, "pytest": "1.0", "numpy": now.versions["numpy"]})
    assert updated_modules(before, now) == ("pytest",)
    assert updated_modules(Installed({}), now) == ()  # what is new was not in use


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("", ""),
        ("raise ImportError('DLL load failed')", "fsr_probe: ImportError: DLL load failed"),
        ("import os; os._exit(3)", "the test ended with status 3"),
    ],
)
def test_the_probe_loads_modules_in_another_process(code: str, answer: str, tmp_path: Path) -> None:
    (tmp_path / "fsr_probe.py").write_text(code, encoding="utf-8")
    boot = f"import sys; sys.path.insert(0, {os.fspath(tmp_path)!r}); sys.argv.pop(1); exec(sys.argv.pop(1))"
    probe = Probe(["fsr_probe"], python=[sys.executable, "-c", boot])
    until = time.monotonic() + 60
    while (found := probe.poll()) is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert found == answer and "fsr_probe" not in sys.modules


def test_markers_and_names() -> None:
    assert canonical("Connected_Components.3D") == "connected-components-3d"
    assert applies("a; python_version >= '3.11'") and not applies("a; python_version < '3'")
    assert not applies("a; extra == 'x'")
    assert accepts("a>=1", "1.0+cpu") and accepts("a>=1", "2.0rc1") and not accepts("a>=1", "unknown")
    with pytest.raises(ValueError, match="a b"):
        requirement("a b")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "~/.local/share/FoundationSeg"),
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/FoundationSeg"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "~/.local/share/FoundationSeg"),
        ("darwin", {"XDG_DATA_HOME": "/data"}, "~/Library/Application Support/FoundationSeg"),
        ("win32", {}, "~/AppData/Local/FoundationSeg"),
        ("win32", {"LOCALAPPDATA": "/users/me/local"}, "/users/me/local/FoundationSeg"),
        ("linux", {"FOUNDATIONSEG_HOME": "/shared"}, "/shared"),
    ],
)
def test_the_folder_that_remembers(
    platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "FOUNDATIONSEG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert home() == Path(expected).expanduser()
