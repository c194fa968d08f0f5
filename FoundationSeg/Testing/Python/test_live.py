# SPDX-License-Identifier: Apache-2.0
"""The live segmentation on a real scene with a real worker process: results follow prompts, and nothing is lost."""

from __future__ import annotations

import json
import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from live_case import (
    CORNER,
    ON,
    OUTSIDE,
    SHAPE,
    LiveTestCase,
    slicer,
    vtk,
)  # first: it completes what the scene layer needs

# isort: split
from FoundationSegLib import mrml
from FoundationSegLib.scene.live import State
from FoundationSegLib.segmentation_io import escape_tag
from FoundationSegLib.session import PROVENANCE_TAG


class PromptsTest(LiveTestCase):
    def test_a_click_makes_segmentation_segment_and_result(self) -> None:
        self.assertIsNone(self.node)
        self.click(ON)
        np.testing.assert_array_equal(self.mask(), self.engineMask())
        self.assertGreater(self.voxels(), 1000)
        self.assertEqual(len(self.rounds()), 1)
        self.assertEqual(mrml.provenance(self.node, self.live.segmentId)["model"], "compact")
        self.assertRegex(self.live.status.message, r"^Segment 1: \d+\.\d mL in \d+\.\d s$")
        self.ready()

    def test_further_clicks_are_further_rounds(self) -> None:
        self.click(ON)
        before = self.voxels()
        self.click(CORNER, positive=False)
        self.assertEqual([len(r) for r in self.rounds()], [1, 1])
        self.assertLess(self.voxels(), before)

    def test_clicks_while_one_is_predicted_are_not_lost(self) -> None:
        self.click(ON, settle=False)
        self.live.poll()
        self.assertIs(self.live.status.state, State.RUNNING)
        self.click(CORNER, positive=False)
        self.assertEqual(sum(len(r) for r in self.rounds()), 2)

    def test_a_moved_point_moves_the_result(self) -> None:
        self.click(ON)
        nodeId, pointId = self.click(CORNER, positive=False)
        before = self.voxels()
        node = self.scene.GetNodeByID(nodeId)
        node.SetNthControlPointPositionWorld(0, self.voxelCentre(OUTSIDE, self.volume))
        self.settle()
        self.assertGreater(self.voxels(), before)
        self.assertEqual([len(r) for r in self.rounds()], [1, 1])
        self.assertEqual(self.live.prompts()[1][0], (nodeId, pointId))

    def test_while_a_point_is_dragged_nothing_is_predicted(self) -> None:
        nodeId, _pointId = self.click(ON)
        node = self.scene.GetNodeByID(nodeId)
        before = self.rounds()
        node.InvokeEvent(node.PointStartInteractionEvent)
        node.SetNthControlPointPositionWorld(0, self.voxelCentre((9, 13, 13), self.volume))
        self.settle()
        self.assertEqual(self.rounds(), before)
        node.InvokeEvent(node.PointEndInteractionEvent)
        self.settle()
        self.assertNotEqual(self.rounds(), before)

    def test_removing_prompts_takes_their_effect_away(self) -> None:
        self.click(ON)
        alone = self.mask()
        key = self.click(CORNER, positive=False)
        self.live.removePrompt(key)
        self.settle()
        np.testing.assert_array_equal(self.mask(), alone)
        self.live.removePrompt(self.live.prompts()[0][0])
        self.settle()
        self.assertEqual(self.voxels(), 0)
        self.assertEqual(self.rounds(), ())
        self.assertEqual(mrml.provenance(self.node, self.live.segmentId), {})

    def test_a_box_and_a_held_curve(self) -> None:
        self.box((6, 8, 8), (13, 21, 19))
        self.assertGreater(self.voxels(), 0)
        curve = self.live.newPrompt("vtkMRMLMarkupsCurveNode", True)
        for kji in ((9, 10, 10), (10, 12, 12), (10, 14, 14)):
            curve.AddControlPointWorld(self.voxelCentre(kji, self.volume))
            self.settle()
            self.assertEqual(len(self.rounds()), 1)
        self.live.release(curve)
        self.settle()
        self.assertEqual(len(self.rounds()), 2)

    def test_without_automatic_update_it_waits_for_the_button(self) -> None:
        self.live.parameters.autoUpdate = False
        self.click(ON)
        self.assertEqual(self.voxels(), 0)
        self.assertIn("Update", self.live.status.message)
        self.live.update()
        self.settle()
        self.assertGreater(self.voxels(), 0)

    def test_the_worker_starts_as_soon_as_a_prompt_is_about_to_come(self) -> None:
        self.live.close()
        self.live = self.start(self.MODEL, idle_s=100.0)
        self.assertEqual(self.live._sessions.worker.starts, 0)
        self.live.promptNode(True)  # what taking the point tool does
        self.settle()
        self.assertEqual(self.live._sessions.worker.starts, 1)
        self.assertEqual(self.live.device, "")
        self.click(ON)
        self.assertEqual((self.live._sessions.worker.starts, self.live.device), (1, "cpu"))

    def test_a_removed_parameter_node_is_made_anew(self) -> None:
        self.click(ON)
        self.scene.RemoveNode(self.live.parameters.node)
        self.settle()
        self.assertIs(self.live.status.state, State.EMPTY)
        self.live.setVolume(self.volume)
        self.live.setModel(self.MODEL, device="cpu")
        self.click(ON)
        self.ready()

    def test_prompts_outside_are_answered_with_a_sentence(self) -> None:
        key = self.click((-40, 0, 0))
        self.assertTrue(self.live.status.isError)
        self.assertRegex(self.live.status.message, r"^[A-Z][^\n]*outside[^\n]*\.$")
        self.live.removePrompt(key)
        self.click(ON)
        self.ready()
        self.assertGreater(self.voxels(), 0)


class HistoryTest(LiveTestCase):
    def test_undo_and_redo_take_voxels_and_markups_along(self) -> None:
        self.click(ON)
        one = self.mask()
        self.click(CORNER, positive=False)
        two = self.mask()
        self.live.undo()
        self.settle()
        np.testing.assert_array_equal(self.mask(), one)
        self.assertEqual([p.positive for _k, p, _d in self.live.prompts()], [True])
        self.live.redo()
        self.settle()
        np.testing.assert_array_equal(self.mask(), two)
        self.assertEqual([(p.positive, done) for _k, p, done in self.live.prompts()], [(True, True), (False, True)])
        self.assertEqual(len(self.rounds()), 2)

    def test_undo_to_the_beginning_and_another_way_on(self) -> None:
        self.click(ON)
        self.live.undo()
        self.settle()
        self.assertEqual((self.voxels(), self.live.prompts()), (0, []))
        self.click((8, 12, 12))
        self.assertEqual(len(self.rounds()), 1)

    def test_undo_of_a_prompt_without_result_only_takes_it_away(self) -> None:
        self.click(ON)
        before, rounds = self.mask(), self.rounds()
        self.click((-40, 0, 0))
        self.live.undo()
        self.settle()
        self.assertEqual(len(self.live.prompts()), 1)
        np.testing.assert_array_equal(self.mask(), before)
        self.assertEqual(self.rounds(), rounds)

    def test_manual_paint_and_prompts_alternate_and_nothing_of_either_is_lost(self) -> None:
        self.click(ON)
        painted = self.mask()
        painted[1:3, 1:3, 1:3] = True  # far away, by hand
        painted[6, 8:10, 8:10] = False  # and a corner erased
        self.paint(painted)
        self.click(CORNER, positive=False)
        after = self.mask()
        self.assertTrue(after[1:3, 1:3, 1:3].all())
        self.assertFalse(after[6, 8:10, 8:10].any())
        self.assertLess(int(after.sum()), int(painted.sum()))
        self.assertEqual([type(r[0]).__name__ for r in self.rounds()], ["Point", "MaskPrompt", "Point"])
        self.live.undo()
        self.settle()
        np.testing.assert_array_equal(self.mask(), painted)
        self.live.undo()
        self.settle()
        self.assertFalse(self.mask()[1:3, 1:3, 1:3].any())
        self.live.redo()
        self.live.redo()
        self.settle()
        np.testing.assert_array_equal(self.mask(), after)

    def test_what_is_painted_while_the_model_is_at_work_stays(self) -> None:
        self.click(ON)
        self.click(CORNER, positive=False, settle=False)
        self.live.poll()
        self.assertIs(self.live.status.state, State.RUNNING)
        painted = self.mask()
        painted[1:3, 1:3, 1:3] = True
        painted[8, 9, 9] = not painted[8, 9, 9]
        self.paint(painted)
        self.settle()
        self.assertTrue(self.mask()[1:3, 1:3, 1:3].all())
        self.assertEqual(self.mask()[8, 9, 9], painted[8, 9, 9])
        self.assertLess(self.voxels(), int(painted.sum()))
        self.click((8, 12, 12))
        self.assertTrue(self.mask()[1:3, 1:3, 1:3].all())

    def test_a_segment_drawn_by_hand_is_refined(self) -> None:
        self.live.newSegment("Liver")
        drawn = np.zeros(SHAPE, dtype=bool)
        drawn[7:13, 9:15, 9:19] = True
        drawn[1, 1, 1] = True
        self.paint(drawn)
        self.click(ON)
        self.assertGreater(self.voxels(), int(drawn.sum()) + 50)
        self.assertTrue(self.mask()[drawn].all())
        self.assertEqual([type(r[0]).__name__ for r in self.rounds()], ["MaskPrompt", "Point"])


class EditorTest(LiveTestCase):
    """The Segment Editor is stood in for by the logic that it uses, which has its undo history."""

    def setUp(self) -> None:
        super().setUp()
        self.editor: Any = None
        self.live._history._findEditor = lambda node: self.editor

    def open(self) -> None:
        node = slicer.vtkMRMLSegmentEditorNode()
        node.SetSingletonTag("SegmentEditor")
        node = self.scene.AddNode(node)
        node.SetAndObserveSegmentationNode(self.node)
        node.SetAndObserveSourceVolumeNode(self.volume)
        node.SetSelectedSegmentID(self.live.segmentId)
        logic = slicer.vtkSlicerSegmentEditorLogic()
        logic.SetMRMLScene(self.scene)
        logic.SetSegmentEditorNode(node)
        logic.SetMaximumNumberOfUndoStates(10)
        self.logic = logic
        self.editor = SimpleNamespace(saveStateForUndo=logic.SaveStateForUndo, undo=logic.Undo, redo=logic.Redo)

    def brush(self, kji: tuple[int, int, int]) -> None:
        """A stroke of Paint, as the Segment Editor makes it."""
        self.logic.SaveStateForUndo()
        labelmap = mrml.gridGeometry(self.node)
        k, j, i = kji
        labelmap.SetExtent(i, i + 1, j, j + 1, k, k + 1)
        labelmap.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        labelmap.GetPointData().GetScalars().Fill(1)
        mode = self.logic.ModificationModeAdd
        self.logic.ModifySegmentByLabelmap(self.node, self.live.segmentId, labelmap, mode, True, False)

    def test_strokes_and_prompts_are_undone_and_redone_in_the_order_in_which_they_came(self) -> None:
        self.click(ON)
        self.open()
        states = [self.mask()]
        self.brush((1, 1, 1))
        states.append(self.mask())
        self.click(CORNER, positive=False)
        states.append(self.mask())
        self.brush((3, 3, 3))
        states.append(self.mask())
        self.settle()
        self.assertEqual(len({state.tobytes() for state in states}), 4)
        for state in states[-2::-1]:
            self.live.undo()
            self.settle()
            np.testing.assert_array_equal(self.mask(), state)
        self.assertEqual(len(self.live.prompts()), 1)
        for state in states[1:]:
            self.live.redo()
            self.settle()
            np.testing.assert_array_equal(self.mask(), state)
        self.assertEqual([done for _k, _p, done in self.live.prompts()], [True, True])
        self.editor = None  # closed: going back in the history from before would take strokes away that it never saw
        self.assertFalse(self.live.canUndo or self.live.canRedo)

    def test_the_editable_area_holds_for_prompts_too(self) -> None:
        self.click(ON)
        self.open()
        inside, before = self.live.segmentId, self.mask()
        self.live.newSegment("Within")
        editor = self.logic.GetSegmentEditorNode()
        editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
        editor.SetMaskSegmentID(inside)
        editor.SetOverwriteMode(editor.OverwriteNone)
        self.box((2, 2, 2), (18, 28, 26))
        self.assertGreater(self.voxels(), 0)
        self.assertFalse((self.mask() & ~before).any())
        np.testing.assert_array_equal(self.mask(inside), before)


class RegionTest(LiveTestCase):
    def setUp(self) -> None:
        super().setUp()
        voxels = np.random.default_rng(0).normal(0, 5, (60, 64, 64)).astype(np.float32)
        voxels[4:56, 4:60, 4:60] += 100  # larger than the first look of a model that looks at 16 voxels
        self.volume = self.addVolume("large", voxels, np.diag([1.0, 1.0, 1.0, 1.0]))
        self.live.setVolume(self.volume)

    def test_a_segment_at_the_border_of_its_region_can_grow(self) -> None:
        with mock.patch("FoundationSegLib.scene.prediction.touches_face", return_value=True):
            self.click((30, 32, 32))
        self.assertTrue(self.live.state.reachesFace)
        before = self.voxels()
        self.live.grow()
        self.settle()
        self.ready()
        self.assertGreaterEqual(self.voxels(), before)
        self.assertEqual([type(p).__name__ for p in self.rounds()[-1]], ["MaskPrompt", "Point"])
        self.assertFalse(self.live.state.reachesFace)
        self.live.undo()
        self.settle()
        self.assertEqual((self.voxels(), len(self.rounds())), (before, 1))


class ReplayTest(LiveTestCase):
    def test_replay_gives_the_same_voxels(self) -> None:
        self.click(ON)
        painted = self.mask()
        painted[1:3, 1:3, 1:3] = True
        self.paint(painted)
        self.click(CORNER, positive=False)
        before = self.mask()
        self.live.replay()
        self.settle()
        self.assertIn("the same to the voxel", self.live.status.message)
        np.testing.assert_array_equal(self.mask(), before)
        self.assertNotIn("\n", self.live.status.message)
        self.live.undo()  # nothing was changed and there is no step for it: this takes the click at the corner back
        self.settle()
        self.assertEqual(len(self.live.prompts()), 1)
        self.live.redo()
        self.settle()
        np.testing.assert_array_equal(self.mask(), before)
        self.paint(np.zeros(SHAPE, dtype=bool))
        segment = self.node.GetSegmentation().GetSegment(self.live.segmentId)
        recorded = mrml.provenance(self.node, self.live.segmentId)
        tag = json.dumps({**recorded, "volume": "other", "revision": "0.9"})
        segment.SetTag(PROVENANCE_TAG, escape_tag(tag))
        self.live.replay()
        self.settle()
        self.assertIn("undo", self.live.status.message)
        self.assertIn("another volume", self.live.status.message)
        self.assertIn("revision 0.9", self.live.status.message)
        np.testing.assert_array_equal(self.mask(), before)


if __name__ == "__main__":
    unittest.main()
