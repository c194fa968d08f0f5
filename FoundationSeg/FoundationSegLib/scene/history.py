# SPDX-License-Identifier: Apache-2.0
"""The one undo history of a segmentation: the Segment Editor's where that is open on it, else one of our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..region import Box3
from .outcome import Mask
from .writer import SegmentWriter


class Editor(Protocol):
    """What is needed of an open Segment Editor (a qMRMLSegmentEditorWidget)."""

    def saveStateForUndo(self) -> None: ...

    def undo(self) -> None: ...

    def redo(self) -> None: ...


# The Segment Editor that is open on a segmentation node, or None.
FindEditor = Callable[[Any], Editor | None]


class EditingHistory:
    """Writes into segmentations, each time as one step that can be undone together with manual edits.

    As soon as the Segment Editor is open on a segmentation its history takes over, and the own one is forgotten: going
    back in that would take manual edits away that it never heard of.
    """

    def __init__(self, findEditor: FindEditor | None = None) -> None:
        self._findEditor = findEditor or (lambda node: None)
        self._writers: dict[str, SegmentWriter] = {}

    def commit(
        self,
        segmentationNode: Any,
        segmentId: str,
        volumeNode: Any,
        box: Box3,
        mask: Mask,
        tags: Mapping[str, str | None],
    ) -> bool:
        """See SegmentWriter.commit, also for what is returned. Raises OutputError; the segmentation is as it was."""
        editor = self._findEditor(segmentationNode)
        writer = self._writer(segmentationNode)
        save = None if editor is None else editor.saveStateForUndo
        equal = writer.commit(segmentId, volumeNode, mask, box, tags=tags, saveStateForUndo=save)
        if editor is not None:
            writer.clearHistory()
        return equal

    def save(self, segmentationNode: Any) -> None:
        """Save the state before a change that somebody else makes (a segment is added)."""
        editor = self._findEditor(segmentationNode)
        if editor is not None:
            editor.saveStateForUndo()
        else:
            self._writer(segmentationNode).saveState()

    def undo(self, segmentationNode: Any) -> None:
        (self._findEditor(segmentationNode) or self._writer(segmentationNode)).undo()

    def redo(self, segmentationNode: Any) -> None:
        (self._findEditor(segmentationNode) or self._writer(segmentationNode)).redo()

    def canUndo(self, segmentationNode: Any) -> bool:
        """Whether there is a step to take back; the Segment Editor does not say, so True where that is open."""
        if segmentationNode is None:
            return False
        writer = self._writers.get(segmentationNode.GetID())
        return self._findEditor(segmentationNode) is not None or (writer is not None and writer.canUndo())

    def canRedo(self, segmentationNode: Any) -> bool:
        """As :meth:`canUndo`."""
        if segmentationNode is None:
            return False
        writer = self._writers.get(segmentationNode.GetID())
        return self._findEditor(segmentationNode) is not None or (writer is not None and writer.canRedo())

    def forget(self, nodeId: str) -> None:
        """The segmentation is gone."""
        writer = self._writers.pop(nodeId, None)
        if writer is not None:
            writer.close()

    def clear(self) -> None:
        """The scene is closed."""
        for nodeId in list(self._writers):
            self.forget(nodeId)

    def _writer(self, segmentationNode: Any) -> SegmentWriter:
        nodeId = segmentationNode.GetID()
        if nodeId not in self._writers:
            self._writers[nodeId] = SegmentWriter(segmentationNode)
        return self._writers[nodeId]
