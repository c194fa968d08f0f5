# SPDX-License-Identifier: Apache-2.0
"""What the readers of the formats share: their result, voxels from bytes, and the modality from free metadata."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from ..volume import FloatArray

ZLIB = zlib.MAX_WBITS
GZIP = zlib.MAX_WBITS | 16
# Deflate cannot compress better than this, so that a header which claims more is not worth any memory.
_MAX_DEFLATE_RATIO = 1032
# So many bytes behind the voxels are decompressed to reach the checksum.
_MAX_BEYOND = 1 << 20
# Keys under which writers keep the modality: by hand, ITK's and SimpleITK's DICOM tags.
_MODALITY_KEYS = ("modality", "0008|0060", "dicom_0008_0060")
_MODALITIES = {code: code for code in ("CT", "MR", "PT", "US", "NM", "XA", "MG")} | {"MRI": "MR", "PET": "PT"}

NO_SPACING = "The file states no voxel spacing: 1 mm is assumed, so that no size in mm can be trusted."


class RawVolume(NamedTuple):
    """What a file says, before it is checked to be a volume: voxels (k, j, i), IJK to RAS mm, modality, warnings."""

    array: npt.NDArray[Any]
    ijk_to_ras: FloatArray
    modality: str | None = None
    warnings: tuple[str, ...] = ()


def inflate(data: bytes | memoryview, size: int, wbits: int) -> bytes:
    """The first `size` bytes that compressed data expand to (`wbits`: ZLIB or GZIP, also several gzip members).

    Raises:
        VolumeError: if the data are damaged or end early.
    """
    if size > len(data) * _MAX_DEFLATE_RATIO:
        raise cut_short(size, None)
    parts: list[bytes] = []
    missing = size
    try:
        while missing > 0 and len(data) > 0:
            stream = zlib.decompressobj(wbits)
            parts.append(stream.decompress(data, missing))
            missing -= len(parts[-1])
            # Going on to the end of the stream has its checksum compared; without an end it is cut short.
            stream.decompress(stream.unconsumed_tail, _MAX_BEYOND)
            if not stream.eof and not stream.unconsumed_tail:
                raise cut_short(size, size - missing)
            data = stream.unused_data
    except zlib.error as error:
        raise VolumeError("The file's compressed voxels are damaged; copy or export it again.") from error
    if missing > 0:
        raise cut_short(size, size - missing)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def voxels(data: bytes | memoryview, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Voxels without a copy; VolumeError if there are too few bytes."""
    size = math.prod(shape) * dtype.itemsize
    if offset < 0 or len(data) - offset < size:
        raise cut_short(size, max(len(data) - max(offset, 0), 0))
    return np.frombuffer(data, dtype, count=size // dtype.itemsize, offset=offset).reshape(shape)


def cut_short(expected: int, found: int | None) -> VolumeError:
    """The error for a file with fewer bytes of voxels than its header says."""
    counts = "" if found is None else f" ({found} of {expected} bytes of voxels are there)"
    return VolumeError(f"The file is cut short or its header is wrong{counts}; copy or export it again.")


def inflate_head(data: bytes, size: int) -> bytes:
    """Up to `size` bytes that gzip data expand to; empty if they are not gzip."""
    try:
        return zlib.decompressobj(GZIP).decompress(data, size)
    except zlib.error:
        return b""


def modality_from_metadata(metadata: Mapping[str, str]) -> str | None:
    """DICOM modality code that a file's free metadata state, None if they state none or one that is not known."""
    lowered = {key.lower(): value for key, value in metadata.items()}
    stated = next((lowered[key] for key in _MODALITY_KEYS if key in lowered), "")
    return _MODALITIES.get(re.sub(r"^MET_MOD_", "", stated.strip().upper()))
