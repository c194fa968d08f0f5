# SPDX-License-Identifier: Apache-2.0
"""The prompt tools of the panel on the stand-in: buttons, keys, cursors, and prompts made with the mouse."""

from __future__ import annotations

import os
import unittest
from pathlib import Path
from typing import Any

from live_case import ON, OUTSIDE, LiveTestCase, slicer

# isort: split
from FoundationSegLib import mrml
from FoundationSegLib.prompts import Box, Lasso, Point, Scribble
from FoundationSegLib.scene import prompt_nodes
from FoundationSegLib.scene.parameters import parametersOf


class PromptToolsTest(LiveTestCase):
    """Few tests, because each runs in a process of its own."""

    def setUp(self) -> None:
        super().setUp()
        import headless_slicer

        headless_slicer.start(panel=True)
        import qt
        from FoundationSegLib.panel.prompt_tools import PromptTools
        from headless_slicer.views import Layout, SliceView

        self.qt = qt
        self.view = SliceView()
        self.view.sliceNode.RotateToVolumePlane(self.volume)
        self.view.show(self.volume)
        self.view.sliceNode.JumpSliceByOffsetting(*self.voxelCentre(ON, self.volume))
        self.layout = slicer.app.layout = Layout(self.view)
        self.panel = qt.QWidget()
        self.tools = PromptTools(self.panel, self.live)
        self.tools.enter()
        self.panel.resize(420, 150)
        self.panel.show()
        self.panel.activateWindow()
        slicer.app.processEvents()
        self.addCleanup(self.view.close)
        self.addCleanup(self.tools.close)

    def press(self, key: str) -> None:
        from PySide6.QtTest import QTest

        QTest.keyClick(self.panel, getattr(self.qt.Qt.Key, f"Key_{key}"))
        slicer.app.processEvents()

    def checked(self) -> list[str]:
        names = ("point", "box", "scribble", "lasso", "positive", "negative")
        return [name for name in names if getattr(self.tools.ui, f"{name}Button").checked]

    def prompts(self) -> list[Any]:
        nodes = self.live.promptNodes()
        return [prompt for node in nodes for prompt in mrml.promptsFromMarkups(node)]

    def clickVoxel(self, kji: tuple[int, int, int]) -> None:
        self.view.click(*self.view.device(self.voxelCentre(kji, self.volume)))

    def cursor(self) -> Any:
        slicer.app.processEvents()
        return self.view.cursor.pixmap().toImage() if self.view.cursor is not None else None

    def show(self, picture: str) -> None:
        slicer.app.processEvents()
        folder = os.environ.get("PANEL_PICTURES")
        if folder:
            self.assertTrue(self.panel.grab().save(str(Path(folder) / f"{picture}.stand-in.png")))

    def test_every_tool_makes_signed_prompts_with_the_mouse(self) -> None:
        self.show("prompt-tools-idle")
        self.tools.ui.pointButton.click()
        self.clickVoxel(ON)
        self.settle()
        before = self.voxels()
        self.assertGreater(before, 0)
        self.tools.ui.negativeButton.click()
        self.clickVoxel((ON[0], OUTSIDE[1], OUTSIDE[2]))
        self.settle()
        signs = [(type(prompt), prompt.positive) for prompt in self.prompts()]
        self.assertEqual(signs, [(Point, True), (Point, False)])
        self.show("prompt-tools-point-beside")
        drawn = (("box", Box, True), ("scribble", Scribble, False), ("lasso", Lasso, True))
        for count, (name, kind, positive) in enumerate(drawn, 3):
            getattr(self.tools.ui, f"{name}Button").click()
            self.press("X")
            self.assertEqual(self.checked(), [name, "positive" if positive else "negative"])
            path = [(180, 130), (220, 130), (220, 170), (190, 170)]
            self.view.drag(*path if positive else [(x, y + 90) for x, y in path[:2]])
            self.settle()
            self.ready()
            self.assertEqual(len(self.prompts()), count)  # the stroke has placed no point
            self.assertEqual((type(self.prompts()[-1]), self.prompts()[-1].positive), (kind, positive))
        self.assertEqual(len([prompt for round_ in self.rounds() for prompt in round_]), 5)

    def test_keys_cursor_and_icons(self) -> None:
        self.checkKeysAndCursor()
        self.checkDarkPanel()

    def checkKeysAndCursor(self) -> None:
        from FoundationSegLib.panel.prompt_icons import signCursor

        on, beside = (signCursor(sign).pixmap().toImage() for sign in (True, False))
        self.assertNotEqual(on, beside)
        self.assertIsNone(self.cursor())
        for key, tool in (("P", "point"), ("O", "box"), ("S", "scribble"), ("L", "lasso")):
            self.press(key)
            self.assertEqual((self.tools.tool, self.checked()), (tool, [tool, "positive"]))
            self.assertEqual(self.cursor(), on)
        self.press("X")
        self.assertFalse(self.live.positive)
        self.assertEqual(self.checked(), ["lasso", "negative"])
        self.assertEqual(self.cursor(), beside)
        self.press("P")
        self.assertEqual(self.cursor(), beside)
        self.press("P")
        self.assertIsNone(self.tools.tool)
        self.assertTrue(self.cursor().isNull())  # Slicer's own again
        self.press("S")
        self.view.drag((150, 100), (220, 100), release=False)
        self.press("Escape")
        self.assertEqual(self.tools.tool, "scribble")
        self.view.event("LeftButtonReleaseEvent", 220, 100)
        self.assertEqual(self.prompts(), [])
        self.press("Escape")
        self.assertIsNone(self.tools.tool)
        self.tools.exit()
        self.press("P")
        self.assertIsNone(self.tools.tool)

    def checkDarkPanel(self) -> None:
        def ink() -> int:
            """Lightness of the lightest opaque pixel of the lasso's icon, which is all outline."""
            image = self.tools.ui.lassoButton.icon.pixmap(24, 24).toImage()
            pixels = [image.pixelColor(x, y) for x in range(image.width()) for y in range(image.height())]
            return max(pixel.lightness() for pixel in pixels if pixel.alpha() == 255)

        self.assertLess(ink(), 160)
        self.addCleanup(self.qt.QApplication.setPalette, self.qt.QApplication.palette())
        self.qt.QApplication.setPalette(self.qt.QPalette(self.qt.QColor("#303030")))
        slicer.app.processEvents()
        self.tools.exit()
        self.tools.enter()
        self.assertGreater(ink(), 200)
        self.show("prompt-tools-dark")

    def test_tools_say_what_cannot_be_done_and_follow_what_changes(self) -> None:
        self.checkRefusals()
        self.checkChanges()

    def checkChanges(self) -> None:
        from FoundationSegLib.panel.prompt_tools import PromptTools
        from headless_slicer.views import SliceView

        self.press("S")
        other = SliceView("Green", orientation="Coronal")
        self.addCleanup(other.close)
        other.show(self.volume)
        self.layout.views["Green"] = other
        self.layout.emit("layoutChanged", 3)
        slicer.app.processEvents()
        other.drag((180, 130), (220, 130), (220, 170))
        self.assertEqual([type(prompt) for prompt in self.prompts()], [Scribble])
        self.assertIsNotNone(other.cursor)

        first = self.live.newSegment("First")
        self.press("P")
        self.clickVoxel(ON)
        self.live.newSegment("Second")
        slicer.app.processEvents()
        self.assertEqual(self.tools.tool, "point")
        self.clickVoxel(ON)
        self.assertEqual(len(prompt_nodes.promptNodes(self.node, first)), 1)
        self.assertEqual(len(self.prompts()), 1)
        # A script's new prompt becomes the markups node to place in Slicer; the tool stays.
        self.live.newPrompt("vtkMRMLMarkupsROINode", True).SetSize(1, 2, 3)
        slicer.app.processEvents()
        self.assertEqual(self.tools.tool, "point")
        self.clickVoxel((ON[0], ON[1], ON[2] + 1))
        self.assertEqual(sum(isinstance(prompt, Point) for prompt in self.prompts()), 2)
        self.addNode("MarkupsFiducial", "the user's own")
        slicer.app.processEvents()
        self.assertEqual((self.tools.tool, self.checked()), (None, ["positive"]))
        self.press("P")
        self.scene.Clear()
        self.assertIsNone(self.tools.tool)

        slicer.app.layout = None  # no main window: no views, and no errors
        tools = PromptTools(self.qt.QWidget(), self.live)
        tools.enter()
        self.live.setVolume(self.addVolume("next"))
        tools.setTool("scribble")
        self.assertEqual(tools.tool, "scribble")
        tools.close()

    def checkRefusals(self) -> None:
        parametersOf(self.scene).volume = None
        self.tools.ui.pointButton.click()
        self.assertEqual((self.tools.tool, self.checked()), (None, ["positive"]))
        self.assertIn("volume", self.tools.ui.hintLabel.text)
        self.show("prompt-tools-error")
        self.tools.ui.scribbleButton.click()
        self.assertEqual((self.tools.tool, self.checked()), (None, ["positive"]))
        self.assertIn("volume", self.tools.ui.hintLabel.text)
        parametersOf(self.scene).volume = self.volume
        self.tools.ui.scribbleButton.click()
        parametersOf(self.scene).volume = None  # while the tool is in the hand
        self.view.drag((150, 100), (220, 100))
        self.assertIn("volume", self.tools.ui.hintLabel.text)
        parametersOf(self.scene).volume = self.volume
        self.view.drag((150, 100), (151, 100))
        self.assertIn("along", self.tools.ui.hintLabel.text)
        self.assertEqual(self.prompts(), [])

        self.tools.setPromptKinds(("box",), "MedSAM")
        self.assertIsNone(self.tools.tool)
        self.assertFalse(self.tools.ui.scribbleButton.enabled)
        self.assertEqual(self.tools.ui.scribbleButton.toolTip, "MedSAM does not take this kind of prompt.")
        self.press("S")
        self.assertIsNone(self.tools.tool)
        self.press("O")
        self.assertEqual(self.tools.tool, "box")
        self.show("prompt-tools-box-only")
        self.tools.setPromptKinds(None)
        self.tools.setTool(None)


if __name__ == "__main__":
    unittest.main()
