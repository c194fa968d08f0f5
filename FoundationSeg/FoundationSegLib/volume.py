# SPDX-License-Identifier: Apache-2.0
"""A scalar image in space: voxels, and the matrix that places them in the patient (RAS, millimetres)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from .errors import VolumeError

if TYPE_CHECKING:
    import SimpleITK as sitk

FloatArray = npt.NDArray[np.float64]
NonFinite = Literal["error", "minimum"]

# LPS (DICOM, ITK, files) <-> RAS (3D Slicer, this package). It is its own inverse.
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_RAS.setflags(write=False)

MIN_VOXELS_PER_AXIS = 2
_KEPT_DTYPES = frozenset(np.dtype(t) for t in (np.int8, np.int16, np.int32, np.uint8, np.uint16, np.float32))
# Sine-like measure of how far three unit directions are from coplanar; rounding in headers stays far above it.
_MIN_DIRECTION_DETERMINANT = 1e-6
# A point on the outer face of the grid counts as inside whatever the rounding of the matrix (in voxels).
_FACE_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image that is fit to be segmented; whatever is not raises VolumeError on construction.

    Attributes:
        array: voxels, axes (k, j, i), C-contiguous and read-only; int8, int16, int32, uint8, uint16 or float32 (other
            types are converted), all finite, not all equal.
        ijk_to_ras: 4x4 float64, read-only. Voxel index (i, j, k, 1) to RAS millimetres; integer indices are voxel
            centres. Columns may be oblique, permuted, left-handed or sheared.
        modality: DICOM code ("CT", "MR", "PT", "US", ...), or None where the file does not say.
        name: a label for display; never taken from patient data.
        warnings: sentences about what was unusual in the source (gantry tilt, ...), for the user.
    """

    array: npt.NDArray[Any]
    ijk_to_ras: FloatArray
    modality: str | None = None
    name: str = "volume"
    warnings: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ijk_to_ras", checked_matrix(self.ijk_to_ras))
        object.__setattr__(self, "array", checked_voxels(self.array))

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, series: str | None = None, nonfinite: NonFinite = "error") -> Volume:
        """Read NRRD, NIfTI, MetaImage, or a DICOM series (folder, zip or file); see `volume_io.read_volume`."""
        from .volume_io import read_volume

        return read_volume(path, series=series, nonfinite=nonfinite)

    @classmethod
    def from_sitk(cls, image: sitk.Image, modality: str | None = None) -> Volume:
        """From a SimpleITK image (LPS). Raises VolumeError for 2-D, 4-D or vector images."""
        import SimpleITK as sitk

        if image.GetNumberOfComponentsPerPixel() != 1:
            raise components_error(image.GetNumberOfComponentsPerPixel())
        if image.GetDimension() != 3:
            raise dimension_error(image.GetDimension())
        directions = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        return cls(sitk.GetArrayFromImage(image), lps_matrix_to_ras(directions, image.GetOrigin()), modality)

    def to_sitk(self) -> sitk.Image:
        """A SimpleITK image (LPS) with the same voxels and exact geometry (the direction may be sheared)."""
        import SimpleITK as sitk

        lps = LPS_RAS @ self.ijk_to_ras
        image = sitk.GetImageFromArray(self.array)
        image.SetSpacing(self.spacing_mm)
        image.SetDirection((lps[:3, :3] / self.spacing_mm).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        return image

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (k, j, i)."""
        k, j, i = self.array.shape
        return k, j, i

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along i, j and k (not k, j, i), in mm."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0).tolist()
        return i, j, k

    @cached_property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in mL (from the determinant, so right for sheared grids too)."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000.0

    @cached_property
    def ras_to_ijk(self) -> FloatArray:
        """Inverse of `ijk_to_ras`, read-only."""
        return _read_only(np.linalg.inv(self.ijk_to_ras).astype(np.float64))

    @cached_property
    def bounds_ras(self) -> FloatArray:
        """(2, 3) read-only: least and greatest R, A, S in mm of the grid's outer corners (voxel faces, not centres)."""
        corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in self.shape], indexing="ij"), axis=-1)
        ras = self.kji_to_ras(corners.reshape(8, 3))
        return _read_only(np.stack([ras.min(axis=0), ras.max(axis=0)]))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over type, shape, little-endian voxels and geometry (to 1e-6 mm); nothing else enters it."""
        digest = hashlib.sha256(f"{self.array.dtype.name} {self.shape}".encode())
        # Adding zero turns the -0.0 that LPS/RAS flips leave behind into 0.0.
        digest.update((np.round(self.ijk_to_ras, 6) + 0.0).astype("<f8").tobytes())
        digest.update(self.array.astype(self.array.dtype.newbyteorder("<"), copy=False).data)
        return digest.hexdigest()

    def ras_to_kji(self, points: npt.ArrayLike) -> FloatArray:
        """RAS mm, shape (n, 3) or (3,), to continuous array indices (k, j, i) of the same shape."""
        return _apply(self.ras_to_ijk, points)[..., ::-1]

    def kji_to_ras(self, indices: npt.ArrayLike) -> FloatArray:
        """Continuous array indices (k, j, i), shape (n, 3) or (3,), to RAS mm of the same shape."""
        return _apply(self.ijk_to_ras, np.asarray(indices, dtype=np.float64)[..., ::-1])

    def contains(self, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether RAS points, shape (n, 3) or (3,), lie in the grid, outer faces included; shape (n,) or ()."""
        kji = self.ras_to_kji(points)
        upper = np.asarray(self.shape) - 0.5
        inside = (kji >= -0.5 - _FACE_TOLERANCE) & (kji <= upper + _FACE_TOLERANCE)
        return np.asarray(inside.all(axis=-1))


def lps_matrix_to_ras(directions: npt.ArrayLike, origin: npt.ArrayLike) -> FloatArray:
    """4x4 IJK-to-RAS from LPS columns (3x3, already scaled by the spacing) and the LPS origin of voxel (0, 0, 0)."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions
    matrix[:3, 3] = origin
    matrix[:2] *= -1
    return matrix


def checked_matrix(matrix: npt.ArrayLike) -> FloatArray:
    """A read-only float64 copy of a 4x4 index-to-space matrix; VolumeError if it does not span space."""
    result = np.array(matrix, dtype=np.float64)
    if result.shape != (4, 4) or not np.isfinite(result).all() or not np.array_equal(result[3], (0, 0, 0, 1)):
        raise VolumeError(
            "The image's position in space is not a 4x4 affine matrix of finite numbers; correct the image header."
        )
    # Absurd lengths become infinite, and are then refused.
    with np.errstate(over="ignore"):
        spacing = np.linalg.norm(result[:3, :3], axis=0)
    check_spacing(spacing)
    if abs(np.linalg.det(result[:3, :3] / spacing)) < _MIN_DIRECTION_DETERMINANT:
        raise VolumeError(
            "The image's three axis directions lie in one plane, so its voxels have no volume; correct its header."
        )
    return _read_only(result + 0.0)


def check_spacing(spacing: npt.ArrayLike) -> None:
    """VolumeError unless the three spacings (i, j, k; mm) that a header states are greater than zero."""
    values = np.asarray(spacing, dtype=np.float64)
    if not ((values > 0) & np.isfinite(values)).all():
        stated = ", ".join(f"{value:g}" for value in values)
        raise VolumeError(
            f"The image's voxel spacing (i, j, k) is {stated} mm; each must be greater than 0, so correct its header."
        )


def checked_voxels(array: npt.ArrayLike) -> npt.NDArray[Any]:
    """Voxels (k, j, i) in one of the kept types, C-contiguous and read-only; VolumeError if unfit to be segmented."""
    voxels = np.asarray(array)
    if voxels.ndim != 3:
        raise dimension_error(voxels.ndim)
    if min(voxels.shape) < MIN_VOXELS_PER_AXIS:
        size = " x ".join(str(n) for n in voxels.shape[::-1])
        raise VolumeError(
            f"The image has {size} voxels (i x j x k); a volume needs at least {MIN_VOXELS_PER_AXIS} along each axis, "
            "so choose a 3-D image."
        )
    voxels = np.ascontiguousarray(_kept_dtype(voxels))
    low, high = voxels.min(), voxels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        count = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
        raise VolumeError(
            f"{count} of the image's {voxels.size} voxels are not finite (NaN or infinite); correct them, or replace "
            'them by the least finite value with --nonfinite minimum (nonfinite="minimum" in Python).'
        )
    if low == high:
        raise VolumeError(
            f"Every voxel of the image has the value {low:g}, so nothing can be told apart; choose another image."
        )
    # A view, so that the caller's own array stays writable.
    voxels = voxels.view()
    voxels.setflags(write=False)
    return voxels


def replace_nonfinite(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array with NaN and infinite values replaced by the least finite one (unchanged where there are none)."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    finite = np.isfinite(array)
    if finite.all() or not finite.any():
        return array
    return np.where(finite, array, array[finite].min())


def _kept_dtype(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The voxels in one of the kept types: the same, else the nearest that holds their values."""
    native = voxels.dtype.newbyteorder("=")
    if native in _KEPT_DTYPES:
        return voxels.astype(native, copy=False)
    if native == np.bool_:
        return voxels.astype(np.uint8)
    if np.issubdtype(native, np.integer):
        limits = np.iinfo(np.int32)
        fits = limits.min <= voxels.min() and voxels.max() <= limits.max
        return voxels.astype(np.int32 if fits else np.float32)
    if np.issubdtype(native, np.floating):
        # What float32 cannot hold becomes infinite, and is then reported as not finite.
        with np.errstate(over="ignore"):
            return voxels.astype(np.float32)
    raise VolumeError(f"The image's voxel type ({voxels.dtype}) is not a real number; convert it to numbers first.")


def dimension_error(dimensions: int) -> VolumeError:
    """The error for an image that has not three dimensions."""
    advice = "split a time series into single volumes" if dimensions > 3 else "choose a 3-D image"
    return VolumeError(f"The image has {dimensions} dimensions and a volume has 3; {advice}.")


def components_error(components: int | str = "several") -> VolumeError:
    """The error for an image with more than one value per voxel."""
    return VolumeError(
        f"The image has {components} values per voxel (colour or vector data); convert it to one grey value per voxel."
    )


def _apply(matrix: FloatArray, points: npt.ArrayLike) -> FloatArray:
    vectors = np.asarray(points, dtype=np.float64)
    result: FloatArray = vectors @ matrix[:3, :3].T + matrix[:3, 3]
    return result


def _read_only(array: FloatArray) -> FloatArray:
    array.setflags(write=False)
    return array
