# SPDX-License-Identifier: Apache-2.0
"""Keyboard shortcuts that hold while the module is open, and are gone when another one is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

# None of them is a key of Slicer's slice views (B, F, G, R, T, V, the brackets) or of the Segment Editor (digits).
POINT, BOX, SCRIBBLE, LASSO = "P", "O", "S", "L"
OTHER_SIGN = "X"
NEW_SEGMENT = "N"
UNDO, REDO = "Ctrl+Z", "Ctrl+Y"
PUT_AWAY = "Esc"


class Shortcuts:
    """Keys for the whole main window, or for the panel's own window where there is none.

    A letter that is typed into a text field goes to the field: Qt asks the field first.
    """

    def __init__(self, panel: Any) -> None:
        self._parent = slicer.util.mainWindow() or panel.window()
        self._shortcuts: dict[str, Any] = {}
        self._enabled = False

    def add(self, key: str, slot: Callable[[], Any]) -> None:
        """Call `slot` without arguments when the key is pressed. One slot for each key."""
        shortcut = qt.QShortcut(self._parent)
        shortcut.setKey(qt.QKeySequence(key))
        shortcut.setEnabled(self._enabled)
        shortcut.connect("activated()", slot)
        self._shortcuts[key] = shortcut

    def setEnabled(self, enabled: bool) -> None:
        self._enabled = enabled
        for shortcut in self._shortcuts.values():
            shortcut.setEnabled(enabled)

    def close(self) -> None:
        """Remove them from the window, which outlives the panel when the module is reloaded."""
        for shortcut in self._shortcuts.values():
            shortcut.setEnabled(False)
            shortcut.deleteLater()
        self._shortcuts.clear()
