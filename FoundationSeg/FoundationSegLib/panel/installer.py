# SPDX-License-Identifier: Apache-2.0
"""How this Slicer installs Python packages: slicer.packaging (5.12), slicer.util (5.10), the extension PyTorch.

Everything here is for the main thread, and refuses to do anything while tests run.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..errors import FoundationSegError
from ..setup import EXTENSION, TORCH, Host, Step
from ..setup.plan import TORCH_EXTENSION

Log = Callable[[str], None]
# Called once with "" if all went well, else with the text to explain.
Done = Callable[[str], None]


class SlicerInstaller:
    """Runs one installation at a time."""

    def __init__(self, requester: str) -> None:
        self.requester = requester

    def host(self) -> Host:
        """What this application can do. Imports nothing that is not loaded."""
        version = getattr(slicer.app, "applicationVersion", "")
        return Host(
            name=f"3D Slicer {version}".strip(),
            packaging=_packaging() is not None,
            pytorch_utils=importlib.util.find_spec("PyTorchUtils") is not None,
            extensions=_extensions() is not None,
        )

    def install(self, step: Step, arguments: list[str], constraints: Path, log: Log, done: Done) -> None:
        """Runs a step. Where Slicer can, this returns at once and `done` is called later, by the event loop."""
        self._refuseInTests()
        if step.kind == EXTENSION:
            done("" if self._installExtension() else _("The extension could not be downloaded."))
        elif step.kind == TORCH:
            self._blocking(lambda: self._installTorch(step), done)
        elif (packaging := _packaging()) is not None:
            if packaging.isPipInstallInProgress():
                raise FoundationSegError(_("Another extension is installing packages; try again when it has finished."))
            packaging.pip_install(
                arguments,
                constraints=str(constraints),
                blocking=False,
                show_progress=False,
                requester=self.requester,
                logCallback=log,
                completedCallback=lambda status: done("" if status == 0 else f"status {status}"),
            )
        else:  # 3D Slicer before 5.12
            self._blocking(lambda: slicer.util.pip_install([*arguments, "-c", str(constraints)]), done)

    def uninstall(self, names: list[str], done: Done) -> None:
        """Removes packages; returns when that is done, which takes seconds."""
        self._refuseInTests()
        self._blocking(lambda: slicer.util.pip_uninstall(names), done)

    def restart(self) -> None:
        """Starts the application anew, if the user agrees to lose what is not saved."""
        self._refuseInTests()
        if slicer.util.confirmOkCancelDisplay(
            _("3D Slicer restarts now. What is not saved is lost. Continue?"), windowTitle=self.requester
        ):
            slicer.util.restart()

    def _installExtension(self) -> bool:
        model = _extensions()
        if model is None:
            return False
        asked = model.interactive
        model.interactive = False  # the user has agreed already
        try:
            with slicer.util.WaitCursor():
                return bool(model.installExtensionFromServer(TORCH_EXTENSION, False))
        finally:
            model.interactive = asked

    def _installTorch(self, step: Step) -> None:
        import PyTorchUtils

        logic = PyTorchUtils.PyTorchUtilsLogic()
        (versions,) = step.requirements
        if step.replaces:
            slicer.util.pip_uninstall(["torch", "torchvision"])  # what is left of it stands in the way of a new one
        try:
            torch: Any = logic.installTorch(askConfirmation=False, torchVersionRequirement=versions)
        except TypeError:  # versions of the extension differ in the names of their arguments
            logging.exception("PyTorchUtils does not take a range of versions")
            torch = logic.installTorch(askConfirmation=False)
        if torch is None:
            raise FoundationSegError(_("The extension PyTorch did not install it."))

    def _blocking(self, work: Callable[[], object], done: Done) -> None:
        problem = ""
        try:
            with slicer.util.WaitCursor():
                work()
        except Exception as error:  # of the many kinds that pip, Slicer and PyTorchUtils raise
            logging.exception("%s could not install packages", self.requester)
            problem = f"{type(error).__name__}: {error}"
        done(problem)

    def _refuseInTests(self) -> None:
        if slicer.app.testingEnabled():
            raise FoundationSegError(_("Packages are not installed while tests run."))


def _packaging() -> Any:
    try:
        from slicer import packaging
    except ImportError:  # 3D Slicer before 5.12
        return None
    return packaging


def _extensions() -> Any:
    """The model of the extensions manager; None in applications that have none."""
    model = getattr(slicer.app, "extensionsManagerModel", None)
    return model() if model is not None else None
