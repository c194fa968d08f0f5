# SPDX-License-Identifier: Apache-2.0
"""Slicer's own Segment Editor: found where it is open, and opened on the segment that is being worked on."""

from __future__ import annotations

from typing import Any

import slicer


def findOpenEditor(segmentationNode: Any) -> Any:
    """The Segment Editor's widget (a qMRMLSegmentEditorWidget) where it is open on the segmentation, else None."""
    widget = getattr(slicer.modules, "SegmentEditorWidget", None)
    editor = widget.editor if widget is not None else None
    if editor is None or segmentationNode is None or editor.segmentationNode() is not segmentationNode:
        return None
    return editor


def isAvailable() -> bool:
    """Whether the application has a Segment Editor."""
    return hasattr(slicer.modules, "segmenteditor")


def openEditor(segmentationNode: Any, segmentId: str, volumeNode: Any) -> None:
    """Switch to the Segment Editor, on this segment of this segmentation."""
    slicer.util.selectModule("SegmentEditor")
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    editor.setSegmentationNode(segmentationNode)
    editor.setSourceVolumeNode(volumeNode)
    editor.setCurrentSegmentID(segmentId)
