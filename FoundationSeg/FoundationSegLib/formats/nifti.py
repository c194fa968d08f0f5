# SPDX-License-Identifier: Apache-2.0
"""Reading NIfTI-1 and NIfTI-2 (.nii, .nii.gz).

Not through ITK: it fills a file that is cut short with zeros, replaces impossible spacings, ignores the scale of the
sform, and refuses a sheared one.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from ..volume import FloatArray, check_spacing, checked_matrix, components_error, dimension_error
from .raw import GZIP, RawVolume, inflate, inflate_head, voxels

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COLOUR_TYPES = {32, 128, 1792, 2048, 2304}
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
_SCANNER = 1
# Largest relative or angular error that single-precision headers are allowed before two statements disagree.
_TOLERANCE = 1e-3
_HEADER_BYTES = 540


@dataclass(frozen=True)
class _Header:
    """The fields that matter of either version, as the file has them."""

    order: str
    dim: tuple[int, ...]
    datatype: int
    pixdim: tuple[float, ...]
    vox_offset: int
    slope: float
    intercept: float
    qform_code: int
    sform_code: int
    quatern: tuple[float, ...]
    qoffset: tuple[float, ...]
    srow: tuple[float, ...]
    units: int


def is_nifti(head: bytes) -> bool:
    """Whether (uncompressed) bytes begin a NIfTI file."""
    return _byte_order(head) is not None


def read_nifti(path: Path) -> RawVolume:
    """A NIfTI file's voxels and geometry.

    The sform is used where it is the scanner's or there is no qform, else the qform, as 3D Slicer does; a sheared
    sform is kept as it is.

    Raises:
        VolumeError: if the file is damaged or does not hold one scalar 3-D image.
    """
    data = path.read_bytes()
    compressed = data[:2] == b"\x1f\x8b"
    head = inflate_head(data, _HEADER_BYTES) if compressed else data[:_HEADER_BYTES]
    header = _parse(head)
    shape = _shape(header)
    dtype = _dtype(header)
    matrix, warnings = _geometry(header)
    if compressed:
        size = header.vox_offset + math.prod(shape) * dtype.itemsize
        data = inflate(data, size, GZIP)
    return RawVolume(_scaled(voxels(data, header.vox_offset, dtype, shape), header), matrix, None, warnings)


def _byte_order(head: bytes) -> str | None:
    for order in "<>":
        if len(head) >= 348 and head[:4] == struct.pack(order + "i", 348) and head[344:348] == b"n+1\0":
            return order
        if len(head) >= 540 and head[:4] == struct.pack(order + "i", 540) and head[4:8] == b"n+2\0":
            return order
    return None


def _parse(head: bytes) -> _Header:
    order = _byte_order(head)
    if order is None:
        raise VolumeError("The file is not a single-file NIfTI image; convert it to .nii.gz or .nrrd.")

    def at(offset: int, form: str) -> tuple[Any, ...]:
        return struct.unpack_from(order + form, head, offset)

    second = head[4:8] == b"n+2\0"
    (vox_offset,) = at(168, "q") if second else at(108, "f")
    if not 0 <= vox_offset < 2**40:
        raise VolumeError("The NIfTI header says that the voxels begin at an impossible place; export the file again.")
    slope, intercept = at(176, "2d") if second else at(112, "2f")
    qform_code, sform_code = at(344, "2i") if second else at(252, "2h")
    return _Header(
        order=order,
        dim=at(16, "8q") if second else at(40, "8h"),
        datatype=at(12, "h")[0] if second else at(70, "h")[0],
        pixdim=at(104, "8d") if second else at(76, "8f"),
        vox_offset=int(vox_offset),
        slope=slope,
        intercept=intercept,
        qform_code=qform_code,
        sform_code=sform_code,
        quatern=at(352, "3d") if second else at(256, "3f"),
        qoffset=at(376, "3d") if second else at(268, "3f"),
        srow=at(400, "12d") if second else at(280, "12f"),
        units=(at(500, "i")[0] if second else head[123]) & 7,
    )


def _shape(header: _Header) -> tuple[int, int, int]:
    count = header.dim[0]
    sizes = header.dim[1 : count + 1]
    if not 1 <= count <= 7 or min(sizes) < 1:
        raise VolumeError("The NIfTI header has impossible image dimensions; export the file again.")
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    if len(sizes) >= 5 and sizes[3] == 1:
        raise components_error(sizes[4])
    if len(sizes) != 3:
        raise dimension_error(len(sizes))
    i, j, k = sizes
    return k, j, i


def _dtype(header: _Header) -> np.dtype[Any]:
    if header.datatype in _COLOUR_TYPES:
        raise components_error()
    if header.datatype not in _TYPES:
        raise VolumeError(f"NIfTI data type {header.datatype} is not supported; convert the image to float32 or int16.")
    return np.dtype(header.order + _TYPES[header.datatype])


def _geometry(header: _Header) -> tuple[FloatArray, tuple[str, ...]]:
    """IJK to RAS mm, and what was doubtful about it."""
    spacing = np.array(header.pixdim[1:4])
    check_spacing(spacing)
    scale = _MM_PER_UNIT.get(header.units, 1.0)
    forms = {}
    if header.sform_code > 0:
        forms["sform"] = np.vstack([np.reshape(header.srow, (3, 4)), (0, 0, 0, 1)])
    if header.qform_code > 0:
        forms["qform"] = _qform_matrix(header)
    if not forms:
        return _in_mm(_unoriented_matrix(spacing), scale), (
            "The NIfTI file does not say how the image lies in the patient: left and right may be swapped.",
        )
    chosen = _chosen_form(header, forms)
    matrix = _in_mm(forms[chosen], scale)
    warnings = []
    if len(forms) == 2 and not _agree(*forms.values()):
        warnings.append(f"The NIfTI file gives two positions in space; its {chosen} is used, as in 3D Slicer.")
    if not np.allclose(np.linalg.norm(forms[chosen][:3, :3], axis=0), spacing, rtol=_TOLERANCE):
        warnings.append(
            f"The NIfTI file's {chosen} and its voxel size (pixdim) disagree; the {chosen} is used, other programs may "
            "show another size."
        )
    return matrix, tuple(warnings)


def _chosen_form(header: _Header, forms: dict[str, FloatArray]) -> str:
    if "qform" not in forms:
        return "sform"
    if "sform" in forms and header.sform_code == _SCANNER and _orthogonal(forms["sform"]):
        return "sform"
    return "qform"


def _orthogonal(matrix: FloatArray) -> bool:
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        return False
    directions = matrix[:3, :3] / lengths
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() < _TOLERANCE)


def _agree(first: FloatArray, second: FloatArray) -> bool:
    """Whether two matrices place things within a thousandth of a voxel size (directions) and of a mm (origins)."""
    scale = np.linalg.norm(second[:3, :3], axis=0).max()
    return bool(
        np.abs(first[:3, :3] - second[:3, :3]).max() <= _TOLERANCE * scale
        and np.abs(first[:3, 3] - second[:3, 3]).max() <= max(_TOLERANCE * scale, _TOLERANCE)
    )


def _qform_matrix(header: _Header) -> FloatArray:
    """The matrix of the unit quaternion (a, b, c, d), the voxel size, and the handedness in pixdim[0]."""
    b, c, d = header.quatern
    square = 1.0 - (b * b + c * c + d * d)
    if square < 1e-7:
        # A half turn, with (b, c, d) of length one but for rounding.
        norm = np.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / norm, c / norm, d / norm
    else:
        a = np.sqrt(square)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handed = np.array([1.0, 1.0, -1.0 if header.pixdim[0] < 0 else 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * (np.array(header.pixdim[1:4]) * handed)
    matrix[:3, 3] = header.qoffset
    return matrix


def _unoriented_matrix(spacing: FloatArray) -> FloatArray:
    """What ITK, and so 3D Slicer, take for a file without orientation: the axes of LPS, origin at zero."""
    return np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])


def _in_mm(matrix: FloatArray, scale: float) -> FloatArray:
    scaled = matrix.copy()
    scaled[:3] *= scale
    return checked_matrix(scaled)


def _scaled(array: npt.NDArray[Any], header: _Header) -> npt.NDArray[Any]:
    """The voxels in real units; integers stay integers where the scaling is a shift by a whole number."""
    slope, intercept = header.slope, header.intercept
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope == 0 or (slope, intercept) == (1, 0):
        return array
    if slope == 1 and intercept == int(intercept) and array.dtype.kind in "iu" and array.dtype.itemsize <= 2:
        shifted = array.astype(np.int32) + int(intercept)
        fits = np.iinfo(np.int16).min <= shifted.min() and shifted.max() <= np.iinfo(np.int16).max
        return shifted.astype(np.int16) if fits else shifted
    result = np.empty(array.shape, np.float32)
    # Slice by slice, so that double precision never needs the memory of the whole volume. What single precision cannot
    # hold becomes infinite, and is then reported as not finite.
    with np.errstate(over="ignore", invalid="ignore"):
        for k, plane in enumerate(array):
            result[k] = plane.astype(np.float64) * slope + intercept
    return result
