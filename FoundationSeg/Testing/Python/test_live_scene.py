# SPDX-License-Identifier: Apache-2.0
"""The live segmentation when things go wrong or away: cancel, crashes, removed nodes, closed and reopened scenes."""

from __future__ import annotations

import os
import signal
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import worker_case
from live_case import CORNER, ON, LiveTestCase, slicer  # first: it completes what the scene layer needs

# isort: split
from FoundationSegLib import SegmentationSession, mrml
from FoundationSegLib.errors import FoundationSegError
from FoundationSegLib.scene.live import Event, State
from FoundationSegLib.scene.prompt_nodes import SEGMENT_ATTRIBUTE


class TroubleTestCase(LiveTestCase):
    """A first click works; a negative one sets off the trouble that the model is named after."""

    MODEL = worker_case.model_of("hang")
    OWN_WORKER = True

    def setUp(self) -> None:
        super().setUp()
        self.click(ON)
        self.before = self.mask()
        self.assertTrue(self.before.any())

    def trouble(self) -> None:
        self.click(CORNER, positive=False, settle=False)
        self.until(lambda: self.live.status.stage == "decode")

    def assertNothingLost(self) -> None:
        """The segment is as it was, and the next prompt works."""
        np.testing.assert_array_equal(self.mask(), self.before)
        self.assertEqual(len(self.rounds()), 1)
        for key, _prompt, done in self.live.prompts():
            if not done:
                self.live.removePrompt(key)
        self.settle()
        self.click((8, 12, 12))
        self.ready()
        self.assertEqual(len(self.rounds()), 2)


class CancelTest(TroubleTestCase):
    def test_cancel_gives_control_back_within_200_ms(self) -> None:
        self.trouble()
        pid = self.live._sessions.worker.pid
        began = time.monotonic()
        self.live.cancel()
        self.assertIs(self.live.status.state, State.CANCELLING)
        self.until(lambda: self.live.status.state is State.READY)
        self.assertLess(time.monotonic() - began, 0.2 + 0.1)  # a busy machine's beat comes late
        self.assertNotEqual(self.live._sessions.worker.pid, pid)
        self.assertEqual([done for _k, _p, done in self.live.prompts()], [True, False])
        self.assertIn("Cancelled", self.live.status.message)
        self.settle()  # it is not tried again by itself
        self.assertFalse(self.live.status.isError)
        self.assertNothingLost()

    def test_undo_of_the_prompt_under_way_cancels_it(self) -> None:
        self.trouble()
        self.live.undo()
        self.settle()
        self.assertEqual([done for _k, _p, done in self.live.prompts()], [True])
        self.assertNothingLost()

    def test_a_removed_prompt_ends_its_prediction(self) -> None:
        self.trouble()
        self.live.removePrompt(self.live.prompts()[-1][0])
        self.settle()
        self.assertNothingLost()

    def test_removal_of_the_segmentation(self) -> None:
        self.trouble()
        self.scene.RemoveNode(self.node)
        self.settle()
        self.assertIsNone(self.node)
        self.assertIn("removed", self.live.status.message)
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLMarkupsNode"), [])
        self.click(ON)
        self.ready()
        self.assertGreater(self.voxels(), 0)

    def test_removal_of_the_volume(self) -> None:
        self.trouble()
        self.scene.RemoveNode(self.volume)
        self.settle()
        self.assertIs(self.live.status.state, State.EMPTY)
        with self.assertRaisesRegex(FoundationSegError, "Choose a volume"):
            self.live.promptNode(True)

    def test_removal_of_the_segment(self) -> None:
        self.trouble()
        self.node.GetSegmentation().RemoveSegment(self.live.segmentId)
        self.settle()
        self.assertEqual((self.live.segmentId, self.live.prompts()), ("", []))
        self.click(ON)
        self.assertGreater(self.voxels(), 0)

    def test_a_closed_scene(self) -> None:
        self.trouble()
        self.scene.Clear()
        self.settle()
        self.assertIs(self.live.status.state, State.EMPTY)
        self.volume = self.addVolume("next", worker_case.VOLUME.array, worker_case.VOLUME.ijk_to_ras)
        self.live.setVolume(self.volume)
        self.live.setModel(self.MODEL, device="cpu")
        self.click(ON)
        self.ready()
        np.testing.assert_array_equal(self.mask(), self.before)

    def test_another_segment_does_not_stop_a_prediction(self) -> None:
        self.trouble()
        first = self.live.segmentId
        second = self.live.newSegment("Other")
        self.live.poll()
        self.assertIs(self.live.status.state, State.RUNNING)
        self.live.cancel()
        self.settle()
        self.click(ON)
        self.assertEqual(self.live.segmentId, second)
        np.testing.assert_array_equal(self.mask(first), self.before)

    def test_killed_by_the_system(self) -> None:
        self.trouble()
        os.kill(self.live._sessions.worker.pid or 0, signal.SIGKILL)
        self.settle()
        self.assertTrue(self.live.status.isError)
        self.assertIn("SIGKILL", self.live.status.message)
        self.assertNothingLost()


class CrashTest(TroubleTestCase):
    MODEL = worker_case.model_of("crash")

    def test_a_crash_of_the_worker_is_a_sentence(self) -> None:
        self.click(CORNER, positive=False)
        self.assertTrue(self.live.status.isError)
        self.assertIn("Segmentation fault", self.live.status.message)
        self.assertNothingLost()


class MemoryTest(TroubleTestCase):
    MODEL = worker_case.model_of("want_memory")

    def start(self, model: str, **changes: Any) -> Any:
        return super().start(model, memory_bytes=3 * 2**30, **changes)

    def test_too_little_memory_is_a_sentence(self) -> None:
        self.click(CORNER, positive=False)
        self.assertTrue(self.live.status.isError)
        self.assertIn("not enough memory", self.live.status.message)
        self.assertNothingLost()


class VersionTest(LiveTestCase):
    def test_a_worker_of_another_version_is_refused_and_said(self) -> None:
        self.live.close()
        script = Path(worker_case.__file__)
        self.live = self.start(self.MODEL, python=(os.fspath(Path(os.sys.executable)), os.fspath(script), "version"))
        self.click(ON)
        self.assertTrue(self.live.status.isError)
        self.assertIn("0.0.0", self.live.status.message)
        self.assertEqual(self.voxels(), 0)


class SceneTest(LiveTestCase):
    def test_a_saved_scene_goes_on_elsewhere(self) -> None:
        self.live.newSegment("Left kidney")
        self.click(ON)
        self.click(CORNER, positive=False)
        self.box((7, 9, 9), (12, 18, 15))
        curve = self.live.newPrompt("vtkMRMLMarkupsCurveNode", False)
        for kji in ((7, 9, 9), (7, 10, 10), (7, 11, 11)):
            curve.AddControlPointWorld(self.voxelCentre(kji, self.volume))
        self.live.release(curve)
        self.settle()
        before, rounds, names = self.mask(), self.rounds(), self.markups()
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "scene.mrb")
            self.assertTrue(self.scene.WriteToMRB(file, None))
            self.scene.Clear()
            self.settle()
            self.assertTrue(self.scene.ReadFromMRB(file, True))
        self.volume = slicer.util.getNode("CT")
        self.settle()
        self.assertIs(self.live.volumeNode, self.volume)
        self.assertEqual(self.node.GetSegmentation().GetSegment(self.live.segmentId).GetName(), "Left kidney")
        self.assertEqual((self.live.parameters.model, self.live.parameters.device), (self.MODEL, "cpu"))
        self.assertEqual(self.markups(), names)
        self.assertTrue(all(done for _k, _p, done in self.live.prompts()), self.live.prompts())
        self.assertEqual(self.live.state.quality, 0.5)
        np.testing.assert_array_equal(self.mask(), before)
        self.live.replay()
        self.settle()
        self.assertIn("the same to the voxel", self.live.status.message)
        self.assertEqual(self.rounds(), rounds)
        key = self.live.prompts()[-1][0]
        self.live.removePrompt(key)
        self.settle()
        self.ready()
        self.assertEqual(self.rounds(), rounds[:-1])

    def markups(self) -> list[str]:
        return sorted(node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLMarkupsNode"))

    def test_a_segment_without_its_markups_gets_them_back(self) -> None:
        self.click(ON)
        self.click(CORNER, positive=False)
        for node in self.live.promptNodes():
            node.SetAttribute(SEGMENT_ATTRIBUTE, None)
        self.live._books.clear()
        self.live._refresh()
        self.settle()
        self.assertEqual([(p.positive, done) for _k, p, done in self.live.prompts()], [(True, True), (False, True)])

    def test_two_volumes(self) -> None:
        self.click(ON)
        first, before = self.node, self.mask()
        other = self.addVolume("MR", worker_case.VOLUME.array[:, ::-1].copy(), np.diag([1.0, 1.0, 2.0, 1.0]))
        self.live.setVolume(other)
        self.assertIsNone(self.node)  # the other volume's grid is another one
        self.volume, one = other, self.volume
        self.click((10, 17, 14))
        self.ready()
        self.assertIsNot(self.node, first)
        self.assertGreater(self.voxels(), 0)
        self.live.setVolume(one)
        self.live.setSegmentation(first)
        self.settle()
        self.volume = one
        np.testing.assert_array_equal(self.mask(), before)
        self.click(CORNER, positive=False)
        self.assertEqual(len(self.rounds()), 2)

    def test_neighbours_are_kept_unless_the_segment_editor_says_otherwise(self) -> None:
        self.click(ON)
        first, before = self.live.segmentId, self.mask()
        self.live.newSegment("Other")
        self.click(ON)
        np.testing.assert_array_equal(self.mask(first), before)
        np.testing.assert_array_equal(self.mask(), before)
        editor = slicer.vtkMRMLSegmentEditorNode()
        editor.SetSingletonTag("SegmentEditor")
        editor = self.scene.AddNode(editor)
        editor.SetOverwriteMode(editor.OverwriteAllSegments)
        self.live.newSegment("Third")
        self.click(ON)
        self.assertEqual(self.voxels(first), 0)

    def test_prompts_of_other_segments_are_hidden(self) -> None:
        self.click(ON)
        first = self.live.segmentId
        (node,) = self.live.promptNodes()
        second = self.live.newSegment("Other")
        self.settle()
        self.assertFalse(node.GetDisplayNode().GetVisibility())
        self.live.selectSegment(first)
        self.settle()
        self.assertTrue(node.GetDisplayNode().GetVisibility())
        self.assertNotEqual(first, second)

    def test_the_surface_follows_at_rest_and_stays_in_view_meanwhile(self) -> None:
        self.click(ON)
        self.live.showSurface(True)
        name = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
        segment = self.node.GetSegmentation().GetSegment(self.live.segmentId)
        old = segment.GetRepresentation(name)
        self.assertGreater(old.GetNumberOfPoints(), 100)
        self.click(CORNER, positive=False, settle=False)
        self.until(lambda: len(self.rounds()) == 2)
        self.assertIs(segment.GetRepresentation(name), old)
        self.settle()
        new = segment.GetRepresentation(name)
        self.assertIsNot(new, old)
        self.assertNotEqual(new.GetNumberOfPoints(), old.GetNumberOfPoints())

    def test_uncertainty_is_a_layer_that_leaves_no_trace(self) -> None:
        composite = self.addNode("SliceComposite")
        composite.SetForegroundVolumeID(self.volume.GetID())
        composite.SetForegroundOpacity(0.25)
        self.live.showUncertainty(True)
        self.settle()
        self.assertEqual(composite.GetForegroundVolumeID(), self.volume.GetID())  # there is nothing to show yet
        self.click(ON)
        layer = self.live._overlay.layer.node
        self.assertEqual(composite.GetForegroundVolumeID(), layer.GetID())
        session = SegmentationSession(mrml.volumeFromNode(self.volume), worker_case.good("cpu"))
        region = session.replay("s", self.rounds()).region_box
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(layer), session.uncertainty("s"))
        first = np.array([part.start for part in reversed(region)] + [1])
        corner = np.zeros(3)
        layer.TransformPointToWorld(layer.GetOrigin(), corner)
        np.testing.assert_allclose(corner, (mrml.ijkToWorld(self.volume) @ first)[:3], atol=1e-9)
        self.live.showUncertainty(False)
        self.assertEqual(composite.GetForegroundVolumeID(), self.volume.GetID())
        self.assertEqual(composite.GetForegroundOpacity(), 0.25)
        nodes = (self.scene.GetNthNode(n) for n in range(self.scene.GetNumberOfNodes()))
        self.assertFalse([node.GetName() for node in nodes if "ncertainty" in (node.GetName() or "")])
        count = self.scene.GetNumberOfNodes()
        self.live.showUncertainty(True)
        self.settle()
        self.assertIsNotNone(self.live._overlay.layer.node)
        self.live.showUncertainty(False)
        self.assertEqual(self.scene.GetNumberOfNodes(), count)

    def test_observers_can_be_ended(self) -> None:
        heard: list[str] = []
        end = self.live.observe(Event.STATUS, lambda: heard.append("status"))
        self.click(ON)
        self.assertTrue(heard)
        end()
        heard.clear()
        self.click(CORNER, positive=False)
        self.assertFalse(heard)


class BadInputTest(LiveTestCase):
    def refused(self, words: str) -> None:
        self.live._refresh()
        self.settle()
        self.assertIs(self.live.status.state, State.EMPTY)
        self.assertRegex(self.live.status.message, rf"^[^\n]*{words}[^\n]*\.?\)?\.$")
        with self.assertRaises(FoundationSegError):
            self.live.promptNode(True)

    def test_volumes_that_cannot_be_used(self) -> None:
        labels = self.addNode("LabelMapVolume", "labels")
        slicer.util.updateVolumeFromArray(labels, np.ones((4, 4, 4), np.uint8))
        colour = self.addNode("VectorVolume", "colour")
        slicer.util.updateVolumeFromArray(colour, np.ones((4, 4, 4, 3), np.uint8))
        sequence = self.addNode("Sequence", "4-D")
        empty = self.addNode("ScalarVolume", "empty")
        cases: tuple[tuple[Any, str], ...] = (
            (None, "Choose a volume"),
            (labels, "label map"),
            (colour, "values per voxel"),
            (sequence, "proxy node"),
            (empty, "no voxels"),
        )
        for node, words in cases:
            with self.subTest(words):
                self.live.setVolume(node)
                self.refused(words)

    def test_a_linear_transform_is_fine_and_a_warp_is_not(self) -> None:
        self.addTransform(np.diag([1.0, 1.0, 1.0, 1.0]) + 0.1 * np.eye(4, k=1), self.volume)
        self.click(ON)
        self.ready()
        self.assertGreater(self.voxels(), 0)
        self.addWarp(self.volume)
        self.refused("non-linear transform")

    def test_segmentations_that_cannot_be_used(self) -> None:
        self.click(ON)
        node = self.node
        node.SetSelectable(False)
        self.refused("read-only")
        node.SetSelectable(True)
        other = self.addVolume("MR", worker_case.VOLUME.array[:10].copy(), np.diag([1.5, 1.0, 2.0, 1.0]))
        self.live.parameters.volume = other  # as a scene that was made elsewhere may have it
        self.refused("different voxel grids")
        self.live.parameters.volume = self.volume
        node.CreateClosedSurfaceRepresentation()
        node.SetSourceRepresentationToClosedSurface()
        self.refused("holds surfaces")

    def test_unknown_models_are_refused_with_the_names_that_there_are(self) -> None:
        with self.assertRaisesRegex(FoundationSegError, "compact"):
            self.live.setModel("nonsense")
        self.assertEqual(self.live.parameters.model, self.MODEL)

    def test_a_damaged_tag_does_not_stand_in_the_way(self) -> None:
        self.click(ON)
        segment = self.node.GetSegmentation().GetSegment(self.live.segmentId)
        with self.assertLogs(level="WARNING"):
            segment.SetTag(mrml.PROMPTS_TAG, "nonsense")
            self.settle()
        self.click(CORNER)
        self.ready()


if __name__ == "__main__":
    unittest.main()
