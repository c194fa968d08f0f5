# SPDX-License-Identifier: Apache-2.0
"""Has the worker look ahead at the middle of the slice view that was moved last, once it has come to rest."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from ..scene.live import LiveSegmentation

_REST_MS = 400


class ViewPrefetch(VTKObservationMixin):
    """Works between `enter` and `exit`, and only while there is no prediction under way."""

    def __init__(self, live: LiveSegmentation, parent: Any) -> None:
        VTKObservationMixin.__init__(self)
        self._live = live
        self._moved: Any = None
        self._timer = qt.QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST_MS)
        self._timer.connect("timeout()", self._onRest)

    def enter(self) -> None:
        """Follow the slice views that there are now."""
        self.exit()
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onMoved)

    def exit(self) -> None:
        self._timer.stop()
        self._moved = None
        self.removeObservers()

    def _onMoved(self, caller: Any, event: Any) -> None:
        self._moved = caller
        self._timer.start()  # anew: it fires when nothing has moved for a while

    def _onRest(self) -> None:
        if self._moved is not None and slicer.mrmlScene.IsNodePresent(self._moved):
            toRas = self._moved.GetSliceToRAS()
            self._live.prefetch((toRas.GetElement(0, 3), toRas.GetElement(1, 3), toRas.GetElement(2, 3)))
