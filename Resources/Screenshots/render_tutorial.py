# SPDX-License-Identifier: Apache-2.0
"""Draw the pictures of the README's tutorial: the real panel code on stand-ins of Slicer's widgets, beside slice views.

    python Resources/Screenshots/render_tutorial.py        (needs the packages of the extra `test`)

Everything in the pictures was done by the module: clicks and strokes go as mouse events through Slicer's own markups
code, and the segments come from the embedded model. But no 3D Slicer was there, and each picture says so.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "FoundationSeg")]

import headless_slicer  # noqa: E402

slicer = headless_slicer.start(panel=True)

import qt  # noqa: E402
from FoundationSegLib import mrml  # noqa: E402
from FoundationSegLib.demo import demo_case  # noqa: E402
from FoundationSegLib.panel.prompt_icons import FOLDER  # noqa: E402
from FoundationSegLib.segmentation_io import read_segmentation  # noqa: E402
from headless_slicer.views import Layout, SliceView  # noqa: E402

HERE = Path(__file__).resolve().parent
PANEL_WIDTH, HEIGHT = 400, 900
AXIAL, SMALL = (640, 560), (318, 300)
CAPTION = (
    "Drawn without 3D Slicer: the module's own panel on stand-ins of Slicer's widgets, and slice views of its scene."
)
BARS = {"Red": "#f34a33", "Green": "#6eb04b", "Yellow": "#edd54c"}


class Tutorial:
    """The module with the chest CT, and what a person does with it."""

    def __init__(self) -> None:
        module = headless_slicer.load_module(ROOT / "FoundationSeg" / "FoundationSeg.py")
        self.volume = slicer.util.loadVolume(str(demo_case().volume))
        display = self.volume.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(1500, -400)
        self.views = {
            "Red": SliceView("Red", AXIAL, "Axial"),
            "Green": SliceView("Green", SMALL, "Coronal"),
            "Yellow": SliceView("Yellow", SMALL, "Sagittal"),
        }
        for view in self.views.values():
            view.show(self.volume)
        slicer.app.layout = Layout(*self.views.values())
        self.parent = slicer.qMRMLWidget()
        self.parent.setLayout(qt.QVBoxLayout())
        self.parent.setMRMLScene(slicer.mrmlScene)
        self.widget = module.FoundationSegWidget(self.parent)
        self.widget.setup()
        self.widget.enter()
        self.live = self.widget.live
        for name in ("modelSection",):
            getattr(self.widget.ui, name).collapsed = True
        self.parent.resize(PANEL_WIDTH, HEIGHT)
        self.parent.show()
        self.settle()

    def settle(self) -> None:
        """Until the result is there."""
        end = time.monotonic() + 120
        while True:
            slicer.app.processEvents()
            time.sleep(0.02)
            if not self.live.busy or time.monotonic() > end:
                break
        for _ in range(10):
            slicer.app.processEvents()

    def look(self, *ras: float) -> None:
        for view in self.views.values():
            view.sliceNode.JumpSliceByOffsetting(*ras)

    def click(self, view: str, *ras: float) -> None:
        self.views[view].click(*self.views[view].device(ras))
        self.settle()

    def drag(self, view: str, *path: tuple[float, float, float]) -> None:
        self.views[view].drag(*[self.views[view].device(ras) for ras in path])
        self.settle()

    def picture(self, name: str, pointer: tuple[str, tuple[float, float, float]] | None = None) -> None:
        """Panel and views side by side, with the tool's cursor at a position of a view."""
        self.widget.panel.showChoices()
        segmentation = self.live.segmentationNode
        if segmentation is not None:  # the views' fill is not blended here as Slicer blends it
            segmentation.GetDisplayNode().SetVisibility2DFill(False)
            segmentation.GetDisplayNode().SetSliceIntersectionThickness(3)
        panel = self.parent.grab().toImage()
        width = PANEL_WIDTH + AXIAL[0] + 12
        image = qt.QImage(width, HEIGHT + 34, qt.QImage.Format.Format_RGB32)
        image.fill(qt.QColor("#ffffff"))
        painter = qt.QPainter(image)
        painter.drawImage(0, 0, panel)
        left = PANEL_WIDTH + 8
        places = {"Red": (left, 0), "Green": (left, AXIAL[1] + 20), "Yellow": (left + SMALL[0] + 4, AXIAL[1] + 20)}
        for key, (x, y) in places.items():
            pixels = self.views[key].picture()
            rows, columns, _ = pixels.shape
            drawn = qt.QImage(pixels.tobytes(), columns, rows, 3 * columns, qt.QImage.Format.Format_RGB888)
            painter.fillRect(x, y, columns, 14, qt.QColor(BARS[key]))
            painter.drawImage(x, y + 14, drawn)
            if pointer is not None and pointer[0] == key:
                across, up = self.views[key].device(pointer[1])
                sign = "positive" if self.live.positive else "negative"
                cursor = qt.QImage(str(FOLDER / f"cursor-{sign}.png"))
                painter.drawImage(qt.QRectF(x + across - 16, y + 14 + rows - up - 16, 32, 32), cursor)
        painter.setPen(qt.QColor("#505050"))
        painter.drawText(qt.QRect(8, HEIGHT + 6, width - 16, 24), qt.Qt.AlignmentFlag.AlignLeft, CAPTION)
        painter.end()
        if not image.save(str(HERE / f"{name}.png")):
            raise SystemExit(f"{name}.png could not be written.")

    def close(self) -> None:
        self.widget.exit()
        self.widget.cleanup()
        for view in self.views.values():
            view.close()


def overlap(tutorial: Tutorial, name: str) -> float:
    """Dice overlap of the current segment with the reference segment of that name."""
    found = mrml.segmentMask(tutorial.live.segmentationNode, tutorial.live.segmentId, tutorial.volume)
    (expected,) = (r.mask for r in read_segmentation(demo_case().reference).records if r.name.lower() == name)
    return float(2 * (found & expected).sum() / (found.sum() + expected.sum()))


def lung(tutorial: Tutorial) -> None:
    middle, corner, front = (-85.0, -40.0, -150.0), (-129.0, -85.0, -260.0), (-80.0, 64.0, -210.0)
    tools = tutorial.widget.tools
    tutorial.look(*middle)
    tutorial.picture("tutorial-1-volume")

    tutorial.live.newSegment("Left lung")
    tools.setTool("point")
    tutorial.click("Red", *middle)
    print(f"one click: {overlap(tutorial, 'left lung'):.2f}")
    tutorial.picture("tutorial-2-click", ("Red", middle))

    tools.setTool("scribble")
    tutorial.drag("Green", (-85, -40, -50), (-80, -40, -100), (-85, -40, -150), (-85, -40, -220))
    print(f"and a scribble: {overlap(tutorial, 'left lung'):.2f}")
    tutorial.drag("Yellow", (-85, 30, -150), (-85, -40, -150), (-85, -100, -230))
    print(f"and another: {overlap(tutorial, 'left lung'):.2f}")
    tools.setTool("point")
    tutorial.look(*corner)
    tutorial.click("Red", *corner)
    print(f"and another click: {overlap(tutorial, 'left lung'):.2f}")
    tutorial.look(*front)
    tutorial.click("Red", *front)
    print(f"and one more: {overlap(tutorial, 'left lung'):.2f}")
    tutorial.picture("tutorial-3-refine", ("Red", front))


def main() -> None:
    tutorial = Tutorial()
    lung(tutorial)
    tutorial.close()


if __name__ == "__main__":
    main()
