# SPDX-License-Identifier: Apache-2.0
"""Bad input: other patients and frames, empty, overlapping, cut and resampled segments; what a user is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from FoundationReportLib.errors import MeasurementError
from FoundationReportLib.measure import ImageHeader, measure
from FoundationSegLib import Volume
from FoundationSegLib.segmentation_io import SegmentationFile, read_segmentation, write_segmentation
from report_phantom import ellipsoid, grid, positions, record, turned, volume_of

SIZE = (60, 50, 30)
MATRIX = grid(SIZE, (1.5, 1.5, 3.0), turned(2, 10) @ turned(0, 8), (5, -10, 20))
POINTS = positions(MATRIX, SIZE)
VOLUME = volume_of(SIZE, MATRIX)
LIVER = ellipsoid(POINTS, (15, -10, 20), (20, 18, 25))
LESION = ellipsoid(POINTS, (18, -12, 22), (6, 5, 7))


def test_segment_on_another_grid_than_the_volume_is_refused() -> None:
    with pytest.raises(MeasurementError, match=r'"Liver".*choose the volume'):
        measure(VOLUME, [record("Liver", LIVER[:-1])])


def test_segmentation_of_another_place_is_refused() -> None:
    far = MATRIX.copy()
    far[:3, 3] += (900, 0, 0)
    file = SegmentationFile(far, VOLUME.shape, [record("Liver", LIVER)])
    with pytest.raises(MeasurementError, match="outside of the volume"):
        measure(VOLUME, file)


def test_segmentation_of_another_frame_of_reference_is_refused() -> None:
    drawn = record("Liver", LIVER, tags={"DICOM.FrameOfReferenceUID": "1.2.3"})
    with pytest.raises(MeasurementError, match="another frame of reference"):
        measure(VOLUME, [drawn], header=ImageHeader(frame_uid="1.2.4"))
    assert measure(VOLUME, [drawn], header=ImageHeader(frame_uid="1.2.3")).study["frame_uid"] == "1.2.3"


def test_segment_drawn_on_another_image_is_refused_unless_allowed() -> None:
    """Two patients may have been scanned with the same grid; the provenance tells them apart."""
    provenance = json.dumps({"volume": "0" * 64, "model": "compact", "revision": "2"})
    drawn = record("Liver", LIVER, tags={"FoundationSeg.Provenance": provenance})
    with pytest.raises(MeasurementError, match=r"another image.*--other-image"):
        measure(VOLUME, [drawn])
    facts = measure(VOLUME, [drawn], other_image=True)
    source = facts.of("liver", "volume")[0].source
    assert source is not None
    assert (source.model, source.revision) == ("compact", "2")
    own = json.dumps({"volume": VOLUME.fingerprint})
    assert measure(VOLUME, [record("Liver", LIVER, tags={"FoundationSeg.Provenance": own})]).of("liver", "volume")


def test_damaged_provenance_is_none() -> None:
    assert measure(VOLUME, [record("Liver", LIVER, tags={"FoundationSeg.Provenance": "{"})]).of("liver", "volume")


def test_empty_segments_are_said_and_not_measured() -> None:
    facts = measure(VOLUME, [record("Liver", LIVER), record("Spleen", np.zeros_like(LIVER))])
    assert any('"Spleen" is empty' in sentence for sentence in facts.warnings)
    assert not [f for f in facts.facts if f.subject == "spleen" and f.quantity != "coverage"]
    assert all(f.value != "assessed" for f in facts.of("spleen", "coverage"))
    with pytest.raises(MeasurementError, match="Every segment is empty"):
        measure(VOLUME, [record("Spleen", np.zeros_like(LIVER))])
    with pytest.raises(MeasurementError, match="no segments"):
        measure(VOLUME, [])


def test_overlapping_organs_are_said_but_not_a_lesion_in_its_organ() -> None:
    spleen = ellipsoid(POINTS, (0, -10, 20), (12, 10, 12))
    facts = measure(VOLUME, [record("Liver", LIVER), record("Spleen", spleen), record("liver lesion", LESION)])
    overlaps = [sentence for sentence in facts.warnings if "overlap" in sentence]
    assert len(overlaps) == 1
    shared = (LIVER & spleen).sum() * VOLUME.voxel_volume_ml
    assert f"{shared:.3g} mL" in overlaps[0]


def test_a_lesion_at_the_edge_is_cut() -> None:
    mask = np.zeros_like(LIVER)
    mask[:3, 20:24, 20:24] = True
    facts = measure(VOLUME, [record("liver lesion", mask), record("Liver", LIVER)])
    assert any('"liver lesion" touches the edge' in sentence for sentence in facts.warnings)
    organ = np.zeros_like(LIVER)
    organ[20:, 10:20, 10:20] = True
    assert measure(VOLUME, [record("Liver", organ)]).of("liver", "coverage")[0].value == "partly_in_view"
    assert measure(VOLUME, [record("Liver", LIVER)]).of("liver", "coverage")[0].value == "assessed"


def test_a_cropped_file_is_measured_as_the_whole(tmp_path: Path) -> None:
    """3D Slicer crops what it saves."""
    path = write_segmentation(tmp_path / "x.seg.nrrd", VOLUME, [record("Liver", LIVER), record("lesion", LESION)])
    whole = measure(
        VOLUME, [record("Liver", LIVER, segment_id="Segment_1"), record("lesion", LESION, segment_id="Segment_2")]
    )
    assert measure(VOLUME, path) == whole
    file = read_segmentation(path)
    matrix = file.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, :3] @ (4, 3, 2)
    cut = SegmentationFile(
        matrix,
        tuple(n - 2 * m for n, m in zip(file.shape, (2, 3, 4), strict=True)),  # type: ignore[arg-type]
        [record(r.name, r.mask[2:-2, 3:-3, 4:-4], segment_id=r.segment_id) for r in file.records],
    )
    assert LIVER[2:-2, 3:-3, 4:-4].sum() == LIVER.sum()
    assert [f.value for f in measure(VOLUME, cut).of("liver")] == [f.value for f in whole.of("liver")]


def test_a_finer_grid_in_the_same_space_is_resampled_with_a_warning() -> None:
    fine = (150, 140, 120)
    matrix = grid(fine, (0.7, 0.7, 0.8), np.eye(3), (5, -10, 20))
    mask = ellipsoid(positions(matrix, fine), (15, -10, 20), (20, 18, 25))
    facts = measure(VOLUME, SegmentationFile(matrix, (120, 140, 150), [record("Liver", mask)]))
    assert any("resampled" in sentence for sentence in facts.warnings)
    truth = 4 / 3 * np.pi * 20 * 18 * 25 / 1000
    assert facts.of("liver", "volume")[0].value == pytest.approx(truth, rel=0.02)
    assert facts.of("liver", "volume")[0].source.points[0] == pytest.approx((15, -10, 20), abs=0.3)  # type: ignore[union-attr]


def test_another_grid_of_which_much_lies_outside_is_refused_unless_it_is_said_to_belong() -> None:
    fine = (150, 140, 120)
    matrix = grid(fine, (0.7, 0.7, 0.8), np.eye(3), (45, -10, 20))
    file = SegmentationFile(
        matrix, (120, 140, 150), [record("Liver", ellipsoid(positions(matrix, fine), (48, -10, 20), (20, 18, 25)))]
    )
    with pytest.raises(MeasurementError, match=r"another grid .* \d+% of it lies outside"):
        measure(VOLUME, file)
    facts = measure(VOLUME, file, other_image=True)
    assert any("lie outside of the volume" in sentence for sentence in facts.warnings)


def test_what_lies_outside_of_the_volume_is_said() -> None:
    shifted = MATRIX.copy()
    shifted[:3, 3] += MATRIX[:3, :3] @ (25, 0, 0)
    file = SegmentationFile(shifted, VOLUME.shape, [record("Liver", LIVER)])
    facts = measure(VOLUME, file)
    assert any("lie outside of the volume" in sentence and '"Liver" (' in sentence for sentence in facts.warnings)
    assert facts.of("liver", "coverage")[0].value == "partly_in_view"


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.seg.nrrd").write_text("nothing")
    with pytest.raises(MeasurementError, match=r"x\.seg\.nrrd"):
        measure(VOLUME, tmp_path / "x.seg.nrrd")
    (tmp_path / "y.nrrd").write_text("nothing")
    with pytest.raises(MeasurementError, match=r"y\.nrrd"):
        measure(tmp_path / "y.nrrd", [record("Liver", LIVER)])
    header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nspacings: 0 1 1\nencoding: raw\n\n"
    (tmp_path / "z.nrrd").write_bytes(header.encode() + bytes(range(64)))
    with pytest.raises(MeasurementError, match="spacing"):
        measure(tmp_path / "z.nrrd", [record("Liver", LIVER)])


def test_an_image_without_spacing_is_refused(tmp_path: Path) -> None:
    voxels = np.arange(64, dtype=np.uint8).tobytes()
    start = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"
    (tmp_path / "a.nrrd").write_bytes(f"{start}\n".encode() + voxels)
    (tmp_path / "b.nrrd").write_bytes(f"{start}spacings: 1 1 1\n\n".encode() + voxels)
    meta = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\n"
    (tmp_path / "c.mha").write_bytes(f"{meta}ElementDataFile = LOCAL\n".encode() + voxels)
    (tmp_path / "d.mha").write_bytes(f"{meta}ElementSpacing = 1 1 1\nElementDataFile = LOCAL\n".encode() + voxels)
    mask = np.zeros((4, 4, 4), bool)
    mask[1:3, 1:3, 1:3] = True
    for name in ("a.nrrd", "c.mha"):
        with pytest.raises(MeasurementError, match="no voxel spacing"):
            measure(tmp_path / name, {"Liver": mask})
    for name in ("b.nrrd", "d.mha"):
        assert measure(tmp_path / name, {"Liver": mask}).of("liver", "volume")


def test_name_and_coded_term_that_contradict_are_said() -> None:
    from FoundationSegLib.terminology import lookup

    term = lookup("right kidney")
    assert term is not None
    facts = measure(VOLUME, [record("left kidney", LIVER, terminology=term.entry)])
    assert any("says side" in sentence for sentence in facts.warnings)


def test_same_input_same_facts() -> None:
    records = [record("Liver", LIVER), record("liver lesion", LESION)]
    assert measure(VOLUME, records) == measure(Volume(VOLUME.array, MATRIX, "CT"), records)
    assert measure(VOLUME, records) == measure(VOLUME, {"Liver": LIVER, "liver lesion": LESION.astype(np.uint8)})
