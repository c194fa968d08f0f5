# SPDX-License-Identifier: Apache-2.0
"""The scene layer: facts from MRML nodes, so that a panel or a script in 3D Slicer measures what it shows.

Works without a window. Positions are world RAS millimetres, with all parent transforms applied.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
import vtk
from FoundationSegLib.errors import FoundationSegError
from FoundationSegLib.mrml import segmentMask, volumeFromNode
from FoundationSegLib.segmentation_io import TERMINOLOGY_TAG, SegmentRecord, unescape_tag
from FoundationSegLib.session import PROMPTS_TAG, PROVENANCE_TAG
from FoundationSegLib.volume import Volume

from .errors import MeasurementError
from .measure import ImageHeader, measure
from .measure.header import header_of_files
from .model import Facts, Report

if TYPE_CHECKING:
    from .engines import Engine, Merged, Watch

SEGMENT_TAGS = (
    PROVENANCE_TAG,
    PROMPTS_TAG,
    "DICOM.TrackingUID",
    "DICOM.SegmentAlgorithmType",
    "DICOM.SegmentAlgorithmName",
)


def factsFromNodes(
    volumeNode: Any,
    segmentationNode: Any,
    priorVolumeNode: Any = None,
    priorSegmentationNode: Any = None,
    **options: Any,
) -> Facts:
    """What can be measured of a volume node and the segments drawn on it, and what changed since a prior study.

    `options` are those of `measure` (header, searched, targets, ...).

    Raises:
        MeasurementError: if a node cannot be used, or the two do not belong together; the sentence says which.
    """
    if (priorVolumeNode is None) != (priorSegmentationNode is None):
        raise MeasurementError("A prior study needs both its volume and its segmentation; choose the other one too.")
    volume, records = _read(volumeNode, segmentationNode)
    options.setdefault("header", headerFromNode(volumeNode))
    if priorVolumeNode is not None:
        priorHeader = headerFromNode(priorVolumeNode)
        options["prior"] = measure(*_read(priorVolumeNode, priorSegmentationNode), header=priorHeader)
    return measure(volume, records, **options)


def headerFromNode(volumeNode: Any) -> ImageHeader | None:
    """What the DICOM files say that a volume was loaded from: contrast, slice thickness, dose and weight for SUV.

    None where it was not loaded from DICOM, or its files have left Slicer's DICOM database. Raises MeasurementError.
    """
    database = getattr(slicer, "dicomDatabase", None)
    if volumeNode is None or database is None:
        return None
    instances = (volumeNode.GetAttribute("DICOM.instanceUIDs") or "").split()
    files = (database.fileForInstance(instance) for instance in instances)
    return header_of_files(file for file in files if file and Path(file).is_file())


def recordsFromNode(segmentationNode: Any, volumeNode: Any) -> list[SegmentRecord]:
    """The segments with their masks on the volume node's grid, their terminology, and the tags in SEGMENT_TAGS.

    Raises:
        MeasurementError: if there is no node, or its segments lie on another grid than the volume.
    """
    if segmentationNode is None:
        raise MeasurementError("No segmentation is selected; choose the one that was drawn on the volume.")
    segmentation = segmentationNode.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    try:
        return [_record(segmentationNode, name, volumeNode) for name in ids]
    except FoundationSegError as error:
        raise MeasurementError(str(error)) from error


def narrateOverNodes(
    report: Report, engine: Engine, volumeNode: Any, segmentationNode: Any, watch: Watch | None = None
) -> Merged:
    """The report with what a vision-language model adds about the nodes that it was measured on; unverified.

    Raises:
        MeasurementError: if a node cannot be used, or the report is about another image.
        EngineError, Cancelled: see `engines.with_narrative`; the report is as it was.
    """
    from .engines import with_narrative

    volume, records = _read(volumeNode, segmentationNode)
    if report.facts.study.get("fingerprint") not in (None, volume.fingerprint):
        raise MeasurementError("The report was measured on another image than the chosen volume; choose that one.")
    return with_narrative(report, engine, volume, records, watch)


def _read(volumeNode: Any, segmentationNode: Any) -> tuple[Volume, list[SegmentRecord]]:
    try:
        volume = volumeFromNode(volumeNode)
    except FoundationSegError as error:
        raise MeasurementError(str(error)) from error
    return volume, recordsFromNode(segmentationNode, volumeNode)


def _record(segmentationNode: Any, segmentId: str, volumeNode: Any) -> SegmentRecord:
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    tags = _tags(segment)
    terminology = tags.pop(TERMINOLOGY_TAG, None)
    return SegmentRecord(
        name=segment.GetName(),
        mask=segmentMask(segmentationNode, segmentId, volumeNode),
        color=segment.GetColor(),
        terminology=terminology,
        tags=tags,
        segment_id=segmentId,
    )


def _tags(segment: Any) -> dict[str, str]:
    """The tags that facts are made from; the scene gives out tags by name only."""
    tags = {}
    for name in (TERMINOLOGY_TAG, *SEGMENT_TAGS):
        text = vtk.reference("")
        if segment.GetTag(name, text):
            tags[name] = unescape_tag(str(text))
    return tags
