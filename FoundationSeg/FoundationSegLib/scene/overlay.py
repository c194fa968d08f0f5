# SPDX-License-Identifier: Apache-2.0
"""The model's uncertainty as a coloured layer over the slices, shown on demand and leaving no trace when hidden."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..errors import FoundationSegError
from ..predictor import Array
from ..region import Box3
from ..worker import Pending, WorkerSession

_LEAST = 0.25  # below, the model is as good as sure, and nothing is drawn
_OPACITY = 0.6
# From "rather sure" to "could be either": yellow to dark red, which also get darker step by step.
_FIRST, _LAST = (1.0, 0.93, 0.45), (0.60, 0.0, 0.15)


class UncertaintyLayer:
    """A volume node that lies over the slices as their foreground while it is shown. It is not saved."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._node: Any = None
        self._colors: Any = None
        self._before: dict[str, tuple[str | None, float]] = {}  # foregrounds that it took the place of

    @property
    def node(self) -> Any:
        """The volume node; None while nothing is shown."""
        return self._node

    def show(self, volumeNode: Any, box: Box3, values: Array) -> None:
        """Show `values`, float32 (k, j, i) in [0, 1], in `box` (k, j, i) of the volume node's grid."""
        if self._node is None:
            self._make()
        toRas = slicer.util.vtkMatrixFromArray(self._corner(volumeNode, box))
        modifying = self._node.StartModify()
        self._node.SetIJKToRASMatrix(toRas)
        parent = volumeNode.GetParentTransformNode()
        self._node.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)
        slicer.util.updateVolumeFromArray(self._node, np.ascontiguousarray(values))
        self._node.EndModify(modifying)
        self._layOver()

    def hide(self) -> None:
        """Give the slices their foregrounds back, and remove the node."""
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            own = self._node is not None and composite.GetForegroundVolumeID() == self._node.GetID()
            if own:
                volumeId, opacity = self._before.get(composite.GetID(), (None, 0.0))
                composite.SetForegroundVolumeID(volumeId)
                composite.SetForegroundOpacity(opacity)
        self._before.clear()
        # The scene does not remove a display node along with its volume.
        display = None if self._node is None else self._node.GetDisplayNode()
        for node in (self._node, display, self._colors):
            if node is not None and self._scene.IsNodePresent(node):
                self._scene.RemoveNode(node)
        self._node = self._colors = None

    def _layOver(self) -> None:
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            if composite.GetForegroundVolumeID() != self._node.GetID():
                before = composite.GetForegroundVolumeID(), composite.GetForegroundOpacity()
                self._before[composite.GetID()] = before
                composite.SetForegroundVolumeID(self._node.GetID())
                composite.SetForegroundOpacity(_OPACITY)

    def _corner(self, volumeNode: Any, box: Box3) -> Any:
        toRas = vtk.vtkMatrix4x4()
        volumeNode.GetIJKToRASMatrix(toRas)
        result = slicer.util.arrayFromVTKMatrix(toRas)
        result[:3, 3] += result[:3, :3] @ [part.start for part in reversed(box)]
        return result

    def _make(self) -> None:
        colors = slicer.vtkMRMLColorTableNode()
        colors.SetTypeToUser()
        colors.SetName("FoundationSeg uncertainty colours")
        colors.SetNumberOfColors(256)
        for index in range(256):
            share = index / 255
            rgb = [first + share * (last - first) for first, last in zip(_FIRST, _LAST, strict=True)]
            colors.SetColor(index, f"{share:.2f}", *rgb, 1.0)
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetName(_("Uncertainty"))
        for made in (colors, node):
            made.SetSaveWithScene(False)
            made.SetHideFromEditors(True)
            self._scene.AddNode(made)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetAndObserveColorNodeID(colors.GetID())
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(_LEAST, 1.0)
        display.SetThreshold(_LEAST, 2.0)
        display.SetApplyThreshold(True)
        self._node, self._colors = node, colors


class UncertaintyOverlay:
    """Asks the worker for the uncertainty of a segment's last prediction, and shows it when it comes."""

    def __init__(self, scene: Any) -> None:
        self.layer = UncertaintyLayer(scene)
        self.wanted = False
        self._stale = False
        self._pending: Pending[Array] | None = None
        self._of: tuple[Any, Box3] | None = None

    @property
    def pending(self) -> bool:
        """Whether there is something to do."""
        return self._stale or self._pending is not None

    def setWanted(self, wanted: bool) -> None:
        self.wanted = wanted
        self.outdated()

    def outdated(self) -> None:
        """The segment is another one, or has another result."""
        self._stale = self.wanted
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        if not self.wanted:
            self.layer.hide()

    def step(self, volumeNode: Any, session: WorkerSession | None, key: str) -> str:
        """Goes on, without waiting; `session` is None while it is at other work. Returns a sentence where it fails."""
        if self._pending is not None and self._pending.done:
            pending, self._pending = self._pending, None
            try:
                values = pending.result()
            except FoundationSegError as error:
                return str(error)
            if self._of is not None and self._of[0] is volumeNode:
                self.layer.show(volumeNode, self._of[1], values)
        if self._stale and self._pending is None and session is not None:
            self._stale = False
            self.layer.hide()
            predictions = session.predictions(key) if key in session.segments() else ()
            if not predictions:
                return _(
                    "The uncertainty is not stored with a segment; it is there after the next prediction or replay."
                )
            self._of = volumeNode, predictions[-1].region_box
            self._pending = session.uncertainty_async(key)
        return ""

    def forget(self) -> None:
        """The scene is closed."""
        self._pending, self._stale = None, False
        self.layer.hide()
