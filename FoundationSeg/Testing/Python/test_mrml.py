# SPDX-License-Identifier: Apache-2.0
"""The scene layer on real MRML nodes: geometry, prompts, and commits that obey the Segment Editor's settings."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import vtk
from FoundationSegLib import mrml
from FoundationSegLib.errors import OutputError, PromptError, VolumeError
from FoundationSegLib.prompts import Box, Lasso, Point, Scribble, rounds_to_list
from FoundationSegLib.scene.writer import SegmentWriter
from scene_case import SHAPE, SceneTestCase, apply, matrix, obliqueMatrix, shearedTransform, slicer


def boxOf(*bounds: int) -> tuple[slice, slice, slice]:
    k0, k1, j0, j1, i0, i1 = bounds
    return slice(k0, k1), slice(j0, j1), slice(i0, i1)


def filled(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    for box in boxes:
        mask[box] = True
    return mask


WHOLE = boxOf(0, 20, 0, 24, 0, 30)


class VolumeFromNodeTest(SceneTestCase):
    def test_oblique_geometry_and_voxels_are_exact(self) -> None:
        node = self.addVolume()
        volume = mrml.volumeFromNode(node)
        np.testing.assert_array_equal(volume.array, slicer.util.arrayFromVolume(node))
        np.testing.assert_allclose(volume.ijk_to_ras, obliqueMatrix(), atol=1e-12)
        self.assertIsNone(volume.modality)

    def test_sheared_parent_transforms_apply_in_order(self) -> None:
        node = self.addVolume()
        inner = self.addTransform(shearedTransform(), node)
        outer = np.diag((1.0, -2.0, 0.5, 1.0))
        self.addTransform(outer, inner)
        np.testing.assert_allclose(mrml.volumeFromNode(node).ijk_to_ras, outer @ shearedTransform() @ obliqueMatrix())

    def test_later_changes_of_the_node_do_not_reach_the_volume(self) -> None:
        node = self.addVolume()
        volume = mrml.volumeFromNode(node)
        before = volume.array.copy()
        slicer.util.arrayFromVolume(node)[:] = 0
        np.testing.assert_array_equal(volume.array, before)

    def test_modality_comes_from_the_subject_hierarchy(self) -> None:
        node = self.addVolume()
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
        hierarchy.SetItemAttribute(item, "DICOM.Modality", "CT")
        self.assertEqual(mrml.volumeFromNode(node).modality, "CT")

    def test_unusable_nodes_are_refused_with_their_name(self) -> None:
        warped = self.addVolume("warped")
        self.addWarp(warped)
        vector = self.addNode("VectorVolume", "colour")
        slicer.util.updateVolumeFromArray(vector, np.zeros((4, 5, 6, 3), dtype=np.uint8))
        labels = self.addNode("LabelMapVolume", "labels")
        slicer.util.updateVolumeFromArray(labels, np.eye(5, dtype=np.uint8).repeat(4).reshape(5, 5, 4))
        shifted = self.addVolume("shifted")
        shifted.GetImageData().SetExtent(2, 31, 0, 23, 0, 19)
        cases = {
            "non-linear": warped,
            "3 values per voxel": vector,
            "label map": labels,
            "no voxels": self.addNode("ScalarVolume", "empty"),
            "not a scalar volume": self.addNode("LinearTransform", "moved"),
            "start at 0": shifted,
        }
        for reason, node in cases.items():
            with self.subTest(reason), self.assertRaisesRegex(VolumeError, reason) as caught:
                mrml.volumeFromNode(node)
            self.assertIn(f'"{node.GetName()}"', str(caught.exception))
        with self.assertRaisesRegex(VolumeError, "No volume is selected"):
            mrml.volumeFromNode(None)


class PromptsFromMarkupsTest(SceneTestCase):
    def test_points_take_their_sign_from_the_description_or_the_node(self) -> None:
        node = self.addPoints((1, 2, 3), (4, 5, 6), (7, 8, 9), descriptions={1: " Negative", 2: "positive"})
        self.assertEqual([p.positive for p in mrml.promptsFromMarkups(node)], [True, False, True])
        self.assertEqual([p.positive for p in mrml.promptsFromMarkups(node, positive=False)], [False, False, True])

    def test_a_sign_kept_with_the_node_holds_for_every_kind_of_prompt(self) -> None:
        curve = self.addNode("MarkupsCurve", "curve")
        for position in ((0, 0, 0), (1, 0, 0), (2, 1, 0)):
            curve.AddControlPointWorld(vtk.vtkVector3d(*position))
        points = self.addPoints((1, 2, 3), (4, 5, 6), descriptions={1: "positive"})
        for node in (curve, points):
            self.assertIsNone(mrml.promptSign(node))
            mrml.setPromptSign(node, False)
            self.assertIs(mrml.promptSign(node), False)
        self.assertFalse(mrml.promptsFromMarkups(curve, positive=True)[0].positive)
        self.assertEqual([p.positive for p in mrml.promptsFromMarkups(points)], [False, True])

    def test_points_are_in_world_coordinates_even_under_a_warp(self) -> None:
        node = self.addPoints((1, 2, 3))
        self.addTransform(shearedTransform(), node)
        np.testing.assert_allclose(mrml.promptsFromMarkups(node)[0].ras, apply(shearedTransform(), (1, 2, 3)))
        self.addWarp(node)
        np.testing.assert_allclose(mrml.promptsFromMarkups(node)[0].ras, node.GetNthControlPointPositionWorld(0))

    def test_points_that_are_not_placed_are_left_out(self) -> None:
        node = self.addPoints((1, 2, 3), (4, 5, 6))
        node.SetNthControlPointPositionMissing(0)
        self.assertEqual(mrml.promptsFromMarkups(node), (Point(ras=(4.0, 5.0, 6.0)),))

    def test_rotated_roi_under_a_sheared_transform_is_the_displayed_box(self) -> None:
        node = self.addNode("MarkupsROI", "roi")
        node.SetSize(10, 20, 30)
        pose = np.eye(4)
        pose[:3, :3] = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
        pose[:3, 3] = (3, -4, 5)
        node.SetAndObserveObjectToNodeMatrix(matrix(pose))
        for transform in (None, shearedTransform()):
            if transform is not None:
                self.addTransform(transform, node)
            (box,) = mrml.promptsFromMarkups(node)
            self.assertIsInstance(box, Box)
            axes = np.asarray(box.axes)
            np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
            # The drawn box, not IsPointInROIWorld, which forgets the scale of a parent transform.
            drawn = node.CreateROIBoxPolyDataWorld()
            corners = np.array([drawn.GetPoint(n) for n in range(drawn.GetNumberOfPoints())]) @ axes.T
            np.testing.assert_allclose(corners.min(axis=0), box.ras_min, atol=1e-4)
            np.testing.assert_allclose(corners.max(axis=0), box.ras_max, atol=1e-4)

    def test_open_curve_is_a_scribble_along_the_curve(self) -> None:
        node = self.addNode("MarkupsCurve", "stroke")
        for point in ((0, 0, 0), (10, 0, 0), (10, 10, 0)):
            node.AddControlPointWorld(*point)
        self.addTransform(shearedTransform(), node)
        (scribble,) = mrml.promptsFromMarkups(node)
        self.assertIsInstance(scribble, Scribble)
        self.assertGreater(len(scribble.points), 10)
        np.testing.assert_allclose(scribble.points[0], apply(shearedTransform(), (0, 0, 0)), atol=1e-5)
        np.testing.assert_allclose(scribble.points[-1], apply(shearedTransform(), (10, 10, 0)), atol=1e-5)

    def test_closed_curve_is_a_lasso_that_names_no_point_twice(self) -> None:
        node = self.addNode("MarkupsClosedCurve", "outline")
        for point in ((0, 0, 0), (10, 0, 0), (10, 10, 0), (0, 10, 0)):
            node.AddControlPointWorld(*point)
        (lasso,) = mrml.promptsFromMarkups(node, positive=False)
        self.assertIsInstance(lasso, Lasso)
        self.assertFalse(lasso.positive)
        self.assertEqual(len(set(lasso.points)), len(lasso.points))

    def test_what_is_no_prompt_is_refused_with_its_name(self) -> None:
        empty = self.addNode("MarkupsROI", "no box")
        short = self.addNode("MarkupsClosedCurve", "two points")
        short.AddControlPointWorld(0, 0, 0)
        short.AddControlPointWorld(1, 0, 0)
        plane = self.addNode("MarkupsPlane", "plane")
        for reason, node in {"no extent": empty, "needs 3": short, "cannot be": plane}.items():
            with self.subTest(reason), self.assertRaisesRegex(PromptError, reason) as caught:
                mrml.promptsFromMarkups(node)
            self.assertIn(f'"{node.GetName()}"', str(caught.exception))


TAGS = {mrml.PROVENANCE_TAG: json.dumps({"model": "compact"})}


class CommitTest(SceneTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.volume = self.addVolume()
        self.node = mrml.createSegmentation(self.volume)
        self.a = mrml.addSegment(self.node, "A")
        self.b = mrml.addSegment(self.node, "B")
        self.writer = SegmentWriter(self.node)

    def mask(self, segmentId: str) -> np.ndarray:
        return mrml.segmentMask(self.node, segmentId, self.volume)

    def commit(self, segmentId: str, mask: np.ndarray, box: Any = WHOLE, **options: Any) -> None:
        self.writer.commit(segmentId, self.volume, mask, box, **options)

    def userEditor(self, overwrite: str = "OverwriteNone", segmentation: Any = None) -> Any:
        """The node that the Segment Editor module keeps its settings in."""
        node = slicer.vtkMRMLSegmentEditorNode()
        node.SetSingletonTag("SegmentEditor")
        node = self.scene.AddNode(node)
        node.SetAndObserveSegmentationNode(segmentation or self.node)
        node.SetOverwriteMode(getattr(node, overwrite))
        return node

    def assertMask(self, segmentId: str, expected: np.ndarray) -> None:
        np.testing.assert_array_equal(self.mask(segmentId), expected)

    def test_voxels_land_where_they_belong_in_the_world(self) -> None:
        """Read back through Slicer's own export, which knows nothing of how they were written."""
        self.addTransform(shearedTransform(), self.volume)
        mask = np.random.default_rng(2).random(SHAPE) < 0.3
        self.commit(self.a, mask)
        self.assertIs(self.node.GetParentTransformNode(), self.volume.GetParentTransformNode())
        labels = self.addNode("LabelMapVolume")
        export = slicer.vtkSlicerSegmentationsModuleLogic.ExportVisibleSegmentsToLabelmapNode
        self.assertTrue(export(self.node, labels, self.volume))
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(labels) > 0, mask)

    def test_result_replaces_voxels_in_the_box_and_keeps_manual_edits_outside(self) -> None:
        inside, outside = boxOf(2, 8, 3, 9, 4, 12), boxOf(12, 15, 10, 15, 20, 25)
        self.commit(self.a, filled(inside, outside))
        result = filled(boxOf(5, 10, 6, 12, 8, 15))
        self.commit(self.a, result, boxOf(2, 10, 3, 12, 4, 15))
        self.assertMask(self.a, result | filled(outside))

    def test_result_may_remove_everything(self) -> None:
        self.commit(self.a, filled(boxOf(2, 8, 3, 9, 4, 12)))
        self.commit(self.a, filled())
        self.assertMask(self.a, filled())

    def test_without_a_segment_editor_nothing_is_overwritten(self) -> None:
        first, second = filled(boxOf(2, 8, 3, 9, 4, 12)), filled(boxOf(5, 10, 6, 12, 8, 15))
        self.commit(self.a, first)
        self.commit(self.b, second)
        self.assertMask(self.a, first)
        self.assertMask(self.b, second)

    def test_overwrite_mode_of_the_segment_editor_decides_about_neighbours(self) -> None:
        first, second = filled(boxOf(2, 8, 3, 9, 4, 12)), filled(boxOf(5, 10, 6, 12, 8, 15))
        for mode, left in {"OverwriteAllSegments": first & ~second, "OverwriteNone": first}.items():
            with self.subTest(mode):
                self.userEditor(mode)
                self.commit(self.a, first)
                self.commit(self.b, second)
                self.assertMask(self.a, left)
                self.assertMask(self.b, second)
                self.commit(self.b, filled())

    def test_overwriting_visible_segments_spares_hidden_ones(self) -> None:
        first, second = filled(boxOf(2, 8, 3, 9, 4, 12)), filled(boxOf(5, 10, 6, 12, 8, 15))
        self.commit(self.a, first)
        self.userEditor("OverwriteVisibleSegments")
        self.node.GetDisplayNode().SetSegmentVisibility(self.a, False)
        self.commit(self.b, second)
        self.assertMask(self.a, first)

    def test_editable_area_inside_a_segment(self) -> None:
        liver, lesion = filled(boxOf(2, 12, 3, 15, 4, 18)), filled(boxOf(8, 16, 8, 12, 8, 12))
        self.commit(self.a, liver)
        user = self.userEditor("OverwriteAllSegments")
        user.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
        user.SetMaskSegmentID(self.a)
        self.commit(self.b, lesion)
        self.assertMask(self.b, lesion & liver)
        self.assertMask(self.a, liver & ~lesion)
        # What a correction takes away from the lesion goes back to the liver, as with Erase.
        smaller = filled(boxOf(8, 11, 8, 12, 8, 12))
        self.commit(self.b, smaller)
        self.assertMask(self.b, smaller & liver)
        self.assertMask(self.a, liver & ~smaller)

    def test_editable_area_outside_other_segments(self) -> None:
        first, second = filled(boxOf(2, 8, 3, 9, 4, 12)), filled(boxOf(5, 10, 6, 12, 8, 15))
        self.commit(self.a, first)
        user = self.userEditor("OverwriteAllSegments")
        user.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
        self.commit(self.b, second)
        self.assertMask(self.a, first)
        self.assertMask(self.b, second & ~first)
        # The segment's own voxels are no obstacle.
        smaller = filled(boxOf(7, 10, 6, 12, 8, 15))
        self.commit(self.b, smaller)
        self.assertMask(self.b, smaller & ~first)

    def test_segments_of_another_node_do_not_limit_the_editable_area(self) -> None:
        other = mrml.createSegmentation(self.volume)
        user = self.userEditor(segmentation=other)
        user.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideAllSegments)
        mask = filled(boxOf(2, 8, 3, 9, 4, 12))
        self.commit(self.a, mask)
        self.assertMask(self.a, mask)

    def test_editable_intensity_range(self) -> None:
        self.addTransform(shearedTransform(), self.volume)
        user = self.userEditor()
        user.SourceVolumeIntensityMaskOn()
        user.SetSourceVolumeIntensityMaskRange(-200, 300)
        voxels = slicer.util.arrayFromVolume(self.volume)
        editable = (voxels >= -200) & (voxels <= 300)
        mask = filled(boxOf(2, 12, 3, 15, 4, 18))
        self.commit(self.a, mask)
        self.assertMask(self.a, mask & editable)
        self.assertGreater(int((mask & ~editable).sum()), 100)

    def test_undo_and_redo_walk_through_results_and_manual_edits_in_one_history(self) -> None:
        """The history is the Segment Editor's own, stood in for by the logic that it uses for a manual edit."""
        editor = slicer.vtkSlicerSegmentEditorLogic()
        editor.SetMRMLScene(self.scene)
        editor.SetSegmentEditorNode(self.userEditor())
        manual, result = boxOf(2, 5, 3, 9, 4, 12), boxOf(10, 15, 6, 12, 8, 15)

        editor.SaveStateForUndo()
        brush = mrml.gridGeometry(self.node)
        brush.SetExtent(4, 11, 3, 8, 2, 4)
        brush.AllocateScalars(3, 1)
        brush.GetPointData().GetScalars().Fill(1)
        editor.ModifySegmentByLabelmap(self.node, self.a, brush, editor.ModificationModeAdd, True, False)
        self.assertMask(self.a, filled(manual))
        self.commit(self.a, filled(result), result, saveStateForUndo=editor.SaveStateForUndo, tags=TAGS)
        self.assertMask(self.a, filled(manual, result))

        editor.Undo()
        self.assertMask(self.a, filled(manual))
        self.assertEqual(mrml.provenance(self.node, self.a), {})
        editor.Undo()
        self.assertMask(self.a, filled())
        editor.Redo()
        editor.Redo()
        self.assertMask(self.a, filled(manual, result))
        self.assertEqual(mrml.provenance(self.node, self.a), {"model": "compact"})

    def test_own_history_serves_scripts(self) -> None:
        first, second = filled(boxOf(2, 8, 3, 9, 4, 12)), filled(boxOf(5, 10, 6, 12, 8, 15))
        self.commit(self.a, first)
        self.commit(self.b, second)
        self.writer.undo()
        self.assertMask(self.b, filled())
        self.writer.undo()
        self.assertMask(self.a, filled())
        self.writer.redo()
        self.assertMask(self.a, first)

    def test_a_failure_leaves_everything_as_it_was(self) -> None:
        first = filled(boxOf(2, 8, 3, 9, 4, 12))
        self.commit(self.a, first, tags=TAGS)
        modify = self.writer._modify

        def failing(segmentId: str, voxels: Any, box: Any, mode: int) -> None:
            if mode == slicer.vtkSlicerSegmentEditorLogic.ModificationModeAdd:
                raise MemoryError("out of memory")
            modify(segmentId, voxels, box, mode)

        self.writer._modify = failing
        with self.assertRaisesRegex(OutputError, "unchanged"):
            self.commit(self.a, filled(boxOf(5, 10, 6, 12, 8, 15)), tags={mrml.PROVENANCE_TAG: "{}"})
        self.assertMask(self.a, first)
        self.assertEqual(mrml.provenance(self.node, self.a), {"model": "compact"})
        self.writer.redo()
        self.assertMask(self.a, first)

    def test_an_error_that_slicer_only_prints_is_a_failure_too(self) -> None:
        """ "Visible segments" cannot be told without a display node; Slicer reports that on its console and goes on."""
        first = filled(boxOf(2, 8, 3, 9, 4, 12))
        self.commit(self.a, first)
        user = self.userEditor()
        user.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideVisibleSegments)
        self.node.SetAndObserveDisplayNodeID(None)
        with self.assertRaisesRegex(OutputError, "masking settings"):
            self.commit(self.a, filled(boxOf(5, 10, 6, 12, 8, 15)))
        self.assertMask(self.a, first)

    def test_segmentation_of_another_grid_or_transform_is_refused(self) -> None:
        first = filled(boxOf(2, 8, 3, 9, 4, 12))
        self.commit(self.a, first)
        finer = self.addVolume("finer")
        finer.SetSpacing(0.4, 1.1, 2.5)
        moved = self.addVolume("moved")
        self.addTransform(shearedTransform(), moved)
        for volume, reason in ((finer, "voxel grids"), (moved, "different transforms")):
            with self.subTest(reason), self.assertRaisesRegex(OutputError, reason):
                self.writer.commit(self.a, volume, first, WHOLE)
        with self.assertRaisesRegex(OutputError, "voxel grids"):
            mrml.segmentMask(self.node, self.a, finer)
        self.assertMask(self.a, first)

    def test_segmentation_made_of_surfaces_is_refused(self) -> None:
        self.commit(self.a, filled(boxOf(2, 8, 3, 9, 4, 12)))
        surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
        self.assertTrue(self.node.GetSegmentation().CreateRepresentation(surface))
        self.node.GetSegmentation().SetSourceRepresentationName(surface)
        with self.assertRaisesRegex(OutputError, "surfaces"):
            self.commit(self.a, filled())

    def test_surface_follows_the_result(self) -> None:
        self.commit(self.a, filled(boxOf(2, 8, 3, 9, 4, 12)))
        self.node.CreateClosedSurfaceRepresentation()
        small = self.node.GetClosedSurfaceInternalRepresentation(self.a).GetNumberOfPoints()
        self.commit(self.a, filled(boxOf(2, 16, 3, 20, 4, 25)))
        self.assertGreater(self.node.GetClosedSurfaceInternalRepresentation(self.a).GetNumberOfPoints(), 2 * small)

    def test_voxels_beyond_the_volume_are_left_out_and_left_alone(self) -> None:
        """A brush at the edge of the image paints beyond it, on the same grid."""
        editor = slicer.vtkSlicerSegmentEditorLogic()
        editor.SetMRMLScene(self.scene)
        editor.SetSegmentEditorNode(self.userEditor())
        brush = mrml.gridGeometry(self.node)
        brush.SetExtent(-3, 2, -2, 4, 17, 22)
        brush.AllocateScalars(3, 1)
        brush.GetPointData().GetScalars().Fill(1)
        editor.ModifySegmentByLabelmap(self.node, self.a, brush, editor.ModificationModeAdd, True, False)
        painted = filled(boxOf(17, 20, 0, 5, 0, 3))
        self.assertMask(self.a, painted)
        self.commit(self.a, painted | filled(boxOf(2, 8, 3, 9, 4, 12)))
        labelmap = self.node.GetBinaryLabelmapInternalRepresentation(self.a)
        self.assertEqual((labelmap.GetExtent()[0], labelmap.GetExtent()[5]), (-3, 22))

    def test_unknown_segment_is_named(self) -> None:
        with self.assertRaisesRegex(OutputError, '"gone"'):
            self.commit("gone", filled())

    def test_writer_leaves_nothing_in_the_scene(self) -> None:
        count = self.scene.GetNumberOfNodesByClass("vtkMRMLSegmentEditorNode")
        self.writer.close()
        self.assertEqual(self.scene.GetNumberOfNodesByClass("vtkMRMLSegmentEditorNode"), count - 1)


class StoredPromptsTest(SceneTestCase):
    ROUNDS = (
        (Point(ras=(1.5, -2.0, 3.0)), Point(ras=(0.1, 0.2, 0.3), positive=False)),
        (Box(ras_min=(-1.0, -2.0, -3.0), ras_max=(1.0, 2.0, 3.0)), Scribble(points=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))),
    )

    def test_prompts_provenance_and_voxels_survive_the_scene_file(self) -> None:
        grid = obliqueMatrix(handedness=1)  # Slicer turns left-handed grids round on loading
        volume = self.addVolume(grid=grid)
        self.addTransform(shearedTransform(), volume)
        node = mrml.createSegmentation(volume)
        segmentId = mrml.addSegment(node, "Liver")
        mask = filled(boxOf(2, 8, 3, 9, 4, 12))
        tags = {mrml.PROMPTS_TAG: json.dumps(rounds_to_list(self.ROUNDS)), **TAGS}
        SegmentWriter(node).commit(segmentId, volume, mask, WHOLE, tags=tags)
        terminology = node.GetSegmentation().GetSegment(segmentId).GetTerminology()

        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrb")
            self.assertTrue(self.scene.WriteToMRB(path))
            self.scene.Clear()
            self.assertTrue(self.scene.ReadFromMRB(path))
        volume = slicer.util.getNode("ct")
        node = slicer.util.getNode("Segmentation")
        self.assertEqual(mrml.promptRounds(node, segmentId), self.ROUNDS)
        self.assertEqual(mrml.provenance(node, segmentId), {"model": "compact"})
        self.assertEqual(node.GetSegmentation().GetSegment(segmentId).GetTerminology(), terminology)
        np.testing.assert_array_equal(mrml.segmentMask(node, segmentId, volume), mask)
        np.testing.assert_allclose(mrml.volumeFromNode(volume).ijk_to_ras, shearedTransform() @ grid, atol=1e-9)
        # A reloaded segmentation can be edited on: its grid still is the volume's.
        SegmentWriter(node).commit(segmentId, volume, ~mask, WHOLE)
        np.testing.assert_array_equal(mrml.segmentMask(node, segmentId, volume), ~mask)
        self.assertEqual(self.scene.GetNumberOfNodesByClass("vtkMRMLSegmentEditorNode"), 1)

    def test_a_segment_drawn_by_hand_has_none(self) -> None:
        node = mrml.createSegmentation(self.addVolume())
        segmentId = mrml.addSegment(node, "A")
        self.assertEqual(mrml.promptRounds(node, segmentId), ())
        self.assertEqual(mrml.provenance(node, segmentId), {})

    def test_damaged_tags_are_named(self) -> None:
        node = mrml.createSegmentation(self.addVolume())
        segmentId = mrml.addSegment(node, "A")
        node.GetSegmentation().GetSegment(segmentId).SetTag(mrml.PROMPTS_TAG, "[{")
        with self.assertRaisesRegex(PromptError, mrml.PROMPTS_TAG):
            mrml.promptRounds(node, segmentId)

    def test_a_known_name_brings_terminology_and_colour(self) -> None:
        node = mrml.createSegmentation(self.addVolume())
        segment = node.GetSegmentation().GetSegment(mrml.addSegment(node, "Liver"))
        self.assertIn("Liver", segment.GetTerminology())
        self.assertEqual(segment.GetName(), "Liver")


if __name__ == "__main__":
    unittest.main()
