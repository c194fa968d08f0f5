# SPDX-License-Identifier: Apache-2.0
"""Reading NRRD (.nrrd, .nhdr), also the segmentations among them.

Not through ITK: it takes damaged gzip data for good ones, and repairs missing directions and negative spacings.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from ..volume import (
    FloatArray,
    check_spacing,
    checked_matrix,
    components_error,
    dimension_error,
    lps_matrix_to_ras,
)
from .raw import GZIP, NO_SPACING, RawVolume, inflate, modality_from_metadata, voxels

_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "signed long long int": "i8",
    "float": "f4",
    "double": "f8",
}
# Signs of the axes of a NRRD space in LPS.
_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
_VALUE_KINDS = {"list", "vector", "point", "normal", "complex", "quaternion"}
_MAX_HEADER_LINE = 1 << 24


class NrrdHeader(NamedTuple):
    """A header's fields ("field: value", names in lower case) and keys ("key:=value"), and the voxels' offset."""

    fields: dict[str, str]
    keys: dict[str, str]
    offset: int


def read_nrrd(path: Path) -> RawVolume:
    """A NRRD file's voxels and geometry; VolumeError if it is damaged or does not hold one scalar 3-D image."""
    header = nrrd_header(path)
    kinds = header.fields.get("kinds", "").lower().split()
    if any(kind in _VALUE_KINDS or kind.endswith(("-color", "-vector", "-matrix")) for kind in kinds):
        raise components_error()
    dimension = header.fields.get("dimension", "")
    if dimension != "3":
        raise dimension_error(int(dimension) if dimension.isdecimal() else 0)
    matrix, warnings = nrrd_geometry(header)
    return RawVolume(nrrd_voxels(path, header), matrix, modality_from_metadata(header.keys), warnings)


def nrrd_header(path: Path) -> NrrdHeader:
    """The header of a file that begins with the magic word; VolumeError if it is not made of fields and keys."""
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    with path.open("rb") as file:
        file.readline()
        while line := file.readline(_MAX_HEADER_LINE).decode("utf-8", "replace").rstrip("\r\n"):
            if line.startswith("#"):
                continue
            name, colon, value = line.partition(":")
            if not colon:
                raise VolumeError("The NRRD header is damaged; copy or export the file again.")
            if value.startswith("="):
                keys[name] = re.sub(r"\\([n\\])", lambda match: "\n" if match[1] == "n" else "\\", value[1:])
            else:
                fields[name.strip().lower()] = value.strip()
        return NrrdHeader(fields, keys, file.tell())


def nrrd_geometry(header: NrrdHeader) -> tuple[FloatArray, tuple[str, ...]]:
    """IJK to RAS mm of the three spatial axes, and what was doubtful about it."""
    fields = header.fields
    space = fields.get("space", "").lower()
    try:
        if "space directions" in fields:
            vectors = re.findall(r"\([^)]*\)|none", fields["space directions"])
            # The first axis of several layers is not one of space.
            directions = np.array([_vector(text) for text in vectors[-3:]]).T
            origin = np.array(_vector(fields.get("space origin", "(0, 0, 0)")))
        else:
            spacings = np.array([float(number) for number in fields.get("spacings", "1 1 1").split()[-3:]])
            check_spacing(spacings)
            directions, origin = np.diag(spacings), np.zeros(3)
        signs = np.array(_SPACES.get(space, (1, 1, 1)))
        matrix = checked_matrix(lps_matrix_to_ras(directions * signs[:, np.newaxis], origin * signs))
    except ValueError as error:
        raise VolumeError(
            "The NRRD header does not give three directions and an origin of three numbers each; correct the header."
        ) from error
    unscaled = () if {"space directions", "spacings"} & fields.keys() else (NO_SPACING,)
    if space in _SPACES:
        return matrix, unscaled
    return matrix, (
        "The NRRD file does not say how the image lies in the patient: LPS is assumed, left and right may be swapped.",
        *unscaled,
    )


def nrrd_voxels(path: Path, header: NrrdHeader) -> npt.NDArray[Any]:
    """The voxels, axes in reverse of the header's order (so slowest first); VolumeError if they are not all there."""
    fields = header.fields
    try:
        shape = tuple(int(size) for size in fields["sizes"].split()[::-1])
        skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
        dtype = np.dtype((">" if fields.get("endian") == "big" else "<") + _TYPES[fields["type"].lower()])
        encoding = fields["encoding"].lower()
        valid = min(shape) > 0 and len(shape) == int(fields["dimension"]) and skip >= -1
    except (KeyError, ValueError):
        valid = False
    if not valid:
        raise VolumeError("The NRRD header does not say how its voxels are stored; export the file again.")
    data, offset = _stored(path, header)
    size = math.prod(shape) * dtype.itemsize
    if encoding in ("gzip", "gz"):
        data, offset = inflate(memoryview(data)[offset:], size + max(skip, 0), GZIP), 0
    elif encoding != "raw":
        raise VolumeError(f"NRRD voxels in the encoding {encoding} are not supported; save the file again with gzip.")
    # -1 says that the voxels are the end of the file.
    return voxels(data, len(data) - size if skip < 0 else offset + skip, dtype, shape)


def _stored(path: Path, header: NrrdHeader) -> tuple[bytes, int]:
    """The bytes of the file that holds the voxels, and where these begin."""
    fields = header.fields
    source = fields.get("data file", fields.get("datafile"))
    if source is None:
        data, offset = path.read_bytes(), header.offset
    elif source.upper().startswith("LIST") or "%" in source:
        raise VolumeError("The NRRD voxels are spread over several files; save them again as one .nrrd.")
    elif not (path.parent / source).is_file():
        raise VolumeError(f"The data file {source} that the header names is missing; put it beside the header.")
    else:
        data, offset = (path.parent / source).read_bytes(), 0
    lines = fields.get("line skip", fields.get("lineskip", "0"))
    for _ in range(int(lines) if lines.isdecimal() else 0):
        offset = data.find(b"\n", offset) + 1 or len(data)
    return data, offset


def _vector(text: str) -> list[float]:
    """Three numbers from "(a,b,c)"; ValueError for anything else, "none" included."""
    numbers = [float(number) for number in text.strip("()").split(",")]
    if len(numbers) != 3:
        raise ValueError(text)
    return numbers
