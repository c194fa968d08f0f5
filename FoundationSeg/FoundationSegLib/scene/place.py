# SPDX-License-Identifier: Apache-2.0
"""Points are placed in Slicer's own place mode, so that they behave as every other point does.

:class:`PointPlacer` keeps that mode on one points node, click after click, until the person leaves it (Esc, the right
button, Slicer's toolbar) or starts to place something else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.util import VTKObservationMixin


class PointPlacer(VTKObservationMixin):
    """Place mode for the points of one node. `onEnded` is called when it ended other than by :meth:`stop`."""

    def __init__(self, scene: Any, onEnded: Callable[[], Any] | None = None) -> None:
        VTKObservationMixin.__init__(self)
        self._scene = scene
        self._onEnded = onEnded
        self._node: Any = None
        self._before: tuple[str, str] = ("", "")

    @property
    def node(self) -> Any:
        """The node that a click adds a point to; None while no point is being placed."""
        return self._node

    def start(self, markupsNode: Any) -> None:
        """From now on every click in a view adds a point to the node."""
        selection, interaction = self._selectionNode(), self._interactionNode()
        if self._node is None:
            self._before = (selection.GetActivePlaceNodeClassName() or "", selection.GetActivePlaceNodeID() or "")
        self.removeObservers()
        self._node = markupsNode
        modifying = selection.StartModify()
        selection.SetReferenceActivePlaceNodeClassName(markupsNode.GetClassName())
        selection.SetActivePlaceNodeID(markupsNode.GetID())
        selection.EndModify(modifying)
        interaction.SwitchToPersistentPlaceMode()
        self.addObserver(interaction, interaction.InteractionModeChangedEvent, self._check)
        self.addObserver(selection, selection.ActivePlaceNodeIDChangedEvent, self._check)
        self.addObserver(self._scene, self._scene.NodeRemovedEvent, self._check)

    def stop(self) -> None:
        """Leave place mode; what was to be placed before is what Slicer's toolbar places next."""
        if self._node is None:
            return
        placed = self._node.GetID()
        self._end()
        selection, interaction = self._selectionNode(), self._interactionNode()
        className, nodeId = self._before
        if className:
            selection.SetReferenceActivePlaceNodeClassName(className)
        # A new node is made the active one by Slicer at once; a point placed with the toolbar later is no prompt.
        restored = nodeId != placed and self._scene.GetNodeByID(nodeId) is not None
        selection.SetActivePlaceNodeID(nodeId if restored else None)
        interaction.SwitchToViewTransformMode()

    def _check(self, caller: Any, event: Any) -> None:
        node = self._node
        if node is None:
            return
        interaction = self._interactionNode()
        inScene = node.GetScene() is self._scene
        if not inScene or interaction.GetCurrentInteractionMode() != interaction.Place:
            self._ended(leave=not inScene)
        elif self._selectionNode().GetActivePlaceNodeID() != node.GetID():
            self._ended(leave=False)  # the person places something else now

    def _ended(self, leave: bool) -> None:
        self._end()
        if leave:
            # Otherwise the next click would make a node of its own.
            self._interactionNode().SwitchToViewTransformMode()
        if self._onEnded is not None:
            self._onEnded()

    def _end(self) -> None:
        self.removeObservers()
        self._node = None

    def _selectionNode(self) -> Any:
        return self._scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")

    def _interactionNode(self) -> Any:
        return self._scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
