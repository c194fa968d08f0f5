# SPDX-License-Identifier: Apache-2.0
"""3D Slicer segmentation files (.seg.nrrd): overlapping segments, exact geometry, terminology, tags.

The form is the one that Slicer itself writes. Segments that do not overlap share a layer, in which each has its label
value; one layer is a 3-D image, several are a list axis before the three spatial ones.
"""

from __future__ import annotations

import colorsys
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from .atomic import atomic_output
from .errors import OutputError, SegmentationFileError, VolumeError
from .formats.nrrd import nrrd_geometry, nrrd_header, nrrd_voxels
from .volume import LPS_RAS, FloatArray, Volume
from .volume_io import file_head

BoolArray = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]

SUFFIX = ".seg.nrrd"
TERMINOLOGY_TAG = "TerminologyEntry"
# Masks compress well whatever the level; a higher one only costs time.
_COMPRESSION_LEVEL = 1
_GOLDEN_RATIO = 0.618033988749895
_SEGMENT_KEY = re.compile(r"Segment(\d+)_(\w+)")


@dataclass
class SegmentRecord:
    """One segment of a file.

    Attributes:
        name: as the user sees it.
        mask: bool (k, j, i) on the grid of the volume (when written) or of the file (when read).
        color: red, green, blue in [0, 1]; None lets the writer choose one.
        terminology: Slicer's serialised terminology entry ("context~category~type~..."), see `terminology.lookup`.
        tags: further segment tags, any text.
        segment_id: unique within the file; None lets the writer choose one.
    """

    name: str
    mask: BoolArray
    color: tuple[float, float, float] | None = None
    terminology: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    segment_id: str | None = None


@dataclass(frozen=True)
class SegmentationFile:
    """What a segmentation file holds; Slicer crops files to their segments, so the grid may be a part of the image's.

    Attributes:
        ijk_to_ras: 4x4 float64, index (i, j, k, 1) of the file's grid to RAS mm.
        shape: number of voxels (k, j, i) of the file's grid.
        records: the segments in the file's order, masks on the file's grid.
    """

    ijk_to_ras: FloatArray
    shape: tuple[int, int, int]
    records: list[SegmentRecord]


def write_segmentation(path: str | os.PathLike[str], volume: Volume, records: Sequence[SegmentRecord]) -> Path:
    """Write the segments as a .seg.nrrd file on the volume's grid, atomically; returns the path.

    Overlapping segments keep all their voxels. The same input gives the same bytes.

    Raises:
        OutputError: if the name does not end in ".seg.nrrd", a record does not fit the volume, or the file cannot be
            written; an earlier file of that name is then untouched.
    """
    from slicerio import write_segmentation as slicerio_write

    target = Path(path)
    if not target.name.lower().endswith(SUFFIX):
        raise OutputError(f"3D Slicer recognises a segmentation by its name; let {target} end in {SUFFIX}.")
    _check_records(records, volume.shape)
    boxes = [_bounding_box(record.mask) for record in records]
    layers, placement = _pack(records, boxes, volume.shape)
    segmentation = {
        # Slicerio's axes are (layer,) i, j, k: these views leave the voxels in the file's own order.
        "voxels": layers[0].T if len(layers) == 1 else np.stack(layers, axis=-1).T,
        "ijkToLPS": LPS_RAS @ volume.ijk_to_ras,
        "containedRepresentationNames": ["Binary labelmap"],
        # Not slicerio's "conversionParameters": it leaves out the final separator, without which Slicer reads none.
        "Segmentation_ConversionParameters": f"Reference image geometry|{_serialised_geometry(volume)}|&",
        "segments": list(_segment_fields(records, boxes, placement)),
    }
    with atomic_output(target) as file:
        slicerio_write(_NrrdStream(file), segmentation, compression_level=_COMPRESSION_LEVEL)
    return target


def read_segmentation(path: str | os.PathLike[str]) -> SegmentationFile:
    """Read a .seg.nrrd file written by this package, by 3D Slicer or by slicerio.

    Raises:
        SegmentationFileError: if it is missing, damaged, or holds no 3-D segmentation.
    """
    source = Path(path)
    try:
        if not file_head(source).startswith(b"NRRD"):
            raise VolumeError(f"The file is not a 3D Slicer segmentation; choose a {SUFFIX} file.")
        header = nrrd_header(source)
        matrix, _ = nrrd_geometry(header)
        labels = nrrd_voxels(source, header)
    except VolumeError as error:
        raise SegmentationFileError(f"{source}: {error}") from error
    layers = labels[..., np.newaxis] if labels.ndim == 3 else labels
    if layers.ndim != 4:
        raise SegmentationFileError(f"{source}: The file does not hold a 3-D segmentation; choose a {SUFFIX} file.")
    try:
        records = [_record(fields, layers, index) for index, fields in sorted(_fields_by_segment(header.keys).items())]
    except (ValueError, IndexError) as error:
        raise SegmentationFileError(
            f"{source}: The descriptions of its segments are damaged; save the segmentation again from its source."
        ) from error
    k, j, i = layers.shape[:3]
    return SegmentationFile(matrix, (k, j, i), records)


def _check_records(records: Sequence[SegmentRecord], shape: tuple[int, int, int]) -> None:
    ids = [record.segment_id for record in records if record.segment_id is not None]
    if len(set(ids)) != len(ids):
        raise OutputError("Two segments have the same ID; give each its own.")
    for record in records:
        if record.mask.shape != shape:
            raise OutputError(
                f'Segment "{record.name}" has a mask of shape {record.mask.shape} and the volume {shape} (k, j, i); '
                "make the mask on the volume's grid."
            )
        for key in (*record.tags, record.segment_id or ""):
            if re.search(r"[:|\s]", key):
                raise OutputError(
                    f'"{key}" has a colon, a bar or a space, which no segment tag or ID may have; rename it.'
                )


def _bounding_box(mask: BoolArray) -> Box | None:
    """Smallest (k, j, i) box around the true voxels, None if there are none."""
    spans: list[slice] = []
    for axis in range(3):
        # Each axis only within the spans that are known already.
        hits = np.flatnonzero(mask[tuple(spans)].any(axis=tuple(other for other in range(3) if other != axis)))
        if hits.size == 0:
            return None
        spans.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return spans[0], spans[1], spans[2]


def _pack(
    records: Sequence[SegmentRecord], boxes: Sequence[Box | None], shape: tuple[int, int, int]
) -> tuple[list[npt.NDArray[np.unsignedinteger[Any]]], list[tuple[int, int]]]:
    """Label images (k, j, i), one per layer, and the (layer, label) of each record: its first layer without overlap."""
    dtype = np.uint8 if len(records) <= np.iinfo(np.uint8).max else np.uint16
    layers: list[npt.NDArray[np.unsignedinteger[Any]]] = [np.zeros(shape, dtype)]
    used = [0]
    placement = []
    for record, box in zip(records, boxes, strict=True):
        index = 0
        if box is not None:
            inside = record.mask[box]
            index = next((n for n, layer in enumerate(layers) if not layer[box][inside].any()), len(layers))
            if index == len(layers):
                layers.append(np.zeros(shape, dtype))
                used.append(0)
            layers[index][box][inside] = used[index] + 1
        used[index] += 1
        placement.append((index, used[index]))
    return layers, placement


def _segment_fields(
    records: Sequence[SegmentRecord], boxes: Sequence[Box | None], placement: Sequence[tuple[int, int]]
) -> Iterator[dict[str, Any]]:
    """Slicerio's description of each segment."""
    taken = {record.segment_id for record in records}
    free_ids = (name for n in range(1, 2 * len(records) + 1) if (name := f"Segment_{n}") not in taken)
    for index, (record, (layer, label)) in enumerate(zip(records, placement, strict=True)):
        # Slicer crops a whole layer to the extent of its first segment, so that all of a layer have to share one.
        extent = _extent([box for box, (other, _) in zip(boxes, placement, strict=True) if other == layer])
        tags = dict(record.tags)
        if record.terminology:
            tags[TERMINOLOGY_TAG] = record.terminology
        yield {
            "id": record.segment_id or next(free_ids),
            "name": _header_text(record.name.strip() or f"Segment {index + 1}"),
            "nameAutoGenerated": False,
            "color": [round(float(c), 6) for c in record.color or _distinct_color(index)],
            "colorAutoGenerated": record.color is None,
            "labelValue": label,
            "layer": layer,
            "extent": extent,
            "tags": {key: _header_text(escape_tag(value)) for key, value in tags.items()},
        }


def _extent(boxes: Sequence[Box | None]) -> list[int]:
    """Slicer's extent (i, i, j, j, k, k; ends inclusive) around all boxes; the empty one if there are none."""
    filled = [box for box in boxes if box is not None]
    if not filled:
        return [0, -1, 0, -1, 0, -1]
    return [
        bound
        for axis in (2, 1, 0)
        for bound in (min(box[axis].start for box in filled), max(box[axis].stop for box in filled) - 1)
    ]


def _serialised_geometry(volume: Volume) -> str:
    """Slicer's form of an image geometry: the matrix (always to RAS) by rows, then the extent."""
    k, j, i = volume.shape
    numbers = [*(f"{value:.17g}" for value in volume.ijk_to_ras.ravel()), *map(str, (0, i - 1, 0, j - 1, 0, k - 1))]
    return ";".join(numbers) + ";"


def _distinct_color(index: int) -> tuple[float, float, float]:
    """Colours whose hues stay far apart however many there are."""
    return colorsys.hsv_to_rgb((0.05 + index * _GOLDEN_RATIO) % 1.0, 0.6, 0.9)


def _fields_by_segment(keys: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """The header's Segment<n>_<field> entries, by n."""
    result: dict[int, dict[str, str]] = {}
    for key, value in keys.items():
        if match := _SEGMENT_KEY.fullmatch(key):
            result.setdefault(int(match[1]), {})[match[2]] = value
    return result


def _record(fields: Mapping[str, str], layers: npt.NDArray[Any], index: int) -> SegmentRecord:
    tags = dict(_parsed_tags(fields.get("Tags", "")))
    segment_id = fields.get("ID", f"Segment_{index + 1}")
    # Files from before layers existed have one component per segment.
    layer = int(fields.get("Layer", index))
    color = tuple(float(c) for c in fields.get("Color", "").split())
    return SegmentRecord(
        name=fields.get("Name", segment_id),
        mask=layers[..., layer] == int(fields.get("LabelValue", 1)),
        color=(color[0], color[1], color[2]) if color else None,
        terminology=tags.pop(TERMINOLOGY_TAG, None),
        tags=tags,
        segment_id=segment_id,
    )


def _parsed_tags(text: str) -> Iterator[tuple[str, str]]:
    for item in text.split("|"):
        key, colon, value = item.partition(":")
        if colon:
            yield key.strip(), unescape_tag(value)


# --- Text in headers -------------------------------------------------------------------------------------------------
# A bar ends a tag in Slicer's files, so one within a value is written as %7C, and a percent sign as %25 where it could
# be taken for one of the two.


def escape_tag(value: str) -> str:
    """A tag's value as it stands in a file and in Slicer; all but bars (and "%7C", "%25") is unchanged."""
    return re.sub(r"%(?=7C|25)", "%25", value).replace("|", "%7C")


def unescape_tag(value: str) -> str:
    """Inverse of `escape_tag`."""
    return re.sub(r"%(7C|25)", lambda match: "|" if match[1] == "7C" else "%", value)


def _header_text(text: str) -> str:
    """The text as an ASCII header value: NRRD's own escapes, and each byte beyond ASCII marked for `_NrrdStream`."""
    escaped = text.replace("\\", "\\\\").replace("\r\n", "\n").replace("\n", "\\n")
    printable = "".join(c if c.isprintable() or ord(c) > 126 else " " for c in escaped)
    return "".join(c if ord(c) < 128 else "".join(f"\x1b{byte:02x}" for byte in c.encode()) for c in printable)


class _NrrdStream(io.RawIOBase):
    """Passes what pynrrd writes on to a file, with the header in UTF-8 (pynrrd knows ASCII) and without its date."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._in_header = True

    def write(self, data: Any) -> int:
        line = bytes(data) if self._in_header else data
        if self._in_header:
            self._in_header = line != b"\n"
            if line.startswith(b"# on "):
                return len(line)
            line = re.sub(rb"\x1b([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), line)
        self._file.write(line)
        return len(data)
