# SPDX-License-Identifier: Apache-2.0
"""What the tests of the panel's parts share: a container, and pictures for a person to look at."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scene_case import SceneTestCase, slicer

TIME_LIMIT_S = 60.0


class PartTestCase(SceneTestCase):
    """Gives every test a container for one part of the panel. Outside of 3D Slicer it is a PySide6 stand-in."""

    size = (420, 200)

    def setUp(self) -> None:
        super().setUp()
        if slicer.app.applicationName == "headless stand-in":
            import headless_slicer

            headless_slicer.start(panel=True)
        self.outers: list[Any] = []  # Qt deletes what Python forgets
        self.newContainer()

    def newContainer(self) -> None:
        """As if the module had been loaded anew."""
        import qt

        self.outer = qt.QWidget()
        self.outers.append(self.outer)
        self.outer.setLayout(qt.QVBoxLayout())
        self.container = qt.QWidget()
        self.outer.layout().addWidget(self.container)
        self.outer.layout().addStretch(1)

    def show(self, picture: str) -> None:
        """Leave a picture for a person to look at; it is never compared."""
        self.outer.resize(*self.size)
        self.outer.show()
        for _ in range(4):  # labels that wrap their lines have their heights only after a while
            slicer.app.processEvents()
        folder = os.environ.get("PANEL_PICTURES")
        if folder:
            self.assertTrue(self.outer.grab().save(str(Path(folder) / f"{picture}.stand-in.png")))

    def waitFor(self, condition: Callable[[], Any], longest_gap_s: float | None = None) -> float:
        """Runs the event loop until something is so; the longest time that the loop was held up, in seconds."""
        gap, before = 0.0, time.monotonic()
        until = before + TIME_LIMIT_S
        while not condition():
            slicer.app.processEvents()
            now = time.monotonic()
            gap, before = max(gap, now - before), now
            self.assertLess(now, until, "it did not happen")
            time.sleep(0.005)
        if longest_gap_s is not None:
            self.assertLess(gap, longest_gap_s)
        return gap
