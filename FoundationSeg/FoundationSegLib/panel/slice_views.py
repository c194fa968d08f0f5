# SPDX-License-Identifier: Apache-2.0
"""The application's slice views: to draw in, and with a cursor that shows the sign of the next prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

from ..scene.strokes import SliceView
from .prompt_icons import signCursor


class SliceViews:
    """What `slicer.app.layoutManager()` has of slice views; nothing where there is no main window.

    `onChanged` is called when the person chose another layout, which may have made new views.
    """

    def __init__(self, onChanged: Callable[[], Any]) -> None:
        self._onChanged = onChanged
        self._marked: list[Any] = []
        self._layoutManager = slicer.app.layoutManager()
        if self._layoutManager is not None:
            self._layoutManager.connect("layoutChanged(int)", self._onLayout)

    def close(self) -> None:
        self.setCursor(None)
        if self._layoutManager is not None:
            self._layoutManager.disconnect("layoutChanged(int)", self._onLayout)
            self._layoutManager = None

    def all(self) -> list[SliceView]:
        views = self._views()
        return [SliceView(view.interactor(), view.mrmlSliceNode(), view.scheduleRender) for view in views]

    def setCursor(self, positive: bool | None) -> None:
        """Show that the next prompt is positive or negative; None gives the views back their own cursor."""
        for view in self._marked:
            self._set(view, qt.QCursor())
        self._marked = []
        if positive is not None:
            cursor = signCursor(positive)
            self._marked = self._views()
            for view in self._marked:
                self._set(view, cursor)

    def _views(self) -> list[Any]:
        manager = self._layoutManager
        if manager is None:
            return []
        widgets = (manager.sliceWidget(name) for name in manager.sliceViewNames())
        views = [widget.sliceView() for widget in widgets if widget is not None]
        return [view for view in views if view.mrmlSliceNode() is not None]

    @staticmethod
    def _set(view: Any, cursor: Any) -> None:
        # The one shown now, and the one that Slicer falls back to when the pointer leaves a markup.
        view.setViewCursor(cursor)
        view.setDefaultViewCursor(cursor)

    def _onLayout(self, layout: int = 0) -> None:
        # The new views are there only when the layout manager is done with them.
        qt.QTimer.singleShot(0, self._onChanged)
