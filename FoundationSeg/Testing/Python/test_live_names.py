# SPDX-License-Identifier: Apache-2.0
"""Names of structures as prompts: nodes of the scene like all others, followed, stored, undone and replayed."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import numpy as np
from live_case import LiveTestCase, slicer, vtk

# isort: split
from FoundationSegLib import TextPrompt, mrml
from FoundationSegLib.errors import PromptError
from worker_case import VOLUME

BLOCK = VOLUME.array > 50


class NamesTest(LiveTestCase):
    MODEL = "worker_case:named"

    def half(self) -> np.ndarray:
        mask = BLOCK.copy()
        mask[10:] = False
        return mask

    def test_a_name_makes_a_segment_and_another_name_another(self) -> None:
        self.live.setName("block")
        self.assertEqual([done for _k, _p, done in self.live.prompts()], [False])
        self.settle()
        self.ready()
        np.testing.assert_array_equal(self.mask(), BLOCK)
        self.assertEqual(self.rounds(), ((TextPrompt("block"),),))
        self.assertEqual((self.live.name, self.segment().GetName()), ("block", "Block"))
        # A point goes on from there, and a name that is changed stays where it was in the order.
        self.click((7, 14, 14))
        self.assertFalse(self.mask()[7].any())
        self.live.setName("half")
        self.settle()
        self.assertEqual([[type(prompt).__name__ for prompt in r] for r in self.rounds()], [["TextPrompt"], ["Point"]])
        expected = self.half()
        expected[7] = False
        np.testing.assert_array_equal(self.mask(), expected)
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLTextNode")), 1)

    def test_undo_and_redo_take_names_along(self) -> None:
        self.live.newSegment("Mine")
        self.live.setName("block")
        self.settle()
        self.live.setName("half")
        self.settle()
        self.live.undo()
        self.settle()
        self.assertEqual(self.live.name, "block")
        np.testing.assert_array_equal(self.mask(), BLOCK)
        self.live.redo()
        self.settle()
        self.assertEqual(self.live.name, "half")
        np.testing.assert_array_equal(self.mask(), self.half())
        self.assertEqual(self.segment().GetName(), "Mine")
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLTextNode")), 1)

    def test_a_removed_name_takes_its_effect_away_and_an_edited_one_is_followed(self) -> None:
        self.live.setName("block")
        self.settle()
        (node,) = slicer.util.getNodesByClass("vtkMRMLTextNode")
        node.SetText("half")  # as in Slicer's own module for texts
        self.settle()
        np.testing.assert_array_equal(self.mask(), self.half())
        ((key, _prompt, _done),) = self.live.prompts()
        self.live.removePrompt(key)
        self.settle()
        self.assertEqual((self.voxels(), self.live.name, self.live.prompts()), (0, "", []))

    def test_a_name_that_the_model_does_not_know_is_answered_with_a_sentence(self) -> None:
        self.live.setName("heart")
        self.settle()
        self.assertEqual((self.live.status.isError, self.live.status.message), (True, "The names are: block, half."))
        self.live.setName("block")
        self.settle()
        self.ready()
        np.testing.assert_array_equal(self.mask(), BLOCK)
        with self.assertRaises(PromptError):
            self.live.setName("  ")

    def test_a_saved_scene_has_the_name_and_replays_it(self) -> None:
        self.live.setName("half")
        self.settle()
        self.live.parameters.autoUpdate = False
        second = self.live.newSegment()
        self.live.setName("block")  # saved before there is a result
        self.settle()
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "scene.mrb")
            self.assertTrue(self.scene.WriteToMRB(file, None))
            self.scene.Clear()
            self.settle()
            self.assertTrue(self.scene.ReadFromMRB(file, True))
        self.volume = slicer.util.getNode("CT")
        self.settle()
        self.assertEqual((self.live.segmentId, self.live.name), (second, "block"))
        self.assertEqual([done for _k, _p, done in self.live.prompts()], [False])
        self.live.update()
        self.settle()
        np.testing.assert_array_equal(self.mask(), BLOCK)
        self.live.selectSegment(next(i for i in self.node.GetSegmentation().GetSegmentIDs() if i != second))
        self.settle()
        self.live.replay()
        self.settle()
        self.assertIn("the same to the voxel", self.live.status.message)
        self.assertEqual(self.rounds(), ((TextPrompt("half"),),))
        self.assertEqual(self.live.name, "half")

    def test_names_go_with_their_segmentation(self) -> None:
        self.live.setName("block")
        self.settle()
        self.scene.RemoveNode(self.node)
        self.settle()
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLTextNode"), [])

    def test_the_name_of_a_known_structure_brings_its_terminology(self) -> None:
        self.live.parameters.autoUpdate = False
        self.live.setName("left kidney")
        tag = vtk.reference("")
        self.assertTrue(self.segment().GetTag("TerminologyEntry", tag))
        self.assertIn("Kidney", str(tag))
        self.assertEqual(mrml.segmentNames(self.node), ["Left kidney"])

    def segment(self) -> object:
        return self.node.GetSegmentation().GetSegment(self.live.segmentId)


if __name__ == "__main__":
    unittest.main()
