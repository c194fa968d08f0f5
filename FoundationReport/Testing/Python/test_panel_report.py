# SPDX-License-Identifier: Apache-2.0
"""The report panel, driven as a person does. Outside of 3D Slicer its widgets are PySide6 stand-ins."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

import slicer
from test_report_logic import FoundationReport, LogicTestCase, createSegmentation


class ReportPanelTest(LogicTestCase):
    def setUp(self) -> None:
        super().setUp()
        if slicer.app.applicationName == "headless stand-in":
            import headless_slicer

            headless_slicer.start(panel=True)
        import qt

        self.parent = slicer.qMRMLWidget()
        self.parent.setLayout(qt.QVBoxLayout())
        self.parent.setMRMLScene(slicer.mrmlScene)
        self.widget = FoundationReport.FoundationReportWidget(self.parent)
        self.widget.setup()
        self.ui = self.widget.ui

    def show(self, picture: str) -> None:
        """Leave a picture for a person to look at; it is never compared."""
        self.parent.resize(480, 640)
        self.parent.show()
        slicer.app.processEvents()
        folder = os.environ.get("PANEL_PICTURES")
        if folder:
            self.assertTrue(self.parent.grab().save(str(Path(folder) / f"{picture}.stand-in.png")))

    def test_two_choices_and_a_button_give_a_checked_draft(self) -> None:
        self.ui.volumeSelector.setCurrentNode(None)
        self.assertFalse(self.ui.draftButton.enabled)
        self.assertIn("Choose a volume", self.ui.draftButton.toolTip)
        self.ui.volumeSelector.setCurrentNode(self.volume)
        self.ui.segmentationSelector.setCurrentNode(None)
        self.assertIn("segmentation", self.ui.draftButton.toolTip)
        self.ui.segmentationSelector.setCurrentNode(self.node)
        self.assertTrue(self.ui.draftButton.enabled)
        self.assertEqual(self.ui.templateSelector.currentText, "generic")
        self.ui.draftButton.click()
        text = self.ui.reportText.toPlainText()
        self.assertTrue(text.startswith("AI-ASSISTED DRAFT"), text)
        self.assertRegex(text, r"ok s\d+ .*24 mm")
        self.show("FoundationReport")

        empty = createSegmentation(self.volume)
        self.ui.segmentationSelector.setCurrentNode(empty)
        self.ui.draftButton.click()
        self.assertIn("no segments", self.ui.statusLabel.text)


if __name__ == "__main__":
    unittest.main()
