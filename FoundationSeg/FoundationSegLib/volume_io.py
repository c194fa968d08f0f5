# SPDX-License-Identifier: Apache-2.0
"""Reading a volume from a file or folder of any supported format, told apart by what is in it rather than by name."""

from __future__ import annotations

import os
from pathlib import Path

from .dicom import read_dicom_file, read_dicom_folder, read_dicom_zip
from .errors import DicomSeriesError, VolumeError
from .formats.archive import is_zip
from .formats.dicom_header import looks_like_dicom
from .formats.metaimage import is_metaimage, read_metaimage
from .formats.nifti import is_nifti, read_nifti
from .formats.nrrd import read_nrrd
from .formats.raw import RawVolume, inflate_head
from .volume import NonFinite, Volume, replace_nonfinite

_HEAD_BYTES = 4096


def read_volume(path: str | os.PathLike[str], *, series: str | None = None, nonfinite: NonFinite = "error") -> Volume:
    """Read NRRD (.nrrd, .nhdr), NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd), or a DICOM folder, zip or file.

    Args:
        path: the file or folder.
        series: of several DICOM series the one to read, by its 1-based number in the list or by its UID.
        nonfinite: "error" refuses voxels that are NaN or infinite, "minimum" replaces them by the least finite one.

    Raises:
        DicomSeriesError: if a DICOM series has to be chosen, or there is none.
        VolumeError: if it cannot be read whole, or is not one scalar 3-D image.
    """
    source = Path(path)
    try:
        raw = _read_raw(source, series)
        array = replace_nonfinite(raw.array) if nonfinite == "minimum" else raw.array
        return Volume(array, raw.ijk_to_ras, raw.modality, warnings=raw.warnings)
    except DicomSeriesError as error:
        raise DicomSeriesError(f"{source}: {error}", error.series) from error
    except VolumeError as error:
        raise VolumeError(f"{source}: {error}") from error
    except MemoryError as error:
        raise VolumeError(f"{source}: The image needs more memory than there is; crop or resample it first.") from error


def file_head(path: Path) -> bytes:
    """The first bytes of a file; VolumeError if it is missing, empty or may not be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise VolumeError("There is no such file or folder; check the path.") from error
    except OSError as error:
        reason = (error.strerror or "input error").lower()
        raise VolumeError(f"The file cannot be opened ({reason}); check its permissions.") from error
    if not head:
        raise VolumeError("The file is empty; copy it again from its source.")
    return head


def _read_raw(path: Path, series: str | None) -> RawVolume:
    if path.is_dir():
        return read_dicom_folder(path, series)
    head = file_head(path)
    if is_zip(head):
        return read_dicom_zip(path, series)
    if head.startswith(b"NRRD"):
        return read_nrrd(path)
    if is_nifti(head) or is_nifti(inflate_head(head, _HEAD_BYTES)):
        return read_nifti(path)
    if is_metaimage(head):
        return read_metaimage(path)
    if looks_like_dicom(head):
        return read_dicom_file(path)
    raise VolumeError(
        "The file is damaged or of an unknown kind; give NRRD, NIfTI, MetaImage, or a folder or zip with DICOM images."
    )
