# SPDX-License-Identifier: Apache-2.0
"""SUV from DICOM headers, what is said where these lack a value, and what headers tell of contrast and technique."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from FoundationReportLib.errors import MeasurementError
from FoundationReportLib.measure import ImageHeader, PetHeader, measure, read_header, with_contrast
from FoundationReportLib.measure.region import region_of
from FoundationReportLib.measure.suv import SuvScale, suv_scale, uptake
from FoundationSegLib import Volume
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage
from report_phantom import ellipsoid, grid, positions, record, turned, volume_of

PET = PetHeader(
    units="BQML",
    decay_correction="START",
    dose_bq=370e6,
    half_life_s=6586.2,
    injected=datetime(2024, 1, 31, 11, 0, 0),
    scanned=datetime(2024, 1, 31, 12, 0, 0),
    weight_kg=74.0,
)
Change = Callable[[Any], None]


def _series(folder: Path, voxels: np.ndarray, change: Change = lambda ds: None) -> Path:
    """A PET series of 4 mm voxels, axial, its header complete unless `change` alters it."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, pixels in enumerate(voxels):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{k + 1}"
        ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.9"
        ds.PatientName, ds.PatientID, ds.PatientWeight, ds.PatientSex = "Doe^Jane", "4711", "74", "F"
        ds.Modality, ds.Units, ds.DecayCorrection = "PT", "BQML", "START"
        ds.SeriesDescription, ds.BodyPartExamined = "PET of Doe, Jane", "CHEST"
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = "20240131"
        ds.SeriesTime, ds.AcquisitionTime = "120000.00", f"1200{k:02d}"
        dose = pydicom.Dataset()
        dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = "370000000", "6586.2"
        dose.RadiopharmaceuticalStartTime = "110000.00"
        ds.RadiopharmaceuticalInformationSequence = Sequence([dose])
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 4 * k], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = ["4", "4"], "4"
        ds.Rows, ds.Columns = pixels.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation, ds.RescaleSlope, ds.RescaleIntercept = 15, 0, "1", "0"
        ds.PixelData = pixels.astype(np.uint16).tobytes()
        change(ds)
        pydicom.dcmwrite(folder / f"{k:03d}.dcm", ds, enforce_file_format=True)
    return folder


def test_scale_from_the_header() -> None:
    scale = suv_scale(PET)
    assert isinstance(scale, SuvScale)
    left = 370e6 * 0.5 ** (3600 / 6586.2)
    assert scale.factor == pytest.approx(74000 / left)
    # An even distribution of what is left in the body has SUV 1.
    assert scale.factor * (left / 74000) == pytest.approx(1)
    admin = suv_scale(replace(PET, decay_correction="ADMIN", injected=None, half_life_s=None))
    assert isinstance(admin, SuvScale)
    assert admin.factor == pytest.approx(74000 / 370e6)
    assert suv_scale(replace(PET, units="GML")) == SuvScale(1.0, "SUVbw as stored by the scanner")
    counts = suv_scale(replace(PET, units="CNTS", philips_factor=0.0025))
    assert isinstance(counts, SuvScale)
    assert counts.factor == 0.0025


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight_kg": None}, "patient's weight (0010,1030)"),
        ({"dose_bq": None}, "injected dose (0018,1074)"),
        ({"half_life_s": None, "injected": None}, "half life (0018,1075), time of injection"),
        ({"units": ""}, "units (0054,1001)"),
        ({"units": "CNTS"}, "CNTS"),
        ({"decay_correction": "NONE"}, "not corrected for decay"),
        ({"decay_correction": ""}, "decay correction (0054,1102)"),
        ({"injected": datetime(2024, 1, 31, 12, 30)}, "injection after the scan"),
    ],
)
def test_what_is_missing_is_named(change: dict[str, Any], words: str) -> None:
    answer = suv_scale(replace(PET, **change))
    assert isinstance(answer, str)
    assert words in answer


def test_no_header_no_suv() -> None:
    assert "no DICOM header" in str(suv_scale(None))


def test_from_dicom_to_facts(tmp_path: Path) -> None:
    voxels = np.full((12, 24, 24), 1000)
    mask = np.zeros(voxels.shape, bool)
    mask[3:9, 8:15, 8:15] = True
    voxels[mask] = 20000
    voxels[5, 11, 11] = 30000
    folder = _series(tmp_path / "pet", voxels)
    facts = measure(folder, [record("lung nodule", mask)])
    scale = suv_scale(PET)
    assert isinstance(scale, SuvScale)
    values = {f.quantity: f for f in facts.of("lung-nodule")}
    assert values["suv_max"].value == pytest.approx(30000 * scale.factor, abs=1e-5)
    assert values["suv_mean"].value == pytest.approx(voxels[mask].mean() * scale.factor, abs=1e-5)
    assert values["suv_max"].unit == "g/mL{SUVbw}"
    assert values["mean"].unit == "Bq/mL"
    # All of it lies above 41% of the maximum.
    assert values["mtv"].value == pytest.approx(mask.sum() * 0.064)
    assert values["tlg"].value == pytest.approx(values["mtv"].value * values["suv_mean"].value, rel=1e-5)
    assert 20000 * scale.factor < values["suv_peak"].value < values["suv_max"].value  # type: ignore[operator]
    assert values["suv_max"].source is not None
    place = Volume.read(folder).kji_to_ras((5, 11, 11))
    assert values["suv_max"].source.points[0] == pytest.approx(place.tolist(), abs=1e-3)
    assert facts.study["date"] == "20240131"
    text = repr(facts)
    assert "Doe" not in text
    assert "4711" not in text


def test_missing_weight_is_a_warning_and_no_suv(tmp_path: Path) -> None:
    voxels = np.full((4, 8, 8), 1000)
    voxels[1:3, 3:5, 3:5] = 5000

    def change(ds: Any) -> None:
        del ds.PatientWeight

    facts = measure(_series(tmp_path / "pet", voxels, change), [record("nodule", voxels > 2000)])
    assert not [f for f in facts.facts if f.quantity.startswith("suv")]
    assert any("patient's weight (0010,1030)" in sentence for sentence in facts.warnings)


def test_time_of_the_scan_is_not_that_of_later_processing(tmp_path: Path) -> None:
    voxels = np.arange(4 * 8 * 8).reshape(4, 8, 8)

    def change(ds: Any) -> None:
        ds.SeriesTime = "153000"

    header = read_header(_series(tmp_path / "pet", voxels, change))
    assert header is not None
    assert header.pet is not None
    assert header.pet.scanned == datetime(2024, 1, 31, 12, 0, 0)
    assert header.pet.injected == datetime(2024, 1, 31, 11, 0, 0)


def test_peak_is_the_mean_in_a_sphere_of_one_millilitre() -> None:
    size = (21, 21, 17)
    matrix = grid(size, (2.0, 2.0, 2.5), turned(0, 20))
    points = positions(matrix, size)
    # A ramp along a direction: the mean in a sphere is the value at its centre.
    ramp = (points @ np.array([1.0, 2.0, -0.5]) * 100 + 20000).astype(np.int32)
    volume = Volume(ramp, matrix, "PT")
    mask = ellipsoid(points, (0, 0, 0), (7, 7, 7))
    region = region_of(volume, mask)
    assert region is not None
    found = uptake(region, SuvScale(0.001, "test"))
    assert found.peak == pytest.approx(ramp[mask].max() * 0.001, abs=0.02)


def test_peak_of_a_point_source_is_its_share_of_a_millilitre() -> None:
    size = (21, 21, 17)
    mask = np.zeros((17, 21, 21), bool)
    mask[8, 10, 10] = True
    volume = volume_of(size, grid(size, (2.0, 2.0, 2.5)), "PT", background=0)
    array = volume.array.astype(np.int32)
    array[mask] = 100_000
    region = region_of(Volume(array, volume.ijk_to_ras, "PT"), mask)
    assert region is not None
    assert uptake(region, SuvScale(1.0, "test")).peak == pytest.approx(100_000 * 0.01, rel=0.03)


def test_a_peak_above_the_maximum_says_why() -> None:
    """A small segment beside a hotter focus: SUVmax is of its voxels, the sphere of 1 cm3 reaches further."""
    size = (20, 20, 20)
    volume = volume_of(size, grid(size, (4, 4, 4)), "PT", background=0)
    hot = np.zeros((20, 20, 20), bool)
    hot[10, 10, 10] = True
    array = volume.array.astype(np.int32)
    array[8:13, 8:13, 11:16] = 100_000
    array[hot] = 20_000
    volume = Volume(array, volume.ijk_to_ras, "PT")
    facts = measure(volume, [record("lung nodule", hot)], header=ImageHeader(modality="PT", pet=PET))
    values = {f.quantity: f for f in facts.of("lung-nodule")}
    assert values["suv_peak"].value > values["suv_max"].value  # type: ignore[operator]
    assert values["suv_peak"].source is not None
    assert "94% of it outside the segment" in values["suv_peak"].source.method  # a voxel of 0.064 mL in 1 mL
    assert any("SUVpeak" in sentence and "above its SUVmax" in sentence for sentence in facts.warnings)
    large = np.zeros((20, 20, 20), bool)
    large[5:16, 5:16, 8:19] = True
    facts = measure(volume, [record("lung nodule", large)], header=ImageHeader(modality="PT", pet=PET))
    values = {f.quantity: f for f in facts.of("lung-nodule")}
    assert "outside the segment" not in values["suv_peak"].source.method  # type: ignore[union-attr]
    assert not any("SUVpeak" in sentence for sentence in facts.warnings)


def test_no_peak_where_no_sphere_fits() -> None:
    mask = np.zeros((3, 6, 6), bool)
    mask[0, 2, 2] = True
    volume = volume_of((6, 6, 3), grid((6, 6, 3), (4, 4, 4)), "PT")
    region = region_of(volume, mask)
    assert region is not None
    assert uptake(region, SuvScale(1.0, "test")).peak is None


@pytest.mark.parametrize(
    ("agent", "description", "expected"),
    [
        ("Iomeron 400", "Abdomen portal venous", ("with", "portal venous")),
        ("APPLIED", "Thorax", ("with", "")),
        ("NONE", "Thorax arterial", ("without", "")),
        ("", "CT Thorax non-contrast", ("without", "")),
        ("", "CT Thorax arterial", ("", "")),
        ("", "Thorax", ("", "")),
    ],
)
def test_contrast_is_what_the_header_says(
    tmp_path: Path, agent: str, description: str, expected: tuple[str, str]
) -> None:
    def change(ds: Any) -> None:
        ds.Modality, ds.ContrastBolusAgent, ds.SeriesDescription = "CT", agent, description

    header = read_header(_series(tmp_path / "ct", np.arange(128).reshape(2, 8, 8), change))
    assert header is not None
    assert (header.contrast, header.phase) == expected
    assert header.body_part == "chest"
    assert header.slice_thickness_mm == 4
    assert header.pet is None


def test_one_of_several_series_has_to_be_chosen(tmp_path: Path) -> None:
    voxels = np.arange(128).reshape(2, 8, 8)
    _series(tmp_path / "both" / "a", voxels)

    def other(ds: Any) -> None:
        ds.SeriesInstanceUID, ds.SeriesNumber, ds.BodyPartExamined = "1.2.3.5", 7, "HEAD"
        ds.SOPInstanceUID = f"{ds.SOPInstanceUID}.5"

    _series(tmp_path / "both" / "b", voxels, other)
    with pytest.raises(MeasurementError, match="--series"):
        read_header(tmp_path / "both")
    header = read_header(tmp_path / "both", "1.2.3.5")
    assert header is not None
    assert header.body_part == "head"


def test_files_without_a_dicom_header_have_none(tmp_path: Path) -> None:
    (tmp_path / "x.nrrd").write_bytes(b"NRRD0004\n")
    assert read_header(tmp_path / "x.nrrd") is None
    with pytest.raises(MeasurementError, match="check the path"):
        read_header(tmp_path / "missing.nrrd")


def test_a_person_may_state_what_no_header_says() -> None:
    mask = np.zeros((6, 20, 20), bool)
    mask[2:4, 5:9, 5:9] = True
    volume = volume_of((20, 20, 6), grid((20, 20, 6), (1, 1, 3)))
    facts = measure(volume, [record("liver lesion", mask)], header=with_contrast(None, "with"))
    fact = next(f for f in facts.of("image", "contrast"))
    assert fact.value == "with"
    assert fact.source is not None
    assert fact.source.by == "human"


def test_a_person_completes_a_header_and_does_not_overrule_it() -> None:
    silent = ImageHeader(modality="CT", slice_thickness_mm=2.0)
    mask = np.zeros((6, 20, 20), bool)
    mask[2:4, 5:9, 5:9] = True
    volume = volume_of((20, 20, 6), grid((20, 20, 6), (1, 1, 3)))
    facts = measure(volume, [record("liver lesion", mask)], header=with_contrast(silent, "without"))
    by = {f.quantity: f.source.by for f in facts.of("image") if f.quantity in ("contrast", "slice_thickness")}
    assert by == {"contrast": "human", "slice_thickness": "header"}
    told = replace(silent, contrast="with")
    assert with_contrast(told, "with") is told
    with pytest.raises(MeasurementError, match="header says that it was acquired with contrast"):
        with_contrast(told, "without")
