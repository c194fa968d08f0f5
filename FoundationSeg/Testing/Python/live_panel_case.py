# SPDX-License-Identifier: Apache-2.0
"""What tests of the panel share: the widget on the stand-in, a real scene, a real worker, and a running event loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import worker_case
from scene_case import SceneTestCase, loadModule, slicer, vtk

# isort: split
from FoundationSegLib import mrml
from FoundationSegLib.scene.live import State

FoundationSeg = loadModule()
ON, CORNER = (10, 14, 14), (10, 20, 18)  # (k, j, i): in the bright block, at its corner


class PanelTestCase(SceneTestCase):
    MODEL = "worker_case:good"

    def setUp(self) -> None:
        super().setUp()
        if slicer.app.applicationName == "headless stand-in":
            import headless_slicer

            headless_slicer.start(panel=True)
        import qt

        self.qt = qt
        self.volume = self.addVolume("CT chest", worker_case.VOLUME.array, worker_case.VOLUME.ijk_to_ras)
        for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
            self.scene.RemoveNode(node)
        self.parents: list[Any] = []  # Qt deletes what Python forgets
        self.newParent()
        from FoundationSegLib.panel import worker_settings  # it needs qt

        self.workerSettings = worker_settings.workerSettings
        self.enterContext(mock.patch.object(worker_settings, "workerSettings", worker_case.settings))
        self.widget = self.makeWidget()

    def newParent(self) -> None:
        self.parent = slicer.qMRMLWidget()
        self.parents.append(self.parent)
        self.parent.setLayout(self.qt.QVBoxLayout())
        self.parent.setMRMLScene(slicer.mrmlScene)

    def makeWidget(self) -> Any:
        widget = FoundationSeg.FoundationSegWidget(self.parent)
        widget.setup()
        self.addCleanup(widget.cleanup)
        widget.live.setModel(self.MODEL, device="cpu")
        widget.enter()
        self.ui, self.live = widget.ui, widget.live
        return widget

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Lets the event loop run until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                self.fail(f"not within {seconds} s; the status is {self.live.status}")
            slicer.app.processEvents()
            time.sleep(0.005)

    def settle(self) -> None:
        self.until(lambda: not self.live.busy)

    def click(self, kji: tuple[int, int, int], positive: bool = True, settle: bool = True) -> None:
        """A point, as placing it in a view makes it."""
        self.live.promptNode(positive).AddControlPointWorld(self.voxelCentre(kji, self.volume))
        if settle:
            self.settle()

    def show(self, picture: str) -> None:
        """Leave a picture for a person to look at; it is never compared."""
        self.parent.resize(420, 640)
        self.parent.show()
        slicer.app.processEvents()
        self.parent.resize(420, self.parent.sizeHint().height())
        slicer.app.processEvents()
        folder = os.environ.get("PANEL_PICTURES")
        if folder:
            self.assertTrue(self.parent.grab().save(str(Path(folder) / f"{picture}.stand-in.png")))

    @property
    def status(self) -> str:
        return str(self.ui.statusLabel.text)

    def voxels(self) -> int:
        return int(mrml.segmentMask(self.live.segmentationNode, self.live.segmentId, self.volume).sum())


__all__ = ["CORNER", "ON", "FoundationSeg", "PanelTestCase", "State", "mock", "mrml", "slicer", "vtk", "worker_case"]
