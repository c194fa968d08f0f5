# SPDX-License-Identifier: Apache-2.0
"""Between the widgets of FoundationSeg.ui and the live segmentation: each shows and changes the other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from ..catalogue import ModelCard, model_card
from ..errors import FoundationSegError
from ..prompts import Box, Lasso, Point, Prompt, Scribble, TextPrompt
from ..scene.live import Event, LiveSegmentation, State
from ..scene.prompt_nodes import describe
from . import segment_editor, shortcuts
from .device_choice import DeviceChoice
from .name_prompt import NamePrompt
from .status_texts import progressPercent, qualityText, statusText

_BEAT_MS = 20
_ERROR_STYLE = "color: #d03030;"
_KEY = qt.Qt.UserRole


class LivePanel:
    """Wires the panel's own widgets. `ui` holds them by name, as slicer.util.childWidgetVariables gives them."""

    def __init__(self, ui: Any, live: LiveSegmentation) -> None:
        self.ui = ui
        self.live = live
        self._updating = False
        self._inBeat = self._stale = False
        self._card: ModelCard | None = None
        self._timer = qt.QTimer(ui.statusLabel)
        self._timer.setInterval(_BEAT_MS)
        self._timer.connect("timeout()", self._onBeat)
        self._keys = shortcuts.Shortcuts(ui.statusLabel)
        self._deleteKey = qt.QShortcut(ui.promptList)
        self._deleteKey.setKey(qt.QKeySequence("Del"))
        self._deleteKey.setContext(qt.Qt.WidgetShortcut)
        self._ends = [
            live.observe(Event.WORK, self._timer.start),
            live.observe(Event.STATUS, self.showStatus),
            live.observe(Event.RESULT, self._onChanged),
            live.observe(Event.PROMPTS, self._onChanged),
        ]
        ui.segmentsTable.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        ui.segmentsTable.opacityColumnVisible = False
        ui.segmentsTable.statusColumnVisible = False
        self._devices = DeviceChoice(ui.deviceSelector, live)
        self.names = NamePrompt(ui, live, self._pressed)
        self._connect()
        self.showChoices()
        self.showStatus()
        if live.busy:
            self._timer.start()

    def setReady(self, ready: bool) -> None:
        """Whether the packages that a model needs are there."""
        self.live.setBlocked("" if ready else _("Install the missing Python packages first."))

    def enter(self) -> None:
        """The module is shown."""
        self._keys.setEnabled(True)
        self.showChoices()

    def exit(self) -> None:
        """Another module is shown: work that is under way goes on."""
        self._keys.setEnabled(False)

    def close(self) -> None:
        """Before the panel is destroyed."""
        self._timer.stop()
        self._keys.close()
        for end in self._ends:
            end()

    def _connect(self) -> None:
        ui, live = self.ui, self.live
        ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._doing(live.setVolume))
        ui.segmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._doing(live.setSegmentation))
        ui.segmentsTable.connect("selectionChanged(QItemSelection,QItemSelection)", self._onSegmentSelected)
        ui.promptList.connect("itemSelectionChanged()", self._showButtons)
        self._deleteKey.connect("activated()", self._pressed(self.onRemovePrompt))
        ui.promptList.connect("itemDoubleClicked(QListWidgetItem*)", self._onPromptActivated)
        ui.autoUpdateBox.connect("toggled(bool)", self._onAutoUpdate)
        ui.surfaceBox.connect("toggled(bool)", self._doing(live.showSurface))
        ui.uncertaintyBox.connect("toggled(bool)", self._doing(live.showUncertainty))
        for button, slot in (
            (ui.newSegmentButton, self.onNewSegment),
            (ui.undoButton, live.undo),
            (ui.redoButton, live.redo),
            (ui.removePromptButton, self.onRemovePrompt),
            (ui.updateButton, live.update),
            (ui.cancelButton, live.cancel),
            (ui.growButton, live.grow),
            (ui.replayButton, live.replay),
            (ui.editorButton, self.onEditor),
        ):
            # "clicked(bool)" hands over whether the button is checked, which none of them wants.
            button.connect("clicked(bool)", self._pressed(slot))
        self._keys.add(shortcuts.NEW_SEGMENT, self._pressed(self.onNewSegment))
        self._keys.add(shortcuts.UNDO, self._pressed(live.undo))
        self._keys.add(shortcuts.REDO, self._pressed(live.redo))

    # --- what a person does ---

    def onNewSegment(self) -> None:
        self.live.newSegment()
        self.live.positive = True  # a new segment begins with what it is, not with what it is not

    def onRemovePrompt(self) -> None:
        for item in self.ui.promptList.selectedItems():
            self.live.removePrompt(tuple(item.data(_KEY)))

    def onEditor(self) -> None:
        segment_editor.openEditor(self.live.segmentationNode, self.live.segmentId, self.live.volumeNode)

    def _onSegmentSelected(self) -> None:
        ids = list(self.ui.segmentsTable.selectedSegmentIDs())
        if not self._updating and len(ids) == 1:
            self.live.selectSegment(ids[0])

    def _onPromptActivated(self, item: Any) -> None:
        key = tuple(item.data(_KEY))
        for other, prompt, _done in self.live.prompts():
            if other == key and not isinstance(prompt, TextPrompt):
                slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *_middle(prompt))

    def _onAutoUpdate(self, checked: bool) -> None:
        if not self._updating:
            self.live.parameters.autoUpdate = checked
            if checked:
                self.live.update()
            self._showButtons()

    def _pressed(self, slot: Callable[[], Any]) -> Callable[[], None]:
        """A slot without arguments, whose errors end in the status line."""

        def press() -> None:
            try:
                slot()
            except FoundationSegError as error:
                self.showMessage(str(error), isError=True)
            except Exception:
                logging.exception("FoundationSeg: a button failed")
                self.showMessage(_("Something went wrong here; the application log has the details."), isError=True)

        return press

    def _doing(self, slot: Callable[[Any], Any]) -> Callable[[Any], None]:
        """The same with an argument, and without effect while the widgets only follow the scene."""

        def do(value: Any) -> None:
            if not self._updating:
                self._pressed(lambda: slot(value))()

        return do

    def _onBeat(self) -> None:
        self._inBeat = True
        try:
            self.live.poll()
        except Exception:
            logging.exception("FoundationSeg: the beat failed")
            self.live.giveUp()
            self._timer.stop()
            self.showMessage(_("Something went wrong here; the application log has the details."), isError=True)
            return
        finally:
            self._inBeat = False
        if self._stale:
            self.showChoices()
        if not self.live.busy:
            self._timer.stop()

    def _onChanged(self) -> None:
        """Once per beat is enough, however many things have changed in it."""
        self._stale = True
        if not self._inBeat:
            self.showChoices()

    # --- what a person sees ---

    def showChoices(self) -> None:
        """Everything that is not the status: what is chosen, segments, prompts, quality."""
        live, ui = self.live, self.ui
        self._stale = False
        self._updating = True
        try:
            ui.volumeSelector.setCurrentNode(live.volumeNode)
            ui.segmentationSelector.setCurrentNode(live.segmentationNode)
            ui.segmentsTable.setSegmentationNode(live.segmentationNode)
            ui.segmentsTable.setSelectedSegmentIDs([live.segmentId] if live.segmentId else [])
            ui.autoUpdateBox.checked = live.parameters.autoUpdate
            ui.surfaceBox.checked = live.parameters.showSurface
            ui.uncertaintyBox.checked = live.parameters.showUncertainty
            self._devices.show()
            self.names.show()
            self._listPrompts()
        finally:
            self._updating = False
        state = live.state
        ui.qualityLabel.text = qualityText(state)
        ui.qualityLabel.visible = bool(ui.qualityLabel.text)
        ui.growButton.visible = state.reachesFace
        self._showModel()
        self._showButtons()

    def showStatus(self) -> None:
        """The status line, the progress bar and the buttons that go with it."""
        status = self.live.status
        running = status.state in (State.RUNNING, State.CANCELLING)
        self.ui.progressBar.visible = running
        percent = progressPercent(status)
        self.ui.progressBar.setRange(0, 0 if percent is None else 100)
        if percent is not None:
            self.ui.progressBar.value = percent
        self.showMessage(statusText(status), status.isError)
        if not running:
            self._showModel()
        self._showButtons()

    def showMessage(self, text: str, isError: bool = False) -> None:
        self.ui.statusLabel.text = text
        self.ui.statusLabel.setStyleSheet(_ERROR_STYLE if isError else "")

    def _listPrompts(self) -> None:
        wanted = []
        for number, (markup, prompt, done) in enumerate(self.live.prompts(), 1):
            text = _("{number}. {prompt}") if done else _("{number}. {prompt} (waiting)")
            wanted.append((list(markup), text.format(number=number, prompt=describe(prompt))))
        shown = self.ui.promptList
        items = [shown.item(row) for row in range(shown.count)]
        if [(list(item.data(_KEY)), item.text()) for item in items] == wanted:
            return
        selected = [list(item.data(_KEY)) for item in shown.selectedItems()]
        shown.clear()
        for key, text in wanted:
            item = qt.QListWidgetItem(text)
            item.setData(_KEY, key)
            shown.addItem(item)
            item.setSelected(key in selected)

    def _showModel(self) -> None:
        live = self.live
        title = live.parameters.model
        if ":" not in title:  # else it is a model of the user's own
            if self._card is None or self._card.name != title:
                try:
                    self._card = model_card(title)
                except FoundationSegError as error:
                    self.ui.modelLabel.text = str(error)
                    return
            title = self._card.title
            self.ui.modelLabel.toolTip = self._card.description
        text = _("{title}, on {device}").format(title=title, device=live.device) if live.device else title
        self.ui.modelLabel.text = text

    def _showButtons(self) -> None:
        live, ui = self.live, self.ui
        running = live.status.state in (State.RUNNING, State.CANCELLING)
        problem = live.problem()
        waiting = live.outdated
        ui.newSegmentButton.enabled = not problem
        ui.undoButton.enabled = live.canUndo
        ui.redoButton.enabled = live.canRedo
        ui.removePromptButton.enabled = bool(ui.promptList.selectedItems())
        ui.cancelButton.enabled = live.status.state is State.RUNNING
        ui.updateButton.enabled = waiting and not running and not problem
        ui.updateButton.toolTip = problem or (
            _("Predict with the prompts as they are now.") if waiting else _("The segment follows its prompts already.")
        )
        ui.replayButton.enabled = bool(live.state.book) and not running and not problem
        ui.growButton.enabled = not running
        ui.editorButton.enabled = bool(live.segmentId) and segment_editor.isAvailable()


def _middle(prompt: Prompt) -> tuple[float, float, float]:
    """Where to look for a prompt: world RAS mm."""
    match prompt:
        case Point():
            return prompt.ras
        case Box():
            points = prompt.corners_ras
        case Scribble() | Lasso():
            points = np.asarray(prompt.points)
        case _:
            return 0.0, 0.0, 0.0
    r, a, s = points.mean(axis=0).tolist()
    return r, a, s
