# SPDX-License-Identifier: Apache-2.0
"""Hears of everything in the scene that makes a result out of date: markups, segments, nodes that come and go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from .prompt_nodes import TEXT, allPromptNodes, canBePrompt, isPromptNode


@dataclass(frozen=True)
class Listener:
    """What is called; none of it may take long, and none of it may assume that a node is whole."""

    onPrompts: Callable[[], None]  # a prompt may have changed
    onSegments: Callable[[], None]  # segments, their voxels or their tags may have changed
    onNodeRemoved: Callable[[Any], None]
    onSceneClosing: Callable[[], None]
    onSceneLoaded: Callable[[], None]


class SceneWatch(VTKObservationMixin):
    """Observes the scene, its prompt nodes, one volume and one segmentation.

    Attributes:
        dragged: IDs of the prompt nodes that the user has the mouse button on.
    """

    def __init__(self, scene: Any, listener: Listener) -> None:
        VTKObservationMixin.__init__(self)
        self.dragged: set[str] = set()
        self._listener = listener
        self._prompts: set[Any] = set()
        self._watched: list[tuple[Any, Any]] = []
        self._segmentation: Any = None
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self._onNodeRemoved)
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneClosing)
        for event in (scene.EndImportEvent, scene.EndRestoreEvent, scene.EndCloseEvent):
            self.addObserver(scene, event, self._onSceneLoaded)
        self._rescan()

    def close(self) -> None:
        self.removeObservers()
        self._prompts.clear()
        self._watched.clear()
        self._segmentation = None

    def follow(self, segmentationNode: Any, volumeNode: Any) -> None:
        """From now on this segmentation and this volume are observed, and no other."""
        segmentation = None if segmentationNode is None else segmentationNode.GetSegmentation()
        wanted: list[tuple[Any, Any]] = []
        if segmentation is not None:
            kind = slicer.vtkSegmentation
            events = (kind.SegmentAdded, kind.SegmentRemoved, kind.SegmentModified, kind.SourceRepresentationModified)
            wanted += [(segmentation, event) for event in events]
        for node in (segmentationNode, volumeNode):
            if node is not None and node.IsA("vtkMRMLTransformableNode"):
                wanted.append((node, node.TransformModifiedEvent))
        if volumeNode is not None:
            wanted.append((volumeNode, vtk.vtkCommand.ModifiedEvent))
            if volumeNode.IsA("vtkMRMLVolumeNode"):
                wanted.append((volumeNode, volumeNode.ImageDataModifiedEvent))
        for watched in self._watched:
            if watched not in wanted:
                self.removeObserver(*watched, self._onSegments)
        for watch in wanted:
            if watch not in self._watched:
                self.addObserver(*watch, self._onSegments)
        self._watched = wanted

    def _watch(self, node: Any) -> None:
        if not isPromptNode(node) or node in self._prompts:
            return
        self._prompts.add(node)
        if node.IsA(TEXT):
            self.addObserver(node, node.TextModifiedEvent, self._onPrompts)
            self._listener.onPrompts()
            return
        changes = (
            vtk.vtkCommand.ModifiedEvent,
            node.TransformModifiedEvent,
            node.PointModifiedEvent,
            node.PointPositionDefinedEvent,
            node.PointPositionUndefinedEvent,
            node.PointRemovedEvent,
        )
        for event in changes:
            self.addObserver(node, event, self._onPrompts)
        self.addObserver(node, node.PointStartInteractionEvent, self._onDragStarted)
        self.addObserver(node, node.PointEndInteractionEvent, self._onDragEnded)
        self._listener.onPrompts()

    def _rescan(self) -> None:
        for node in allPromptNodes():
            self._watch(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)  # type: ignore[untyped-decorator]
    def _onNodeAdded(self, caller: Any, event: Any, node: Any) -> None:
        if node is not None and canBePrompt(node):
            self._watch(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)  # type: ignore[untyped-decorator]
    def _onNodeRemoved(self, caller: Any, event: Any, node: Any) -> None:
        if node is None:
            return
        if node in self._prompts:
            self._prompts.remove(node)
            self.dragged.discard(node.GetID())
            for observed, kind, method, *_rest in list(self.Observations):
                if observed is node:
                    self.removeObserver(observed, kind, method)
            self._listener.onPrompts()
        self._listener.onNodeRemoved(node)

    def _onSceneClosing(self, caller: Any, event: Any) -> None:
        self.dragged.clear()
        self._listener.onSceneClosing()

    def _onSceneLoaded(self, caller: Any, event: Any) -> None:
        self._rescan()
        self._listener.onSceneLoaded()

    def _onPrompts(self, caller: Any, event: Any) -> None:
        self._listener.onPrompts()

    def _onSegments(self, caller: Any, event: Any) -> None:
        self._listener.onSegments()

    def _onDragStarted(self, caller: Any, event: Any) -> None:
        self.dragged.add(caller.GetID())

    def _onDragEnded(self, caller: Any, event: Any) -> None:
        self.dragged.discard(caller.GetID())
        self._listener.onPrompts()
