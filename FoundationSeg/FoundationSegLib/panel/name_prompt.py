# SPDX-License-Identifier: Apache-2.0
"""The field for the name of a structure, for models that are asked by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from ..catalogue import ModelCard
from ..errors import PromptError
from ..families import known_names, name_of
from ..scene.live import LiveSegmentation


class NamePrompt:
    """A line with completion and a button, shown only while the chosen model takes names."""

    def __init__(self, ui: Any, live: LiveSegmentation, guarded: Callable[[Callable[[], None]], Callable[[], None]]):
        """`guarded` makes a slot whose errors end in the status line."""
        self._ui = ui
        self._live = live
        self._card: ModelCard | None = None
        self._shown = ("", "")
        ui.nameEdit.connect("returnPressed()", guarded(self.onName))
        ui.nameButton.connect("clicked(bool)", guarded(self.onName))
        ui.nameEdit.connect("textChanged(QString)", self.showButton)
        self.setModel(None)

    def setModel(self, card: ModelCard | None) -> None:
        """The chosen model; None for one of the user's own, of which nothing is known."""
        names = () if card is None else known_names(card)
        self._card = card if names else None
        self._ui.nameRow.visible = bool(names)
        if names:
            completer = qt.QCompleter(list(names), self._ui.nameEdit)
            completer.setCaseSensitivity(qt.Qt.CaseInsensitive)
            completer.setFilterMode(qt.Qt.MatchContains)
            self._ui.nameEdit.setCompleter(completer)
            tip = _("What {model} is to look for, one of {count} names; it searches the whole volume.")
            self._ui.nameEdit.toolTip = tip.format(model=self._card.title if self._card else "", count=len(names))
        self.show()

    def show(self) -> None:
        """The name that the current segment's prompts have; what is being typed stays."""
        now = (self._live.segmentId, self._live.name)
        if now != self._shown:
            self._shown = now
            self._ui.nameEdit.text = now[1]
        self.showButton()

    def showButton(self) -> None:
        typed = self._ui.nameEdit.text.strip()
        self._ui.nameButton.enabled = bool(typed) and typed != self._live.name and not self._live.problem()

    def onName(self) -> None:
        """Ask for the structure; a name that the model does not know is answered with the nearest ones."""
        if self._card is None:
            return
        typed = self._ui.nameEdit.text
        if not typed.strip():
            raise PromptError(_("Give the name of a structure."))
        name = name_of(self._card, typed)
        self._ui.nameEdit.text = name
        self._live.setName(name)
