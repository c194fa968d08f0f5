# SPDX-License-Identifier: Apache-2.0
"""Writes masks into segments through Slicer's own segment editing logic, so that its settings and its undo hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..errors import OutputError
from ..mrml import Mask, gridGeometry, matchGrid, segmentMask, segmentOf, surfacesSentence
from ..region import Box3
from ..segmentation_io import escape_tag
from .parameters import MODULE

_EDITOR_CLASS = "vtkMRMLSegmentEditorNode"
_UNDO_STATES = 10  # as many as Slicer's Segment Editor keeps


class SegmentWriter:
    """Writes masks into the segments of one node through Slicer's own segment editing logic.

    What a person set up in the Segment Editor holds here too: which neighbours may be overwritten, the editable area
    and the editable intensity range. Adding voxels behaves as Paint does, removing them as Erase. In a scene where the
    Segment Editor was never opened nothing is overwritten and everything is editable.

    Each commit is one step of the undo history that :meth:`undo` and :meth:`redo` walk through, and of the Segment
    Editor's where :meth:`commit` is given its `saveStateForUndo`.
    """

    def __init__(self, segmentationNode: Any) -> None:
        self.segmentationNode = segmentationNode
        # A node of its own, because changing the selected segment of the user's node would show in the Segment Editor.
        self._editorNode = slicer.vtkMRMLSegmentEditorNode()
        self._editorNode.SetHideFromEditors(True)
        self._editorNode.SetSaveWithScene(False)
        self._editorNode.SetAttribute("ModuleName", MODULE)
        segmentationNode.GetScene().AddNode(self._editorNode)
        self._editorNode.SetAndObserveSegmentationNode(segmentationNode)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLScene(segmentationNode.GetScene())
        self._logic.SetSegmentEditorNode(self._editorNode)
        self._logic.SetMaximumNumberOfUndoStates(_UNDO_STATES)
        # Verbose is what makes the logic report failures at all: its editing calls return nothing.
        self._logic.SetVerbose(True)

    def close(self) -> None:
        """Forget the undo history and leave nothing in the scene."""
        self._logic.SetSegmentEditorNode(None)
        if self._editorNode.GetScene() is not None:
            self._editorNode.GetScene().RemoveNode(self._editorNode)

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    def saveState(self) -> None:
        """Begin a step that is not a commit: a segment is added or removed."""
        self._logic.SaveStateForUndo()

    def canUndo(self) -> bool:
        return bool(self._logic.CanUndo())

    def canRedo(self) -> bool:
        return bool(self._logic.CanRedo())

    def clearHistory(self) -> None:
        """Forget all steps, where another history has taken over."""
        self._logic.ClearUndoState()

    def commit(
        self,
        segmentId: str,
        volumeNode: Any,
        mask: Mask,
        box: Box3,
        *,
        tags: Mapping[str, str | None] | None = None,
        saveStateForUndo: Callable[[], Any] | None = None,
    ) -> bool:
        """Make the segment equal to `mask` inside `box` and leave it as it is outside, as one undoable step.

        Args:
            mask: bool, (k, j, i), of the box's shape, or on the whole grid of the volume node.
            box: (k, j, i) slices, the extent that changed.
            tags: segment tags to set in the same step (prompts, provenance, ...); None removes one.
            saveStateForUndo: saves a state in another undo history too: that of an open Segment Editor.

        Returns:
            whether it is equal for sure: no masking setting of the Segment Editor has kept voxels from being edited.

        Raises:
            OutputError: if it cannot be written; the segmentation is as it was.
        """
        segment = segmentOf(self.segmentationNode, segmentId)
        if not self._logic.TrivialSetSourceRepresentationToBinaryLabelmap():
            raise OutputError(surfacesSentence(self.segmentationNode))
        matchGrid(self.segmentationNode, volumeNode)
        before = segmentMask(self.segmentationNode, segmentId, volumeNode, box)
        wanted = mask if mask.shape == before.shape else mask[box]
        restricted = self._followUser(segmentId, volumeNode)

        self._logic.SaveStateForUndo()
        if saveStateForUndo is not None:
            saveStateForUndo()
        try:
            with self._reportedErrors():
                self._modify(segmentId, before & ~wanted, box, self._logic.ModificationModeRemove)
                self._modify(segmentId, wanted & ~before, box, self._logic.ModificationModeAdd)
            after = segmentMask(self.segmentationNode, segmentId, volumeNode, box)
            if not restricted and not np.array_equal(after, wanted):
                raise OutputError("3D Slicer did not store the voxels of the result")
            for name, value in (tags or {}).items():
                if value is None:
                    segment.RemoveTag(name)
                else:
                    segment.SetTag(name, escape_tag(value))
        except Exception as error:
            # Undo goes back one state too far unless something was modified, and redo would bring the failed state back
            # unless something is modified afterwards.
            segment.Modified()
            self._logic.Undo()
            segment.Modified()
            raise OutputError(
                f'The result could not be written into the segment "{segment.GetName()}", which is unchanged '
                f"({error}); check the masking settings of the Segment Editor and try again."
            ) from error
        return not restricted

    def _modify(self, segmentId: str, voxels: Mask, box: Box3, mode: int) -> None:
        if not voxels.any():
            return
        labelmap = gridGeometry(self.segmentationNode)
        extent = [bound for part in reversed(box) for bound in (part.start, part.stop - 1)]
        labelmap.SetExtent(extent)
        scalars = numpy_to_vtk(voxels.astype(np.uint8).ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR)
        labelmap.GetPointData().SetScalars(scalars)
        self._logic.ModifySegmentByLabelmap(self.segmentationNode, segmentId, labelmap, mode, extent, True, False)

    def _followUser(self, segmentId: str, volumeNode: Any) -> bool:
        """Take over the Segment Editor's settings. Returns whether they keep some voxels from being edited."""
        own, user = self._editorNode, self._userEditorNode()
        own.SetSelectedSegmentID(segmentId)
        own.SetAndObserveSourceVolumeNode(volumeNode)
        if user is None:
            own.SetOverwriteMode(own.OverwriteNone)
            own.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
            own.SourceVolumeIntensityMaskOff()
            return False
        own.SetOverwriteMode(user.GetOverwriteMode())
        # An area that is made of segments means nothing for the segments of another node.
        same = user.GetSegmentationNode() is self.segmentationNode
        own.SetMaskMode(user.GetMaskMode() if same else slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
        own.SetMaskSegmentID(user.GetMaskSegmentID() if same else None)
        own.SetSourceVolumeIntensityMask(user.GetSourceVolumeIntensityMask())
        own.SetSourceVolumeIntensityMaskRange(user.GetSourceVolumeIntensityMaskRange())
        if user.GetSourceVolumeIntensityMask() and user.GetSourceVolumeNode() is not None:
            own.SetAndObserveSourceVolumeNode(user.GetSourceVolumeNode())
        everywhere = own.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
        return not everywhere or bool(own.GetSourceVolumeIntensityMask())

    def _userEditorNode(self) -> Any:
        scene = self.segmentationNode.GetScene()
        node = scene.GetSingletonNode("SegmentEditor", _EDITOR_CLASS)  # the Segment Editor module's
        if node is not None:
            return node
        nodes = (scene.GetNthNodeByClass(n, _EDITOR_CLASS) for n in range(scene.GetNumberOfNodesByClass(_EDITOR_CLASS)))
        return next((node for node in nodes if node.GetAttribute("ModuleName") != MODULE), None)

    @contextmanager
    def _reportedErrors(self) -> Iterator[None]:
        """Turn the errors that the logic only prints into an exception."""
        messages: list[str] = []

        def collect(caller: Any, event: str, message: str) -> None:
            # Where a segmentation stands in the subject hierarchy is not our concern (and needs the desktop).
            if "ubject hierarchy" not in message:
                messages.append(message)

        observer = vtk.calldata_type(vtk.VTK_STRING)(collect)
        tag = self._logic.AddObserver(vtk.vtkCommand.ErrorEvent, observer)
        try:
            yield
        finally:
            self._logic.RemoveObserver(tag)
        if messages:
            raise OutputError("; ".join(message.strip().splitlines()[-1] for message in messages))
