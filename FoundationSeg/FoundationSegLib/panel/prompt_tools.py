# SPDX-License-Identifier: Apache-2.0
"""The tool buttons of the panel: points, boxes, scribbles and lassos, on the structure or beside it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..errors import FoundationSegError, PromptError
from ..scene.live import Event
from ..scene.place import PointPlacer
from ..scene.prompt_nodes import isPromptNode
from ..scene.stroke_markups import CLASS_NAMES, fillMarkups
from ..scene.strokes import Stroke, StrokeKind, StrokeTool
from . import shortcuts
from .prompt_icons import promptIcon
from .slice_views import SliceViews

UI_FILE = Path(__file__).resolve().parents[2] / "Resources" / "UI" / "PromptTools.ui"

POINT = "point"
KEYS = {
    POINT: shortcuts.POINT,
    "box": shortcuts.BOX,
    "scribble": shortcuts.SCRIBBLE,
    "lasso": shortcuts.LASSO,
}


class PromptTools(VTKObservationMixin):
    """A row of tools, two buttons for the sign, and a line that says what to do::

        tools = PromptTools(container, live)      # container: a widget, which gets a layout if it has none
        tools.enter()                             # in the widget's enter(); exit() and close() likewise
        tools.setPromptKinds(card.prompts, card.title)

    A tool stays in the hand until it is put away: with its button, with Esc, by leaving the module, or by starting to
    place something else in Slicer. Prompts go to `live` (:class:`scene.live.LiveSegmentation`) as ordinary markups.
    """

    def __init__(self, container: Any, live: Any) -> None:
        VTKObservationMixin.__init__(self)
        self._live = live
        self._tool: str | None = None
        self._following = False
        self._entered = False
        self.widget = slicer.util.loadUI(str(UI_FILE))
        if container.layout() is None:
            container.setLayout(qt.QVBoxLayout())
            container.layout().setContentsMargins(0, 0, 0, 0)
        container.layout().addWidget(self.widget)
        self.ui = slicer.util.childWidgetVariables(self.widget)

        self._strokes = StrokeTool(self._onStroke, self._refuse)
        self._placer = PointPlacer(slicer.mrmlScene, self._onPlacingEnded)
        self._views = SliceViews(self._onViewsChanged)
        self._shortcuts = shortcuts.Shortcuts(container)
        for tool, key in KEYS.items():
            self._connect(tool, key)
        self.ui.positiveButton.connect("clicked(bool)", lambda: self.setPositive(True))
        self.ui.negativeButton.connect("clicked(bool)", lambda: self.setPositive(False))
        self._shortcuts.add(shortcuts.OTHER_SIGN, lambda: self.setPositive(not self._live.positive))
        self._shortcuts.add(shortcuts.PUT_AWAY, self.onEscape)
        self._disconnect = live.observe(Event.PROMPTS, self._follow)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, lambda caller, event: self.setTool(None))
        self.setPromptKinds(None)
        self._describeSigns()
        self._show()

    # --- what the panel calls

    @property
    def tool(self) -> str | None:
        """ "point", "box", "scribble" or "lasso"; None while all are put away."""
        return self._tool

    def enter(self) -> None:
        """The module is shown: shortcuts hold."""
        self._entered = True
        self._shortcuts.setEnabled(True)
        self._showIcons()  # the person may have chosen another style meanwhile
        self._show()

    def exit(self) -> None:
        """Another module is shown: no tool is left in the hand, and no shortcut."""
        self._entered = False
        self._shortcuts.setEnabled(False)
        self.setTool(None)

    def close(self) -> None:
        """Leave nothing behind in the views, the window and the scene."""
        self.setTool(None)
        self._disconnect()
        self.removeObservers()
        self._shortcuts.close()
        self._views.close()

    def setPromptKinds(self, kinds: Collection[str] | None, model: str = "") -> None:
        """Offer only the tools whose prompts the model takes (a card's `prompts`); None offers all."""
        for tool in KEYS:
            button = self._button(tool)
            button.enabled = kinds is None or tool in kinds
            button.toolTip = (
                self._toolTip(tool)
                if button.enabled
                else _("{model} does not take this kind of prompt.").format(model=model)
            )
        if self._tool is not None and not self._button(self._tool).enabled:
            self.setTool(None)

    def toggleTool(self, tool: str) -> None:
        """What a shortcut does: take the tool, or put it away again."""
        if self._button(tool).enabled:
            self.setTool(None if self._tool == tool else tool)

    def setTool(self, tool: str | None) -> None:
        """Take a tool into the hand; None puts it away."""
        self._putAway()
        self._tool = tool
        try:
            self._take()
        except FoundationSegError as error:
            self._putAway()
            self._tool = None
            self._show()
            self._refuse(str(error))
        else:
            self._show()

    def setPositive(self, positive: bool) -> None:
        """The sign of the next prompt: on the structure, or beside it."""
        self._live.positive = positive
        self._follow()

    def onEscape(self) -> None:
        """Drop the stroke that is being drawn; where there is none, put the tool away."""
        if not self._strokes.abort():
            self.setTool(None)

    def _connect(self, tool: str, key: str) -> None:
        button = self._button(tool)
        button.connect("clicked(bool)", lambda: self.setTool(tool if button.checked else None))
        self._shortcuts.add(key, lambda: self.toggleTool(tool))

    # --- the tool in the hand

    def _take(self) -> None:
        if self._tool == POINT:
            self._placePoints()
        elif self._tool is not None:
            problem = self._live.problem()
            if problem:
                raise PromptError(problem)
            self._strokes.setViews(self._views.all())
            self._strokes.start(StrokeKind(self._tool), self._live.positive)

    def _putAway(self) -> None:
        self._strokes.stop()
        self._placer.stop()

    def _placePoints(self) -> None:
        node = self._live.promptNode(self._live.positive)
        if node is not self._placer.node:
            self._placer.start(node)

    def _follow(self) -> None:
        """The sign, or the segment that prompts go to, may be another one now."""
        if self._following:  # asking for the node of a new segment makes it, which is such an event
            return
        self._following = True
        try:
            self._strokes.positive = self._live.positive
            if self._tool == POINT:
                self._placePoints()
        except FoundationSegError as error:
            self.setTool(None)
            self._refuse(str(error))
        else:
            self._show()
        finally:
            self._following = False

    def _onStroke(self, stroke: Stroke) -> None:
        self._show()
        node = None
        try:
            node = self._live.newPrompt(CLASS_NAMES[stroke.kind], stroke.positive)
            fillMarkups(node, stroke)
            self._live.release(node)
        except FoundationSegError as error:
            self._refuse(str(error))
        except Exception:
            if node is not None:
                slicer.mrmlScene.RemoveNode(node)
            logging.exception("FoundationSeg could not make a prompt of a stroke")
            self._refuse(_("The stroke could not become a prompt; the application log has the details."))

    def _onPlacingEnded(self) -> None:
        if self._tool != POINT:
            return
        placed = slicer.mrmlScene.GetNodeByID(slicer.app.applicationLogic().GetSelectionNode().GetActivePlaceNodeID())
        if placed is not None and isPromptNode(placed) and not self._following:
            # Slicer makes every new markups node the active one, and this is a new prompt, not another task.
            qt.QTimer.singleShot(0, self._placeOn)
        elif not self._following:
            self._tool = None
            self._show()

    def _placeOn(self) -> None:
        if self._tool == POINT:
            self._follow()

    def _onViewsChanged(self) -> None:
        if self._tool is not None:
            self._strokes.setViews(self._views.all())
            self._views.setCursor(self._live.positive)

    # --- what is shown

    def _button(self, tool: str) -> Any:
        return getattr(self.ui, f"{tool}Button")

    def _show(self) -> None:
        positive = self._live.positive
        for tool in KEYS:
            _mark(self._button(tool), tool == self._tool)
        _mark(self.ui.positiveButton, positive)
        _mark(self.ui.negativeButton, not positive)
        self.ui.hintLabel.setStyleSheet("")
        self.ui.hintLabel.text = self._hint(positive)
        self._showCursor()

    def _showCursor(self) -> None:
        self._views.setCursor(self._live.positive if self._tool is not None else None)
        if self._tool == POINT:
            # Slicer sets its own cursor when place mode begins, after everybody has been told of it.
            qt.QTimer.singleShot(0, self._showPointCursor)

    def _showPointCursor(self) -> None:
        if self._tool == POINT:
            self._views.setCursor(self._live.positive)

    def _refuse(self, sentence: str) -> None:
        self.ui.hintLabel.setStyleSheet("color: #d03030;")
        self.ui.hintLabel.text = sentence

    def _hint(self, positive: bool) -> str:
        hints = {
            (None, True): _("Choose a tool, then point at the structure in a slice view."),
            (None, False): _("Choose a tool, then point at what is not the structure."),
            (POINT, True): _("Click on the structure."),
            (POINT, False): _("Click on what is not the structure."),
            ("box", True): _("Press and drag from one corner of a box around the structure to the opposite one."),
            ("box", False): _("Press and drag a box in which the structure is not."),
            ("scribble", True): _("Press and drag along the structure."),
            ("scribble", False): _("Press and drag along what is not the structure."),
            ("lasso", True): _("Press and drag around the structure; the line closes by itself."),
            ("lasso", False): _("Press and drag around a part that is not the structure."),
        }
        return hints[self._tool, positive]

    def _toolTip(self, tool: str) -> str:
        tips = {
            POINT: _("Click on the structure, or beside it, in any view"),
            "box": _("Drag a box around the structure on a slice of any orientation"),
            "scribble": _("Draw along the structure on a slice of any orientation"),
            "lasso": _("Draw around the structure on a slice of any orientation"),
        }
        return _("{tip} (key {key}; Esc puts the tool away)").format(tip=tips[tool], key=KEYS[tool])

    def _describeSigns(self) -> None:
        key = shortcuts.OTHER_SIGN
        for button, tip in (
            (self.ui.positiveButton, _("The next prompt says where the structure is")),
            (self.ui.negativeButton, _("The next prompt says where the structure is not")),
        ):
            button.toolTip = _("{tip} (key {key} changes the sign)").format(tip=tip, key=key)
        self._showIcons()

    def _showIcons(self) -> None:
        for name in (*KEYS, "positive", "negative"):
            self._button(name).setIcon(promptIcon(name, self.widget))


def _mark(button: Any, chosen: bool) -> None:
    """Show at a glance what is chosen: in dark styles a pressed button hardly differs from another."""
    button.checked = chosen
    font = button.font
    font.setBold(chosen)
    button.font = font
