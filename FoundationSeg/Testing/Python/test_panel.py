# SPDX-License-Identifier: Apache-2.0
"""The panel, driven as a person does. Outside of 3D Slicer its widgets are PySide6 stand-ins (see headless_slicer)."""

from __future__ import annotations

import sys
import time
import unittest
from typing import Any

import numpy as np
from live_panel_case import CORNER, ON, PanelTestCase, State, mock, mrml, slicer, vtk, worker_case


class PanelTest(PanelTestCase):
    def test_opening_it_loads_no_model_library_and_starts_no_process(self) -> None:
        heavy = {"torch", "monai", "transformers", "onnxruntime", "openvino", "SimpleITK", "scipy", "matplotlib"}
        self.assertFalse(heavy & set(sys.modules))
        self.settle()
        self.assertEqual(self.live._sessions.worker.starts, 0)
        self.assertIs(self.ui.volumeSelector.currentNode(), self.volume)
        self.assertFalse(self.ui.cancelButton.enabled or self.ui.undoButton.enabled or self.ui.replayButton.enabled)
        self.show("FoundationSeg-ready")

        # Selectors offer only what can be used, and another model takes the place of this one.
        labels = self.addNode("LabelMapVolume", "labels")
        slicer.util.updateVolumeFromArray(labels, np.ones((4, 4, 4), dtype=np.uint8))
        self.ui.volumeSelector.setCurrentNode(labels)
        self.assertIsNot(self.live.volumeNode, labels)
        self.widget.onModelChosen("compact", None)
        self.ui.modelSection.collapsed = False
        self.assertEqual(self.live.parameters.model, "compact")
        self.assertIn("Compact", self.ui.modelLabel.text)
        self.show("FoundationSeg-models")

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

    def test_the_panel_changes_what_the_scene_keeps(self) -> None:
        """From the widgets to the scene."""
        ui, parameters = self.ui, self.live.parameters
        other = self.addVolume("MR")
        ui.volumeSelector.setCurrentNode(other)
        self.assertIs(parameters.volume, other)
        ui.volumeSelector.setCurrentNode(self.volume)
        ui.newSegmentButton.click()
        ui.newSegmentButton.click()
        self.settle()
        ids = list(parameters.segmentation.GetSegmentation().GetSegmentIDs())
        self.assertEqual(parameters.segmentId, ids[1])
        ui.segmentsTable.setSelectedSegmentIDs([ids[0]])
        self.assertEqual(parameters.segmentId, ids[0])
        ui.segmentsTable.tableWidget().item(0, 1).setText("Left kidney")
        self.settle()
        segment = parameters.segmentation.GetSegmentation().GetSegment(ids[0])
        self.assertEqual(segment.GetName(), "Left kidney")
        self.assertIn("Kidney", self.terminology(segment))
        made = parameters.segmentation
        ui.segmentationSelector.setCurrentNode(None)
        self.assertIsNone(parameters.segmentation)
        ui.segmentationSelector.setCurrentNode(made)
        self.assertIs(parameters.segmentation, made)
        ui.autoUpdateBox.checked = False
        self.assertFalse(parameters.autoUpdate)
        ui.uncertaintyBox.checked = True
        self.assertTrue(parameters.showUncertainty)
        self.assertEqual(ui.deviceSelector.currentText, "CPU")
        ui.deviceSelector.setCurrentIndex(0)
        self.assertEqual(parameters.device, "auto")
        ui.surfaceBox.checked = True
        self.assertTrue(parameters.showSurface)
        self.assertTrue(made.GetSegmentation().ContainsRepresentation("Closed surface"))
        self.widget.tools.ui.negativeButton.click()
        self.assertFalse(parameters.positive)

    def terminology(self, segment: Any) -> str:
        text = vtk.reference("")
        return str(text) if segment.GetTag("TerminologyEntry", text) else ""

    def test_the_panel_shows_what_the_scene_keeps(self) -> None:
        """From the scene to the widgets: parameters, segments and markups are changed behind the panel's back."""
        ui, live = self.ui, self.live
        node = mrml.createSegmentation(self.volume)
        first, second = mrml.addSegment(node, "Liver"), mrml.addSegment(node, "Spleen")
        live.setSegmentation(node)
        self.settle()
        self.assertIs(ui.segmentationSelector.currentNode(), node)
        self.assertEqual(list(ui.segmentsTable.selectedSegmentIDs()), [second])
        live.selectSegment(first)
        self.assertEqual(list(ui.segmentsTable.selectedSegmentIDs()), [first])
        live.positive = False
        self.assertTrue(self.widget.tools.ui.negativeButton.checked)
        live.setDevice("auto")
        self.assertEqual(ui.deviceSelector.currentText, "Automatic")
        live.parameters.autoUpdate = False
        points = live.promptNode(True)
        points.AddControlPointWorld(self.voxelCentre(ON, self.volume))
        self.settle()
        self.assertFalse(ui.autoUpdateBox.checked)
        self.assertIn("waiting", ui.promptList.item(0).text())
        self.assertTrue(ui.updateButton.enabled)
        self.assertIn("Update", self.status)
        ui.updateButton.click()
        self.settle()
        self.assertNotIn("waiting", ui.promptList.item(0).text())
        self.assertFalse(ui.updateButton.enabled)
        ui.promptList.item(0).setSelected(True)
        self.widget.panel._deleteKey.activated.emit()
        self.settle()
        self.assertEqual(ui.promptList.count, 0)
        node.GetSegmentation().RemoveSegment(first)
        self.settle()
        self.assertEqual(list(ui.segmentsTable.selectedSegmentIDs()), [second])
        self.scene.RemoveNode(node)
        self.settle()
        self.assertIsNone(ui.segmentationSelector.currentNode())

    def test_the_application_s_settings_reach_the_worker(self) -> None:
        from FoundationSegLib.panel import worker_settings

        defaults = self.workerSettings()
        self.assertEqual(
            (defaults.python, defaults.environment, defaults.threads, defaults.memory_bytes), (None, None, None, None)
        )
        stored = self.qt.QSettings()
        stored.setValue(worker_settings.PYTHON, "/opt/python3")
        stored.setValue(worker_settings.THREADS, "3")
        stored.setValue(worker_settings.MEMORY_GB, "1.5")
        with mock.patch.object(slicer.util, "startupEnvironment", return_value={"PATH": "/usr/bin"}):
            settings = self.workerSettings()
        self.assertEqual((settings.python, settings.environment), ("/opt/python3", {"PATH": "/usr/bin"}))
        self.assertEqual((settings.threads, settings.memory_bytes), (3, 3 * 2**29))
        stored.setValue(worker_settings.PYTHON, "")
        stored.setValue(worker_settings.THREADS, "many")
        stored.setValue(worker_settings.MEMORY_GB, "-1")
        self.assertEqual(self.workerSettings(), defaults)

    def test_a_gpu_is_offered_where_there_is_one(self) -> None:
        combo = self.ui.deviceSelector
        for there, offered in ((False, ["Automatic", "CPU"]), (True, ["Automatic", "CPU", "GPU (NVIDIA)"])):
            with mock.patch("FoundationSegLib.panel.device_choice.hasGpu", return_value=there):
                self.widget.panel.showChoices()
            self.assertEqual([combo.itemText(row) for row in range(combo.count)], offered)
        combo.setCurrentIndex(2)
        self.assertEqual(self.live.parameters.device, "cuda")
        self.widget.onModelChosen("compact", None)  # another model stays where the user wants models to run
        self.assertEqual(self.live.parameters.device, "cuda")
        with mock.patch("FoundationSegLib.panel.device_choice.hasGpu", return_value=False):
            self.widget.panel.showChoices()
        self.assertEqual(combo.currentText, "GPU (none found here)")
        self.assertEqual(self.live.parameters.device, "cuda")

    def test_models_that_know_names_have_a_field_for_them(self) -> None:
        ui, live = self.ui, self.live
        self.show("FoundationSeg-names")
        self.assertFalse(ui.nameRow.visible)
        self.widget.onModelChosen("vista3d", None)
        live.setBlocked("")  # packages of the model that this place may lack
        live.parameters.autoUpdate = False
        self.assertTrue(ui.nameRow.visible)
        completer = ui.nameEdit.completer()
        completer.setCompletionPrefix("T KIDNEY")  # anywhere in a name, in any case
        found = {completer.completionModel().index(row, 0).data() for row in range(completer.completionCount())}
        self.assertEqual(found, {f"{side} kidney{kind}" for side in ("left", "right") for kind in ("", " cyst")})
        # From the widget to the scene ...
        self.assertFalse(ui.nameButton.enabled)
        ui.nameEdit.text = "Kidney, left"
        ui.nameButton.click()
        self.settle()
        self.assertEqual((live.name, ui.nameEdit.text, ui.nameButton.enabled), ("left kidney", "left kidney", False))
        self.assertEqual(mrml.segmentNames(live.segmentationNode), ["Left kidney"])
        self.assertIn("left kidney", ui.promptList.item(0).text())
        self.show("FoundationSeg-names")
        ui.nameEdit.text = "kidnee"
        ui.nameEdit.returnPressed.emit()
        self.assertIn("the nearest are: kidney", self.status)
        self.assertEqual((live.name, ui.nameEdit.text), ("left kidney", "kidnee"))
        # ... and back.
        live.setName("right kidney")
        self.settle()
        self.assertEqual(ui.nameEdit.text, "right kidney")
        live.newSegment()
        self.settle()
        self.assertEqual(ui.nameEdit.text, "")
        self.widget.onModelChosen("compact", None)
        self.assertFalse(ui.nameRow.visible)

    def test_what_a_person_could_wonder_about_is_said(self) -> None:
        ui, live, tools = self.ui, self.live, self.widget.tools
        # A removed prompt is a change, too.
        self.click(ON)
        self.click(CORNER, positive=False)
        ui.autoUpdateBox.checked = False
        self.assertFalse(ui.updateButton.enabled)
        before = self.voxels()
        ui.promptList.item(1).setSelected(True)
        ui.removePromptButton.click()
        self.settle()
        self.assertIn("press Update", self.status)
        ui.updateButton.click()
        self.settle()
        self.assertGreater(self.voxels(), before)
        self.assertFalse(ui.updateButton.enabled)
        ui.autoUpdateBox.checked = True
        # A result that cannot be seen is no riddle.
        display = live.segmentationNode.GetDisplayNode()
        display.SetSegmentVisibility(live.segmentId, False)
        self.click(CORNER, positive=False)
        self.assertIn("The segment is hidden", self.status)
        display.SetVisibility(False)
        self.click((8, 10, 10))
        self.assertIn("The segmentation is hidden", self.status)
        # A new segment begins with what it is.
        live.positive = False
        ui.newSegmentButton.click()
        self.assertTrue(live.positive and tools.ui.positiveButton.checked)
        # Nothing is said of what is gone, and no tool is handed out that has nothing to work on.
        live.segmentationNode.GetSegmentation().RemoveAllSegments()
        self.settle()
        self.assertEqual(self.status, "")
        ui.volumeSelector.setCurrentNode(None)
        for tool in ("point", "box", "scribble", "lasso"):
            tools.setTool(tool)
            self.assertEqual((tools.tool, tools.ui.hintLabel.text), (None, "Choose a volume."))

    def test_undo_redo_and_replay_have_buttons(self) -> None:
        self.click(ON)
        before = self.voxels()
        self.click(CORNER, positive=False)
        after = self.voxels()
        self.assertFalse(self.ui.redoButton.enabled)
        self.ui.undoButton.click()
        self.settle()
        self.assertEqual((self.voxels(), self.ui.promptList.count), (before, 1))
        self.ui.redoButton.click()
        self.settle()
        self.assertEqual((self.voxels(), self.ui.promptList.count), (after, 2))
        self.ui.replayButton.click()
        self.settle()
        self.assertIn("the same to the voxel", self.status)

    def test_errors_are_one_sentence_and_the_panel_goes_on(self) -> None:
        self.click((-40, 0, 0))
        self.assertIn("outside", self.status)
        self.assertNotIn("\n", self.status)
        self.assertIn("d03030", self.ui.statusLabel.styleSheet)
        self.show("FoundationSeg-error")
        self.ui.undoButton.click()
        self.settle()
        self.assertEqual(self.ui.promptList.count, 0)
        self.click(ON)
        self.assertGreater(self.voxels(), 0)
        self.ui.promptList.item(0).setSelected(True)
        self.ui.removePromptButton.click()
        self.settle()
        self.assertEqual(self.voxels(), 0)
        with mock.patch.object(self.live, "newSegment", side_effect=ZeroDivisionError), self.assertLogs(level="ERROR"):
            self.ui.newSegmentButton.click()
        self.assertIn("application log", self.status)
        with (
            mock.patch.object(self.live, "_followSegments", side_effect=ZeroDivisionError),
            self.assertLogs(level="ERROR") as log,
        ):
            self.live.newSegment()
            self.until(lambda: not self.live.busy)
            self.until(lambda: "application log" in self.status)
        self.assertEqual(len(log.records), 1)
        self.click(ON)
        self.assertGreater(self.voxels(), 0)
        self.widget.panel.setReady(False)
        self.settle()
        self.assertIn("packages", self.status)
        self.assertFalse(self.ui.newSegmentButton.enabled)
        self.widget.tools.setTool("point")
        self.assertIsNone(self.widget.tools.tool)

    def test_closing_the_scene_empties_the_panel_and_another_volume_fills_it(self) -> None:
        self.click(ON)
        self.scene.Clear()
        self.settle()
        self.assertIsNone(self.ui.volumeSelector.currentNode())
        self.assertEqual((self.ui.segmentsTable.segmentCount(), self.ui.promptList.count), (0, 0))
        self.assertFalse(self.ui.newSegmentButton.enabled)
        self.assertIn("Choose a volume", self.status)
        self.show("FoundationSeg-empty")
        self.widget.exit()
        self.volume = self.addVolume("next", worker_case.VOLUME.array, worker_case.VOLUME.ijk_to_ras)
        self.widget.enter()
        self.settle()
        self.assertIs(self.ui.volumeSelector.currentNode(), self.volume)
        self.live.setModel(self.MODEL, device="cpu")
        self.click(ON)
        self.assertGreater(self.voxels(), 0)

    def test_leaving_the_module_does_not_stop_a_prediction_and_reload_leaves_nothing_behind(self) -> None:
        import FoundationSegLib

        self.assertIsNone(slicer.util.mainWindow())
        self.click(ON, settle=False)
        self.widget.exit()
        self.settle()
        before = self.voxels()
        self.assertGreater(before, 0)
        worker = self.live._sessions.worker
        self.widget.cleanup()  # what Reload does, before it makes another widget
        self.assertTrue(worker.closed)
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode"):
            self.assertNotEqual(node.GetAttribute("ModuleName"), "FoundationSeg")
        self.newParent()
        self.widget = self.makeWidget()
        self.settle()
        self.assertEqual((self.voxels(), self.ui.promptList.count), (before, 1))
        self.click(CORNER, positive=False)
        self.assertLess(self.voxels(), before)
        self.assertTrue(FoundationSegLib.__version__)

    def test_a_view_that_comes_to_rest_is_looked_at_ahead(self) -> None:
        views = slicer.vtkMRMLSliceNode()
        views.SetLayoutName("Red")
        views = self.scene.AddNode(views)
        self.widget.exit()
        self.widget.enter()
        with mock.patch.object(self.live, "prefetch") as prefetch:
            views.JumpSlice(3.0, 2.0, 20.0)
            self.until(lambda: prefetch.called)
        np.testing.assert_allclose(prefetch.call_args.args[0][2], 20.0)
        self.live.prefetch(tuple(self.voxelCentre(ON, self.volume)))
        self.until(lambda: self.live._sessions.reading or self.live._sessions.worker.starts == 1)


class CancelTest(PanelTestCase):
    MODEL = worker_case.model_of("hang")

    def test_cancel_is_there_while_a_prediction_hangs(self) -> None:
        self.click(ON)
        before = self.voxels()
        self.click(CORNER, positive=False, settle=False)
        self.until(lambda: self.live.status.stage == "decode")
        began = time.monotonic()
        self.ui.cancelButton.click()
        self.until(lambda: self.live.status.state is State.READY)
        self.assertLess(time.monotonic() - began, 0.3)  # 200 ms, and a busy machine's beat
        self.assertIn("Cancelled", self.status)
        self.assertFalse(self.ui.cancelButton.enabled or self.ui.progressBar.visible)
        self.assertTrue(self.ui.updateButton.enabled)
        self.assertEqual(self.voxels(), before)
        self.show("FoundationSeg-cancelled")


class EmbeddedTest(PanelTestCase):
    """The model that users have, in the worker that users have."""

    MODEL = "compact"

    def test_the_event_loop_lives_while_the_embedded_model_predicts(self) -> None:
        gaps: list[float] = []
        last = [time.thread_time()]

        def beat() -> None:
            now = time.thread_time()
            gaps.append(now - last[0])
            last[0] = now

        timer = self.qt.QTimer()
        timer.setInterval(1)
        timer.connect("timeout()", beat)
        timer.start()
        self.live.newSegment("Block")
        beat()
        gaps.clear()
        self.click(ON)
        self.assertGreater(self.voxels(), 100)
        # The main thread's own time between two beats: how long others held the machine is not the panel's doing.
        self.assertLess(max(gaps), 0.1)
        self.assertGreater(len(gaps), 20)
        self.assertIn("Compact", self.ui.modelLabel.text)


if __name__ == "__main__":
    unittest.main()
