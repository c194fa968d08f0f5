# SPDX-License-Identifier: Apache-2.0
"""The nodes that are the prompts of a segment: found, made, read and removed.

A prompt node says with a node reference and an attribute, both saved with the scene, which segment it is for. The
points of a segment share a node per sign; every box and every curve is a node of its own. All of these are markups; the
name of a structure is a text node.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..errors import PromptError
from ..mrml import placedPoints, promptsFromMarkups, promptSign, setPromptSign
from ..prompts import Box, Lasso, Point, Prompt, Scribble, TextPrompt
from .prompt_style import promptName, stylePrompt
from .rounds import Book, Key, entries_of, needs_markup, with_markup

SEGMENT_ATTRIBUTE = "FoundationSeg.SegmentID"  # of a prompt node: the segment that it is a prompt for
SEGMENTATION_ROLE = "FoundationSeg.segmentation"  # node reference: the segmentation that has this segment

POINTS = "vtkMRMLMarkupsFiducialNode"
BOX = "vtkMRMLMarkupsROINode"
CURVE = "vtkMRMLMarkupsCurveNode"
OUTLINE = "vtkMRMLMarkupsClosedCurveNode"
TEXT = "vtkMRMLTextNode"
_KINDS = {POINTS: "point", BOX: "box", CURVE: "scribble", OUTLINE: "lasso", TEXT: "text"}


def isPromptNode(node: Any) -> bool:
    """Whether the node is marked as a prompt of a segment."""
    return canBePrompt(node) and bool(node.GetAttribute(SEGMENT_ATTRIBUTE))


def canBePrompt(node: Any) -> bool:
    """Whether the node is of a class that prompts are of."""
    return bool(node.IsA("vtkMRMLMarkupsNode") or node.IsA(TEXT))


def allPromptNodes() -> list[Any]:
    """The prompt nodes of all segmentations: names first, then markups in the scene's order."""
    nodes = (*slicer.util.getNodesByClass(TEXT), *slicer.util.getNodesByClass("vtkMRMLMarkupsNode"))
    return [node for node in nodes if isPromptNode(node)]


def promptNodes(segmentationNode: Any, segmentId: str | None = None) -> list[Any]:
    """The prompt nodes of one segment, or of all segments, of a segmentation, in the scene's order."""
    if segmentationNode is None:
        return []
    return [
        node
        for node in allPromptNodes()
        if node.GetNodeReference(SEGMENTATION_ROLE) is segmentationNode
        and segmentId in (None, node.GetAttribute(SEGMENT_ATTRIBUTE))
    ]


def claimedSegments(segmentationNode: Any) -> set[str]:
    """IDs of the segments that prompt nodes of this segmentation are for."""
    return {node.GetAttribute(SEGMENT_ATTRIBUTE) for node in promptNodes(segmentationNode)}


def pointsNode(segmentationNode: Any, segmentId: str, positive: bool) -> Any:
    """The node that collects the segment's points of this sign; made where there is none."""
    for node in promptNodes(segmentationNode, segmentId):
        if node.IsA(POINTS) and promptSign(node) is positive:
            return node
    return newPromptNode(POINTS, segmentationNode, segmentId, positive)


def nameNode(segmentationNode: Any, segmentId: str) -> Any:
    """The text node that says what the segment's structure is called; None where there is none."""
    return next((node for node in promptNodes(segmentationNode, segmentId) if node.IsA(TEXT)), None)


def newPromptNode(className: str, segmentationNode: Any, segmentId: str, positive: bool) -> Any:
    """An empty node that is a prompt of the segment, from the moment at which it enters the scene."""
    scene = segmentationNode.GetScene()
    node = scene.CreateNodeByClass(className)
    node.UnRegister(None)
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    name = f"{segment.GetName()} - {promptName(_KINDS[className], positive)}"
    node.SetName(scene.GenerateUniqueName(name))
    node.SetNodeReferenceID(SEGMENTATION_ROLE, segmentationNode.GetID())
    node.SetAttribute(SEGMENT_ATTRIBUTE, segmentId)
    scene.AddNode(node)
    if className == TEXT:
        setPromptSign(node, positive)
    else:
        stylePrompt(node, positive)
    return node


def readPrompts(nodes: Collection[Any]) -> tuple[dict[Key, Prompt], list[str]]:
    """The prompts that the nodes stand for, and a sentence for each node that cannot be one (too few points, ...).

    A node without any point is neither.
    """
    prompts: dict[Key, Prompt] = {}
    problems: list[str] = []
    for node in nodes:
        if node.IsA(POINTS):
            for index, prompt in zip(placedPoints(node), promptsFromMarkups(node), strict=True):
                prompts[node.GetID(), node.GetNthControlPointID(index)] = prompt
        elif node.IsA(TEXT):
            if (node.GetText() or "").strip():
                prompts[node.GetID(), ""] = TextPrompt(node.GetText().strip(), promptSign(node) is not False)
        elif node.GetNumberOfDefinedControlPoints() > 0:
            try:
                (prompt,) = promptsFromMarkups(node)
            except PromptError as error:
                problems.append(str(error))
            else:
                prompts[node.GetID(), ""] = prompt
    return prompts, problems


def addMarkup(prompt: Prompt, segmentationNode: Any, segmentId: str) -> Key:
    """A node that stands for the prompt. Raises PromptError for one that no node can stand for."""
    match prompt:
        case TextPrompt():
            node = newPromptNode(TEXT, segmentationNode, segmentId, prompt.positive)
            node.SetText(prompt.text)
            return node.GetID(), ""
        case Point():
            node = pointsNode(segmentationNode, segmentId, prompt.positive)
            index = node.AddControlPointWorld(vtk.vtkVector3d(*prompt.ras))
            return node.GetID(), node.GetNthControlPointID(index)
        case Box():
            node = newPromptNode(BOX, segmentationNode, segmentId, prompt.positive)
            low, high = np.asarray(prompt.ras_min), np.asarray(prompt.ras_max)
            toWorld = np.eye(4)
            toWorld[:3, :3] = prompt.directions.T
            toWorld[:3, 3] = prompt.directions.T @ ((low + high) / 2)
            node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(toWorld))
            node.SetSize(*(high - low).tolist())
            return node.GetID(), ""
        case Scribble() | Lasso():
            className = CURVE if isinstance(prompt, Scribble) else OUTLINE
            node = newPromptNode(className, segmentationNode, segmentId, prompt.positive)
            node.SetCurveTypeToLinear()
            points = vtk.vtkPoints()
            for point in prompt.points:
                points.InsertNextPoint(point)
            node.SetControlPointPositionsWorld(points)
            return node.GetID(), ""
    raise PromptError(_("A prompt of this kind has no markup."))


def removeOrphans(scene: Any, nodeId: str) -> None:
    """Remove the prompts of a segmentation that has gone from the scene."""
    for node in allPromptNodes():
        if node.GetNodeReferenceID(SEGMENTATION_ROLE) in (None, "", nodeId):
            scene.RemoveNode(node)


def removeMarkup(key: Key) -> None:
    """Remove what stands for a prompt: the point, or the node."""
    node = slicer.mrmlScene.GetNodeByID(key[0])
    if node is None:
        return
    if key[1]:
        index = node.GetNthControlPointIndexByID(key[1])
        if index >= 0:
            node.RemoveNthControlPoint(index)
    else:
        slicer.mrmlScene.RemoveNode(node)


def completed(book: Book, segmentationNode: Any, segmentId: str) -> Book:
    """The book after markups were made for all prompts that lack one."""
    for entry in [entry for entry in entries_of(book) if needs_markup(entry)]:
        key = addMarkup(entry.prompt, segmentationNode, segmentId)
        node = slicer.mrmlScene.GetNodeByID(key[0])
        seen = readPrompts([node])[0].get(key, entry.prompt)
        book = with_markup(book, entry, key, seen)
    return book


def showOnly(segmentationNode: Any, segmentId: str) -> None:
    """Show the prompts of one segment and hide those of the others."""
    for node in promptNodes(segmentationNode):
        display = None if node.IsA(TEXT) else node.GetDisplayNode()
        shown = node.GetAttribute(SEGMENT_ATTRIBUTE) == segmentId
        if display is not None and bool(display.GetVisibility()) != shown:
            display.SetVisibility(shown)


def describe(prompt: Prompt) -> str:
    """A prompt in a list: its kind and sign."""
    if isinstance(prompt, TextPrompt):
        text = _("Name: {name}") if prompt.positive else _("Not: {name}")
        return text.format(name=prompt.text)
    texts: Mapping[tuple[type, bool], str] = {
        (Point, True): _("Point on the structure"),
        (Point, False): _("Point beside it"),
        (Box, True): _("Box around the structure"),
        (Box, False): _("Box beside it"),
        (Scribble, True): _("Scribble on the structure"),
        (Scribble, False): _("Scribble beside it"),
        (Lasso, True): _("Lasso around the structure"),
        (Lasso, False): _("Lasso around what is beside it"),
    }
    return texts[type(prompt), prompt.positive]
