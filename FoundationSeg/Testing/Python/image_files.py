# SPDX-License-Identifier: Apache-2.0
"""Image files made by hand for the tests of the readers, so that what is wrong with one is wrong on purpose."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (5, 6, 7)
VOXELS = np.random.default_rng(7).integers(-1000, 3000, SHAPE).astype(np.int16)

REAL_DATA = next((p for p in [Path(__file__).resolve().parents[4] / "shared" / "data"] if p.is_dir()), None)
NO_REAL_DATA = "the real volumes (../shared/data beside the repository) are not here"


def rotation(axis: Iterable[float], degrees: float) -> npt.NDArray[np.float64]:
    """Rotation matrix (Rodrigues)."""
    x, y, z = np.asarray(list(axis), dtype=float) / np.linalg.norm(list(axis))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def affine(directions: npt.ArrayLike, origin: npt.ArrayLike = (0.0, 0.0, 0.0)) -> npt.NDArray[np.float64]:
    """4x4 matrix."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions
    matrix[:3, 3] = origin
    return matrix


OBLIQUE = affine(rotation((1, 2, 3), 35) @ np.diag([0.7, 0.8, 3.1]), (-12.345678901234567, 33.25, -1001.5))
LEFT_HANDED_PERMUTED = affine(
    (rotation((3, -1, 2), 110) @ np.diag([-0.9, 1.3, 2.5]))[:, [2, 0, 1]], (10.0, -20.0, 30.0)
)
SHEARED = affine(OBLIQUE[:3, :3] + np.outer((0.31, -0.12, 0.05), (0, 0, 1)), (1.5, -2.5, 1e-5))
GEOMETRIES = {"oblique": OBLIQUE, "left-handed and permuted": LEFT_HANDED_PERMUTED, "sheared": SHEARED}


@st.composite
def matrices(draw: st.DrawFn, sheared: bool = True) -> npt.NDArray[np.float64]:
    """IJK to RAS: any rotation, spacing from 0.1 to 10 mm, flips, permutations and (if wanted) shear."""
    unit = st.floats(-1, 1, allow_nan=False)
    axis = draw(st.tuples(unit, unit, unit).filter(lambda v: np.linalg.norm(v) > 0.1))
    directions = rotation(axis, draw(st.floats(-180, 180)))[:, draw(st.permutations(range(3)))]
    directions = directions @ np.diag(draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)))
    if sheared:
        shear = np.eye(3)
        shear[np.triu_indices(3, 1)] = draw(st.tuples(*[st.floats(-0.5, 0.5)] * 3))
        directions = directions @ shear
    origin = draw(st.tuples(*[st.floats(-2000, 2000)] * 3))
    return affine(directions * draw(st.tuples(*[st.floats(0.1, 10)] * 3)), origin)


def nrrd_bytes(
    voxels: npt.NDArray[Any] = VOXELS,
    matrix: npt.NDArray[np.float64] | None = OBLIQUE,
    *,
    space: str = "left-posterior-superior",
    encoding: str = "raw",
    extra: str = "",
    **replaced: str,
) -> bytes:
    """A NRRD file; `replaced` sets or (with "") drops fields, spaces in their names as underscores."""
    kinds = {"u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "f4": "float", "f8": "double"}
    fields = {
        "type": kinds.get(voxels.dtype.str[1:], "short"),
        "dimension": str(voxels.ndim),
        "sizes": " ".join(str(n) for n in voxels.shape[::-1]),
        "endian": "little",
        "encoding": encoding,
    }
    if matrix is not None:
        flip = np.diag([-1, -1, 1, 1]) if space == "left-posterior-superior" else np.eye(4)
        columns = (flip @ matrix)[:3].T
        vectors = [f"({','.join(format(x, '.17g') for x in column)})" for column in columns]
        fields |= {"space": space, "space directions": " ".join(vectors[:3]), "space origin": vectors[3]}
    fields |= {name.replace("_", " "): value for name, value in replaced.items()}
    header = "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
    data = voxels.astype(voxels.dtype.newbyteorder("<")).tobytes()
    return f"NRRD0005\n{header}{extra}\n".encode() + (gzip.compress(data, mtime=0) if encoding == "gzip" else data)


def nifti_bytes(
    voxels: npt.NDArray[Any] = VOXELS,
    matrix: npt.NDArray[np.float64] | None = OBLIQUE,
    *,
    version: int = 1,
    order: str = "<",
    dim: tuple[int, ...] | None = None,
    datatype: int | None = None,
    pixdim: tuple[float, ...] | None = None,
    sform_code: int = 1,
    qform: tuple[float, ...] | None = None,
    qform_code: int = 0,
    slope: float = 0.0,
    intercept: float = 0.0,
    units: int = 2,
) -> bytes:
    """A NIfTI file; `qform` is b, c, d and the offset."""
    codes = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
    dim = dim or (3, *voxels.shape[::-1], 1, 1, 1, 1)
    datatype = datatype if datatype is not None else codes[voxels.dtype.str[1:]]
    srow = np.zeros(12) if matrix is None else matrix[:3].ravel()
    if pixdim is None:
        pixdim = (1.0, 1.0, 1.0) if matrix is None else tuple(np.linalg.norm(matrix[:3, :3], axis=0))
    if len(pixdim) == 3:
        pixdim = (1.0, *pixdim, 0.0, 0.0, 0.0, 0.0)
    qform = qform or (0.0,) * 6
    sform_code = sform_code if matrix is not None else 0
    if version == 1:
        header = bytearray(348)
        places = [
            (0, "i", (348,)),
            (40, "8h", dim),
            (70, "2h", (datatype, voxels.dtype.itemsize * 8)),
            (76, "8f", pixdim),
            (108, "f", (352.0,)),
            (112, "2f", (slope, intercept)),
            (123, "b", (units,)),
            (252, "2h", (qform_code, sform_code)),
            (256, "6f", qform),
            (280, "12f", srow),
            (344, "4s", (b"n+1\0",)),
        ]
        gap = 4
    else:
        header = bytearray(540)
        places = [
            (0, "i", (540,)),
            (4, "8s", (b"n+2\0\r\n\x1a\n",)),
            (12, "2h", (datatype, voxels.dtype.itemsize * 8)),
            (16, "8q", dim),
            (104, "8d", pixdim),
            (168, "q", (544,)),
            (176, "2d", (slope, intercept)),
            (344, "2i", (qform_code, sform_code)),
            (352, "6d", qform),
            (400, "12d", srow),
            (500, "i", (units,)),
        ]
        gap = 4
    for offset, form, values in places:
        struct.pack_into(order + form, header, offset, *values)
    return bytes(header) + bytes(gap) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes()


def metaimage_bytes(
    voxels: npt.NDArray[Any] = VOXELS,
    matrix: npt.NDArray[np.float64] | None = OBLIQUE,
    *,
    compressed: bool = False,
    big_endian: bool = False,
    source: str = "LOCAL",
    **replaced: str,
) -> bytes:
    """A MetaImage file (only its header if `source` names another file); `replaced` sets or (with "") drops keys."""
    names = {"u1": "MET_UCHAR", "i1": "MET_CHAR", "i2": "MET_SHORT", "u2": "MET_USHORT", "i4": "MET_INT"}
    names |= {"f4": "MET_FLOAT", "f8": "MET_DOUBLE"}
    fields = {
        "ObjectType": "Image",
        "NDims": str(voxels.ndim),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(big_endian),
        "CompressedData": str(compressed),
    }
    if matrix is not None:
        lps = LPS @ matrix
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        fields |= {
            "TransformMatrix": " ".join(format(x, ".17g") for x in (lps[:3, :3] / spacing).T.ravel()),
            "Offset": " ".join(format(x, ".17g") for x in lps[:3, 3]),
            "ElementSpacing": " ".join(format(x, ".17g") for x in spacing),
        }
    fields["DimSize"] = " ".join(str(n) for n in voxels.shape[::-1])
    fields["ElementType"] = names[voxels.dtype.str[1:]]
    fields |= replaced
    fields["ElementDataFile"] = source
    header = "".join(f"{key} = {value}\n" for key, value in fields.items() if value).encode()
    return header + (metaimage_data(voxels, compressed, big_endian) if source == "LOCAL" else b"")


def metaimage_data(voxels: npt.NDArray[Any], compressed: bool = False, big_endian: bool = False) -> bytes:
    """The voxels of a MetaImage."""
    data = voxels.astype(voxels.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
    return zlib.compress(data) if compressed else data
