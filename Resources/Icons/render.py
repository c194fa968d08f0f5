# SPDX-License-Identifier: Apache-2.0
"""Render the icons: each .svg given as an argument to a 128 x 128 .png beside it (needs PySide6)."""

from __future__ import annotations

import sys
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

application = QGuiApplication(["render", "-platform", "offscreen"])
for name in sys.argv[1:]:
    image = QImage(128, 128, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    QSvgRenderer(name).render(painter)
    painter.end()
    image.save(str(Path(name).with_suffix(".png")))
