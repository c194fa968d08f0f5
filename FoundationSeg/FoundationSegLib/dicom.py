# SPDX-License-Identifier: Apache-2.0
"""Reading a volume from DICOM: a folder (searched with its subfolders), a zip, or a single multi-frame file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import DicomSeriesError, VolumeError
from .formats.archive import extract_zip
from .formats.dicom_header import (
    Attributes,
    DamagedHeader,
    DicomHeader,
    items,
    looks_like_dicom,
    numbers,
    read_header,
    short,
    text,
)
from .formats.dicom_stack import Stack, stack_slices
from .formats.raw import RawVolume
from .formats.sitk_files import read_image

_SOP_CLASS = (0x0008, 0x0016)
_SOP_INSTANCE = (0x0008, 0x0018)
_MODALITY = (0x0008, 0x0060)
_DESCRIPTION = (0x0008, 0x103E)
_SERIES_UID = (0x0020, 0x000E)
_SERIES_NUMBER = (0x0020, 0x0011)
_POSITION = (0x0020, 0x0032)
_ORIENTATION = (0x0020, 0x0037)
_SAMPLES = (0x0028, 0x0002)
_FRAMES = (0x0028, 0x0008)
_ROWS = (0x0028, 0x0010)
_COLUMNS = (0x0028, 0x0011)
_PIXEL_SPACING = (0x0028, 0x0030)
_SHARED_GROUPS = (0x5200, 0x9229)
_FRAME_GROUPS = (0x5200, 0x9230)
_PLANE_POSITION = (0x0020, 0x9113)
_PLANE_ORIENTATION = (0x0020, 0x9116)
_PIXEL_MEASURES = (0x0028, 0x9110)
_VALUE_TRANSFORMATION = (0x0028, 0x9145)
_INTERCEPT = (0x0028, 0x1052)
_SLOPE = (0x0028, 0x1053)
_WANTED = frozenset(
    {
        *(_SOP_CLASS, _SOP_INSTANCE, _MODALITY, _DESCRIPTION, _SERIES_UID, _SERIES_NUMBER, _POSITION, _ORIENTATION),
        *(_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _PIXEL_SPACING, _SHARED_GROUPS, _FRAME_GROUPS, _PLANE_POSITION),
        *(_PLANE_ORIENTATION, _PIXEL_MEASURES, _VALUE_TRANSFORMATION, _INTERCEPT, _SLOPE),
    }
)

# Objects that have rows and columns without being images to segment: RT dose, RT image, segmentations, fields.
_OTHER_OBJECTS = (
    "1.2.840.10008.5.1.4.1.1.481.",
    "1.2.840.10008.5.1.4.1.1.66.",
    "1.2.840.10008.5.1.4.1.1.11.",
)
# Largest difference of a direction cosine, and relative one of a pixel size, within one volume.
_SAME_DIRECTION = 1e-3
_SAME_SIZE = 1e-3


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


class _Slice(NamedTuple):
    """One image plane: what places it, the file that holds it, and its frame in that file."""

    path: Path
    frame: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    size: tuple[int, int]


class _Image(NamedTuple):
    path: Path
    header: DicomHeader


def list_series(folder: str | os.PathLike[str]) -> list[SeriesInfo]:
    """The image series below a folder, ordered by series number; objects that are not images are left out.

    Raises:
        DicomSeriesError: if there is none.
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
    """The volume of one multi-frame file; VolumeError if it holds a single slice."""
    image = _read_image_header(path)
    if image is None:
        raise VolumeError("The DICOM file holds no image; choose a folder with images.")
    if _frame_count(image.header.attributes) == 1:
        raise VolumeError("The DICOM file holds one slice of a volume; give the folder with the whole series.")
    return _read_images([image])


def _find_images(folder: Path) -> list[_Image]:
    """The DICOM images below a folder, each instance once."""
    found: dict[str, _Image] = {}
    damaged = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            try:
                image = _read_image_header(path)
            except DamagedHeader:
                damaged += 1
                continue
            if image is not None:
                found.setdefault(text(image.header.attributes, _SOP_INSTANCE) or str(len(found)), image)
    if damaged:
        raise VolumeError(f"{damaged} DICOM files are damaged or cut short; copy the folder again from its source.")
    if not found:
        raise DicomSeriesError("There is no DICOM image in it; choose a folder or zip with a CT, MR or PET series.")
    return list(found.values())


def _read_image_header(path: Path) -> _Image | None:
    """None for what is not a file, not DICOM, or not an image."""
    if not path.is_file() or path.stat().st_size == 0:
        return None
    try:
        header = read_header(path, _WANTED)
    except OSError as error:
        raise VolumeError(f"A file in it cannot be opened ({(error.strerror or 'input error').lower()}).") from error
    if header is None:
        return None
    attributes = header.attributes
    is_other = text(attributes, _SOP_CLASS).startswith(_OTHER_OBJECTS)
    if is_other or not (short(attributes, _ROWS) and short(attributes, _COLUMNS)):
        return None
    return _Image(path, header)


def _series(images: Sequence[_Image]) -> list[tuple[SeriesInfo, list[_Image]]]:
    groups: dict[str, list[_Image]] = {}
    for image in images:
        groups.setdefault(text(image.header.attributes, _SERIES_UID), []).append(image)

    def key(item: tuple[str, list[_Image]]) -> tuple[float, str]:
        return next(iter(numbers(item[1][0].header.attributes, _SERIES_NUMBER)), float("inf")), item[0]

    return [
        (
            SeriesInfo(
                number=number,
                modality=text(members[0].header.attributes, _MODALITY),
                images=sum(_frame_count(image.header.attributes) for image in members),
                uid=uid,
                description=text(members[0].header.attributes, _DESCRIPTION),
            ),
            members,
        )
        for number, (uid, members) in enumerate(sorted(groups.items(), key=key), start=1)
    ]


def _chosen(found: list[tuple[SeriesInfo, list[_Image]]], series: str | None) -> list[_Image]:
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


def _read_images(images: Sequence[_Image]) -> RawVolume:
    if any(not image.header.complete for image in images):
        count = sum(not image.header.complete for image in images)
        raise VolumeError(f"{count} of the {len(images)} DICOM images are cut short; copy the series again.")
    if any(short(image.header.attributes, _SAMPLES) > 1 for image in images):
        raise VolumeError("The DICOM images are in colour; choose a series with one grey value per pixel.")
    slices = [plane for image in images for plane in _slices(image)]
    _check_same_plane(slices)
    first = slices[0]
    stack = stack_slices(
        [plane.position for plane in slices],
        first.orientation[:3],
        first.orientation[3:],
        (first.spacing[0], first.spacing[1]),
    )
    modality = text(images[0].header.attributes, _MODALITY)
    return RawVolume(_read_pixels(slices, stack), stack.ijk_to_ras, modality or None, stack.warnings)


def _frame_count(attributes: Attributes) -> int:
    return int(next(iter(numbers(attributes, _FRAMES)), 1))


def _slices(image: _Image) -> list[_Slice]:
    """The image planes of one file."""
    attributes = image.header.attributes
    size = short(attributes, _ROWS), short(attributes, _COLUMNS)
    count = _frame_count(attributes)
    frames = items(attributes, _FRAME_GROUPS)
    if count == 1 and not frames:
        sources = [attributes]
    else:
        if len(frames) != count:
            raise VolumeError("The multi-frame DICOM file does not say where its frames lie; export single slices.")
        shared = next(iter(items(attributes, _SHARED_GROUPS)), {})
        sources = [_merged(shared, frame) for frame in frames]
        if len({(text(source, _SLOPE), text(source, _INTERCEPT)) for source in sources}) > 1:
            raise VolumeError("The frames of the DICOM file are scaled differently; export them as single slices.")
    planes = [
        _Slice(
            image.path,
            number,
            numbers(source, _POSITION),
            numbers(source, _ORIENTATION),
            numbers(source, _PIXEL_SPACING),
            size,
        )
        for number, source in enumerate(sources)
    ]
    if any((len(plane.position), len(plane.orientation), len(plane.spacing)) != (3, 6, 2) for plane in planes):
        raise VolumeError("The DICOM images do not say where they lie in space; choose a CT, MR or PET series.")
    return planes


def _merged(shared: Attributes, frame: Attributes) -> Attributes:
    """The attributes of one frame's functional groups, those of the shared ones where the frame has none."""
    result: dict[Any, Any] = {}
    for groups in (shared, frame):
        for group in (_PLANE_POSITION, _PLANE_ORIENTATION, _PIXEL_MEASURES, _VALUE_TRANSFORMATION):
            for item in items(groups, group):
                result.update(item)
    return result


def _check_same_plane(slices: Sequence[_Slice]) -> None:
    if len({plane.size for plane in slices}) > 1:
        raise VolumeError("The DICOM images of the series differ in size; choose a series with equal ones.")
    orientations = np.array([plane.orientation for plane in slices])
    if np.ptp(orientations, axis=0).max() > _SAME_DIRECTION:
        raise VolumeError("The DICOM images of the series are not parallel (a localizer?); choose another series.")
    spacings = np.array([plane.spacing for plane in slices])
    if not (spacings > 0).all():
        raise VolumeError("The DICOM images have a pixel spacing of zero or less; export the series again.")
    if (np.ptp(spacings, axis=0) > _SAME_SIZE * spacings[0]).any():
        raise VolumeError("The DICOM images of the series differ in pixel spacing; choose a series with equal ones.")


def _read_pixels(slices: Sequence[_Slice], stack: Stack) -> npt.NDArray[Any]:
    """Voxels (k, j, i) in the stack's order, rescaled (each file by its own slope and intercept)."""
    import SimpleITK as sitk

    planes: list[npt.NDArray[Any]] = [np.empty(0)] * len(slices)
    opened: tuple[Path, npt.NDArray[Any]] | None = None
    for index, plane in enumerate(slices):
        if opened is None or opened[0] != plane.path:
            try:
                image = read_image(plane.path, "GDCMImageIO")
            except VolumeError as error:
                raise VolumeError(
                    f"The pixels of the DICOM image {index + 1} of {len(slices)} cannot be read (damaged or compressed "
                    "in an unsupported way); copy or export the series again."
                ) from error
            opened = plane.path, sitk.GetArrayFromImage(image)
        planes[index] = opened[1][plane.frame]
    return _narrowed(np.stack([planes[index] for index in stack.order]))


def _narrowed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """CT in 16 bits where it fits: GDCM widens 16 stored bits with an intercept to 32, whatever the values are."""
    limits = np.iinfo(np.int16)
    if array.dtype == np.int32 and limits.min <= array.min() and array.max() <= limits.max:
        return array.astype(np.int16)
    return array
