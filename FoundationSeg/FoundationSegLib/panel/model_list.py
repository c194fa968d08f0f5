# SPDX-License-Identifier: Apache-2.0
"""The catalogue in a panel: choose a model, read and accept its licence, download it, cancel, verify, remove."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..catalogue import EMBEDDED, ModelCard, model_card
from ..errors import Cancelled, FoundationSegError
from ..hub import bundle, licence
from ..hub.home import home, megabytes
from ..hub.jobs import Job, JobSettings
from ..hub.listing import HERE, YOUR_FILE, Entry, entries
from ..memory import available_bytes
from . import model_texts as texts
from .first_run import RESOURCES

_POLL_MS = 50
_MODEL, _GOOD_FOR, _STATE = range(3)


class ModelList:
    """A section of a panel::

        models = ModelList(container, onChosen, ensure=firstRun.ensure, showPackages=firstRun.showInstalled)
        models.setChosen("compact")        # what the scene says is in use
        models.refresh()                   # from the panel's enter(): another program may have downloaded something

    `onChosen(name, checkpoint)` is called when a person has chosen a model that can be used at once; `checkpoint` is
    the path of a file of the user's own, or None. `ensure(family, then)` calls `then` once the packages that a family
    needs are there (see `FirstRun`): PyTorch is asked for there and nowhere else; `showPackages` shows the way back.
    Downloads run in a process of their own, so that nothing here waits.
    """

    def __init__(
        self,
        container: Any,
        onChosen: Callable[[str, Path | None], None],
        *,
        ensure: Callable[[str, Callable[[], None]], None] | None = None,
        showPackages: Callable[[], None] | None = None,
        settings: JobSettings | None = None,
    ) -> None:
        import qt

        self.chosen = EMBEDDED
        self.checkpoint: Path | None = None
        self.job: Job | None = None
        self._onChosen = onChosen
        self._ensure = ensure if ensure is not None else lambda family, then: then()
        self._settings = settings
        self._entries: list[Entry] = []
        self._clock = texts.Clock()

        self.container = container
        self.widget = slicer.util.loadUI(str(RESOURCES / "UI" / "ModelList.ui"))
        if container.layout() is None:
            container.setLayout(qt.QVBoxLayout())
        container.layout().addWidget(self.widget)
        self.ui = slicer.util.childWidgetVariables(self.widget)
        header = self.ui.modelTable.horizontalHeader()
        header.setSectionResizeMode(_MODEL, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(_GOOD_FOR, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(_STATE, qt.QHeaderView.ResizeToContents)
        self._menu = qt.QMenu(self.widget)
        for text, slot in (
            (_("Use a checkpoint of my own..."), self.onCheckpoint),
            (_("Import models from a folder..."), self.onImport),
            (_("Write this model into a folder..."), self.onExport),
        ):
            self._menu.addAction(text).connect("triggered(bool)", slot)
        if showPackages is not None:
            self._menu.addSeparator()
            self._menu.addAction(_("Installed packages...")).connect("triggered(bool)", showPackages)
        self.ui.moreButton.setMenu(self._menu)
        self._timer = qt.QTimer(self.widget)
        self._timer.setInterval(_POLL_MS)
        self._timer.connect("timeout()", self.poll)

        self.ui.searchBox.connect("textChanged(QString)", self._filter)
        self.ui.modelTable.connect("itemSelectionChanged()", self._showModel)
        self.ui.modelTable.connect("itemDoubleClicked(QTableWidgetItem*)", self.onUse)
        self.ui.acceptBox.connect("toggled(bool)", self._showButtons)
        self.ui.useButton.connect("clicked(bool)", self.onUse)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancel)
        self.ui.verifyButton.connect("clicked(bool)", self.onVerify)
        self.ui.removeButton.connect("clicked(bool)", self.onRemove)
        self._showStatus("")
        self.refresh()

    def cleanup(self) -> None:
        """Ends a download that is under way; the next one goes on from where it was."""
        self._timer.stop()
        if self.job is not None:
            self.job.kill()
            self.job = None

    # --- what a panel calls ---

    def refresh(self) -> None:
        """Looks anew at what is on the disk."""
        name = self.selected.card.name if self.selected is not None else self.chosen
        try:
            self._entries = entries()
        except FoundationSegError as error:
            self._entries = []
            self._showStatus(str(error), isError=True)
        self._fill()
        self.select(name)

    def setChosen(self, name: str, checkpoint: Path | None = None) -> None:
        """Marks the model that is in use; does not call `onChosen`."""
        self.chosen, self.checkpoint = name, checkpoint
        self.refresh()
        self.select(name)

    def select(self, name: str) -> None:
        """Shows a model."""
        for row, item in enumerate(self._entries):
            if item.card.name == name:
                self.ui.modelTable.selectRow(row)
        self._showModel()

    @property
    def selected(self) -> Entry | None:
        """The model that is shown."""
        row = self.ui.modelTable.currentRow()
        return self._entries[row] if 0 <= row < len(self._entries) else None

    def useCheckpoint(self, path: Path, name: str | None = None) -> None:
        """Uses a file of the user's own; which model it was made for is found out unless it is said."""
        card = self._cardOf(name) if name else None
        family = card.family if card is not None else "hub"
        self._ensure(family, lambda: self._start("checkpoint", path.name, path=str(path), name=name or ""))

    def importBundle(self, folder: Path) -> None:
        """Takes the models of a folder that was written on another computer; their licences have to be accepted."""
        try:
            cards = [model_card(name) for name in bundle.names(folder)]
        except FoundationSegError as error:
            self._showStatus(str(error), isError=True)
            return
        if not all(self._accepts(card) for card in cards):
            return
        accepted = [card.name for card in cards]
        self._ensure("hub", lambda: self._start("import", folder.name, folder=str(folder), accepted=accepted))

    def exportBundle(self, name: str, folder: Path) -> None:
        """Writes a model into a folder, for a computer without network."""
        card = self._cardOf(name)
        if card is not None and self._accepts(card):
            start = {"names": [name], "folder": str(folder), "accepted": [name]}
            self._ensure(card.family, lambda: self._start("bundle", card.title, **start))

    # --- buttons ---

    def onUse(self) -> None:
        """The one button: chooses, downloads first where need be."""
        entry = self.selected
        if entry is None or not self.ui.useButton.enabled:
            return
        card = entry.card
        if entry.state == YOUR_FILE:
            self.onCheckpoint(name=card.name)
        elif card.source == "embedded":
            self._choose(card.name, None)
        elif entry.state == HERE:
            self._ensure(card.family, lambda: self._choose(card.name, None))
        else:
            accepted = [card.name]
            self._ensure(card.family, lambda: self._start("download", card.title, name=card.name, accepted=accepted))

    def onCancel(self) -> None:
        if self.job is not None:
            self.job.cancel()
            self._showStatus(_("Cancelling..."))
            self.ui.cancelButton.enabled = False

    def onVerify(self) -> None:
        entry = self.selected
        if entry is not None:
            card = entry.card
            self._ensure(card.family, lambda: self._start("verify", card.title, names=[card.name]))

    def onRemove(self) -> None:
        entry = self.selected
        if entry is not None:
            self._start("remove", entry.card.title, names=[entry.card.name])

    def onCheckpoint(self, name: str | None = None) -> None:
        import qt

        kinds = _("Checkpoints ({patterns});;All files (*)").format(patterns="*.safetensors *.pth *.pt *.bin *.ckpt")
        path = qt.QFileDialog.getOpenFileName(self.widget, _("A checkpoint of your own"), "", kinds)
        path = path[0] if isinstance(path, tuple) else path
        if path:
            self.useCheckpoint(Path(path), name if isinstance(name, str) else None)

    def onImport(self) -> None:
        import qt

        folder = qt.QFileDialog.getExistingDirectory(self.widget, _("A folder that was written on another computer"))
        if folder:
            self.importBundle(Path(folder))

    def onExport(self) -> None:
        import qt

        entry = self.selected
        if entry is None or entry.card.source != "hub":
            self._showStatus(_("Select a model of the Hub first; only those have to be carried."), isError=True)
            return
        folder = qt.QFileDialog.getExistingDirectory(self.widget, _("A folder for the model"))
        if folder:
            self.exportBundle(entry.card.name, Path(folder))

    # --- work ---

    def poll(self) -> None:
        """Called by the timer while a job runs."""
        if self.job is not None:
            self.job.poll()

    def _start(self, what: str, title: str, **request: Any) -> None:
        if self.job is not None:
            self._showStatus(_("Something is being done already; wait for it, or cancel it."), isError=True)
            return
        entry = self.selected
        total = entry.size_bytes if entry is not None else None

        def tell(stage: str, fraction: float) -> None:
            self._showProgress(stage, fraction)
            self._showStatus(texts.progress(stage, title, fraction, total, self._clock.left(stage, fraction)))

        try:
            self.job = Job(
                {"what": what, **request},
                progress=tell,
                done=lambda job: self._ended(what, title, job),
                settings=self._settings,
            )
        except FoundationSegError as error:
            self._showStatus(str(error), isError=True)
            return
        tell("start", 0.0)
        self._timer.start()
        self._showButtons()

    def _ended(self, what: str, title: str, job: Job) -> None:
        self._timer.stop()
        self.job = None
        try:
            data = job.result
        except Cancelled as error:
            self._showStatus(str(error))
            data = None
        except FoundationSegError as error:
            self._showStatus(str(error), isError=True)
            data = None
        self.refresh()
        if data is None:
            return
        problem = texts.bad(data) if what == "verify" else ""
        self._showStatus(problem or texts.finished(what, data, title), isError=bool(problem))
        if what == "remove" and self.chosen in job.request["names"]:
            self._choose(EMBEDDED, None)
        elif what == "download":
            self._choose(str(data["name"]), None)
        elif what == "checkpoint":
            self._choose(str(data["name"]), Path(str(data["path"])))

    def _choose(self, name: str, checkpoint: Path | None) -> None:
        self.setChosen(name, checkpoint)
        self._onChosen(name, checkpoint)

    def _accepts(self, card: ModelCard) -> bool:
        """Whether the licence was accepted, now or before; the dialog is for what the list does not show by itself."""
        if licence.accepted(card):
            return True
        if slicer.app.testingEnabled():
            return False  # dialogs answer themselves there
        question = licence.statement(card) + "\n\n" + _("Do you accept this licence?")
        return bool(slicer.util.confirmYesNoDisplay(question, windowTitle=card.title))

    def _cardOf(self, name: str) -> ModelCard | None:
        return next((item.card for item in self._entries if item.card.name == name), None)

    # --- showing ---

    def _inUse(self, entry: Entry) -> bool:
        """Whether it is the chosen one; a scene of another computer can have chosen what is not here."""
        return entry.card.name == self.chosen and (entry.usable or self.checkpoint is not None)

    def _fill(self) -> None:
        import qt

        table = self.ui.modelTable
        table.blockSignals(True)
        table.setRowCount(len(self._entries))
        for row, item in enumerate(self._entries):
            inUse = self._inUse(item)
            cells = (texts.title(item), texts.good_for(item), texts.standing(item, inUse, self.checkpoint))
            for column, text in enumerate(cells):
                cell = qt.QTableWidgetItem(text)
                cell.setToolTip(text)  # the columns are narrow
                if inUse:
                    font = cell.font()
                    font.setBold(True)
                    cell.setFont(font)
                table.setItem(row, column, cell)
        table.resizeRowsToContents()
        table.blockSignals(False)
        self._filter()

    def _filter(self) -> None:
        for row, item in enumerate(self._entries):
            self.ui.modelTable.setRowHidden(row, not texts.matches(item, self.ui.searchBox.text))

    def _showModel(self) -> None:
        entry = self.selected
        if entry is not None:
            self.ui.descriptionView.setHtml(texts.description(entry, _freeBytes(), available_bytes()))
            self.ui.acceptBox.checked = entry.accepted
        self._showButtons()

    def _showButtons(self) -> None:
        entry, busy, ui = self.selected, self.job is not None, self.ui
        here = entry is not None and entry.state == HERE
        ui.acceptBox.visible = entry is not None and not entry.accepted
        ui.acceptBox.enabled = not busy
        ui.useButton.visible = not busy
        ui.cancelButton.visible = busy
        ui.cancelButton.enabled = busy and self.job is not None and not self.job.cancelling
        ui.progressBar.visible = busy
        ui.verifyButton.visible = ui.removeButton.visible = here and not busy
        ui.moreButton.enabled = not busy
        if entry is None:
            ui.useButton.enabled = False
            return
        again = self._inUse(entry) and self.checkpoint is None
        reason = texts.why_not(entry, again, ui.acceptBox.checked)
        ui.useButton.text = texts.use(entry)
        ui.useButton.enabled = not reason
        ui.useButton.toolTip = reason or entry.card.description
        ui.removeButton.toolTip = _("Free {size} of the disk; it can be downloaded again.").format(
            size=megabytes(entry.disk_bytes)
        )

    def _showProgress(self, stage: str, fraction: float) -> None:
        bar = self.ui.progressBar
        known = stage in ("download", "verify")
        bar.maximum = 1000 if known else 0
        bar.value = int(1000 * fraction) if known else 0

    def _showStatus(self, text: str, isError: bool = False) -> None:
        self.ui.statusLabel.text = text
        self.ui.statusLabel.visible = bool(text)
        self.ui.statusLabel.setStyleSheet("color: #d03030;" if isError else "")


def _freeBytes() -> int | None:
    folder = home()
    try:
        return shutil.disk_usage(next(parent for parent in (folder, *folder.parents) if parent.exists())).free
    except OSError:
        return None
