# SPDX-License-Identifier: Apache-2.0
"""The panel, driven as a person does. Outside of 3D Slicer its widgets are PySide6 stand-ins (see headless_slicer)."""

from __future__ import annotations

import sys
import unittest

from live_panel_case import CORNER, ON, PanelTestCase, State


class PanelTest(PanelTestCase):
    def test_opening_it_loads_no_model_library_and_starts_no_process(self) -> None:
        heavy = {"torch", "monai", "transformers", "onnxruntime", "openvino", "SimpleITK", "scipy", "matplotlib"}
        self.assertFalse(heavy & set(sys.modules))
        self.settle()
        self.assertEqual(self.live._sessions.worker.starts, 0)
        self.assertIs(self.ui.volumeSelector.currentNode(), self.volume)
        self.assertFalse(self.ui.cancelButton.enabled or self.ui.undoButton.enabled or self.ui.replayButton.enabled)
        self.show("FoundationSeg-ready")

    def test_a_click_ends_in_a_segment(self) -> None:
        self.ui.newSegmentButton.click()
        self.click(ON, settle=False)
        self.until(lambda: self.live.status.state is State.RUNNING)
        self.assertTrue(self.ui.cancelButton.enabled)
        self.show("FoundationSeg-running")
        self.assertTrue(self.ui.progressBar.visible)
        self.settle()
        self.assertGreater(self.voxels(), 1000, self.live.status)
        self.assertRegex(self.status, r"^Segment 1: \d+\.\d mL in \d+\.\d s$")
        self.assertIn("cpu", self.ui.modelLabel.text)
        self.assertEqual(self.ui.promptList.count, 1)
        self.assertIn("0.50", self.ui.qualityLabel.text)
        self.click(CORNER, positive=False)
        self.assertEqual(self.ui.promptList.count, 2)
        self.show("FoundationSeg-result")


if __name__ == "__main__":
    unittest.main()
