# SPDX-License-Identifier: Apache-2.0
"""A DICOM image file: what it is, to which series it belongs, and where its image planes lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import VolumeError
from .dicom_header import Attributes, Tag, Value, items, numbers, read_header, short, text

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
_INTERCEPT = (0x0028, 0x1052)
_SLOPE = (0x0028, 0x1053)
_SHARED_GROUPS = (0x5200, 0x9229)
_FRAME_GROUPS = (0x5200, 0x9230)
# Plane position and orientation, pixel measures, pixel value transformation.
_FUNCTIONAL_GROUPS = ((0x0020, 0x9113), (0x0020, 0x9116), (0x0028, 0x9110), (0x0028, 0x9145))
WANTED: frozenset[Tag] = frozenset(
    {
        *(_SOP_CLASS, _SOP_INSTANCE, _MODALITY, _DESCRIPTION, _SERIES_UID, _SERIES_NUMBER, _POSITION, _ORIENTATION),
        *(_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _PIXEL_SPACING, _INTERCEPT, _SLOPE, _SHARED_GROUPS, _FRAME_GROUPS),
        *_FUNCTIONAL_GROUPS,
    }
)
# Objects that have rows and columns without being images to segment: RT doses and RT images, segmentations and other
# derived data, presentation states.
_OTHER_OBJECTS = (
    "1.2.840.10008.5.1.4.1.1.481.",
    "1.2.840.10008.5.1.4.1.1.66.",
    "1.2.840.10008.5.1.4.1.1.11.",
)
# Largest difference of a direction cosine, and relative one of a pixel size, within one volume.
_SAME_DIRECTION = 1e-3
_SAME_SIZE = 1e-3


class Plane(NamedTuple):
    """One image plane: the file that holds it, its frame there, LPS position and orientation, mm, (rows, columns)."""

    path: Path
    frame: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    size: tuple[int, int]


class DicomImage(NamedTuple):
    """A file with one or more image planes, as its header describes it."""

    path: Path
    attributes: Attributes
    complete: bool

    @property
    def instance_uid(self) -> str:
        return text(self.attributes, _SOP_INSTANCE)

    @property
    def series_uid(self) -> str:
        return text(self.attributes, _SERIES_UID)

    @property
    def series_number(self) -> float:
        """Infinity if the file has none, so that these come last."""
        return next(iter(numbers(self.attributes, _SERIES_NUMBER)), float("inf"))

    @property
    def modality(self) -> str:
        return text(self.attributes, _MODALITY)

    @property
    def description(self) -> str:
        """What the scanner called the series; it may name a person."""
        return text(self.attributes, _DESCRIPTION)

    @property
    def is_colour(self) -> bool:
        return short(self.attributes, _SAMPLES) > 1

    @property
    def frame_count(self) -> int:
        return int(next(iter(numbers(self.attributes, _FRAMES)), 1))

    def planes(self) -> list[Plane]:
        """Its image planes in the file's order; VolumeError if it does not say where they lie."""
        size = short(self.attributes, _ROWS), short(self.attributes, _COLUMNS)
        found = [
            Plane(
                self.path,
                number,
                numbers(source, _POSITION),
                numbers(source, _ORIENTATION),
                numbers(source, _PIXEL_SPACING),
                size,
            )
            for number, source in enumerate(self._sources())
        ]
        if any((len(plane.position), len(plane.orientation), len(plane.spacing)) != (3, 6, 2) for plane in found):
            raise VolumeError("The DICOM images do not say where they lie in space; choose a CT, MR or PET series.")
        return found

    def _sources(self) -> list[Attributes]:
        """For each frame the attributes that place it."""
        frames = items(self.attributes, _FRAME_GROUPS)
        if self.frame_count == 1 and not frames:
            return [self.attributes]
        if len(frames) != self.frame_count:
            raise VolumeError("The multi-frame DICOM file does not say where its frames lie; export single slices.")
        shared = next(iter(items(self.attributes, _SHARED_GROUPS)), {})
        sources = [_merged(shared, frame) for frame in frames]
        if len({(text(source, _SLOPE), text(source, _INTERCEPT)) for source in sources}) > 1:
            # GDCM would rescale all frames as the first one.
            raise VolumeError("The frames of the DICOM file are scaled differently; export them as single slices.")
        return sources


def read_image_header(path: Path) -> DicomImage | None:
    """None for what is not a file, not DICOM, or not an image.

    Raises:
        DamagedHeader: if it is DICOM and cut short or inconsistent.
        VolumeError: if it cannot be opened.
    """
    if not path.is_file():
        return None
    try:
        header = read_header(path, WANTED)
    except OSError as error:
        reason = (error.strerror or "input error").lower()
        raise VolumeError(f"A file in it cannot be opened ({reason}); check its permissions.") from error
    if header is None or text(header.attributes, _SOP_CLASS).startswith(_OTHER_OBJECTS):
        return None
    if not (short(header.attributes, _ROWS) and short(header.attributes, _COLUMNS)):
        return None
    return DicomImage(path, header.attributes, header.complete)


def check_parallel(planes: Sequence[Plane]) -> None:
    """VolumeError unless all planes have the same orientation, pixel spacing and size."""
    if len({plane.size for plane in planes}) > 1:
        raise VolumeError("The DICOM images of the series differ in size; choose a series with equal ones.")
    orientations = np.array([plane.orientation for plane in planes])
    if np.ptp(orientations, axis=0).max() > _SAME_DIRECTION:
        raise VolumeError("The DICOM images of the series are not parallel (a localizer?); choose another series.")
    spacings = np.array([plane.spacing for plane in planes])
    if not (spacings > 0).all():
        raise VolumeError("The DICOM images have a pixel spacing of zero or less; export the series again.")
    if (np.ptp(spacings, axis=0) > _SAME_SIZE * spacings[0]).any():
        raise VolumeError("The DICOM images of the series differ in pixel spacing; choose a series with equal ones.")


def _merged(shared: Attributes, frame: Attributes) -> Attributes:
    """The attributes in one frame's functional groups, those of the shared ones where the frame has none."""
    result: dict[Tag, Value] = {}
    for groups in (shared, frame):
        for group in _FUNCTIONAL_GROUPS:
            for item in items(groups, group):
                result.update(item)
    return result
