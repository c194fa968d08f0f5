# SPDX-License-Identifier: Apache-2.0
"""FoundationReportLogic on a real scene: the same facts as from files, wherever the nodes lie."""

from __future__ import annotations

import json
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import slicer
import vtk

if not hasattr(slicer, "app"):
    import headless_slicer

    headless_slicer.start()

from FoundationReportLib import measure
from FoundationReportLib.engines import Narrative, Said
from FoundationReportLib.errors import FoundationReportError, MeasurementError
from FoundationReportLib.model import Facts, ModelInfo, Origin, State, Verdict
from FoundationReportLib.mrml import factsFromNodes, recordsFromNode
from FoundationSegLib.mrml import createSegmentation, volumeFromNode
from FoundationSegLib.segmentation_io import read_segmentation
from FoundationSegLib.session import PROVENANCE_TAG
from FoundationSegLib.volume import Volume

MODULE_FILE = Path(__file__).resolve().parents[2] / "FoundationReport.py"
SHAPE, SPACING = (30, 44, 48), (1.2, 1.5, 2.5)  # (k, j, i); mm along i, j, k
CENTRE, RADIUS_MM = (15, 22, 24), 12.0


def loadModule() -> Any:
    """The scripted module's Python module, as the application has loaded it."""
    if slicer.app.applicationName != "headless stand-in":
        import FoundationReport

        return FoundationReport
    import headless_slicer

    return headless_slicer.load_module(MODULE_FILE)


FoundationReport = loadModule()


def ball(radius: float = RADIUS_MM) -> np.ndarray:
    """A ball of so many mm in the middle of the grid: bool, (k, j, i)."""
    offsets = (np.indices(SHAPE) - np.reshape(CENTRE, (3, 1, 1, 1))) * np.reshape(SPACING[::-1], (3, 1, 1, 1))
    return np.asarray((offsets**2).sum(axis=0) <= radius**2)


def obliqueMatrix() -> Any:
    """IJK to RAS: turned about two axes, left-handed, right of the middle."""
    angle, tilt = np.radians(10), np.radians(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    lean = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    array = np.eye(4)
    array[:3, :3] = turn @ lean @ np.diag([-SPACING[0], -SPACING[1], SPACING[2]])
    array[:3, 3] = (95.0, 30.0, -40.0)
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(array.ravel().tolist())
    return result


class LogicTestCase(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        self.logic = FoundationReport.FoundationReportLogic()
        self.volume = self.addVolume()
        self.node = self.addSegments(self.volume, {"Liver lesion": ball()})

    def addVolume(self) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "ct")
        slicer.util.updateVolumeFromArray(node, np.where(ball(), 40, -60).astype(np.int16))
        node.SetIJKToRASMatrix(obliqueMatrix())
        return node

    def addSegments(self, volumeNode: Any, masks: dict[str, np.ndarray]) -> Any:
        node = createSegmentation(volumeNode)
        for name, mask in masks.items():
            segmentId = node.GetSegmentation().AddEmptySegment("", name)
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segmentId, volumeNode)
        return node

    def value(self, facts: Facts, quantity: str) -> float:
        subject = next(s for s in facts.subjects if s.name == "Liver lesion")
        return float(facts.of(subject.id, quantity)[0].value)

    def sideOf(self, name: str, facts: Facts) -> str:
        return next(s.side.value for s in facts.subjects if s.name == name)

    def assertSays(self, text: str, act: Any) -> None:
        with self.assertRaises(FoundationReportError) as caught:
            act()
        self.assertIn(text, str(caught.exception))


class TestFacts(LogicTestCase):
    def test_sizes_are_those_of_the_ball(self) -> None:
        facts = factsFromNodes(self.volume, self.node)
        self.assertAlmostEqual(self.value(facts, "volume"), 4 / 3 * np.pi * RADIUS_MM**3 / 1000, delta=0.2)
        self.assertAlmostEqual(self.value(facts, "long_axis"), 2 * RADIUS_MM, delta=0.5)
        self.assertAlmostEqual(self.value(facts, "mean"), 40, delta=0.01)

    def test_the_same_as_from_files(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            paths = [f"{folder}/ct.nrrd", f"{folder}/ct.seg.nrrd"]
            for node, path in zip((self.volume, self.node), paths, strict=True):
                self.assertTrue(slicer.util.saveNode(node, path))
            fromFiles = measure(Volume.read(paths[0]), read_segmentation(paths[1]))
        fromNodes = factsFromNodes(self.volume, self.node)
        self.assertEqual([f.quantity for f in fromFiles.facts], [f.quantity for f in fromNodes.facts])
        for a, b in zip(fromFiles.facts, fromNodes.facts, strict=True):
            if isinstance(a.value, float):
                self.assertAlmostEqual(a.value, float(b.value), places=3)
            else:
                self.assertEqual(a.value, b.value)

    def test_a_transform_moves_what_is_measured(self) -> None:
        before = factsFromNodes(self.volume, self.node)
        scale = vtk.vtkMatrix4x4()
        scale.SetElement(0, 0, 2.0)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(scale)
        for node in (self.volume, self.node):
            node.SetAndObserveTransformNodeID(transform.GetID())
        after = factsFromNodes(self.volume, self.node)
        self.assertAlmostEqual(self.value(after, "volume"), 2 * self.value(before, "volume"), places=3)

    def test_the_side_follows_the_world(self) -> None:
        mirror = vtk.vtkMatrix4x4()
        mirror.SetElement(0, 0, -1.0)
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "kidneys")
        mask = np.zeros((20, 40, 80), bool)
        mask[5:15, 10:20, 10:20] = True
        slicer.util.updateVolumeFromArray(volume, np.where(mask, 30, -80).astype(np.int16))
        volume.SetSpacing(4, 4, 4)
        volume.SetOrigin(-160, -80, 0)  # RAS: index 0 lies to the patient's left
        cord = np.zeros((20, 40, 80), bool)
        cord[:, 18:22, 39:42] = True
        node = self.addSegments(volume, {"Kidney": mask, "Spinal cord": cord})
        self.assertEqual(self.sideOf("Kidney", factsFromNodes(volume, node)), "left")
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(mirror)
        for each in (volume, node):
            each.SetAndObserveTransformNodeID(transform.GetID())
        self.assertEqual(self.sideOf("Kidney", factsFromNodes(volume, node)), "right")

    def test_tags_of_a_segment_come_along(self) -> None:
        segment = self.node.GetSegmentation().GetNthSegment(0)
        fingerprint = volumeFromNode(self.volume).fingerprint
        segment.SetTag(PROVENANCE_TAG, json.dumps({"model": "compact", "revision": "2", "volume": fingerprint}))
        segment.SetTag("DICOM.TrackingUID", "1.2.3")
        (record,) = recordsFromNode(self.node, self.volume)
        self.assertEqual(record.tags["DICOM.TrackingUID"], "1.2.3")
        facts = factsFromNodes(self.volume, self.node)
        (fact,) = (f for f in facts.facts if f.quantity == "volume")
        assert fact.source is not None
        self.assertEqual((fact.source.model, fact.source.revision), ("compact", "2"))
        self.assertEqual(facts.subject(fact.subject).tracking_uid, "1.2.3")

    def test_the_header_of_a_volume_from_dicom_is_read(self) -> None:
        try:
            from dicom_files import slice_dataset
        except ImportError:
            self.skipTest("pydicom is not installed")
        with tempfile.TemporaryDirectory() as folder:
            paths = {}
            for k in range(3):
                one = slice_dataset(np.zeros((8, 8), np.int16), (0, 0, 3.0 * k))
                one.ContrastBolusAgent, one.SliceThickness = "Iohexol", "3"
                paths[str(one.SOPInstanceUID)] = f"{folder}/{k}.dcm"
                one.save_as(f"{folder}/{k}.dcm", enforce_file_format=True)
            self.volume.SetAttribute("DICOM.instanceUIDs", " ".join([*paths, "1.2.3"]))
            database = SimpleNamespace(fileForInstance=lambda instance: paths.get(instance, ""))
            with mock.patch.object(slicer, "dicomDatabase", database, create=True):
                facts = factsFromNodes(self.volume, self.node)
        values = {fact.quantity: fact.value for fact in facts.facts if fact.subject == "image"}
        self.assertEqual((values["contrast"], values["slice_thickness"], facts.modality), ("with", 3.0, "CT"))
        self.assertNotIn("contrast", {fact.quantity for fact in factsFromNodes(self.volume, self.node).facts})

    def test_what_cannot_be_measured_is_named(self) -> None:
        for nodes, says in (
            ((None, self.node), "No volume is selected"),
            ((self.volume, None), "No segmentation is selected"),
            ((self.node, self.node), "not a scalar volume"),
            ((self.volume, createSegmentation(self.volume)), "no segments"),
            ((self.volume, self.addSegments(self.volume, {"Liver": np.zeros(SHAPE, bool)})), "empty"),
            ((self.volume, self.node, self.volume), "both its volume and its segmentation"),
        ):
            self.assertSays(says, lambda nodes=nodes: factsFromNodes(*nodes))
        other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "other")
        slicer.util.updateVolumeFromArray(other, np.zeros((9, 9, 9), np.int16))
        with self.assertRaises(MeasurementError):
            factsFromNodes(other, self.node)


class Reader:
    """An engine that says how bright the middle of the volume is; without weights."""

    name = "reader"

    def narrate(self, facts: Any, volume: Any, context: Any, questions: Any, masks: Any = (), watch: Any = None) -> Any:
        middle = volume.array[tuple(n // 2 for n in volume.shape)]
        text = "There is ascites." if middle > 0 and masks[0].any() else "There is free air."
        return Narrative((Said(questions[0], text),), ModelInfo("", "test", "reader", "1"))


class TestRun(LogicTestCase):
    def test_a_model_adds_to_the_report_over_nodes(self) -> None:
        report = self.logic.run(self.volume, self.node)
        told = self.logic.narrate(report, Reader(), self.volume, self.node)
        (new,) = [s for s in told.statements if s.origin is Origin.VLM]
        self.assertEqual(new.text, "There is ascites.")
        self.assertIsNot(new.judgement.verdict, Verdict.SUPPORTED)
        other = self.addVolume()
        slicer.util.updateVolumeFromArray(other, np.where(ball(), 41, -60).astype(np.int16))
        self.assertSays("another image", lambda: self.logic.narrate(report, Reader(), other, self.node))

    def test_a_draft_is_checked_and_can_be_signed(self) -> None:
        report = self.logic.run(self.volume, self.node)
        self.assertIs(report.state, State.DRAFT)
        verdicts = {s.judgement.verdict for s in report.statements if s.judgement is not None}
        self.assertIn(Verdict.SUPPORTED, verdicts)
        self.assertNotIn(Verdict.CONTRADICTED, verdicts)
        wrong = report.edit(report.statements[0].id, "The liver lesion has a diameter of 60 mm.").check()
        self.assertSays("is contradicted", lambda: wrong.sign("Dr. A"))
        fields = [s.id for s in report.statements if s.placeholder]
        open_ = [s.id for s in report.statements if s.judgement and s.judgement.verdict is Verdict.UNVERIFIABLE]
        signed = report.accept(*fields, *open_, *report.omitted, by="Dr. A").sign("Dr. A")
        self.assertIs(signed.state, State.SIGNED)

    def test_a_prior_study_is_compared(self) -> None:
        prior = self.addSegments(self.volume, {"Liver lesion": ball(RADIUS_MM / 1.5)})
        facts = self.logic.measure(self.volume, self.node, self.volume, prior)
        changes = [f for f in facts.facts if f.quantity == "change_percent" and f.of == "long_axis"]
        self.assertTrue(changes)
        self.assertAlmostEqual(float(changes[0].value), 50, delta=8)

    def test_templates_are_there(self) -> None:
        self.assertIn("ct-chest", self.logic.templates())
        self.assertSays("no report template", lambda: self.logic.run(self.volume, self.node, "ct-toe"))

    def test_the_scene_is_left_as_it_was(self) -> None:
        self.logic.run(self.volume, self.node)  # asking for the modality makes the scene's subject hierarchy
        before = sorted(node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode"))
        times = self.volume.GetMTime(), self.node.GetMTime(), self.node.GetSegmentation().GetMTime()
        self.logic.run(self.volume, self.node)
        self.assertEqual(sorted(node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")), before)
        self.assertEqual((self.volume.GetMTime(), self.node.GetMTime(), self.node.GetSegmentation().GetMTime()), times)

    def test_the_module_s_own_test_passes(self) -> None:
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(FoundationReport.FoundationReportTest).run(result)
        self.assertTrue(result.wasSuccessful() and result.testsRun, result.errors + result.failures)

    def test_neither_torch_nor_transformers_was_loaded(self) -> None:
        code = (
            "import sys; sys.path[:0] = sys.argv[1:]; import FoundationReportLib.cli, FoundationReportLib; "
            "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
        )
        import subprocess

        root = MODULE_FILE.parents[1]
        command = [sys.executable, "-c", code, str(root / "FoundationReport"), str(root / "FoundationSeg")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        self.assertFalse({"torch", "transformers", "scipy", "pydicom", "slicer"} & set(done.stdout.split()))


if __name__ == "__main__":
    unittest.main()
