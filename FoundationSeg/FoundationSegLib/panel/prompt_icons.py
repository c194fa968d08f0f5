# SPDX-License-Identifier: Apache-2.0
"""Icons of the prompt tools, for light and dark panels, and the cursors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt

FOLDER = Path(__file__).resolve().parents[2] / "Resources" / "Icons" / "prompts"


def promptIcon(name: str, widget: Any) -> Any:
    """The icon "point", "box", "scribble", "lasso", "positive" or "negative" that shows on the widget's background."""
    background = widget.palette.color(qt.QPalette.Window)
    theme = "dark" if background.lightness() < 128 else "light"
    return qt.QIcon(str(FOLDER / theme / f"{name}.svg"))


def signCursor(positive: bool) -> Any:
    """A cross with a plus or a minus at its side; the hot spot is the middle of the cross."""
    pixmap = qt.QPixmap(str(FOLDER / f"cursor-{'positive' if positive else 'negative'}.png"))
    pixmap.setDevicePixelRatio(2.0)  # drawn twice as large as it is shown, for sharp screens
    return qt.QCursor(pixmap, 16, 16)
