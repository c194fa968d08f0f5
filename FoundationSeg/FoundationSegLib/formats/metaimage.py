# SPDX-License-Identifier: Apache-2.0
"""Reading MetaImage (.mha, .mhd with its data file).

Not through ITK: it takes compressed voxels that are cut short or damaged for good ones, with a word on stderr only.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VolumeError
from ..volume import (
    FloatArray,
    check_spacing,
    checked_matrix,
    components_error,
    dimension_error,
    lps_matrix_to_ras,
)
from .raw import NO_SPACING, ZLIB, RawVolume, inflate, modality_from_metadata, voxels

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_SPACING_KEYS = ("ElementSpacing", "ElementSize")
_LAST_KEY = "ElementDataFile"
_MAX_HEADER_BYTES = 1 << 20


def is_metaimage(head: bytes) -> bool:
    """Whether bytes begin a MetaImage header."""
    return b"NDims" in head and b"=" in head.split(b"\n", 1)[0]


def read_metaimage(path: Path) -> RawVolume:
    """A MetaImage's voxels and geometry; VolumeError if it is damaged or does not hold one scalar 3-D image."""
    data: bytes | memoryview = path.read_bytes()
    fields, offset = _header(bytes(data[:_MAX_HEADER_BYTES]))
    shape = _shape(fields)
    dtype = _dtype(fields)
    matrix = _geometry(fields)
    source = fields[_LAST_KEY]
    if source.upper() != "LOCAL":
        data, offset = _detached(path, source)
    size = math.prod(shape) * dtype.itemsize
    if _flag(fields, "CompressedData"):
        data, offset = inflate(memoryview(data)[offset:], size, ZLIB), 0
    elif skip := _numbers(fields, "HeaderSize"):
        # -1 says that the voxels are the end of the file.
        offset = len(data) - size if skip[0] < 0 else offset + int(skip[0])
    unscaled = () if _numbers(fields, *_SPACING_KEYS) else (NO_SPACING,)
    return RawVolume(voxels(data, offset, dtype, shape), matrix, modality_from_metadata(fields), unscaled)


def _header(data: bytes) -> tuple[dict[str, str], int]:
    """The "key = value" lines, of which ElementDataFile is the last, and the offset of what follows."""
    fields: dict[str, str] = {}
    offset = 0
    while _LAST_KEY not in fields:
        end = data.find(b"\n", offset)
        key, equals, value = data[offset : end if end >= 0 else len(data)].decode("latin-1").partition("=")
        if not equals or (end < 0 and key.strip() != _LAST_KEY):
            raise VolumeError("The MetaImage header is damaged; copy or export the file again.")
        fields[key.strip()] = value.strip()
        offset = end + 1 if end >= 0 else len(data)
    return fields, offset


def _shape(fields: dict[str, str]) -> tuple[int, int, int]:
    sizes = _numbers(fields, "DimSize")
    channels = fields.get("ElementNumberOfChannels", "1")
    if channels != "1":
        raise components_error(channels)
    if len(sizes) != 3:
        raise dimension_error(len(sizes))
    if min(sizes) < 1 or any(size != int(size) for size in sizes):
        raise VolumeError("The MetaImage header has impossible image dimensions; export the file again.")
    i, j, k = (int(size) for size in sizes)
    return k, j, i


def _dtype(fields: dict[str, str]) -> np.dtype[Any]:
    name = fields.get("ElementType", "").upper()
    if name.endswith("_ARRAY"):
        raise components_error()
    if name not in _TYPES or not _flag(fields, "BinaryData", default=True):
        raise VolumeError("The MetaImage's voxels are of an unsupported kind; save it again as a binary .mha.")
    big = _flag(fields, "BinaryDataByteOrderMSB") or _flag(fields, "ElementByteOrderMSB")
    return np.dtype((">" if big else "<") + _TYPES[name])


def _geometry(fields: dict[str, str]) -> FloatArray:
    spacing = _numbers(fields, *_SPACING_KEYS) or [1.0, 1.0, 1.0]
    # Each three numbers are the direction of one axis.
    directions = _numbers(fields, "TransformMatrix", "Rotation", "Orientation") or list(np.eye(3).ravel())
    origin = _numbers(fields, "Offset", "Position", "Origin") or [0.0, 0.0, 0.0]
    if (len(spacing), len(directions), len(origin)) != (3, 9, 3):
        raise VolumeError("The MetaImage header gives no complete position in space; export the file again.")
    check_spacing(spacing)
    return checked_matrix(lps_matrix_to_ras(np.reshape(directions, (3, 3)).T * spacing, origin))


def _detached(path: Path, source: str) -> tuple[bytes, int]:
    if source.upper().startswith("LIST") or "%" in source:
        raise VolumeError("The MetaImage's voxels are spread over several files; save it again as one .mha.")
    file = path.parent / source
    if not file.is_file():
        raise VolumeError(f"The data file {source} that the header names is missing; put it beside the header.")
    return file.read_bytes(), 0


def _numbers(fields: dict[str, str], *keys: str) -> list[float]:
    """The numbers under the first of the keys that is there (they are synonyms)."""
    text = next((fields[key] for key in keys if key in fields), "")
    try:
        numbers = [float(number) for number in text.split()]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise VolumeError(f"The MetaImage header's {keys[0]} is not made of finite numbers; export the file again.")
    return numbers


def _flag(fields: dict[str, str], key: str, *, default: bool = False) -> bool:
    return fields[key].lower() in ("true", "1") if key in fields else default
