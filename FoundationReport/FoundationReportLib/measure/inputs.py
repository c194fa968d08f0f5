# SPDX-License-Identifier: Apache-2.0
"""What `measure` is given, brought into one form and checked: segments on the volume's grid, drawn on this image."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from FoundationSegLib.errors import FoundationSegError
from FoundationSegLib.segmentation_io import SegmentationFile, SegmentRecord, read_segmentation
from FoundationSegLib.session import PROVENANCE_TAG
from FoundationSegLib.volume import Volume

from ..errors import MeasurementError
from .region import BoolArray, Box3, Region, bounding_box, region_at, region_of

Segmentation = Sequence[SegmentRecord] | Mapping[str, BoolArray] | SegmentationFile | str | os.PathLike[str]

TRACKING_TAG = "DICOM.TrackingUID"
FRAME_TAG = "DICOM.FrameOfReferenceUID"
_SAME_DIRECTION = 1e-4
_SAME_VOXEL = 1e-2
# Overlap that is worth a sentence, as a share of the smaller segment.
_OVERLAP = 0.02
# Share of what was drawn on another grid that may lie outside: a voxel's edge, not a part of somebody else's body.
_OUTSIDE = 0.05


@dataclass(frozen=True)
class Drawn:
    """A segment that has voxels.

    Attributes:
        name, terminology, segment_id: as in its file.
        region: its voxels in the volume.
        model, revision: what drew it; empty where nobody says.
        tracking_uid: the same object in other studies; empty where nobody says.
    """

    name: str
    terminology: str | None
    segment_id: str
    region: Region
    model: str = ""
    revision: str = ""
    tracking_uid: str = ""


def as_volume(volume: Volume | str | os.PathLike[str], series: str | None = None) -> Volume:
    """The volume, read if a path is given. Raises MeasurementError."""
    if isinstance(volume, Volume):
        return volume
    try:
        return Volume.read(volume, series=series)
    except FoundationSegError as error:
        raise MeasurementError(str(error)) from error


def drawn_segments(
    volume: Volume, segmentation: Segmentation, *, other_image: bool = False, frame_uid: str = ""
) -> tuple[list[Drawn], list[str]]:
    """The segments that have voxels, and sentences about the others.

    Args:
        other_image: accept segments whose provenance says that they were drawn on another image (of the same patient
            in the same frame of reference, such as the CT of a PET/CT).
        frame_uid: the image's frame of reference, where its header says so.

    Raises:
        MeasurementError: if the segmentation cannot be read, is of another image or frame, or does not fit.
    """
    placed, warnings = _on_grid(volume, segmentation, other_image)
    if not placed:
        raise MeasurementError("The segmentation has no segments; draw at least one, or choose another file.")
    found: list[Drawn] = []
    for number, (record, region) in enumerate(placed, start=1):
        provenance = _provenance(record)
        _check_origin(volume, record, provenance, other_image, frame_uid)
        if region is None:
            warnings.append(f'Segment "{record.name}" is empty, so nothing of it was measured; draw it or remove it.')
            continue
        found.append(
            Drawn(
                record.name.strip() or f"Segment {number}",
                record.terminology,
                record.segment_id or f"Segment_{number}",
                region,
                str(provenance.get("model", "")),
                str(provenance.get("revision", "")),
                record.tags.get(TRACKING_TAG, ""),
            )
        )
    if not found:
        raise MeasurementError("Every segment is empty; draw at least one, or choose another segmentation.")
    return found, warnings


def _check_origin(
    volume: Volume, record: SegmentRecord, provenance: dict[str, Any], other_image: bool, frame_uid: str
) -> None:
    """MeasurementError if a segment says that it was drawn on another image, or in another frame of reference."""
    drawn_on = str(provenance.get("volume", ""))
    if drawn_on and drawn_on != volume.fingerprint and not other_image:
        raise MeasurementError(
            f'Segment "{record.name}" was drawn on another image than this one; choose the volume that it belongs '
            "to, or, if both are of the same patient in the same position, allow it with --other-image "
            "(other_image=True in Python)."
        )
    drawn_in = record.tags.get(FRAME_TAG, "")
    if frame_uid and drawn_in and drawn_in != frame_uid:
        raise MeasurementError(
            f'Segment "{record.name}" belongs to another frame of reference than the image; choose the volume '
            "that it was drawn on, or register the two first."
        )


def overlap_warnings(segments: Sequence[tuple[str, Region]]) -> list[str]:
    """A sentence for each pair that shares more than a little; a lesion within its organ is not for this list."""
    sentences = []
    for (a, first), (b, second) in combinations(segments, 2):
        shared = overlap_voxels(first, second)
        if shared > _OVERLAP * min(first.voxels, second.voxels):
            amount = shared * first.volume.voxel_volume_ml
            sentences.append(
                f'Segments "{a}" and "{b}" overlap by {amount:.3g} mL, which is counted in both; correct one of them '
                "if that is not meant."
            )
    return sentences


def overlap_voxels(first: Region, second: Region) -> int:
    """How many voxels two regions share."""
    common = common_box(first.box, second.box)
    if common is None:
        return 0
    return int(np.count_nonzero(part_of(first, common) & part_of(second, common)))


def common_box(first: Box3, second: Box3) -> Box3 | None:
    """The box that two boxes share; None if there is none."""
    parts = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True)]
    return (parts[0], parts[1], parts[2]) if all(p.start < p.stop for p in parts) else None


def part_of(region: Region, box: Box3) -> BoolArray:
    """The region's voxels within a box of the volume's grid, padded with False where the box reaches beyond its own."""
    result = np.zeros([part.stop - part.start for part in box], dtype=bool)
    common = common_box(region.box, box)
    if common is not None:
        target = tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(common, box, strict=True))
        source = tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(common, region.box, strict=True))
        result[target] = region.mask[source]
    return result


def _provenance(record: SegmentRecord) -> dict[str, Any]:
    try:
        data = json.loads(record.tags.get(PROVENANCE_TAG, "{}"))
    except json.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}


def _on_grid(
    volume: Volume, segmentation: Segmentation, other_image: bool
) -> tuple[list[tuple[SegmentRecord, Region | None]], list[str]]:
    """Each segment with its region in the volume, None for an empty one; and warnings."""
    if isinstance(segmentation, str | os.PathLike):
        try:
            segmentation = read_segmentation(segmentation)
        except FoundationSegError as error:
            raise MeasurementError(str(error)) from error
    if isinstance(segmentation, SegmentationFile):
        return _placed(volume, segmentation, other_image)
    if isinstance(segmentation, Mapping):
        segmentation = [SegmentRecord(name, mask) for name, mask in segmentation.items()]
    for record in segmentation:
        if record.mask.shape != volume.shape:
            raise MeasurementError(
                f'Segment "{record.name}" has {record.mask.shape} voxels (k, j, i) and the volume {volume.shape}, so '
                "they do not belong together; choose the volume that it was drawn on."
            )
    return [(record, region_of(volume, _boolean(record.mask))) for record in segmentation], []


def _boolean(mask: npt.NDArray[Any]) -> BoolArray:
    return mask if mask.dtype == np.bool_ else mask != 0


def _placed(
    volume: Volume, file: SegmentationFile, other_image: bool
) -> tuple[list[tuple[SegmentRecord, Region | None]], list[str]]:
    """A file's segments on the volume's grid: shifted where the grids are parts of one, else resampled (nearest)."""
    matrix = volume.ras_to_ijk @ file.ijk_to_ras
    offset = np.rint(matrix[:3, 3])
    same_grid = (
        np.allclose(matrix[:3, :3], np.eye(3), atol=_SAME_DIRECTION)
        and np.abs(matrix[:3, 3] - offset).max() < _SAME_VOXEL
    )
    warnings = []
    found: list[tuple[SegmentRecord, Region | None]] = []
    lost: list[str] = []
    outside_all, drawn_all = 0, 0
    for record in file.records:
        box = bounding_box(record.mask)
        if box is None:
            found.append((record, None))
            continue
        if same_grid:
            region, outside = _shifted(volume, record.mask, box, offset[::-1].astype(int))
        else:
            region, outside = _resampled(volume, record.mask, box, matrix)
        drawn = int(np.count_nonzero(record.mask[box]))
        if outside >= drawn:
            raise MeasurementError(
                f'Segment "{record.name}" lies outside of the volume, so the two are of different patients, frames of '
                "reference or parts of the body; choose the volume that it was drawn on."
            )
        outside_all, drawn_all = outside_all + outside, drawn_all + drawn
        if outside:
            lost.append(f'"{record.name}" ({100 * outside / drawn:.0f}%)')
        found.append((record, region))
    if not same_grid and not other_image and outside_all > _OUTSIDE * drawn_all:
        raise MeasurementError(
            f"The segmentation was drawn on another grid than the volume's, and {100 * outside_all / drawn_all:.0f}% "
            "of it lies outside of the volume; choose the volume that it was drawn on, or, if both are of the same "
            "patient in the same position, allow it with --other-image (other_image=True in Python)."
        )
    if not same_grid:
        warnings.append(
            "The segmentation was drawn on another grid than the volume's and was resampled to the nearest voxels; "
            "sizes may differ by up to a voxel."
        )
    if lost:
        warnings.append(
            f"Parts of these segments lie outside of the volume and were not measured: {', '.join(lost)}; "
            "choose the volume that they were drawn on if that is not meant."
        )
    return found, warnings


def _shifted(volume: Volume, mask: BoolArray, box: Box3, offset: npt.NDArray[np.intp]) -> tuple[Region | None, int]:
    """A mask's region at an offset (k, j, i) in the volume, and how many of its voxels fell outside."""
    spans = [
        (max(part.start + int(o), 0), min(part.stop + int(o), size))
        for part, o, size in zip(box, offset, volume.shape, strict=True)
    ]
    if any(low >= high for low, high in spans):
        return None, int(np.count_nonzero(mask[box]))
    k, j, i = (slice(low - int(o), high - int(o)) for (low, high), o in zip(spans, offset, strict=True))
    inside = mask[k, j, i]
    region = region_at(volume, inside, tuple(low for low, _ in spans))
    return region, int(np.count_nonzero(mask[box])) - int(np.count_nonzero(inside))


def _resampled(
    volume: Volume, mask: BoolArray, box: Box3, to_volume: npt.NDArray[np.float64]
) -> tuple[Region | None, int]:
    """The region of a mask at the volume's voxel centres, and how many of its own voxels lie outside of the volume.

    `to_volume`: 4x4, index (i, j, k, 1) of the mask's grid to that of the volume.
    """
    own = np.argwhere(mask[box]) + [part.start for part in box]
    there = own[:, ::-1] @ to_volume[:3, :3].T + to_volume[:3, 3]
    upper = np.array(volume.shape[::-1]) - 0.5
    outside = int(np.count_nonzero(((there < -0.5) | (there > upper)).any(axis=1)))
    reach = np.abs(to_volume[:3, :3]).sum(axis=1)
    low = np.maximum(np.floor(there.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(there.max(axis=0) + reach), upper - 0.5).astype(int) + 1
    if (low >= high).any():
        return None, outside
    back = np.linalg.inv(to_volume)
    result = np.zeros((high - low)[::-1], dtype=bool)
    j, i = np.meshgrid(np.arange(low[1], high[1]), np.arange(low[0], high[0]), indexing="ij")
    size = np.array(mask.shape[::-1])
    for plane, k in enumerate(range(low[2], high[2])):
        exact = i[..., None] * back[:3, 0] + j[..., None] * back[:3, 1] + k * back[:3, 2] + back[:3, 3]
        source = np.rint(exact).astype(int)
        inside = ((source >= 0) & (source < size)).all(axis=-1)
        x, y, z = source[inside].T
        result[plane][inside] = mask[z, y, x]
    return region_at(volume, result, tuple(low[::-1].tolist())), outside
