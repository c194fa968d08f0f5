# SPDX-License-Identifier: Apache-2.0
"""DICOM series made for the tests, with whatever is to be wrong with them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

PATIENT = "Doe^Jane"
DESCRIPTION = "Thorax of Doe"
# Of one length, so that files made alike are alike.
_INSTANCES = itertools.count(10**9)


def dataset(
    sop_class: str = CTImageStorage, modality: str = "CT", transfer_syntax: str = ExplicitVRLittleEndian
) -> Any:
    """A data set with a patient in it and no pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = transfer_syntax
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.8.498.{next(_INSTANCES)}"
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    ds.PatientName = PATIENT
    ds.PatientID = "4711"
    ds.Modality = modality
    return ds


def add_pixels(ds: Any, pixels: npt.NDArray[Any], slope: float = 1.0, intercept: float = 0.0) -> Any:
    """Give a data set its pixel module."""
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.RescaleSlope, ds.RescaleIntercept = str(slope), str(intercept)
    ds.PixelData = pixels.tobytes()
    return ds


def slice_dataset(
    pixels: npt.NDArray[Any],
    position: npt.ArrayLike,
    *,
    row: npt.ArrayLike = (1, 0, 0),
    column: npt.ArrayLike = (0, 1, 0),
    spacing: tuple[float, float] = (0.8, 0.7),
    series: str = "1.2.3.1",
    number: int = 1,
    slope: float = 1.0,
    intercept: float = 0.0,
    **options: str,
) -> Any:
    """One single-frame image; positions and directions in LPS, spacing between rows then columns."""
    ds = add_pixels(dataset(**options), pixels, slope, intercept)
    ds.SeriesInstanceUID = series
    ds.SeriesNumber = number
    ds.SeriesDescription = DESCRIPTION
    ds.ImagePositionPatient = [f"{x:.8g}" for x in np.asarray(position, dtype=float)]
    ds.ImageOrientationPatient = [f"{x:.10g}" for x in (*np.asarray(row, float), *np.asarray(column, float))]
    ds.PixelSpacing = [str(s) for s in spacing]
    return ds


def write(ds: Any, path: Path) -> Path:
    """Write a data set as a DICOM file (in the transfer syntax of its file meta information)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    voxels: npt.NDArray[Any],
    *,
    step: npt.ArrayLike = (0, 0, 2.5),
    origin: npt.ArrayLike = (-10, -20, 30),
    change: Callable[[int, Any], Any] = lambda _, ds: ds,
    name: Callable[[int], str] = lambda k: f"IM{k:04d}",
    **options: Any,
) -> list[Path]:
    """Slices of `voxels` (k, j, i), the k-th at origin + k * step; `change` may alter one, or drop it (None)."""
    paths = []
    for k, pixels in enumerate(voxels):
        position = np.asarray(origin, float) + k * np.asarray(step, float)
        ds = change(k, slice_dataset(pixels, position, **options))
        if ds is not None:
            paths.append(write(ds, folder / name(k)))
    return paths


def multiframe(
    voxels: npt.NDArray[Any], positions: npt.ArrayLike, *, slopes: list[float] | None = None, **options: str
) -> Any:
    """An enhanced multi-frame image, its orientation and pixel size in the shared functional groups."""
    ds = add_pixels(dataset(**{"sop_class": "1.2.840.10008.5.1.4.1.1.2.1", **options}), voxels)
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.SeriesInstanceUID = "1.2.3.9"
    ds.SeriesNumber = 9
    ds.NumberOfFrames = len(voxels)
    shared = pydicom.Dataset()
    shared.PixelMeasuresSequence = Sequence([_item(PixelSpacing=["0.8", "0.7"])])
    shared.PlaneOrientationSequence = Sequence([_item(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"])])
    if slopes is None:
        shared.PixelValueTransformationSequence = Sequence([_item(RescaleSlope="2", RescaleIntercept="-100")])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for number, position in enumerate(np.asarray(positions, float)):
        frame = pydicom.Dataset()
        frame.PlanePositionSequence = Sequence([_item(ImagePositionPatient=[f"{x:.8g}" for x in position])])
        if slopes is not None:
            frame.PixelValueTransformationSequence = Sequence(
                [_item(RescaleSlope=str(slopes[number]), RescaleIntercept="0")]
            )
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return ds


def _item(**elements: Any) -> pydicom.Dataset:
    item = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item
