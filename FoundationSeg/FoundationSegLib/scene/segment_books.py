# SPDX-License-Identifier: Apache-2.0
"""Keeps the prompts stored with segments and the markups in the scene in step, whichever of the two has changed."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from .. import mrml
from ..errors import PromptError
from ..prompts import Round
from .prompt_nodes import claimedSegments, completed, promptNodes, readPrompts, removeMarkup
from .rounds import Key, adopt, keys_of
from .segment_state import SegmentState


class SegmentBooks:
    """The state of every segment that the panel has seen."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], SegmentState] = {}
        self._names: dict[tuple[str, str], str] = {}

    def state(self, segmentationNode: Any, segmentId: str) -> SegmentState:
        """Of one segment."""
        return self._states.setdefault((segmentationNode.GetID(), segmentId), SegmentState())

    def sync(self, segmentationNode: Any) -> bool:
        """Follow what was loaded, undone or removed: the stored prompts count, and markups are made and removed.

        Markups whose prompts have no result yet are left alone. Returns whether anything was changed.
        """
        changed = False
        nodeId = segmentationNode.GetID()
        present = list(segmentationNode.GetSegmentation().GetSegmentIDs())
        for segmentId in present:
            self._followName(segmentationNode, segmentId)
            tag = mrml.promptsTag(segmentationNode, segmentId)
            state = self._states.get((nodeId, segmentId))
            if tag == ("" if state is None else state.tag):
                continue
            changed = True
            old = () if state is None else state.book
            prompts, _problems = readPrompts(promptNodes(segmentationNode, segmentId))
            book = adopt(_storedRounds(segmentationNode, segmentId), old, prompts)
            for key in keys_of(old) - keys_of(book):
                removeMarkup(key)
            book = completed(book, segmentationNode, segmentId)
            quality = _storedQuality(segmentationNode, segmentId) if book else None
            self._states[nodeId, segmentId] = SegmentState(book, tag, quality=quality)
        for segmentId in claimedSegments(segmentationNode) - set(present):
            changed = True
            for node in promptNodes(segmentationNode, segmentId):
                node.GetScene().RemoveNode(node)
        for known in (self._states, self._names):
            for key in [key for key in known if key[0] == nodeId and key[1] not in present]:
                del known[key]
        return changed

    def _followName(self, segmentationNode: Any, segmentId: str) -> None:
        """A segment that is given the name of a known structure gets its terminology and colour."""
        name = segmentationNode.GetSegmentation().GetSegment(segmentId).GetName()
        key = segmentationNode.GetID(), segmentId
        if self._names.setdefault(key, name) != name:
            self._names[key] = name
            mrml.applyTerm(segmentationNode, segmentId)

    def takeBack(self, segmentationNode: Any, segmentId: str, key: Key) -> None:
        """Undo what a person did to a markup since the last result: remove a new one, put a moved one back."""
        state = self.state(segmentationNode, segmentId)
        removeMarkup(key)
        if key in keys_of(state.book):
            book = tuple(tuple(replace(e, key=None) if e.key == key else e for e in r) for r in state.book)
            state.book = completed(book, segmentationNode, segmentId)

    def forget(self, nodeId: str) -> None:
        """The segmentation is gone."""
        for known in (self._states, self._names):
            for key in [key for key in known if key[0] == nodeId]:
                del known[key]

    def clear(self) -> None:
        self._states.clear()
        self._names.clear()


def _storedQuality(segmentationNode: Any, segmentId: str) -> float | None:
    """The predicted IoU that was stored with the segment."""
    try:
        quality = mrml.provenance(segmentationNode, segmentId).get("predicted_iou")
    except PromptError:
        return None  # damaged: as good as not stored
    return float(quality) if isinstance(quality, int | float) else None


def _storedRounds(segmentationNode: Any, segmentId: str) -> tuple[Round, ...]:
    try:
        return mrml.promptRounds(segmentationNode, segmentId)
    except PromptError as error:
        logging.warning("FoundationSeg starts this segment's prompts afresh: %s", error)
        return ()
