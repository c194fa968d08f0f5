# SPDX-License-Identifier: Apache-2.0
"""The first run: one sentence about what is missing, one button that installs it, and the way back."""

from __future__ import annotations

import importlib
import logging
import tempfile
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .. import setup
from ..errors import FoundationSegError
from ..setup.plan import pip_arguments, write_constraints
from ..setup.probe import Probe
from . import first_run_texts as texts
from .installer import SlicerInstaller

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"
_POLL_MS = 100
_LINE = 100  # characters of the installer's words that are shown while it works


class State(Enum):
    """What the section shows."""

    HIDDEN = "hidden"  # nothing is missing
    NEEDED = "needed"  # something is missing, and can be installed
    BLOCKED = "blocked"  # something is missing, and something stands in the way
    RUNNING = "running"  # being installed or tried
    RESTART = "restart"  # the application has to be restarted
    FAILED = "failed"
    INSTALLED = "installed"  # the way back


class FirstRun:
    """A section of a panel that is there only when packages are missing, and while they are being installed::

        firstRun = FirstRun(container, onReady)   # container: a widget, which gets a layout if it has none
        firstRun.check()                          # from the panel's enter(): True where the embedded model can run
        firstRun.ensure(card.family, go)          # where a model of the Hub is chosen: go() now, or once it can run
        firstRun.showInstalled()                  # a menu's "Installed packages...": the way back

    `onReady(need)` is called when an installation has made a need met, and when packages were removed again: ask
    `check` what can be used now. Nothing is installed without the user pressing the button under the sentence that says
    what; never while tests run; and only from the main thread, since all of it begins with that button.
    """

    def __init__(
        self,
        container: Any,
        onReady: Callable[[str], None],
        *,
        recipe: setup.Recipe | None = None,
        installer: Any = None,
        journal: setup.Journal | None = None,
    ) -> None:
        import qt

        self.recipe = setup.Recipe.read(RESOURCES) if recipe is None else recipe
        self.installer = SlicerInstaller(self.recipe.requester) if installer is None else installer
        self.journal = setup.Journal(self.recipe.requester) if journal is None else journal
        self.state = State.HIDDEN
        self.need = self.recipe.need(setup.EMBEDDED)
        self._onReady = onReady
        self._then: Callable[[], None] | None = None
        self._report: setup.Preflight | None = None
        self._steps: tuple[setup.Step, ...] = ()
        self._before: setup.Installed | None = None
        self._probe: Probe | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._closed = False

        self.container = container
        self.widget = slicer.util.loadUI(str(RESOURCES / "UI" / "FirstRun.ui"))
        if container.layout() is None:
            container.setLayout(qt.QVBoxLayout())
        container.layout().addWidget(self.widget)
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.ui.installButton.connect("clicked(bool)", self.onInstallButton)
        self.ui.laterButton.connect("clicked(bool)", self.onLaterButton)
        self.ui.logButton.connect("toggled(bool)", self._showLog)
        self._timer = qt.QTimer(self.widget)
        self._timer.setInterval(_POLL_MS)
        self._timer.connect("timeout()", self._pollProbe)
        self._show(State.HIDDEN)

    def cleanup(self) -> None:
        """Called when the panel is destroyed. An installation that is under way goes on in Slicer's hands."""
        self._closed = True
        self._timer.stop()
        if self._probe is not None:
            self._probe.kill()
            self._probe = None
        self._cleanFolder()

    # --- what a panel calls ---

    def check(self, key: str = setup.EMBEDDED) -> bool:
        """Whether a need is met; shows the section where it is not, or where any installation was cut off."""
        met = setup.ready(self.recipe.need(key))
        if self.state in (State.RUNNING, State.RESTART):
            return met and self.need.key != key
        pending = self.journal.pending
        if pending is not None and (pending.interrupted or pending.restart):
            self._offer(pending.need)
            met = met and (pending.need != key or self.state is State.HIDDEN)  # there in part is not there
        elif not met:
            self._offer(key)
        elif self._then is None and self.state is not State.INSTALLED:  # else something that was asked for is offered
            self._show(State.HIDDEN)
        return met

    def ensure(self, key: str, then: Callable[[], None]) -> None:
        """Calls `then` at once where a need is met; else shows what is missing, and calls it after the installation."""
        if self.state in (State.RUNNING, State.RESTART):
            return
        self._then = then
        if setup.ready(self.recipe.need(key)):
            self._show(State.HIDDEN)
            self._goOn()
        else:
            self._offer(key)

    def showInstalled(self) -> None:
        """The way back: what was installed because of this module, and a button that removes it."""
        if self.state is not State.RUNNING:
            self._showWayBack()

    # --- buttons ---

    def onInstallButton(self) -> None:
        """The one button: its text says what it does at the moment."""
        try:
            if self.state is State.RESTART:
                self.installer.restart()
            elif self.state is State.INSTALLED:
                self._remove()
            elif self.state in (State.NEEDED, State.FAILED, State.BLOCKED):
                self._install()
        except FoundationSegError as error:
            self._fail(str(error))
        except Exception:
            logging.exception("%s: the first run failed", self.recipe.requester)
            self._fail(_("Something went wrong here; the application log has the details."))

    def onLaterButton(self) -> None:
        """Gives up for now, an interrupted installation too; the panel says what is missing when that is needed."""
        self._then = None
        if self.journal.pending is not None:
            self.journal.record(setup.Installed.read())
            self.journal.done()
        self._show(State.HIDDEN)

    # --- installing ---

    def _offer(self, key: str) -> None:
        """Looks closely, and shows what is to be done."""
        self.need = self.recipe.need(key)
        self._report = report = setup.preflight(self.recipe, self.need)
        if report.ready:
            self.journal.record(setup.Installed.read())
            self.journal.done()
            self._show(State.HIDDEN)
            return
        try:
            self._steps = setup.plan(self.recipe, report, self.installer.host())
        except FoundationSegError as error:
            self._show(State.BLOCKED, str(error))
            return
        if report.problems:
            self._show(State.BLOCKED, "\n".join(report.problems))
            return
        pending = self.journal.pending
        sentence = texts.sentence(report, self._steps, pending)
        details = texts.details(report, self._steps, self.installer.host())
        self._show(State.NEEDED, sentence, details, texts.offer(report, self._steps, pending))

    def _install(self) -> None:
        """Begins, with a fresh look: what was shown may be hours old."""
        if slicer.app.testingEnabled():
            raise FoundationSegError(_("Packages are not installed while tests run."))
        self._offer(self.need.key)
        if self.state is State.NEEDED:
            self.ui.logView.plainText = ""
            self._nextStep()
        elif self.state is State.HIDDEN:
            self._goOn()

    def _nextStep(self) -> None:
        report, step = self._report, self._steps[0]
        assert report is not None, "it was offered"
        self._show(State.RUNNING, texts.step(step))
        slicer.app.processEvents()  # some mechanisms give the panel no other chance to show it
        self._before = setup.Installed.read()
        self._cleanFolder()
        self._folder = tempfile.TemporaryDirectory(prefix="FoundationSeg-setup-", ignore_cleanup_errors=True)
        log, constraints = Path(self._folder.name) / "pip.log", Path(self._folder.name) / "constraints.txt"
        write_constraints(constraints, setup.constraints(self.recipe, report, self._before))
        self.journal.begin(self.need.key, step.kind, self._before)
        try:
            arguments = pip_arguments(step, log)
            self.installer.install(
                step, arguments, constraints, self._log, lambda problem: self._stepEnded(problem, log)
            )
        except BaseException:
            self.journal.done()
            raise

    def _stepEnded(self, problem: str, log: Path) -> None:
        """Called by the mechanism, from wherever: nothing may be thrown at it."""
        try:
            self._stepDone(problem, log)
        except FoundationSegError as error:
            self._fail(str(error))
        except Exception:
            logging.exception("%s: the first run failed", self.recipe.requester)
            self._fail(_("Something went wrong here; the application log has the details."))

    def _stepDone(self, problem: str, log: Path) -> None:
        """What is there now counts, not what the mechanism says: some report failures late or not at all."""
        step, before = self._steps[0], self._before
        assert before is not None, "a step has begun"
        after = setup.Installed.read()
        self.journal.record(after)
        if self._closed:  # the panel is gone; the journal is all that remains to be written
            self.journal.done()
            return
        said = _read(log) or self.ui.logView.plainText
        if said and not self.ui.logView.plainText:
            self._log(said)
        if problem:
            self.journal.done()
            self._fail(texts.failure(step, f"{said}\n{problem}", self._report))
            return
        if step.restart:
            self.journal.restarting()
            self._showRestart(
                _("The extension PyTorch is there; 3D Slicer has to be restarted to use it."),
                _("After the restart, open this module again: the installation goes on by one click."),
            )
            return
        loaded = setup.updated_modules(before, after)
        self._report = report = setup.preflight(self.recipe, self.need)
        if loaded:
            self.journal.done()
            self._showRestart(
                _("The packages are installed; 3D Slicer has to be restarted to use them."),
                _("Replaced while in use: {names}.").format(names=", ".join(loaded)),
            )
        elif report.ready:
            self._try()
        else:
            self._steps = setup.plan(self.recipe, report, self.installer.host())
            if self._steps[0].kind == step.kind:
                self.journal.done()
                self._fail(texts.failure(step, said, report))
            else:
                self._nextStep()

    def _try(self) -> None:
        """Loads the packages in another process: a missing system library shows there and not at the first click."""
        self._show(State.RUNNING, _("Trying the packages..."))
        modules = [self.recipe.packages[finding.name].module for finding in self._findings()]
        modules += ["torch"] if self.need.torch else []
        self._probe = Probe(modules)
        self._timer.start()

    def _pollProbe(self) -> None:
        problem = self._probe.poll() if self._probe is not None else ""
        if problem is None:
            return
        self._timer.stop()
        self._probe = None
        self.journal.done()
        if problem:
            self._fail(_("The packages are installed but cannot be loaded ({reason}).").format(reason=problem))
            return
        self._cleanFolder()
        self._show(State.HIDDEN)
        self._onReady(self.need.key)
        self._goOn()

    def _goOn(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()

    def _findings(self) -> list[setup.Finding]:
        assert self._report is not None, "it was offered"
        return [finding for finding in self._report.findings if finding.name in self.recipe.packages]

    def _cleanFolder(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    # --- the way back ---

    def _showWayBack(self) -> None:
        removal = self.journal.removal(setup.Installed.read())
        names = ", ".join(f"{name} {version}" for name, version in removal.remove)
        kept = "\n".join(_("{name} stays: it {reason}.").format(name=name, reason=why) for name, why in removal.kept)
        if removal.remove:
            sentence = _("Installed by {module}: {names}.").format(module=self.recipe.requester, names=names)
        else:
            sentence = _("{module} has installed no packages that could be removed.").format(
                module=self.recipe.requester
            )
        self._show(State.INSTALLED, sentence, kept, _("Remove them"))
        self.ui.installButton.enabled = bool(removal.remove)

    def _remove(self) -> None:
        names = [name for name, _version in self.journal.removal(setup.Installed.read()).remove]
        if not names:
            return
        problems: list[str] = []
        self.installer.uninstall(names, problems.append)
        importlib.invalidate_caches()
        self.journal.removed(setup.Installed.read())
        problem = "".join(problems)
        if problem:
            self._fail(setup.explain(problem, ", ".join(names)))
            return
        self._show(State.HIDDEN)
        self._onReady(self.need.key)
        self.check()

    # --- showing ---

    def _fail(self, sentence: str) -> None:
        self._show(State.FAILED, sentence)

    def _showRestart(self, sentence: str, details: str) -> None:
        self._show(State.RESTART, sentence, details, _("Restart 3D Slicer"))

    def _log(self, line: str) -> None:
        if self._closed or not line.strip():
            return
        self.ui.logView.appendPlainText(line.rstrip())
        if self.state is State.RUNNING:
            last = line.strip().splitlines()[-1]
            self.ui.detailLabel.text = last if len(last) <= _LINE else last[:_LINE] + "..."
            self.ui.detailLabel.visible = self.ui.logButton.visible = True

    def _showLog(self, shown: bool) -> None:
        self.ui.logView.visible = shown

    def _show(self, state: State, sentence: str = "", details: str = "", button: str = "") -> None:
        self.state = state
        ui = self.ui
        self.container.visible = state is not State.HIDDEN
        ui.sentenceLabel.text = sentence
        ui.sentenceLabel.setStyleSheet("color: #d03030;" if state in (State.FAILED, State.BLOCKED) else "")
        ui.detailLabel.text = details
        ui.detailLabel.visible = bool(details)
        ui.progressBar.visible = state is State.RUNNING
        ui.installButton.text = button or _("Try again")
        ui.installButton.visible = state is not State.RUNNING
        ui.installButton.enabled = True
        ui.laterButton.text = _("Close") if state is State.INSTALLED else _("Not now")
        ui.laterButton.visible = state is not State.RUNNING
        logged = state in (State.RUNNING, State.FAILED) and bool(ui.logView.plainText)
        ui.logButton.visible = logged
        ui.logButton.checked = ui.logButton.checked and logged
        ui.logView.visible = ui.logButton.checked


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # the mechanism wrote none
