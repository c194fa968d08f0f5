# SPDX-License-Identifier: Apache-2.0
"""The prompt tools of the panel on the stand-in: buttons, keys, cursors, and prompts made with the mouse."""

from __future__ import annotations

import os
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from FoundationSegLib import mrml
from FoundationSegLib.errors import VolumeError
from FoundationSegLib.prompts import Box, Lasso, Point, Scribble
from scene_case import SceneTestCase, slicer

# isort: split
from FoundationSegLib.scene import prompt_nodes
from FoundationSegLib.scene.live import Event


class RecordingLive:
    """What the tools use of LiveSegmentation, on the real scene but without a model."""

    def __init__(self, segmentationNode: Any) -> None:
        self.segmentationNode = segmentationNode
        self.segmentId = mrml.addSegment(segmentationNode, "Lesion")
        self.volumeError: str = ""
        self.released: list[Any] = []
        self._positive = True
        self._observers: list[Callable[[], None]] = []

    @property
    def positive(self) -> bool:
        return self._positive

    @positive.setter
    def positive(self, positive: bool) -> None:
        self._positive = positive
        self.tell()

    def tell(self) -> None:
        for observer in list(self._observers):
            observer()

    def observe(self, event: Event, callback: Callable[[], None]) -> Callable[[], None]:
        assert event is Event.PROMPTS
        self._observers.append(callback)
        return lambda: self._observers.remove(callback)

    def promptNode(self, positive: bool) -> Any:
        if self.volumeError:
            raise VolumeError(self.volumeError)
        before = prompt_nodes.promptNodes(self.segmentationNode)
        node = prompt_nodes.pointsNode(self.segmentationNode, self.segmentId, positive)
        if node not in before:
            self.tell()
        return node

    def newPrompt(self, className: str, positive: bool) -> Any:
        if self.volumeError:
            raise VolumeError(self.volumeError)
        return prompt_nodes.newPromptNode(className, self.segmentationNode, self.segmentId, positive)

    def release(self, markupsNode: Any) -> None:
        self.released.append(markupsNode)

    def prompts(self) -> list[Any]:
        nodes = prompt_nodes.promptNodes(self.segmentationNode, self.segmentId)
        return [prompt for node in nodes for prompt in mrml.promptsFromMarkups(node)]


class PromptToolsTest(SceneTestCase):
    def setUp(self) -> None:
        super().setUp()
        import headless_slicer

        headless_slicer.start(panel=True)
        import qt
        from FoundationSegLib.panel.prompt_tools import PromptTools
        from headless_slicer.views import Layout, SliceView

        self.qt = qt
        self.volume = self.addVolume()
        self.view = SliceView()
        self.view.sliceNode.RotateToVolumePlane(self.volume)
        self.view.show(self.volume)
        self.layout = slicer.app.layout = Layout(self.view)
        self.live = RecordingLive(mrml.createSegmentation(self.volume))
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

    def show(self, picture: str) -> None:
        slicer.app.processEvents()
        folder = os.environ.get("PANEL_PICTURES")
        if folder:
            self.assertTrue(self.panel.grab().save(str(Path(folder) / f"{picture}.stand-in.png")))

    def test_every_tool_makes_signed_prompts_with_the_mouse(self) -> None:
        self.show("prompt-tools-idle")
        self.tools.ui.pointButton.click()
        self.view.click(200, 150)
        self.tools.ui.negativeButton.click()
        self.view.click(250, 150)
        self.view.click(250, 170)
        signs = [(type(prompt), prompt.positive) for prompt in self.live.prompts()]
        self.assertEqual(signs, [(Point, True), (Point, False), (Point, False)])
        self.show("prompt-tools-point-beside")
        for name, kind in (("box", Box), ("scribble", Scribble), ("lasso", Lasso)):
            getattr(self.tools.ui, f"{name}Button").click()
            self.assertEqual(self.checked(), [name, "negative"])
            self.view.drag((150, 100), (220, 100), (220, 180), (160, 180))
            prompt = self.live.prompts()[-1]
            self.assertEqual((type(prompt), prompt.positive), (kind, False))
        self.assertEqual(len(self.live.released), 3)
        self.assertEqual(len(self.live.prompts()), 6)  # the strokes have placed no point

    def test_keys_take_tools_change_the_sign_and_put_them_away(self) -> None:
        for key, tool in (("P", "point"), ("O", "box"), ("S", "scribble"), ("L", "lasso")):
            self.press(key)
            self.assertEqual((self.tools.tool, self.checked()), (tool, [tool, "positive"]))
        self.press("X")
        self.assertFalse(self.live.positive)
        self.assertEqual(self.checked(), ["lasso", "negative"])
        self.press("L")
        self.assertIsNone(self.tools.tool)
        self.press("S")
        self.view.drag((150, 100), (220, 100), release=False)
        self.press("Escape")
        self.assertEqual(self.tools.tool, "scribble")
        self.view.event("LeftButtonReleaseEvent", 220, 100)
        self.assertEqual(self.live.prompts(), [])
        self.press("Escape")
        self.assertIsNone(self.tools.tool)
        self.tools.exit()
        self.press("P")
        self.assertIsNone(self.tools.tool)

    def test_the_cursor_shows_the_sign_while_a_tool_is_in_the_hand(self) -> None:
        from FoundationSegLib.panel.prompt_icons import signCursor

        def shown() -> Any:
            slicer.app.processEvents()
            return self.view.cursor.pixmap().toImage() if self.view.cursor is not None else None

        on, beside = (signCursor(sign).pixmap().toImage() for sign in (True, False))
        self.assertNotEqual(on, beside)
        self.assertIsNone(shown())
        for tool in ("pointButton", "lassoButton"):
            getattr(self.tools.ui, tool).click()
            self.assertEqual(shown(), on)
            self.press("X")
            self.assertEqual(shown(), beside)
            self.press("X")
        self.tools.ui.lassoButton.click()
        self.assertTrue(shown().isNull())

    def test_a_view_of_another_layout_can_be_drawn_in(self) -> None:
        from headless_slicer.views import SliceView

        self.press("S")
        other = SliceView("Green", orientation="Coronal")
        self.addCleanup(other.close)
        other.show(self.volume)
        self.layout.views["Green"] = other
        self.layout.emit("layoutChanged", 3)
        slicer.app.processEvents()
        other.drag((150, 100), (220, 100), (220, 180))
        self.assertEqual([type(prompt) for prompt in self.live.prompts()], [Scribble])
        self.assertIsNotNone(other.cursor)

    def test_points_follow_the_segment_and_other_tasks_end_the_tool(self) -> None:
        self.press("P")
        first = self.live.segmentId
        self.live.segmentId = mrml.addSegment(self.live.segmentationNode, "Other")
        self.live.tell()
        self.view.click(200, 150)
        self.assertEqual(len(self.live.prompts()), 1)
        self.assertEqual(len(prompt_nodes.promptNodes(self.live.segmentationNode, first)), 1)
        # A stroke of a script's makes a node, which Slicer makes the one to place; the tool stays.
        self.live.newPrompt("vtkMRMLMarkupsROINode", True).SetSize(1, 2, 3)
        slicer.app.processEvents()
        self.assertEqual(self.tools.tool, "point")
        self.view.click(220, 150)
        self.assertEqual([type(prompt) for prompt in self.live.prompts()], [Point, Point, Box])
        self.addNode("MarkupsFiducial", "the user's own")
        slicer.app.processEvents()
        self.assertIsNone(self.tools.tool)
        self.assertEqual(self.checked(), ["positive"])
        self.press("P")
        self.scene.Clear()
        self.assertIsNone(self.tools.tool)

    def test_what_cannot_be_done_is_said(self) -> None:
        self.live.volumeError = "No volume is selected; choose one."
        self.tools.ui.pointButton.click()
        self.assertIsNone(self.tools.tool)
        self.assertEqual(self.checked(), ["positive"])
        self.assertEqual(self.tools.ui.hintLabel.text, self.live.volumeError)
        self.show("prompt-tools-error")
        self.tools.ui.scribbleButton.click()
        self.view.drag((150, 100), (220, 100))
        self.assertEqual(self.tools.ui.hintLabel.text, self.live.volumeError)
        self.live.volumeError = ""
        self.view.drag((150, 100), (151, 100))
        self.assertIn("along", self.tools.ui.hintLabel.text)
        self.assertEqual(self.live.prompts(), [])

        self.tools.setPromptKinds(("box",), "MedSAM")
        self.assertIsNone(self.tools.tool)
        self.assertFalse(self.tools.ui.scribbleButton.enabled)
        self.assertEqual(self.tools.ui.scribbleButton.toolTip, "MedSAM does not take this kind of prompt.")
        self.press("S")
        self.assertIsNone(self.tools.tool)
        self.press("O")
        self.assertEqual(self.tools.tool, "box")
        self.show("prompt-tools-box-only")

    def test_without_a_main_window_there_are_no_views_and_no_errors(self) -> None:
        from FoundationSegLib.panel.prompt_tools import PromptTools

        slicer.app.layout = None
        tools = PromptTools(self.qt.QWidget(), self.live)
        tools.enter()
        tools.setTool("scribble")
        self.assertEqual(tools.tool, "scribble")
        tools.close()


if __name__ == "__main__":
    unittest.main()
