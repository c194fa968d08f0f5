# SPDX-License-Identifier: Apache-2.0
"""Write the icons of the prompt tools for light and dark panels (.svg), and the cursors (.png, needs PySide6).

The cursors are 64 x 64 pixels for a size of 32 x 32, so that they are sharp on any screen; the hot spot is the middle.
"""

from __future__ import annotations

import sys
from pathlib import Path

INKS = {"light": ("#33475b", "#d9741a"), "dark": ("#dce6f0", "#ffa94d")}
POSITIVE, NEGATIVE = "#1abf8c", "#f26b26"  # as prompt_style.py has them

# A 24 x 24 grid; {ink} draws, {mark} is the structure that is pointed at.
ICONS = {
    "point": '<circle cx="12" cy="12" r="3.4" fill="{mark}" stroke="none"/>'
    '<path d="M12 2.5 V7 M12 17 V21.5 M2.5 12 H7 M17 12 H21.5"/>',
    "box": '<path d="M8.2 12.3 C8 9.6 10.3 8 12.4 8.3 C15 8.6 16.2 10.6 15.8 12.8 C15.4 15.2 13.2 16.2 11.3 15.9 '
    'C9.4 15.6 8.3 14.2 8.2 12.3 Z" fill="{mark}" stroke="none"/>'
    '<rect x="4" y="4" width="16" height="16" rx="0.5"/>'
    '<path d="M4 4 h0.01 M20 4 h0.01 M4 20 h0.01 M20 20 h0.01" stroke-width="4.6"/>',
    "scribble": '<path d="M3 15.5 C4.5 9 7.5 7 9 9.5 C10.5 12 7.5 17.5 10.5 17.5 C13.5 17.5 13.5 8.5 16.5 8.5 '
    'C19 8.5 18.5 13.5 21 13.5" stroke="{mark}" stroke-width="3"/>'
    '<path d="M21 13.5 h0.01" stroke-width="5"/>',
    "lasso": '<path d="M8.7 10.6 C9.4 8.6 11.8 8 13.7 8.3 C15.6 8.7 16.4 10 15.8 11.5 C15.2 13 12.9 13.6 11 13.2 '
    'C9.3 12.9 8.3 11.9 8.7 10.6 Z" fill="{mark}" stroke="none"/>'
    '<ellipse cx="12.2" cy="10.5" rx="8.6" ry="6.2" stroke-dasharray="3.6 2.8"/>'
    '<path d="M6.2 15 C4.6 16.2 4.6 18 6.4 18.6 C8.2 19.2 8.4 20.6 7.4 21.8"/>',
    "positive": f'<circle cx="12" cy="12" r="9" fill="{POSITIVE}" stroke="none"/>'
    '<path d="M12 7.4 V16.6 M7.4 12 H16.6" stroke="#ffffff" stroke-width="2.8"/>',
    "negative": f'<circle cx="12" cy="12" r="9" fill="{NEGATIVE}" stroke="none"/>'
    '<path d="M7.4 12 H16.6" stroke="#ffffff" stroke-width="2.8"/>',
}
CURSORS = {
    "cursor-positive": (POSITIVE, "M24 20.4 V27.6 M20.4 24 H27.6"),
    "cursor-negative": (NEGATIVE, "M20.4 24 H27.6"),
}
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}" viewBox="0 0 {size} {size}" fill="none" '
    'stroke="{ink}" stroke-width="1.9" stroke-linecap="round" stroke-linejoin="round">\n'
)


def icon(shape: str, ink: str, mark: str) -> str:
    return HEAD.format(size=24, ink=ink) + shape.format(ink=ink, mark=mark) + "\n</svg>\n"


def cursor(color: str, sign: str) -> str:
    cross = "M16 5 V12.5 M16 19.5 V27 M5 16 H12.5 M19.5 16 H24"
    return (
        HEAD.format(size=32, ink="#000000")
        + f'<path d="{cross}" stroke-width="4"/><path d="{cross}" stroke="#ffffff" stroke-width="1.8"/>'
        + f'<circle cx="24" cy="24" r="6.6" fill="{color}" stroke="#000000" stroke-width="1"/>'
        + f'<path d="{sign}" stroke="#ffffff" stroke-width="2.4"/>\n</svg>\n'
    )


def main(folder: Path) -> None:
    from PySide6.QtCore import QByteArray, Qt
    from PySide6.QtGui import QGuiApplication, QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    for theme, (ink, mark) in INKS.items():
        (folder / theme).mkdir(parents=True, exist_ok=True)
        for name, shape in ICONS.items():
            (folder / theme / f"{name}.svg").write_text(icon(shape, ink, mark), encoding="utf-8", newline="\n")
    application = QGuiApplication(["render", "-platform", "offscreen"])
    for name, (color, sign) in CURSORS.items():
        image = QImage(64, 64, QImage.Format.Format_ARGB32)
        image.fill(Qt.GlobalColor.transparent)
        painter = QPainter(image)
        QSvgRenderer(QByteArray(cursor(color, sign).encode())).render(painter)
        painter.end()
        image.save(str(folder / f"{name}.png"))
    application.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
