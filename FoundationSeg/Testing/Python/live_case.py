# SPDX-License-Identifier: Apache-2.0
"""What tests of the live segmentation share: a scene with a bright block, a real worker, and a beat."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import worker_case
from scene_case import SceneTestCase, slicer, vtk  # first: it completes what the scene layer needs

# isort: split
from FoundationSegLib import SegmentationSession, mrml
from FoundationSegLib.scene.live import LiveSegmentation, State
from FoundationSegLib.scene.parameters import parametersOf
from FoundationSegLib.worker import Worker

SHAPE = worker_case.VOLUME.shape
ON, CORNER, OUTSIDE = (10, 14, 14), (10, 20, 18), (2, 2, 2)  # (k, j, i): in the block, at its corner, beside it
BEAT_S = 0.02


class LiveTestCase(SceneTestCase):
    """A volume with a bright block, and a live segmentation whose worker runs a model that is easy to reason about."""

    MODEL = "worker_case:good"
    OWN_WORKER = False  # most tests share one, since starting it takes most of their time
    shared: ClassVar[Worker | None] = None

    def setUp(self) -> None:
        super().setUp()
        self.volume = self.addVolume("CT", worker_case.VOLUME.array, worker_case.VOLUME.ijk_to_ras)
        self.live = self.start(self.MODEL)

    def start(self, model: str, **changes: Any) -> LiveSegmentation:
        parameters = parametersOf(self.scene)
        parameters.volume, parameters.model, parameters.device = self.volume, model, "cpu"
        settings = worker_case.settings(**changes)
        worker = None
        if not changes and not self.OWN_WORKER:
            if LiveTestCase.shared is None:
                LiveTestCase.shared = Worker(settings)
                atexit.register(LiveTestCase.shared.close)
            worker = LiveTestCase.shared
        live = LiveSegmentation(parameters, settings, worker=worker)
        self.addCleanup(live.close)
        return live

    def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Polls as the panel's timer does until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                self.fail(f"not within {seconds} s; the status is {self.live.status}")
            self.live.poll()
            time.sleep(BEAT_S)

    def settle(self) -> None:
        """Until there is nothing left to do."""
        self.until(lambda: not self.live.busy)

    def click(self, kji: tuple[int, int, int], positive: bool = True, settle: bool = True) -> tuple[str, str]:
        """A point, as placing it in a view would make it; returns its key."""
        node = self.live.promptNode(positive)
        index = node.AddControlPointWorld(self.voxelCentre(kji, self.volume))
        if settle:
            self.settle()
        return node.GetID(), node.GetNthControlPointID(index)

    def box(self, low: tuple[int, int, int], high: tuple[int, int, int]) -> Any:
        node = self.live.newPrompt("vtkMRMLMarkupsROINode", True)
        ends = np.array([list(self.voxelCentre(corner, self.volume)) for corner in (low, high)])
        node.SetCenterWorld(*ends.mean(0))
        node.SetSize(*np.abs(ends[1] - ends[0]))
        self.live.release(node)
        self.settle()
        return node

    @property
    def node(self) -> Any:
        return self.live.segmentationNode

    def mask(self, segmentId: str = "") -> np.ndarray:
        return mrml.segmentMask(self.node, segmentId or self.live.segmentId, self.volume)

    def voxels(self, segmentId: str = "") -> int:
        return int(self.mask(segmentId).sum())

    def rounds(self) -> Any:
        return mrml.promptRounds(self.node, self.live.segmentId)

    def engineMask(self) -> np.ndarray:
        """What the engine makes of the rounds that are stored with the segment, without scene and worker."""
        session = SegmentationSession(mrml.volumeFromNode(self.volume), worker_case.good("cpu"))
        session.replay("expected", self.rounds())
        return session.mask("expected")

    def paint(self, mask: np.ndarray, segmentId: str = "") -> None:
        """A manual edit by Slicer's own logic, in the history that the panel uses."""
        whole = tuple(slice(0, n) for n in SHAPE)
        history = self.live._history
        history._writer(self.node).commit(segmentId or self.live.segmentId, self.volume, mask, whole)

    def ready(self) -> None:
        self.assertEqual((self.live.status.state, self.live.status.isError), (State.READY, False), self.live.status)


__all__ = ["CORNER", "ON", "OUTSIDE", "SHAPE", "LiveTestCase", "slicer", "vtk"]
