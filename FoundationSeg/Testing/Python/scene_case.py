# SPDX-License-Identifier: Apache-2.0
"""What the tests of the scene layer share. They run in 3D Slicer, and in plain Python on the slicer-core wheel."""

from __future__ import annotations

import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import slicer
import vtk

if not hasattr(slicer, "app"):
    import headless_slicer

    headless_slicer.start()

SHAPE = (20, 24, 30)  # (k, j, i)


MODULE_FILE = Path(__file__).resolve().parents[2] / "FoundationSeg.py"


def loadModule() -> ModuleType:
    """The scripted module's Python module, as the application has loaded it."""
    if slicer.app.applicationName != "headless stand-in":
        import FoundationSeg

        return FoundationSeg
    import headless_slicer

    return headless_slicer.load_module(MODULE_FILE)


def matrix(array: np.ndarray) -> Any:
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(array, dtype=float).ravel().tolist())
    return result


def obliqueMatrix(handedness: int = -1) -> np.ndarray:
    """IJK to RAS of an oblique, anisotropic grid away from the origin; left-handed unless asked otherwise."""
    rotation = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))[0]
    rotation *= handedness * np.sign(np.linalg.det(rotation))
    result = np.eye(4)
    result[:3, :3] = rotation * (0.8, 1.1, 2.5)
    result[:3, 3] = (12.25, -45.5, 78.125)
    return result


def shearedTransform() -> np.ndarray:
    """A linear transform that rotates, scales and shears."""
    result = np.eye(4)
    result[:3, :3] = ((0.9, -0.3, 0.2), (0.5, 1.2, 0.0), (0.0, 0.25, 1.1))
    result[:3, 3] = (5.0, -6.0, 7.0)
    return result


def apply(transform: np.ndarray, point: Any) -> np.ndarray:
    return transform[:3, :3] @ np.asarray(point, dtype=float) + transform[:3, 3]


class SceneTestCase(unittest.TestCase):
    """Starts every test with an empty scene."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        self.scene = slicer.mrmlScene
        # Clear keeps singletons, and with it what an earlier test set up in the Segment Editor.
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode"):
            self.scene.RemoveNode(node)

    def addNode(self, kind: str, name: str = "") -> Any:
        return self.scene.AddNewNodeByClass(f"vtkMRML{kind}Node", name)

    def addVolume(self, name: str = "ct", voxels: np.ndarray | None = None, grid: np.ndarray | None = None) -> Any:
        """A volume of noise on an oblique, anisotropic, left-handed grid, unless told otherwise."""
        if voxels is None:
            voxels = np.random.default_rng(1).integers(-1000, 1000, SHAPE).astype(np.int16)
        node = self.addNode("ScalarVolume", name)
        slicer.util.updateVolumeFromArray(node, voxels)
        node.SetIJKToRASMatrix(matrix(obliqueMatrix() if grid is None else grid))
        return node

    def addTransform(self, array: np.ndarray, *children: Any) -> Any:
        node = self.addNode("LinearTransform")
        node.SetMatrixTransformToParent(matrix(array))
        for child in children:
            child.SetAndObserveTransformNodeID(node.GetID())
        return node

    def addWarp(self, *children: Any) -> Any:
        """A transform that is not linear."""
        warp = vtk.vtkThinPlateSplineTransform()
        source, target = vtk.vtkPoints(), vtk.vtkPoints()
        for n, point in enumerate(np.random.default_rng(3).normal(size=(6, 3)) * 50):
            source.InsertNextPoint(point)
            target.InsertNextPoint(point + n * np.array((1, 0, -1)))
        warp.SetSourceLandmarks(source)
        warp.SetTargetLandmarks(target)
        warp.SetBasisToR()
        node = self.addNode("Transform")
        node.SetAndObserveTransformToParent(warp)
        for child in children:
            child.SetAndObserveTransformNodeID(node.GetID())
        return node

    def addPoints(self, *positions: Any, descriptions: dict[int, str] | None = None) -> Any:
        node = self.addNode("MarkupsFiducial", "points")
        for position in positions:
            node.AddControlPointWorld(vtk.vtkVector3d(*position))
        for index, text in (descriptions or {}).items():
            node.SetNthControlPointDescription(index, text)
        return node

    def voxelCentre(self, kji: tuple[int, int, int], volumeNode: Any) -> Any:
        """World position of a voxel's centre, computed by MRML."""
        toNode, position = vtk.vtkMatrix4x4(), np.zeros(3)
        volumeNode.GetIJKToRASMatrix(toNode)
        volumeNode.TransformPointToWorld(apply(slicer.util.arrayFromVTKMatrix(toNode), kji[::-1]), position)
        return vtk.vtkVector3d(*position)
