# SPDX-License-Identifier: Apache-2.0
"""The scene layer: from MRML nodes to the engine's volumes and prompts, and back to segments, edited as Slicer does.

Everything here works without a window. Positions are world RAS millimetres, with all parent transforms applied; arrays
are (k, j, i) on the grid of the volume node.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .errors import OutputError, PromptError, VolumeError
from .prompts import Box, Lasso, Point, Prompt, Round, Scribble, Vector, rounds_from_list
from .region import Box3
from .segmentation_io import unescape_tag
from .session import PROMPTS_TAG, PROVENANCE_TAG
from .terminology import lookup
from .volume import Volume

Mask = npt.NDArray[np.bool_]

_TERMINOLOGY_TAG = "TerminologyEntry"
_UNSPECIFIC = "~SCT^85756007^Tissue~"  # as Slicer marks a segment of which nothing is known
LABELMAP = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
POSITIVE_ATTRIBUTE = "FoundationSeg.Positive"  # of a markups node: "1" on the structure, "0" beside it
_SIGNS = {"positive": True, "negative": False}


# --- volume nodes -----------------------------------------------------------------------------------------------------


def volumeFromNode(volumeNode: Any) -> Volume:
    """The voxels of a scalar volume node, placed in the world (linear parent transforms applied, shear included).

    The voxels are copied: a later change of the node does not reach a running session.

    Raises:
        VolumeError: if the node is no single 3-D grey-value image, has no voxels, or is under a non-linear transform.
    """
    checkVolumeNode(volumeNode)
    return Volume(slicer.util.arrayFromVolume(volumeNode).copy(), ijkToWorld(volumeNode), modality(volumeNode))


def volumeKey(volumeNode: Any) -> tuple[Any, ...]:
    """Node ID first, then what changes whenever `volumeFromNode` would give another volume. Raises as that does."""
    checkVolumeNode(volumeNode)
    return volumeNode.GetID(), volumeNode.GetImageData().GetMTime(), ijkToWorld(volumeNode).tobytes()


def ijkToWorld(volumeNode: Any) -> npt.NDArray[np.float64]:
    """4x4 float64: voxel index (i, j, k, 1) to world RAS mm. VolumeError under a non-linear transform."""
    toWorld = vtk.vtkMatrix4x4()
    parent = volumeNode.GetParentTransformNode()
    if parent is not None and not parent.GetMatrixTransformToWorld(toWorld):
        raise VolumeError(
            f'"{volumeNode.GetName()}" is under a non-linear transform; harden the transform on the volume first '
            "(that resamples it)."
        )
    toNode = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(toNode)
    return slicer.util.arrayFromVTKMatrix(toWorld) @ slicer.util.arrayFromVTKMatrix(toNode)


def checkVolumeNode(volumeNode: Any) -> None:
    """Raises VolumeError, with what to do, unless the node is a single 3-D grey-value image with voxels."""
    if volumeNode is None:
        raise VolumeError("No volume is selected; choose one.")
    name = volumeNode.GetName()
    if not volumeNode.IsA("vtkMRMLScalarVolumeNode"):
        raise VolumeError(
            f'"{name}" is not a scalar volume; choose a grey-value image (of a sequence: its proxy node).'
        )
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise VolumeError(f'"{name}" is a label map, not an image; choose the image that it was drawn on.')
    image = volumeNode.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise VolumeError(f'"{name}" has no voxels; load its image again or choose another volume.')
    if image.GetNumberOfScalarComponents() != 1:
        raise VolumeError(
            f'"{name}" has {image.GetNumberOfScalarComponents()} values per voxel (colour, vector or time series); '
            "choose a volume with one grey value per voxel."
        )
    if any(image.GetExtent()[::2]):
        raise VolumeError(f'The voxel indices of "{name}" do not start at 0; crop it again with Crop Volume.')


def modality(volumeNode: Any) -> str | None:
    """DICOM code of the modality where Slicer's DICOM import has kept it, else None."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    item = hierarchy.GetItemByDataNode(volumeNode)
    # Item 0 is "not in the hierarchy", which is so without the desktop's plugins.
    return hierarchy.GetItemAttribute(item, "DICOM.Modality") or None if item else None


# --- markups to prompts -----------------------------------------------------------------------------------------------


def promptsFromMarkups(markupsNode: Any, positive: bool = True) -> tuple[Prompt, ...]:
    """The prompts that a markups node stands for, in world RAS mm.

    Points give `Point`, each negative or positive as its description says ("negative"/"positive"), else as the node's
    own sign says (:func:`promptSign`), else as `positive` says. A ROI gives `Box` (with axes), an open curve
    `Scribble`, a closed curve `Lasso`. Control points that are not placed yet are left out.

    Raises:
        PromptError: if the node is of another kind, or has too few points to mean anything.
    """
    own = promptSign(markupsNode)
    positive = positive if own is None else own
    if markupsNode.IsA("vtkMRMLMarkupsFiducialNode"):
        return _points(markupsNode, positive)
    if markupsNode.IsA("vtkMRMLMarkupsROINode"):
        return (_box(markupsNode, positive),)
    if markupsNode.IsA("vtkMRMLMarkupsCurveNode"):
        return (_curve(markupsNode, positive),)
    raise PromptError(f'"{markupsNode.GetName()}" cannot be a prompt; use points, a ROI, or an open or closed curve.')


def promptSign(markupsNode: Any) -> bool | None:
    """Whether a markups node was drawn on the structure (True) or beside it (False); None where it does not say."""
    return {"1": True, "0": False}.get(markupsNode.GetAttribute(POSITIVE_ATTRIBUTE) or "")


def setPromptSign(markupsNode: Any, positive: bool) -> None:
    """Keep the sign with the node, so that the scene saves it."""
    markupsNode.SetAttribute(POSITIVE_ATTRIBUTE, "1" if positive else "0")


def placedPoints(markupsNode: Any) -> list[int]:
    """Indices of the control points that have a position, and are not only about to be placed."""
    defined = markupsNode.PositionDefined
    count = markupsNode.GetNumberOfControlPoints()
    return [index for index in range(count) if markupsNode.GetNthControlPointPositionStatus(index) == defined]


def _points(node: Any, positive: bool) -> tuple[Prompt, ...]:
    return tuple(
        Point(
            ras=_vector(node.GetNthControlPointPositionWorld(index)),
            positive=_SIGNS.get(node.GetNthControlPointDescription(index).strip().lower(), positive),
        )
        for index in placedPoints(node)
    )


def _box(node: Any, positive: bool) -> Prompt:
    # Slicer keeps a ROI a box under any transform (shear is dropped, scale is kept). This is the box that is displayed.
    toWorld = slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix())
    lengths = np.linalg.norm(toWorld[:3, :3], axis=0)
    size = np.asarray(node.GetSize()) * lengths
    if not (size > 0).all():
        raise PromptError(f'The ROI "{node.GetName()}" has no extent; place it or give it a size.')
    axes = (toWorld[:3, :3] / lengths).T
    centre = axes @ toWorld[:3, 3]
    return Box(
        ras_min=_vector(centre - size / 2),
        ras_max=_vector(centre + size / 2),
        axes=(_vector(axes[0]), _vector(axes[1]), _vector(axes[2])),
        positive=positive,
    )


def _curve(node: Any, positive: bool) -> Prompt:
    closed = node.GetCurveClosed()
    needed = 3 if closed else 2
    placed = len(placedPoints(node))
    if placed < needed:
        raise PromptError(f'The curve "{node.GetName()}" has {placed} points and needs {needed}; place more.')
    if node.GetCurveTypeAsString(node.GetCurveType()) == "linear":
        # Its points say all, and exactly: what Slicer puts between them is single precision, and much to keep.
        points = tuple(_vector(node.GetNthControlPointPositionWorld(index)) for index in placedPoints(node))
    else:
        points = tuple(_vector(point) for point in vtk_to_numpy(node.GetCurvePointsWorld().GetData()))
    if not closed:
        return Scribble(points=points, positive=positive)
    # Slicer repeats the first point of a closed curve at its end.
    return Lasso(points=points[:-1] if points[0] == points[-1] else points, positive=positive)


def _vector(values: Any) -> Vector:
    r, a, s = (float(value) for value in values)
    return r, a, s


# --- segments ---------------------------------------------------------------------------------------------------------


def createSegmentation(volumeNode: Any, name: str = "Segmentation") -> Any:
    """A new segmentation node on the grid of the volume node and under its parent transform."""
    scene = volumeNode.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    matchGrid(node, volumeNode)
    return node


def addSegment(segmentationNode: Any, name: str) -> str:
    """A new, empty segment with the terminology and colour of its name where they are known; returns its ID."""
    segmentId: str = segmentationNode.GetSegmentation().AddEmptySegment("", name)
    term = lookup(name)
    if term is not None:
        segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
        segment.SetTerminology(term.entry)
        segment.SetColor(term.color)
    return segmentId


def applyTerm(segmentationNode: Any, segmentId: str) -> bool:
    """Give a segment the terminology and colour of its name, if the name is known and nobody has chosen others.

    Returns whether it was changed.
    """
    segment = segmentOf(segmentationNode, segmentId)
    term = lookup(segment.GetName())
    text = vtk.reference("")
    chosen = str(text) if segment.GetTag(_TERMINOLOGY_TAG, text) else ""
    if term is None or chosen == term.entry or not (chosen == "" or _UNSPECIFIC in chosen):
        return False
    segment.SetTerminology(term.entry)
    segment.SetColor(term.color)
    return True


def segmentNames(segmentationNode: Any) -> list[str]:
    """Names of the segments in their order; none for no node."""
    if segmentationNode is None:
        return []
    segmentation = segmentationNode.GetSegmentation()
    return [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]


def segmentMask(segmentationNode: Any, segmentId: str, volumeNode: Any, box: Box3 | None = None) -> Mask:
    """A segment's voxels on the volume node's grid: bool, (k, j, i); only those in `box`, where one is given.

    Raises:
        OutputError: if the segmentation is on another grid.
    """
    segment = segmentOf(segmentationNode, segmentId)
    shape = volumeNode.GetImageData().GetDimensions()[::-1]
    if box is None:
        box = slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
    mask: Mask = np.zeros([part.stop - part.start for part in box], dtype=np.bool_)
    labelmap = segment.GetRepresentation(LABELMAP)
    if labelmap is None or labelmap.IsEmpty():
        return mask
    _checkSameGrid(segmentationNode, volumeNode, labelmap)
    first = labelmap.GetExtent()[4::-2]
    labels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(labelmap.GetDimensions()[::-1])
    # A labelmap may reach beyond the volume (drawn on another image of the same grid).
    common = [(max(f, p.start), min(f + n, p.stop)) for f, n, p in zip(first, labels.shape, box, strict=True)]
    if all(low < high for low, high in common):
        target = tuple(slice(low - p.start, high - p.start) for (low, high), p in zip(common, box, strict=True))
        source = tuple(slice(low - f, high - f) for (low, high), f in zip(common, first, strict=True))
        mask[target] = labels[source] == segment.GetLabelValue()
    return mask


def segmentBox(segmentationNode: Any, segmentId: str, volumeNode: Any) -> Box3:
    """Slices (k, j, i) of the volume's grid outside of which the segment has no voxel; not always the smallest ones."""
    labelmap = segmentOf(segmentationNode, segmentId).GetRepresentation(LABELMAP)
    nothing = slice(0, 0)
    if labelmap is None or labelmap.IsEmpty():
        return nothing, nothing, nothing
    extent = labelmap.GetExtent()
    shape = volumeNode.GetImageData().GetDimensions()
    i, j, k = (slice(max(extent[2 * n], 0), min(extent[2 * n + 1] + 1, shape[n])) for n in range(3))
    return (k, j, i) if all(part.start < part.stop for part in (k, j, i)) else (nothing, nothing, nothing)


def segmentStamp(segmentationNode: Any, segmentId: str) -> int:
    """Changes whenever voxels of the segment, or of others in its layer, are edited; 0 for one without voxels."""
    labelmap = segmentOf(segmentationNode, segmentId).GetRepresentation(LABELMAP)
    return 0 if labelmap is None else int(labelmap.GetMTime())


def promptRounds(segmentationNode: Any, segmentId: str) -> tuple[Round, ...]:
    """The prompts that made a segment, as they were given: one tuple per round; empty where none are stored.

    Raises:
        PromptError: if what is stored cannot be read.
    """
    items = _jsonTag(segmentationNode, segmentId, PROMPTS_TAG)
    return rounds_from_list(items) if items else ()


def promptsTag(segmentationNode: Any, segmentId: str) -> str:
    """The stored prompts as text, to see whether they have changed; "" where none are stored."""
    text = vtk.reference("")
    return unescape_tag(str(text)) if segmentOf(segmentationNode, segmentId).GetTag(PROMPTS_TAG, text) else ""


def provenance(segmentationNode: Any, segmentId: str) -> dict[str, Any]:
    """Where a segment came from (model, revision, checksum, ...); empty for a segment that no model has touched.

    Raises:
        PromptError: if what is stored cannot be read.
    """
    return _jsonTag(segmentationNode, segmentId, PROVENANCE_TAG) or {}


def segmentOf(segmentationNode: Any, segmentId: str) -> Any:
    """The vtkSegment of that ID; OutputError where there is none."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    if segment is None:
        raise OutputError(f'"{segmentationNode.GetName()}" has no segment with the ID "{segmentId}"; choose another.')
    return segment


def _jsonTag(segmentationNode: Any, segmentId: str, name: str) -> Any:
    text = vtk.reference("")
    segment = segmentOf(segmentationNode, segmentId)
    if not segment.GetTag(name, text):
        return None
    try:
        return json.loads(unescape_tag(str(text)))
    except json.JSONDecodeError:
        raise PromptError(f'The tag "{name}" of the segment "{segment.GetName()}" is damaged; remove it.') from None


def gridGeometry(segmentationNode: Any) -> Any:
    """The segmentation's reference grid as an image without voxels, or None where it has none."""
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    geometry = segmentationNode.GetSegmentation().GetConversionParameter(name)
    image = slicer.vtkOrientedImageData()
    return image if slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, image, False) else None


def matchGrid(segmentationNode: Any, volumeNode: Any) -> None:
    """Make sure that the segmentation lies on the volume's grid; one without any voxel is moved there.

    Raises:
        OutputError: if it has voxels on another grid, or moves with another transform.
    """
    drawn = _drawnLabelmaps(segmentationNode)
    parent = volumeNode.GetParentTransformNode()
    if not drawn:
        segmentationNode.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        return
    _checkSameGrid(segmentationNode, volumeNode, *drawn)
    reference = gridGeometry(segmentationNode)
    if reference is None:  # segments that came from a script or from an old file
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    else:
        _checkSameGrid(segmentationNode, volumeNode, reference)


def fitsGrid(segmentationNode: Any, volumeNode: Any) -> bool:
    """Whether segments of this node can be edited on the volume's grid; one without any voxel can."""
    return not gridProblem(segmentationNode, volumeNode)


def gridProblem(segmentationNode: Any, volumeNode: Any) -> str:
    """Why segments of this node cannot be edited on the volume's grid, as a sentence; "" if they can."""
    if segmentationNode.GetHideFromEditors() or not segmentationNode.GetSelectable():
        return f'"{segmentationNode.GetName()}" is read-only; choose another segmentation, or make a new one.'
    if segmentationNode.GetSegmentation().GetSourceRepresentationName() != LABELMAP:
        return surfacesSentence(segmentationNode)
    drawn = _drawnLabelmaps(segmentationNode)
    try:
        if drawn:
            _checkSameGrid(segmentationNode, volumeNode, *drawn)
    except OutputError as error:
        return str(error)
    return ""


def surfacesSentence(segmentationNode: Any) -> str:
    """What to say of a segmentation whose source is not a labelmap."""
    return (
        f'"{segmentationNode.GetName()}" holds surfaces, not voxels; convert it to "Binary labelmap" in the '
        "Segmentations module first."
    )


def _drawnLabelmaps(segmentationNode: Any) -> list[Any]:
    """The labelmaps of the segments that have voxels."""
    segmentation = segmentationNode.GetSegmentation()
    segments = (segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments()))
    labelmaps = (segment.GetRepresentation(LABELMAP) for segment in segments)
    return [labelmap for labelmap in labelmaps if labelmap is not None and not labelmap.IsEmpty()]


def _checkSameGrid(segmentationNode: Any, volumeNode: Any, *images: Any) -> None:
    """OutputError unless the images of the segmentation lie on the volume's grid, under the same transform."""
    names = f'"{segmentationNode.GetName()}" and "{volumeNode.GetName()}"'
    if segmentationNode.GetParentTransformNode() is not volumeNode.GetParentTransformNode():
        raise OutputError(f"{names} are under different transforms; use the same one for both, or a new segmentation.")
    toNode = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(toNode)
    grid = slicer.vtkOrientedImageData()
    grid.SetImageToWorldMatrix(toNode)
    if not all(slicer.vtkOrientedImageDataResample.DoGeometriesMatch(image, grid) for image in images):
        raise OutputError(f"{names} have different voxel grids; choose a new segmentation for this volume.")
