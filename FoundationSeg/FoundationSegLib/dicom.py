# SPDX-License-Identifier: Apache-2.0
"""Reading a volume from DICOM: a folder (searched with its subfolders), a zip, or a single multi-frame file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DicomSeriesError, VolumeError
from .formats.archive import extract_zip
from .formats.dicom_header import DamagedHeader, looks_like_dicom
from .formats.dicom_image import DicomImage, Plane, check_parallel, read_image_header
from .formats.dicom_stack import stack_slices
from .formats.raw import RawVolume
from .formats.sitk_files import read_image


@dataclass(frozen=True)
class SeriesInfo:
    """One image series of a folder.

    Attributes:
        number: 1-based place in the list, which `series` accepts.
        modality: DICOM code, "" if the file does not say.
        images: number of images (frames of a multi-frame file).
        uid: SeriesInstanceUID. It identifies, so that it is left out of the printed form.
        description: what the scanner called it. It may name a person: show it on screen, never log or store it.
    """

    number: int
    modality: str
    images: int
    uid: str = field(repr=False)
    description: str = field(repr=False)


def list_series(folder: str | os.PathLike[str]) -> list[SeriesInfo]:
    """The image series below a folder, ordered by series number; objects that are not images are left out.

    Raises:
        DicomSeriesError: if there is none.
        VolumeError: if DICOM files among them are damaged.
    """
    return [info for info, _ in _series(_find_images(Path(folder)))]


def read_dicom_folder(folder: Path, series: str | None = None) -> RawVolume:
    """The volume of a folder's only image series, or of the one that `series` chooses (1-based number or UID).

    Raises:
        DicomSeriesError: if there is no image series, or the choice is missing or wrong.
        VolumeError: if the images are damaged or do not form one volume.
    """
    return _read_images(_chosen(_series(_find_images(folder)), series))


def read_dicom_zip(archive: Path, series: str | None = None) -> RawVolume:
    """As `read_dicom_folder`, from a zip; nothing of it stays on the disk."""
    with TemporaryDirectory(prefix="foundationseg-") as folder:
        extract_zip(archive, Path(folder), looks_like_dicom)
        return read_dicom_folder(Path(folder), series)


def read_dicom_file(path: Path) -> RawVolume:
    """The volume of one multi-frame file; VolumeError if it is damaged or holds a single slice."""
    try:
        image = read_image_header(path)
    except DamagedHeader as error:
        raise VolumeError("The DICOM file is damaged or cut short; copy it again from its source.") from error
    if image is None:
        raise VolumeError("The DICOM file holds no image; choose a folder with images.")
    if image.frame_count == 1:
        raise VolumeError("The DICOM file holds one slice of a volume; give the folder with the whole series.")
    return _read_images([image])


def _find_images(folder: Path) -> list[DicomImage]:
    """The DICOM images below a folder, each instance once."""
    found: dict[str, DicomImage] = {}
    damaged = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            try:
                image = read_image_header(path)
            except DamagedHeader:
                damaged += 1
                continue
            if image is not None:
                found.setdefault(image.instance_uid or str(path), image)
    if damaged:
        # Even if another series was asked for: who knows to which one they belong.
        raise VolumeError(f"{damaged} DICOM files are damaged or cut short; copy the folder again from its source.")
    if not found:
        raise DicomSeriesError("There is no DICOM image in it; choose a folder or zip with a CT, MR or PET series.")
    return list(found.values())


def _series(images: Sequence[DicomImage]) -> list[tuple[SeriesInfo, list[DicomImage]]]:
    groups: dict[str, list[DicomImage]] = {}
    for image in images:
        groups.setdefault(image.series_uid, []).append(image)
    ordered = sorted(groups.items(), key=lambda item: (item[1][0].series_number, item[0]))
    return [
        (
            SeriesInfo(
                number=number,
                modality=members[0].modality,
                images=sum(image.frame_count for image in members),
                uid=uid,
                description=members[0].description,
            ),
            members,
        )
        for number, (uid, members) in enumerate(ordered, start=1)
    ]


def _chosen(found: list[tuple[SeriesInfo, list[DicomImage]]], series: str | None) -> list[DicomImage]:
    infos = [info for info, _ in found]
    if series is None and len(found) == 1:
        return found[0][1]
    for info, images in found:
        if series in (str(info.number), info.uid):
            return images
    listing = "; ".join(f"{info.number}: {info.modality or 'unknown'}, {info.images} images" for info in infos)
    problem = "There are several DICOM series" if series is None else "There is no such DICOM series"
    raise DicomSeriesError(
        f'{problem} ({listing}); choose one with --series N (series="N" in Python), N being its number or UID.', infos
    )


def _read_images(images: Sequence[DicomImage]) -> RawVolume:
    if cut_short := sum(not image.complete for image in images):
        raise VolumeError(f"{cut_short} of the {len(images)} DICOM images are cut short; copy the series again.")
    if any(image.is_colour for image in images):
        raise VolumeError("The DICOM images are in colour; choose a series with one grey value per pixel.")
    planes = [plane for image in images for plane in image.planes()]
    check_parallel(planes)
    first = planes[0]
    stack = stack_slices(
        [plane.position for plane in planes],
        first.orientation[:3],
        first.orientation[3:],
        (first.spacing[0], first.spacing[1]),
    )
    pixels = _read_pixels(planes)
    array = np.stack([pixels[index] for index in stack.order])
    return RawVolume(_narrowed(array), stack.ijk_to_ras, images[0].modality or None, stack.warnings)


def _read_pixels(planes: Sequence[Plane]) -> list[npt.NDArray[Any]]:
    """The pixels (j, i) of each plane, rescaled (each file by its own slope and intercept)."""
    import SimpleITK as sitk

    pixels: list[npt.NDArray[Any]] = []
    opened: tuple[Path, npt.NDArray[Any]] | None = None
    for number, plane in enumerate(planes, start=1):
        if opened is None or opened[0] != plane.path:
            try:
                opened = plane.path, sitk.GetArrayFromImage(read_image(plane.path, "GDCMImageIO"))
            except VolumeError as error:
                raise VolumeError(
                    f"The pixels of the DICOM image {number} of {len(planes)} cannot be read (damaged or compressed in "
                    "an unsupported way); copy or export the series again."
                ) from error
        pixels.append(opened[1][plane.frame])
    return pixels


def _narrowed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """CT in 16 bits where it fits: GDCM widens 16 stored bits with an intercept to 32, whatever the values are."""
    limits = np.iinfo(np.int16)
    if array.dtype == np.int32 and limits.min <= array.min() and array.max() <= limits.max:
        return array.astype(np.int16)
    return array
