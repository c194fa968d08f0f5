# SPDX-License-Identifier: Apache-2.0
"""The panel, driven as a person does. Outside of 3D Slicer its widgets are PySide6 stand-ins (see headless_slicer)."""

from __future__ import annotations

import os
import sys
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from bright_predictor import bright_model
from FoundationSegLib import mrml
from FoundationSegLib.errors import ModelError
from scene_case import SHAPE, SceneTestCase, loadModule, slicer

FoundationSeg = loadModule()


class PanelTest(SceneTestCase):
    def setUp(self) -> None:
        super().setUp()
        if slicer.app.applicationName == "headless stand-in":
            import headless_slicer

            headless_slicer.start(panel=True)
        import qt

        model = mock.patch("FoundationSegLib.session.load_model", bright_model)
        model.start()
        self.addCleanup(model.stop)
        self.volume = self.addVolume("CT chest")
        self.parent = slicer.qMRMLWidget()
        self.parent.setLayout(qt.QVBoxLayout())
        self.parent.setMRMLScene(slicer.mrmlScene)
        self.widget = FoundationSeg.FoundationSegWidget(self.parent)
        self.widget.setup()
        self.widget.enter()
        self.addCleanup(self.widget.cleanup)
        self.ui = self.widget.ui

    def show(self, picture: str) -> None:
        """Leave a picture for a person to look at; it is never compared."""
        self.parent.resize(420, 520)
        self.parent.show()
        slicer.app.processEvents()
        folder = os.environ.get("PANEL_PICTURES")
        if folder:
            self.assertTrue(self.parent.grab().save(str(Path(folder) / f"{picture}.stand-in.png")))

    def ready(self) -> Any:
        """Everything chosen that Apply needs."""
        points = self.addPoints(self.voxelCentre((10, 12, 15), self.volume))
        self.ui.positivePointsSelector.setCurrentNode(points)
        self.ui.segmentSelector.setEditText("Lesion")
        return points

    def test_a_fresh_panel_says_why_apply_is_off(self) -> None:
        self.show("FoundationSeg-empty")
        self.assertIs(self.ui.volumeSelector.currentNode(), self.volume)
        self.assertFalse(self.ui.applyButton.enabled)
        self.assertIn("prompt", self.ui.applyButton.toolTip)
        points = self.ui.positivePointsSelector.addNode()
        self.assertTrue(points.GetName().startswith("On"))
        self.assertIn("Name", self.ui.applyButton.toolTip)
        self.ui.segmentSelector.setEditText("Lesion")
        self.assertTrue(self.ui.applyButton.enabled)
        self.scene.RemoveNode(points)
        self.assertFalse(self.ui.applyButton.enabled)

    def test_opening_it_loads_no_model_library(self) -> None:
        heavy = {"torch", "monai", "transformers", "onnxruntime", "openvino", "SimpleITK", "scipy", "matplotlib"}
        self.assertFalse(heavy & set(sys.modules))

    def test_apply_makes_the_segment_and_reports_it(self) -> None:
        points = self.ready()
        self.ui.applyButton.click()
        parameters = self.widget.logic.getParameters()
        node = parameters.segmentation
        self.assertIs(self.ui.segmentationSelector.currentNode(), node)
        self.assertEqual(mrml.segmentNames(node), ["Lesion"])
        segmentId = mrml.segmentIdByName(node, "Lesion")
        self.assertEqual(mrml.promptRounds(node, segmentId), (mrml.promptsFromMarkups(points),))
        self.assertRegex(self.ui.statusLabel.text, r"^Lesion: \d+\.\d mL in \d+\.\d s")
        self.assertEqual(self.ui.segmentSelector.itemText(0), "Lesion")
        self.show("FoundationSeg-result")

    def test_errors_are_one_sentence_in_the_panel(self) -> None:
        self.ready().RemoveAllControlPoints()
        self.ui.applyButton.click()
        self.assertEqual(self.ui.statusLabel.text.count("."), 1)
        self.assertIn("No prompt is placed", self.ui.statusLabel.text)
        self.show("FoundationSeg-error")
        with mock.patch.object(self.widget.logic, "apply") as apply:
            apply.side_effect = ModelError("The model is damaged; install it again.")
            self.ui.applyButton.click()
            self.assertEqual(self.ui.statusLabel.text, "The model is damaged; install it again.")
            apply.side_effect = ZeroDivisionError
            with self.assertLogs(level="ERROR"):
                self.ui.applyButton.click()
        self.assertIn("application log", self.ui.statusLabel.text)

    def test_missing_package_is_named_and_nothing_is_installed_while_testing(self) -> None:
        self.ready()
        with mock.patch.object(FoundationSeg, "requirementsMet", return_value=False):
            self.widget.enter()
            self.assertFalse(self.ui.applyButton.enabled)
            self.assertIn("Install", self.ui.applyButton.toolTip)
            self.assertIn("onnxruntime", self.ui.modelLabel.text)
            self.show("FoundationSeg-missing-package")
            with mock.patch.object(FoundationSeg, "installRequirements") as install:
                self.ui.installButton.click()
                install.assert_not_called()
                self.enterContext(mock.patch.object(slicer.app, "testingEnabled", return_value=False))
                self.ui.installButton.click()
                install.assert_called_once()
                install.side_effect = RuntimeError("User declined")
                with self.assertLogs(level="ERROR"):
                    self.ui.installButton.click()
                self.assertIn("User declined", self.ui.statusLabel.text)
        self.widget.enter()
        self.assertTrue(self.ui.applyButton.enabled)

    def test_panel_follows_the_scene(self) -> None:
        node = mrml.createSegmentation(self.volume)
        mrml.addSegment(node, "Liver")
        self.ui.segmentationSelector.setCurrentNode(node)
        mrml.addSegment(node, "Spleen")
        texts = [self.ui.segmentSelector.itemText(n) for n in range(self.ui.segmentSelector.count)]
        self.assertEqual(texts, ["Liver", "Spleen"])
        node.GetSegmentation().GetNthSegment(0).SetName("Liver tumour")
        self.assertEqual(self.ui.segmentSelector.itemText(0), "Liver tumour")
        parameters = self.widget.logic.getParameters()
        parameters.segmentName = "Spleen"
        self.assertEqual(self.ui.segmentSelector.currentText, "Spleen")
        other = self.addVolume("MR")
        parameters.volume = other
        self.assertIs(self.ui.volumeSelector.currentNode(), other)

    def test_text_being_typed_survives_changes_of_the_scene(self) -> None:
        self.ui.segmentSelector.setEditText("Les")
        self.addPoints((1, 2, 3))
        self.assertEqual(self.ui.segmentSelector.currentText, "Les")

    def test_the_cursor_stays_where_text_is_typed(self) -> None:
        node = mrml.createSegmentation(self.volume)
        mrml.addSegment(node, "Liver")
        self.ui.segmentationSelector.setCurrentNode(node)
        self.ready()
        line = self.ui.segmentSelector.lineEdit()
        line.setCursorPosition(2)
        line.insert("a")
        self.assertEqual((line.text, line.cursorPosition), ("Leasion", 3))
        self.assertEqual(self.widget.logic.getParameters().segmentName, "Leasion")

    def test_closing_the_scene_empties_the_panel(self) -> None:
        self.ready()
        self.scene.Clear()
        self.assertIsNone(self.ui.volumeSelector.currentNode())
        self.assertFalse(self.ui.applyButton.enabled)
        self.assertIn("volume", self.ui.applyButton.toolTip)
        self.addVolume("next")
        self.assertEqual(self.ui.volumeSelector.currentNode().GetName(), "next")

    def test_a_panel_that_is_not_shown_leaves_a_closed_scene_alone(self) -> None:
        self.widget.exit()
        self.scene.Clear()
        self.assertFalse(self.ui.applyButton.enabled)
        self.assertIn("No scene", self.ui.applyButton.toolTip)
        self.widget.enter()
        self.assertIn("volume", self.ui.applyButton.toolTip)

    def test_selectors_offer_only_what_can_be_used(self) -> None:
        labels = self.addNode("LabelMapVolume", "labels")
        slicer.util.updateVolumeFromArray(labels, np.ones(SHAPE, dtype=np.uint8))
        self.ui.volumeSelector.setCurrentNode(labels)
        self.assertIsNot(self.widget.logic.getParameters().volume, labels)


if __name__ == "__main__":
    unittest.main()
