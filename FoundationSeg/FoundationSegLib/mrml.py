# SPDX-License-Identifier: Apache-2.0
"""The scene layer: from MRML nodes to the engine's volumes and prompts, and back to segments, edited as Slicer does.

Everything here works without a window. Positions are world RAS millimetres, with all parent transforms applied; arrays
are (k, j, i) on the grid of the volume node.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .errors import OutputError, PromptError, VolumeError
from .prompts import Box, Lasso, Point, Prompt, Round, Scribble, Vector, rounds_from_list
from .region import Box3
from .segmentation_io import escape_tag, unescape_tag
from .session import PROMPTS_TAG, PROVENANCE_TAG
from .terminology import lookup
from .volume import Volume

Mask = npt.NDArray[np.bool_]

_MODULE = "FoundationSeg"
_LABELMAP = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
_EDITOR_CLASS = "vtkMRMLSegmentEditorNode"
_UNDO_STATES = 10  # as many as Slicer's Segment Editor keeps
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


def _placedPoints(markupsNode: Any) -> list[int]:
    defined = markupsNode.PositionDefined
    count = markupsNode.GetNumberOfControlPoints()
    return [index for index in range(count) if markupsNode.GetNthControlPointPositionStatus(index) == defined]


def _points(node: Any, positive: bool) -> tuple[Prompt, ...]:
    return tuple(
        Point(
            ras=_vector(node.GetNthControlPointPositionWorld(index)),
            positive=_SIGNS.get(node.GetNthControlPointDescription(index).strip().lower(), positive),
        )
        for index in _placedPoints(node)
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
    placed = len(_placedPoints(node))
    if placed < needed:
        raise PromptError(f'The curve "{node.GetName()}" has {placed} points and needs {needed}; place more.')
    if node.GetCurveTypeAsString(node.GetCurveType()) == "linear":
        # Its points say all, and exactly: what Slicer puts between them is single precision, and much to keep.
        points = tuple(_vector(node.GetNthControlPointPositionWorld(index)) for index in _placedPoints(node))
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


def segmentNames(segmentationNode: Any) -> list[str]:
    """Names of the segments in their order; none for no node."""
    if segmentationNode is None:
        return []
    segmentation = segmentationNode.GetSegmentation()
    return [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]


def segmentIdByName(segmentationNode: Any, name: str) -> str:
    """ID of the first segment of that name, or "" where there is none."""
    segmentId: str = segmentationNode.GetSegmentation().GetSegmentIdBySegmentName(name)
    return segmentId


def segmentMask(segmentationNode: Any, segmentId: str, volumeNode: Any, box: Box3 | None = None) -> Mask:
    """A segment's voxels on the volume node's grid: bool, (k, j, i); only those in `box`, where one is given.

    Raises:
        OutputError: if the segmentation is on another grid.
    """
    segment = _segment(segmentationNode, segmentId)
    shape = volumeNode.GetImageData().GetDimensions()[::-1]
    box = tuple(slice(0, n) for n in shape) if box is None else box  # type: ignore[assignment]
    mask = np.zeros([part.stop - part.start for part in box], dtype=bool)
    labelmap = segment.GetRepresentation(_LABELMAP)
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
    labelmap = _segment(segmentationNode, segmentId).GetRepresentation(_LABELMAP)
    nothing = slice(0, 0)
    if labelmap is None or labelmap.IsEmpty():
        return nothing, nothing, nothing
    extent = labelmap.GetExtent()
    shape = volumeNode.GetImageData().GetDimensions()
    i, j, k = (slice(max(extent[2 * n], 0), min(extent[2 * n + 1] + 1, shape[n])) for n in range(3))
    return (k, j, i) if all(part.start < part.stop for part in (k, j, i)) else (nothing, nothing, nothing)


def segmentStamp(segmentationNode: Any, segmentId: str) -> int:
    """Changes whenever voxels of the segment, or of others in its layer, are edited; 0 for one without voxels."""
    labelmap = _segment(segmentationNode, segmentId).GetRepresentation(_LABELMAP)
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
    return str(text) if _segment(segmentationNode, segmentId).GetTag(PROMPTS_TAG, text) else ""


def provenance(segmentationNode: Any, segmentId: str) -> dict[str, Any]:
    """Where a segment came from (model, revision, checksum, ...); empty for a segment that no model has touched.

    Raises:
        PromptError: if what is stored cannot be read.
    """
    return _jsonTag(segmentationNode, segmentId, PROVENANCE_TAG) or {}


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
        self._editorNode.SetAttribute("ModuleName", _MODULE)
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
    ) -> None:
        """Make the segment equal to `mask` inside `box` and leave it as it is outside, as one undoable step.

        Args:
            mask: bool, (k, j, i), of the box's shape, or on the whole grid of the volume node.
            box: (k, j, i) slices, the extent that changed.
            tags: segment tags to set in the same step (prompts, provenance, ...); None removes one.
            saveStateForUndo: saves a state in another undo history too: that of an open Segment Editor.

        Raises:
            OutputError: if it cannot be written; the segmentation is as it was.
        """
        segment = _segment(self.segmentationNode, segmentId)
        if not self._logic.TrivialSetSourceRepresentationToBinaryLabelmap():
            raise OutputError(_surfacesSentence(self.segmentationNode))
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

    def _modify(self, segmentId: str, voxels: Mask, box: Box3, mode: int) -> None:
        if not voxels.any():
            return
        labelmap = _gridGeometry(self.segmentationNode)
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
        return next((node for node in nodes if node.GetAttribute("ModuleName") != _MODULE), None)

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


def _segment(segmentationNode: Any, segmentId: str) -> Any:
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    if segment is None:
        raise OutputError(f'"{segmentationNode.GetName()}" has no segment with the ID "{segmentId}"; choose another.')
    return segment


def _jsonTag(segmentationNode: Any, segmentId: str, name: str) -> Any:
    text = vtk.reference("")
    segment = _segment(segmentationNode, segmentId)
    if not segment.GetTag(name, text):
        return None
    try:
        return json.loads(unescape_tag(str(text)))
    except json.JSONDecodeError:
        raise PromptError(f'The tag "{name}" of the segment "{segment.GetName()}" is damaged; remove it.') from None


def _gridGeometry(segmentationNode: Any) -> Any:
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
    segmentation = segmentationNode.GetSegmentation()
    segments = (segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments()))
    labelmaps = (segment.GetRepresentation(_LABELMAP) for segment in segments)
    drawn = [labelmap for labelmap in labelmaps if labelmap is not None and not labelmap.IsEmpty()]
    parent = volumeNode.GetParentTransformNode()
    if not drawn:
        segmentationNode.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        return
    _checkSameGrid(segmentationNode, volumeNode, *drawn)
    reference = _gridGeometry(segmentationNode)
    if reference is None:  # segments that came from a script or from an old file
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    else:
        _checkSameGrid(segmentationNode, volumeNode, reference)


def fitsGrid(segmentationNode: Any, volumeNode: Any) -> bool:
    """Whether segments of this node can be edited on the volume's grid; one without any voxel can."""
    return not gridProblem(segmentationNode, volumeNode)


def gridProblem(segmentationNode: Any, volumeNode: Any) -> str:
    """Why segments of this node cannot be edited on the volume's grid, as a sentence; "" if they can."""
    segmentation = segmentationNode.GetSegmentation()
    if segmentationNode.GetHideFromEditors() or not segmentationNode.GetSelectable():
        return f'"{segmentationNode.GetName()}" is read-only; choose another segmentation, or make a new one.'
    if segmentation.GetSourceRepresentationName() != _LABELMAP:
        return _surfacesSentence(segmentationNode)
    segments = (segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments()))
    labelmaps = (segment.GetRepresentation(_LABELMAP) for segment in segments)
    drawn = [labelmap for labelmap in labelmaps if labelmap is not None and not labelmap.IsEmpty()]
    try:
        if drawn:
            _checkSameGrid(segmentationNode, volumeNode, *drawn)
    except OutputError as error:
        return str(error)
    return ""


def _surfacesSentence(segmentationNode: Any) -> str:
    return (
        f'"{segmentationNode.GetName()}" holds surfaces, not voxels; convert it to "Binary labelmap" in the '
        "Segmentations module first."
    )


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
