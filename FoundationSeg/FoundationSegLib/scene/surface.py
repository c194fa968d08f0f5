# SPDX-License-Identifier: Apache-2.0
"""The 3-D surface of a segmentation, made anew at rest and not with every prompt.

Slicer makes the surface of a segment anew in the very call that edits its voxels: on a large segment a second in which
nothing else happens. Here the old surfaces stay in view, and the new one follows when the work pauses.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import slicer

_SURFACE = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
_REST_S = 0.4  # without a change before surfaces are made
_SHARE = 3.0  # a surface that took a second is made again after three seconds at the earliest


class ThrottledSurface:
    """Surfaces that are out of date, and when they are made."""

    def __init__(self) -> None:
        self._stale: dict[str, tuple[Any, set[str]]] = {}
        self._changed = self._made = 0.0
        self._cost = 0.0

    @property
    def pending(self) -> bool:
        """Whether a surface is to be made."""
        return bool(self._stale)

    @contextmanager
    def heldBack(self, segmentationNode: Any, segmentId: str) -> Iterator[None]:
        """Within, voxels can be edited without surfaces being made; afterwards the segment's one counts as stale."""
        segmentation = segmentationNode.GetSegmentation()
        if not segmentation.ContainsRepresentation(_SURFACE):
            yield
            return
        segments = {n: segmentation.GetSegment(n) for n in segmentation.GetSegmentIDs()}
        surfaces = {n: segment.GetRepresentation(_SURFACE) for n, segment in segments.items()}
        for segment in segments.values():
            segment.RemoveRepresentation(_SURFACE)
        try:
            yield
        finally:
            for n, surface in surfaces.items():
                if surface is not None and segmentation.GetSegment(n) is segments[n]:
                    segments[n].AddRepresentation(_SURFACE, surface)
            stale = self._stale.setdefault(segmentationNode.GetID(), (segmentationNode, set()))
            stale[1].add(segmentId)
            self._changed = time.monotonic()

    def tick(self, idle: bool) -> None:
        """Make what is stale, if nothing else goes on and the last change and the last surface are some time ago."""
        now = time.monotonic()
        if not self._stale or not idle or now - self._changed < _REST_S:
            return
        if now - self._made < _SHARE * self._cost:
            return
        nodeId, (node, segmentIds) = next(iter(self._stale.items()))
        segmentId = segmentIds.pop()
        if not segmentIds:
            del self._stale[nodeId]
        segmentation = node.GetSegmentation()
        if segmentation.GetSegment(segmentId) is not None and segmentation.ContainsRepresentation(_SURFACE):
            remake(segmentation, segmentId)
        self._made = time.monotonic()
        self._cost = self._made - now

    def forget(self, nodeId: str | None = None) -> None:
        """A segmentation is gone; without an argument, all are."""
        if nodeId is None:
            self._stale.clear()
        else:
            self._stale.pop(nodeId, None)


def remake(segmentation: Any, segmentId: str) -> None:
    """Make one segment's surface from its voxels."""
    segmentation.GetSegment(segmentId).RemoveRepresentation(_SURFACE)
    segmentation.CreateRepresentation(_SURFACE)  # of those segments only that have none


def show(segmentationNode: Any, shown: bool) -> None:
    """Show or hide the segmentation in 3-D."""
    if shown:
        segmentationNode.CreateClosedSurfaceRepresentation()
    else:
        segmentationNode.RemoveClosedSurfaceRepresentation()
