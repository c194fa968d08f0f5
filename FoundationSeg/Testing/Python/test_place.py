# SPDX-License-Identifier: Apache-2.0
"""Points placed by clicks in Slicer's own place mode, through its own displayable manager of markups."""

from __future__ import annotations

import unittest
from typing import Any

import numpy as np
from FoundationSegLib import mrml
from scene_case import SceneTestCase, obliqueMatrix, slicer

# isort: split
from FoundationSegLib.scene.place import PointPlacer
from FoundationSegLib.scene.prompt_style import stylePrompt


@unittest.skipIf(slicer.app.applicationName != "headless stand-in", "brings a view of its own")
class PointPlacerTest(SceneTestCase):
    def setUp(self) -> None:
        super().setUp()
        from headless_slicer.views import SliceView

        self.volume = self.addVolume()
        self.view = SliceView()
        self.addCleanup(self.view.close)
        self.view.sliceNode.RotateToVolumePlane(self.volume)
        self.view.show(self.volume)
        self.ends = 0
        self.placer = PointPlacer(self.scene, self.count)
        self.addCleanup(self.placer.stop)
        self.interaction = self.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        self.selection = self.scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")

    def count(self) -> None:
        self.ends += 1

    def points(self, positive: bool) -> Any:
        node = self.addNode("MarkupsFiducial")
        stylePrompt(node, positive)
        return node

    def placing(self) -> bool:
        return bool(self.interaction.GetCurrentInteractionMode() == self.interaction.Place)

    def test_every_click_adds_a_point_where_it_was_made(self) -> None:
        on, beside = self.points(True), self.points(False)
        self.placer.start(on)
        self.view.click(120, 100)
        self.view.click(200, 150)
        self.placer.start(beside)
        self.view.click(260, 180)
        toRas = slicer.util.arrayFromVTKMatrix(self.view.sliceNode.GetXYToRAS())
        expected = [(toRas @ (x, y, 0, 1))[:3] for x, y in ((120, 100), (200, 150), (260, 180))]
        prompts = mrml.promptsFromMarkups(on) + mrml.promptsFromMarkups(beside)
        self.assertEqual([prompt.positive for prompt in prompts], [True, True, False])
        np.testing.assert_allclose([prompt.ras for prompt in prompts], expected, atol=1e-6)
        # The slice is one of the volume's own, oblique planes: all points have the same index across it.
        ijk = np.linalg.inv(obliqueMatrix()) @ np.column_stack([expected, np.ones(3)]).T
        self.assertLess(min(np.ptp(ijk[axis]) for axis in range(3)), 1e-6)
        self.assertEqual(self.ends, 0)

    def test_stopping_gives_back_what_was_there(self) -> None:
        node, before = self.points(True), self.addNode("MarkupsROI")
        self.assertEqual(self.selection.GetActivePlaceNodeID(), before.GetID())
        self.placer.start(node)
        self.assertTrue(self.placing())
        self.placer.stop()
        self.assertFalse(self.placing())
        self.assertIsNone(self.placer.node)
        self.assertEqual(self.selection.GetActivePlaceNodeClassName(), "vtkMRMLMarkupsROINode")
        self.assertEqual(self.selection.GetActivePlaceNodeID(), before.GetID())
        self.assertEqual(self.ends, 0)

    def test_what_is_placed_later_with_the_toolbar_is_no_prompt(self) -> None:
        node = self.points(True)
        self.assertEqual(self.selection.GetActivePlaceNodeID(), node.GetID())
        self.placer.start(node)
        self.placer.stop()
        self.interaction.SwitchToPersistentPlaceMode()
        self.addCleanup(self.interaction.SwitchToViewTransformMode)
        self.view.click(120, 100)
        self.assertEqual(node.GetNumberOfControlPoints(), 0)

    def test_leaving_place_mode_by_any_other_way_is_told_once(self) -> None:
        self.placer.start(self.points(True))
        self.interaction.SwitchToViewTransformMode()
        self.assertEqual((self.placer.node, self.ends), (None, 1))
        self.interaction.SwitchToPersistentPlaceMode()
        self.assertEqual(self.ends, 1)

    def test_placing_something_else_ends_it_and_goes_on(self) -> None:
        self.placer.start(self.points(True))
        other = self.points(True)
        self.selection.SetActivePlaceNodeID(other.GetID())
        self.assertEqual((self.placer.node, self.ends), (None, 1))
        self.assertTrue(self.placing())

    def test_removal_of_the_node_ends_place_mode(self) -> None:
        node = self.points(True)
        self.placer.start(node)
        self.scene.RemoveNode(node)
        self.assertEqual((self.placer.node, self.ends), (None, 1))
        self.assertFalse(self.placing())

    def test_closing_the_scene_ends_it(self) -> None:
        self.placer.start(self.points(True))
        self.scene.Clear()
        self.assertIsNone(self.placer.node)
        self.assertEqual(self.ends, 1)


if __name__ == "__main__":
    unittest.main()
