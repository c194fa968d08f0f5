# SPDX-License-Identifier: Apache-2.0
"""The first run's section, with real packages and a real journal; only Slicer's own mechanisms are stood in for."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from FoundationSegLib import setup
from FoundationSegLib.setup.recipe import Package
from part_case import PartTestCase
from scene_case import slicer


def install(site: Path, name: str, version: str, requires: tuple[str, ...] = (), code: str = "") -> None:
    """What pip leaves behind: a module and its metadata."""
    (site / f"{name}.py").write_text(code, encoding="utf-8")
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (info / "RECORD").write_text(f"{name}.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n", encoding="utf-8")


class FakeSlicer:
    """slicer.packaging, slicer.util's pip, PyTorchUtils and the extensions manager; they install into a folder."""

    def __init__(self, site: Path) -> None:
        self.site = site
        self.calls: list[tuple[Any, ...]] = []
        self.constraints: list[str] = []
        self.versions = {"fsr_alpha": "1.2.0", "fsr_beta": "3.1", "fsr_gamma": "0.3", "torch": "2.13.0"}
        self.problem = ""  # what pip says, where it fails
        self.code = ""
        self.later: list[Any] = []

    def pip(self, arguments: list[str], constraints: str) -> int:
        self.calls.append(("pip", arguments))
        self.constraints = Path(constraints).read_text(encoding="utf-8").split()
        Path(arguments[arguments.index("--log") + 1]).write_text(self.problem, encoding="utf-8")
        if self.problem:
            return 1
        for name in (argument.partition(">")[0] for argument in arguments if argument.startswith("fsr_")):
            install(self.site, name, self.versions[name], code=self.code)
        return 0

    def packaging(self) -> ModuleType:
        module = ModuleType("slicer.packaging")

        def pip_install(requirements: list[str], constraints: str, **options: Any) -> None:
            self.options = options
            options["logCallback"]("Collecting things")
            status = self.pip(requirements, constraints)
            self.later.append(lambda: options["completedCallback"](status))

        module.__dict__.update(pip_install=pip_install, isPipInstallInProgress=lambda: False)
        return module

    def util(self, arguments: list[str]) -> None:
        at = arguments.index("-c")
        if self.pip(arguments[:at], arguments[at + 1]):
            raise RuntimeError("pip ended with status 1")

    def uninstall(self, names: list[str]) -> None:
        self.calls.append(("uninstall", names))
        for name in names:
            for path in self.site.glob(f"{name.replace('-', '_')}*"):
                for file in path.iterdir() if path.is_dir() else ():
                    file.unlink()
                path.rmdir() if path.is_dir() else path.unlink()

    def torchUtils(self) -> ModuleType:
        fake = self

        class PyTorchUtilsLogic:
            def installTorch(self, askConfirmation: bool = True, torchVersionRequirement: str = "") -> object:
                fake.calls.append(("torch", askConfirmation, torchVersionRequirement))
                install(fake.site, "torch", "2.13.0")
                return object()

        module = ModuleType("PyTorchUtils")
        module.__dict__.update(PyTorchUtilsLogic=PyTorchUtilsLogic, __spec__=mock.Mock())
        return module

    def extensionsManagerModel(self) -> Any:
        model = mock.Mock(interactive=True)

        def fetch(name: str, restart: bool) -> bool:
            self.calls.append(("extension", name, restart, model.interactive))
            return True

        model.installExtensionFromServer = fetch
        return model


class FirstRunTest(PartTestCase):
    """Each method is a process of its own, which takes seconds to start: `fresh` begins a new story within one."""

    size = (420, 280)

    def fresh(self) -> None:
        """A Slicer with nothing of ours in it."""
        from FoundationSegLib.panel.first_run import RESOURCES

        self.newContainer()
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.site, self.journalFolder = folder / "site", folder / "journal"
        self.site.mkdir()
        others = [place for place in sys.path if not place.endswith("site")]
        self.enterContext(mock.patch.object(sys, "path", [str(self.site), *others]))
        self.enterContext(mock.patch.dict("os.environ", {"PYTHONPATH": str(self.site)}))
        self.fake = FakeSlicer(self.site)
        self.enterContext(mock.patch.object(slicer.app, "testingEnabled", return_value=False))
        packaging = self.fake.packaging()
        self.enterContext(mock.patch.dict(sys.modules, {"slicer.packaging": packaging}))
        slicer.packaging = packaging
        self.enterContext(mock.patch.object(slicer.util, "pip_install", self.fake.util))
        self.enterContext(mock.patch.object(slicer.util, "pip_uninstall", self.fake.uninstall))
        real = setup.Recipe.read(RESOURCES)
        packages = {
            name: Package(name, self.fake.versions[name.replace("-", "_")], name.replace("-", "_"), 10**7, 3 * 10**7)
            for name in ("fsr-alpha", "fsr-beta", "fsr-gamma")
        }
        needs = {setup.EMBEDDED: ("fsr_alpha>=1.0", "fsr_beta>=3"), "hub": ("fsr_gamma>=0.1",)}
        self.recipe = dataclasses.replace(real, needs=needs, packages=packages)
        self.ready: list[str] = []

    def make(self) -> Any:
        from FoundationSegLib.panel.first_run import FirstRun

        journal = setup.Journal("FoundationSeg", self.journalFolder, self.site)
        firstRun = FirstRun(self.container, self.ready.append, recipe=self.recipe, journal=journal)
        self.addCleanup(firstRun.cleanup)
        return firstRun

    def press(self, firstRun: Any) -> None:
        """The one button; then whatever Slicer does later."""
        firstRun.ui.installButton.click()
        self.goOn(firstRun)

    def goOn(self, firstRun: Any) -> None:
        while self.fake.later:
            self.fake.later.pop(0)()
        self.waitFor(lambda: firstRun._probe is None)

    def old(self) -> None:
        """3D Slicer 5.10."""
        self.enterContext(mock.patch.dict(sys.modules, {"slicer.packaging": None}))
        del slicer.packaging

    def _one_sentence_and_one_button_install_what_is_missing(self) -> None:
        firstRun = self.make()
        self.assertFalse(firstRun.check())
        ui = firstRun.ui
        self.assertIn("needs 2 Python packages that this 3D Slicer does not have yet: 20 MB", ui.sentenceLabel.text)
        self.assertIn("fsr-alpha 1.2.0, fsr-beta 3.1", ui.detailLabel.text)
        self.assertEqual(ui.installButton.text, "Install 20 MB")
        self.show("FirstRun-needed")
        self.assertFalse(self.fake.calls)  # looking is not installing
        ui.installButton.click()
        self.assertEqual(firstRun.state.value, "running")
        self.assertFalse(ui.installButton.visible)
        self.show("FirstRun-running")
        self.assertEqual(ui.detailLabel.text, "Collecting things")
        self.assertFalse(self.fake.options["blocking"])
        self.goOn(firstRun)
        ((_, arguments),) = self.fake.calls
        self.assertEqual(arguments[:4], ["fsr_alpha>=1.0", "fsr_beta>=3", "--only-binary", ":all:"])
        self.assertTrue({"fsr-alpha==1.2.0", "fsr-beta==3.1"} <= set(self.fake.constraints))
        self.assertTrue(any(line.startswith("numpy==") for line in self.fake.constraints))  # what is there stays
        self.assertEqual((firstRun.state.value, self.ready), ("hidden", ["embedded"]))
        self.assertFalse(self.container.visible)
        self.assertTrue(firstRun.check())
        self.assertIsNone(firstRun.journal.pending)

    def _nothing_is_installed_while_tests_run(self) -> None:
        firstRun = self.make()
        firstRun.check()
        with mock.patch.object(slicer.app, "testingEnabled", return_value=True):
            firstRun.ui.installButton.click()
        self.assertIn("not installed while tests run", firstRun.ui.sentenceLabel.text)
        self.assertFalse(self.fake.calls or list(self.site.iterdir()) or self.ready)

    def _slicer_5_10_has_only_its_pip(self) -> None:
        self.old()
        firstRun = self.make()
        firstRun.check()
        self.assertIn("does not respond", firstRun.ui.detailLabel.text)
        self.press(firstRun)
        self.assertEqual(([call[0] for call in self.fake.calls], self.ready), (["pip"], ["embedded"]))

    def _a_failure_is_one_sentence_with_the_log_behind_it(self) -> None:
        firstRun = self.make()
        firstRun.check()
        self.fake.problem = "2026-11-22T17:00:00 ERROR: No space left on device"
        self.press(firstRun)
        self.assertIn("The disk is full", firstRun.ui.sentenceLabel.text)
        self.assertIsNone(firstRun.journal.pending)
        firstRun.ui.logButton.click()
        self.assertIn("Collecting things", firstRun.ui.logView.plainText)
        self.show("FirstRun-failed")
        self.assertEqual(firstRun.ui.installButton.text, "Try again")
        self.fake.problem = ""
        self.press(firstRun)
        self.assertEqual(self.ready, ["embedded"])

    def _packages_that_cannot_be_loaded_are_found_out_before_the_first_click(self) -> None:
        firstRun = self.make()
        firstRun.check()
        self.fake.code = "raise OSError('libgomp.so.1: cannot open shared object file')"
        self.press(firstRun)
        self.assertIn("cannot be loaded (fsr_alpha: OSError: libgomp.so.1", firstRun.ui.sentenceLabel.text)
        self.assertFalse(self.ready)

    def _torch_is_asked_for_only_by_models_of_the_hub_and_goes_on_after_a_restart(self) -> None:
        install(self.site, "fsr_alpha", "1.2.0")
        install(self.site, "fsr_beta", "3.1")
        self.enterContext(mock.patch("FoundationSegLib.setup.preflight._TORCH", "fsr_torch"))
        self.enterContext(
            mock.patch.object(slicer.app, "extensionsManagerModel", self.fake.extensionsManagerModel, create=True)
        )
        firstRun, went = self.make(), []
        self.assertTrue(firstRun.check())
        firstRun.ensure("sam-med3d", lambda: went.append(1))
        self.assertIn("need PyTorch, which is not installed yet: 200 MB to 3.00 GB", firstRun.ui.sentenceLabel.text)
        self.assertEqual(firstRun.ui.installButton.text, "Install PyTorch")
        self.show("FirstRun-torch")
        self.assertTrue(firstRun.check())  # another module was looked at meanwhile: what was asked for is still offered
        self.assertEqual(firstRun.state.value, "needed")
        self.press(firstRun)
        self.assertEqual(self.fake.calls, [("extension", "PyTorch", False, False)])
        self.assertEqual((firstRun.state.value, firstRun.ui.installButton.text), ("restart", "Restart 3D Slicer"))
        self.show("FirstRun-restart")
        with (
            mock.patch.object(slicer.util, "confirmOkCancelDisplay", return_value=False) as asked,
            mock.patch.object(slicer.util, "restart", create=True) as restart,
        ):
            firstRun.ui.installButton.click()
            self.assertEqual((asked.call_count, restart.call_count), (1, 0))
            asked.return_value = True
            firstRun.ui.installButton.click()
            restart.assert_called_once()

        # After the restart: another process, with the extension loaded.
        self.enterContext(mock.patch.dict(sys.modules, {"PyTorchUtils": self.fake.torchUtils()}))
        firstRun.cleanup()
        self.newContainer()
        firstRun = self.make()
        self.assertTrue(firstRun.check())  # the embedded model can be used meanwhile
        self.assertEqual(firstRun.ui.installButton.text, "Continue")
        with mock.patch("FoundationSegLib.panel.first_run.Probe") as probe:
            probe.return_value.poll.return_value = ""
            original = install

            def renamed(site: Path, name: str, version: str, *rest: Any, **more: Any) -> None:
                original(site, "fsr_torch" if name == "torch" else name, version, *rest, **more)

            with mock.patch(f"{__name__}.install", renamed):
                self.press(firstRun)
        self.assertEqual([call[0] for call in self.fake.calls], ["extension", "torch", "pip"])
        self.assertEqual(self.fake.calls[1], ("torch", False, ">=2.8,<3"))
        self.assertTrue(any(line == "fsr-torch==2.13.0" for line in self.fake.constraints))
        self.assertEqual((self.ready, firstRun.state.value), (["sam-med3d"], "hidden"))
        firstRun.ensure("sam-med3d", lambda: went.append(2))
        self.assertEqual(went, [2])

    def _an_installation_that_was_cut_off_is_repaired(self) -> None:
        firstRun = self.make()
        firstRun.check()
        firstRun.ui.installButton.click()  # the process is killed here, with one package complete and one in part
        self.fake.later.clear()
        (self.site / "fsr_beta.py").unlink()
        firstRun.cleanup()
        self.newContainer()
        with mock.patch("os.getpid", return_value=1):
            firstRun = self.make()
            self.assertFalse(firstRun.check())
            self.assertIn("was cut off", firstRun.ui.sentenceLabel.text)
            self.assertEqual(firstRun.ui.installButton.text, "Repair and continue")
            self.show("FirstRun-interrupted")
            for path in (self.site / "fsr_beta-3.1.dist-info").iterdir():
                path.unlink()
            (self.site / "fsr_beta-3.1.dist-info").rmdir()
            self.press(firstRun)
        self.assertEqual(self.ready, ["embedded"])
        self.assertEqual(sorted(firstRun.journal.arrivals), ["fsr-alpha", "fsr-beta"])  # both came because of us

    def _a_package_in_part_is_completed_in_its_own_version(self) -> None:
        install(self.site, "fsr_alpha", "1.1")
        install(self.site, "fsr_beta", "3.1")
        (self.site / "fsr_alpha.py").unlink()
        firstRun = self.make()
        (self.site / "fsr_beta.py").unlink()
        firstRun._offer("embedded")
        self.assertIn("damaged, or there only in part: fsr-alpha, fsr-beta", firstRun.ui.sentenceLabel.text)
        self.assertEqual(firstRun.ui.installButton.text, "Repair")
        with mock.patch.object(self.fake, "pip", return_value=0) as pip:
            firstRun.ui.installButton.click()
        arguments = pip.call_args.args[0]
        self.assertEqual(arguments[:2], ["fsr-alpha==1.1", "fsr-beta==3.1"])
        self.assertTrue({"--ignore-installed", "--no-deps"} <= set(arguments))

    def _the_way_back(self) -> None:
        firstRun = self.make()
        firstRun.check()
        self.press(firstRun)
        install(self.site, "fsr_other", "1", requires=("fsr-beta",))
        firstRun.showInstalled()
        self.assertIn("Installed by FoundationSeg: fsr-alpha 1.2.0.", firstRun.ui.sentenceLabel.text)
        self.assertIn("fsr-beta stays: it is required by fsr-other.", firstRun.ui.detailLabel.text)
        self.show("FirstRun-way-back")
        firstRun.ui.installButton.click()
        self.assertEqual(self.fake.calls[-1], ("uninstall", ["fsr-alpha"]))
        self.assertEqual(sorted(firstRun.journal.arrivals), ["fsr-beta"])
        self.assertEqual(firstRun.state.value, "needed")  # it says at once what is missing now
        self.assertEqual(self.ready, ["embedded", "embedded"])  # and the panel is told that something has changed

    def _what_stands_in_the_way_is_said_before_anything_is_downloaded(self) -> None:
        firstRun = self.make()
        with mock.patch("FoundationSegLib.setup.preflight.os.access", return_value=False):
            firstRun.check()
        self.assertIn("cannot be written to", firstRun.ui.sentenceLabel.text)
        self.show("FirstRun-blocked")
        self.press(firstRun)
        self.assertEqual(self.ready, ["embedded"])

    def _not_now_is_respected(self) -> None:
        firstRun, went = self.make(), []
        firstRun.ensure("embedded", lambda: went.append(1))
        firstRun.ui.laterButton.click()
        self.assertFalse(self.container.visible or self.fake.calls)
        firstRun.check()
        self.press(firstRun)
        self.assertEqual(went, [])  # what had been asked for was given up

    def _packages_that_are_in_use_ask_for_a_restart(self) -> None:
        install(self.site, "fsr_alpha", "0.9")
        install(self.site, "fsr_beta", "3.1")
        __import__("fsr_alpha")
        self.addCleanup(sys.modules.pop, "fsr_alpha")
        firstRun = self.make()
        firstRun.check()
        self.assertIn("Replaces fsr-alpha 0.9.", firstRun.ui.detailLabel.text)

        def replace(arguments: list[str], constraints: str) -> int:
            self.fake.uninstall(["fsr_alpha"])
            install(self.site, "fsr_alpha", "1.2.0")
            return 0

        with mock.patch.object(self.fake, "pip", replace):
            self.press(firstRun)
        self.assertEqual(firstRun.state.value, "restart")
        self.assertIn("Replaced while in use: fsr-alpha.", firstRun.ui.detailLabel.text)

    def test_installing(self) -> None:
        for story in (
            self._one_sentence_and_one_button_install_what_is_missing,
            self._slicer_5_10_has_only_its_pip,
            self._nothing_is_installed_while_tests_run,
            self._a_failure_is_one_sentence_with_the_log_behind_it,
            self._packages_that_cannot_be_loaded_are_found_out_before_the_first_click,
            self._what_stands_in_the_way_is_said_before_anything_is_downloaded,
            self._not_now_is_respected,
            self._packages_that_are_in_use_ask_for_a_restart,
        ):
            with self.subTest(story.__name__.strip("_").replace("_", " ")):
                self.fresh()
                story()

    def test_going_on_and_going_back(self) -> None:
        for story in (
            self._torch_is_asked_for_only_by_models_of_the_hub_and_goes_on_after_a_restart,
            self._an_installation_that_was_cut_off_is_repaired,
            self._a_package_in_part_is_completed_in_its_own_version,
            self._the_way_back,
        ):
            with self.subTest(story.__name__.strip("_").replace("_", " ")):
                self.fresh()
                story()


if __name__ == "__main__":
    unittest.main()
