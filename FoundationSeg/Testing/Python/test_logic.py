# SPDX-License-Identifier: Apache-2.0
"""FoundationSegLogic on a real scene: what it writes is what the engine says, whatever else happens in the scene."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from bright_predictor import bright_model
from FoundationSegLib import mrml
from FoundationSegLib.errors import Cancelled, OutputError, PromptError, VolumeError
from FoundationSegLib.predictor import CancelToken
from FoundationSegLib.scene.writer import SegmentWriter
from FoundationSegLib.session import SegmentationSession
from scene_case import MODULE_FILE, SHAPE, SceneTestCase, loadModule, obliqueMatrix, shearedTransform, slicer, vtk

FoundationSeg = loadModule()

BALL, SMALL_BALL = (10, 12, 15), (4, 4, 26)  # (k, j, i) of their centres
REQUIREMENTS = MODULE_FILE.parent / "Resources" / "requirements.txt"


def ballVoxels() -> np.ndarray:
    """Two bright balls (in voxels) in noise."""
    voxels = np.random.default_rng(4).normal(loc=-50, scale=10, size=SHAPE)
    for centre, radius in ((BALL, 6), (SMALL_BALL, 3)):
        voxels[np.linalg.norm(np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1)), axis=0) < radius] += 200
    return voxels.astype(np.int16)


class LogicTestCase(SceneTestCase):
    def setUp(self) -> None:
        super().setUp()
        model = mock.patch("FoundationSegLib.session.load_model", bright_model)
        model.start()
        self.addCleanup(model.stop)
        self.logic = FoundationSeg.FoundationSegLogic()
        self.addCleanup(self.logic.cleanup)
        self.volume = self.addVolume(voxels=ballVoxels())
        self.node = mrml.createSegmentation(self.volume)
        self.a = mrml.addSegment(self.node, "A")
        self.points = self.addPoints(self.voxelCentre(BALL, self.volume))

    def engineMask(self, *rounds: Any) -> np.ndarray:
        """What the engine makes of the same volume and prompts, without any scene."""
        session = SegmentationSession(mrml.volumeFromNode(self.volume))
        for prompts in rounds:
            session.add("expected", *prompts)
        return session.mask("expected")

    def mask(self, segmentId: str = "") -> np.ndarray:
        return mrml.segmentMask(self.node, segmentId or self.a, self.volume)

    def segment(self, *sources: Any, segmentId: str = "", **options: Any) -> Any:
        return self.logic.segment(self.volume, sources or [self.points], self.node, segmentId or self.a, **options)

    def rounds(self, segmentId: str = "") -> Any:
        return mrml.promptRounds(self.node, segmentId or self.a)

    def paint(self, mask: np.ndarray, segmentId: str = "") -> None:
        """A manual edit."""
        whole = tuple(slice(0, n) for n in SHAPE)
        self.logic._writer(self.node).commit(segmentId or self.a, self.volume, mask, whole)


class SegmentTest(LogicTestCase):
    def test_segment_is_what_the_engine_says_under_a_sheared_transform(self) -> None:
        self.addTransform(shearedTransform(), self.volume, self.points)
        avoid = self.addPoints(self.voxelCentre((2, 3, 4), self.volume))
        result = self.segment(self.points, (avoid, False))
        expected = self.engineMask((*mrml.promptsFromMarkups(self.points), *mrml.promptsFromMarkups(avoid, False)))
        self.assertGreater(int(expected.sum()), 50)
        np.testing.assert_array_equal(self.mask(), expected)
        self.assertEqual((result.segment, result.voxels), ("A", int(expected.sum())))
        self.assertEqual([p.positive for p in self.rounds()[0]], [True, False])

    def test_origin_is_stored_with_the_segment_and_names_nobody(self) -> None:
        self.volume.SetName("Doe^Jane")
        self.segment()
        origin = mrml.provenance(self.node, self.a)
        self.assertEqual(origin["model"], "compact")
        self.assertNotIn("Doe", str(origin))
        segment = self.node.GetSegmentation().GetSegment(self.a)
        for tag, value in (("AlgorithmType", "SEMIAUTOMATIC"), ("AlgorithmName", "FoundationSeg compact")):
            text = vtk.reference("")
            self.assertTrue(segment.GetTag(f"DICOM.Segment{tag}", text))
            self.assertTrue(str(text).startswith(value), str(text))

    def test_a_further_point_refines_and_the_others_are_kept(self) -> None:
        self.segment()
        self.points.AddControlPoint(self.voxelCentre((10, 12, 19), self.volume))
        self.segment()
        first, second = mrml.promptsFromMarkups(self.points)
        self.assertEqual(self.rounds(), ((first,), (second,)))
        np.testing.assert_array_equal(self.mask(), self.engineMask((first,), (second,)))

    def test_a_moved_point_starts_afresh_and_manual_edits_elsewhere_stay(self) -> None:
        self.segment()
        corner = np.zeros(SHAPE, dtype=bool)
        corner[:2, :2, :2] = True
        self.assertFalse((corner & self.mask()).any())
        self.paint(self.mask() | corner)
        first = self.engineMask(*self.rounds())
        self.points.SetNthControlPointPosition(0, self.voxelCentre(SMALL_BALL, self.volume))
        self.segment()
        moved = mrml.promptsFromMarkups(self.points)
        self.assertEqual(self.rounds(), (moved,))
        self.assertFalse((self.mask() & first).any())
        np.testing.assert_array_equal(self.mask(), self.engineMask(moved) | corner)

    def test_the_same_prompts_again_bring_the_result_back(self) -> None:
        self.segment()
        result = self.mask()
        self.paint(np.zeros(SHAPE, dtype=bool))
        self.segment()
        np.testing.assert_array_equal(self.mask(), result)
        self.assertEqual(len(self.rounds()), 1)

    def test_undo_takes_prompts_and_voxels_back_and_the_next_result_builds_on_that(self) -> None:
        self.segment()
        first = mrml.promptsFromMarkups(self.points)
        before = self.mask()
        box = self.addNode("MarkupsROI", "box")
        box.SetSize(8, 8, 8)
        box.SetCenterWorld(self.voxelCentre(BALL, self.volume))
        self.segment(self.points, box)
        self.assertEqual(len(self.rounds()), 2)
        self.logic.undo(self.node)
        self.assertEqual(self.rounds(), (first,))
        np.testing.assert_array_equal(self.mask(), before)
        self.logic.redo(self.node)
        self.assertEqual(len(self.rounds()), 2)
        self.logic.undo(self.node)
        extra = self.addPoints(self.voxelCentre((10, 12, 19), self.volume))
        self.segment(self.points, extra)
        self.assertEqual(self.rounds(), (first, mrml.promptsFromMarkups(extra)))
        np.testing.assert_array_equal(self.mask(), self.engineMask(*self.rounds()))

    def test_undo_of_the_first_result_leaves_nothing_to_build_on(self) -> None:
        self.segment()
        self.logic.undo(self.node)
        self.assertFalse(self.mask().any())
        other = self.addPoints(self.voxelCentre(SMALL_BALL, self.volume))
        self.segment(other)
        self.assertEqual(self.rounds(), (mrml.promptsFromMarkups(other),))
        np.testing.assert_array_equal(self.mask(), self.engineMask(*self.rounds()))

    def test_second_segment_leaves_the_first_alone_and_costs_no_encoder_run(self) -> None:
        self.segment()
        first = self.mask()
        (session,) = self.logic._sessions.values()
        encoded = session.cache.misses
        b = mrml.addSegment(self.node, "B")
        self.segment(segmentId=b)
        np.testing.assert_array_equal(self.mask(), first)
        np.testing.assert_array_equal(self.mask(b), first)
        self.assertEqual(list(self.logic._sessions.values()), [session])
        self.assertEqual(session.cache.misses, encoded)

    def test_saved_scene_is_continued(self) -> None:
        # Right-handed, because Slicer turns left-handed grids round on loading.
        self.volume = self.addVolume("saved", ballVoxels(), obliqueMatrix(handedness=1))
        self.node = mrml.createSegmentation(self.volume, "Saved")
        self.a = mrml.addSegment(self.node, "A")
        self.points.SetNthControlPointPositionWorld(0, self.voxelCentre(BALL, self.volume))
        self.segment()
        result = self.mask()
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrb")
            self.assertTrue(self.scene.WriteToMRB(path))
            self.scene.Clear()
            self.assertTrue(self.scene.ReadFromMRB(path))
        self.volume, self.node, self.points = (slicer.util.getNode(name) for name in ("saved", "Saved", "points"))
        np.testing.assert_array_equal(self.mask(), result)
        first = self.rounds()
        self.points.AddControlPointWorld(self.voxelCentre((10, 12, 19), self.volume))
        self.segment()
        self.assertEqual(self.rounds(), (*first, mrml.promptsFromMarkups(self.points)[1:]))
        # The grid comes back from the file with rounding in its last digit, which may turn a voxel on an edge.
        self.assertLessEqual(int((self.mask() ^ self.engineMask(*self.rounds())).sum()), 2)

    def test_damaged_tags_do_not_stand_in_the_way(self) -> None:
        self.node.GetSegmentation().GetSegment(self.a).SetTag(mrml.PROMPTS_TAG, "[{")
        with self.assertLogs(level="WARNING"):
            self.segment()
        self.assertEqual(self.rounds(), (mrml.promptsFromMarkups(self.points),))

    def test_an_open_segment_editor_gets_the_step_into_its_history(self) -> None:
        editor = mock.Mock()
        editor.segmentationNode.return_value = self.node
        with mock.patch.object(slicer.modules, "SegmentEditorWidget", SimpleNamespace(editor=editor), create=True):
            self.segment()
            editor.saveStateForUndo.assert_called_once_with()
            editor.segmentationNode.return_value = None  # it edits something else
            self.points.AddControlPointWorld(self.voxelCentre((10, 12, 19), self.volume))
            self.segment()
            editor.saveStateForUndo.assert_called_once_with()


class SessionTest(LogicTestCase):
    def test_changed_voxels_make_a_new_session(self) -> None:
        self.segment()
        (old,) = self.logic._sessions.values()
        slicer.util.updateVolumeFromArray(self.volume, ballVoxels()[::-1].copy())
        self.segment()
        (new,) = self.logic._sessions.values()
        self.assertIsNot(new, old)
        np.testing.assert_array_equal(new.volume.array, ballVoxels()[::-1])

    def test_a_moved_volume_forgets_prompts_given_at_its_old_place(self) -> None:
        self.segment()
        self.addTransform(shearedTransform(), self.volume, self.node, self.points)
        self.segment()
        self.assertEqual(self.rounds(), (mrml.promptsFromMarkups(self.points),))
        self.assertEqual(len(self.logic._sessions), 1)

    def test_sessions_go_with_their_volumes_and_the_oldest_goes_first(self) -> None:
        volumes = [self.volume] + [self.addVolume(name, ballVoxels()) for name in ("second", "third")]
        for volume in volumes:
            node = mrml.createSegmentation(volume)
            self.logic.segment(volume, [self.points], node, mrml.addSegment(node, "A"))
        self.assertEqual([key[0] for key in self.logic._sessions], [v.GetID() for v in volumes[1:]])
        self.scene.RemoveNode(volumes[2])
        self.assertEqual([key[0] for key in self.logic._sessions], [volumes[1].GetID()])

    def test_removed_segmentation_and_closed_scene_leave_nothing_behind(self) -> None:
        self.segment()
        self.scene.RemoveNode(self.node)
        self.assertEqual(self.logic._writers, {})
        self.assertEqual(self.scene.GetNumberOfNodesByClass("vtkMRMLSegmentEditorNode"), 0)
        self.node = mrml.createSegmentation(self.volume)
        self.a = mrml.addSegment(self.node, "A")
        self.segment()
        self.scene.Clear()
        self.assertEqual((self.logic._writers, self.logic._sessions), ({}, {}))


class FailureTest(LogicTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.segment()
        self.before = self.mask()
        self.points.AddControlPointWorld(self.voxelCentre((10, 12, 19), self.volume))

    def assertUnchangedAndUsable(self) -> None:
        np.testing.assert_array_equal(self.mask(), self.before)
        self.assertEqual(len(self.rounds()), 1)
        self.segment()
        np.testing.assert_array_equal(self.mask(), self.engineMask(*self.rounds()))
        self.assertEqual(len(self.rounds()), 2)

    def test_cancelled(self) -> None:
        token = CancelToken()
        token.cancel()
        with self.assertRaises(Cancelled):
            self.segment(cancel=token)
        self.assertUnchangedAndUsable()

    def test_result_that_cannot_be_written(self) -> None:
        """The engine is a round ahead of the scene then, and has to be brought back."""
        full = mock.patch.object(SegmentWriter, "_modify", side_effect=MemoryError("full"))
        with full, self.assertRaisesRegex(OutputError, "unchanged"):
            self.segment()
        self.assertUnchangedAndUsable()

    def test_no_prompt(self) -> None:
        with self.assertRaisesRegex(PromptError, "No prompt is placed"):
            self.segment(self.addPoints())
        self.assertUnchangedAndUsable()

    def test_warped_volume(self) -> None:
        self.addWarp(self.volume)
        with self.assertRaisesRegex(VolumeError, "non-linear"):
            self.segment()
        self.volume.SetAndObserveTransformNodeID(None)
        self.assertUnchangedAndUsable()

    def test_segmentation_elsewhere(self) -> None:
        self.addTransform(shearedTransform(), self.node)
        with self.assertRaisesRegex(OutputError, "different transforms"):
            self.segment()
        self.node.SetAndObserveTransformNodeID(None)
        self.assertUnchangedAndUsable()

    def test_unknown_segment(self) -> None:
        with self.assertRaisesRegex(OutputError, '"gone"'):
            self.segment(segmentId="gone")
        self.assertUnchangedAndUsable()


class SelfTest(unittest.TestCase):
    def test_the_module_s_own_test_passes_with_the_embedded_model(self) -> None:
        FoundationSeg.FoundationSegTest().runTest()


class RequirementsTest(unittest.TestCase):
    def test_every_line_is_one_bare_requirement(self) -> None:
        """slicer.packaging refuses anything else."""
        from packaging.requirements import Requirement

        lines = [line for line in REQUIREMENTS.read_text("utf-8").splitlines() if line and not line.startswith("#")]
        names = {Requirement(line).name for line in lines}
        self.assertIn("onnxruntime", names)
        self.assertFalse([line for line in lines if "==" in line])
        project = MODULE_FILE.parents[1] / "pyproject.toml"
        if project.is_file():  # in a checkout; the same packages as for pip, less what Slicer brings
            import tomllib

            declared = tomllib.loads(project.read_text("utf-8"))["project"]["dependencies"]
            # Slicer brings the first two; pictures are drawn by the command line only.
            brought = ("numpy", "SimpleITK", "matplotlib")
            self.assertEqual(sorted(lines), sorted(line for line in declared if not line.startswith(brought)))


if __name__ == "__main__":
    unittest.main()
