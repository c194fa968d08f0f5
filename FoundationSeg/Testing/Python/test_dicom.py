# SPDX-License-Identifier: Apache-2.0
"""Volume.read on DICOM: exact stacks, honest refusals, nothing of the patient let out."""

from __future__ import annotations

import io
import logging
import stat
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pydicom", reason="pydicom, which makes the DICOM files of these tests, is not installed")
import pydicom
from dicom_files import DESCRIPTION, PATIENT, dataset, multiframe, slice_dataset, write, write_series
from FoundationSegLib.dicom import list_series
from FoundationSegLib.errors import DicomSeriesError, VolumeError
from FoundationSegLib.formats import archive
from FoundationSegLib.formats.dicom_header import read_header
from FoundationSegLib.formats.dicom_image import WANTED
from FoundationSegLib.formats.dicom_stack import stack_slices
from FoundationSegLib.volume import Volume
from image_files import LPS, NO_REAL_DATA, REAL_DATA, affine, rotation
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

SHAPE = (6, 5, 4)
VOXELS = np.random.default_rng(3).integers(-1000, 2000, SHAPE).astype(np.int16)
# GDCM does not read run lengths of images that are smaller than their RLE header.
LARGER = np.random.default_rng(3).integers(-1000, 2000, (6, 20, 16)).astype(np.int16)
# What write_series makes by default.
PLAIN = LPS @ affine(np.diag([0.7, 0.8, 2.5]), (-10, -20, 30))
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"


@pytest.fixture(autouse=True)
def nothing_of_the_patient_comes_out(capfd, caplog):
    caplog.set_level(logging.DEBUG)
    yield
    out, err = capfd.readouterr()
    assert err == ""
    for words in (PATIENT, DESCRIPTION, "4711"):
        assert words not in out + caplog.text


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, which has to be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def refused(path: Path, words: str, error: type[VolumeError] = VolumeError, **options) -> VolumeError:
    with pytest.raises(error, match=words) as caught:
        Volume.read(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for private in (PATIENT, DESCRIPTION, "4711", "ITK", "1.2.3."):
        assert private not in message + repr(getattr(caught.value, "series", ""))
    return caught.value


def zipped(folder: Path, archive_path: Path) -> Path:
    with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as target:
        for path in sorted(folder.rglob("*")):
            target.write(path, path.relative_to(folder))
    return archive_path


class TestStack:
    def test_plain_series(self, tmp_path):
        write_series(tmp_path, VOXELS, intercept=-24.0)
        volume = Volume.read(tmp_path)
        assert np.array_equal(volume.array, VOXELS - 24)
        assert volume.array.dtype == np.int16
        np.testing.assert_allclose(volume.ijk_to_ras, PLAIN, atol=1e-12)
        assert (volume.modality, volume.name, volume.warnings) == ("CT", "volume", ())

    def test_order_of_files_and_of_acquisition_do_not_matter(self, tmp_path):
        order = [3, 0, 5, 1, 4, 2]
        write_series(tmp_path, VOXELS, name=lambda k: f"{order[k]}/x.dcm")
        assert np.array_equal(Volume.read(tmp_path).array, VOXELS)

    def test_descending_positions_are_the_same_tissue(self, tmp_path):
        write_series(tmp_path, VOXELS[::-1], step=(0, 0, -2.5), origin=(-10, -20, 42.5))
        volume = Volume.read(tmp_path)
        assert np.array_equal(volume.array, VOXELS)
        np.testing.assert_allclose(volume.ijk_to_ras, PLAIN, atol=1e-12)

    def test_oblique_series_as_itk_places_it(self, tmp_path):
        turn = rotation((1, 2, -1), 40)
        paths = write_series(tmp_path, VOXELS, row=turn[:, 0], column=turn[:, 1], step=turn[:, 2] * 2.5)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(path) for path in paths])
        expected = Volume.from_sitk(reader.Execute())
        volume = Volume.read(tmp_path)
        assert np.array_equal(volume.array, expected.array)
        np.testing.assert_allclose(volume.ijk_to_ras, expected.ijk_to_ras, atol=1e-5)

    @pytest.mark.parametrize("tilt", [15.0, -20.0])
    def test_tilted_gantry_gives_the_exact_sheared_grid(self, tmp_path, tilt):
        step = np.array([0.0, 2.5 * np.sin(np.radians(tilt)), 2.5 * np.cos(np.radians(tilt))])
        write_series(tmp_path, VOXELS, step=step)
        volume = Volume.read(tmp_path)
        lps = affine(np.column_stack([(0.7, 0, 0), (0, 0.8, 0), step]), (-10, -20, 30))
        np.testing.assert_allclose(volume.ijk_to_ras, LPS @ lps, atol=1e-6)
        assert f"tilted by {abs(tilt):.1f} degrees" in volume.warnings[0]

    def test_each_slice_is_rescaled_by_its_own_slope(self, tmp_path):
        def rescale(k, ds):
            ds.RescaleSlope = str(1 if k == 0 else k + 0.5)
            return ds

        write_series(tmp_path, VOXELS, change=rescale, modality="PT")
        volume = Volume.read(tmp_path)
        slopes = np.array([1, 1.5, 2.5, 3.5, 4.5, 5.5])[:, None, None]
        np.testing.assert_allclose(volume.array, VOXELS * slopes)
        assert volume.array.dtype == np.float32
        assert volume.modality == "PT"

    @settings(deadline=None, max_examples=50)
    @given(
        st.floats(-180, 180),
        st.floats(-0.5, 0.5),
        st.tuples(*[st.floats(0.2, 5)] * 3),
        st.integers(2, 40),
        st.randoms(use_true_random=False),
    )
    def test_any_parallel_stack(self, angle, lean, spacing, count, random):
        turn = rotation((3, -2, 1), angle)
        step = (turn[:, 2] + lean * turn[:, 0]) * spacing[2]
        places = list(range(count))
        random.shuffle(places)
        points = np.array([5.0, 6.0, 7.0]) + np.outer(places, step)
        stack = stack_slices(points, turn[:, 0], turn[:, 1], (spacing[1], spacing[0]))
        assert [places[index] for index in stack.order] == list(range(count))
        lps = affine(np.column_stack([turn[:, 0] * spacing[0], turn[:, 1] * spacing[1], step]), (5, 6, 7))
        np.testing.assert_allclose(stack.ijk_to_ras, LPS @ lps, atol=1e-9)

    def test_rounded_positions_are_even(self):
        points = np.outer(np.round(np.arange(200) * (10 / 3), 2), (0, 0, 1))
        stack = stack_slices(points, (1, 0, 0), (0, 1, 0), (1, 1))
        assert stack.warnings == ()
        assert stack.ijk_to_ras[2, 2] == pytest.approx(10 / 3, abs=1e-4)

    def test_somewhat_uneven_positions_are_said(self):
        heights = np.arange(10.0)
        heights[4] += 0.05
        stack = stack_slices(np.outer(heights, (0, 0, 1)), (1, 0, 0), (0, 1, 0), (1, 1))
        assert "up to 0.05 mm off" in stack.warnings[0]

    @pytest.mark.parametrize("shift", [0.2, -0.4])
    def test_uneven_positions_are_refused(self, shift):
        heights = np.arange(10.0)
        heights[4] += shift
        with pytest.raises(VolumeError, match="unevenly spaced"):
            stack_slices(np.outer(heights, (0, 0, 1)), (1, 0, 0), (0, 1, 0), (1, 1))


class TestRefuses:
    def test_missing_slices_and_says_where(self, tmp_path):
        write_series(tmp_path, VOXELS, change=lambda k, ds: None if k in (2, 3) else ds)
        refused(tmp_path, r"About 2 DICOM images are missing, the first between 32.50 and 40.00 mm .* 2.50 mm")

    def test_several_images_at_a_position(self, tmp_path):
        write_series(tmp_path, VOXELS)
        write_series(tmp_path, VOXELS, name=lambda k: f"echo{k}")
        refused(tmp_path, r"6 of the 12 DICOM images lie at the position .* 30.00 mm")

    def test_a_single_image(self, tmp_path):
        (path,) = write_series(tmp_path, VOXELS[:1])
        refused(tmp_path, "only one image")
        refused(path, "one slice of a volume; give the folder")

    def test_images_that_are_not_parallel(self, tmp_path):
        def turn_last(k, ds):
            if k == 5:
                ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
            return ds

        write_series(tmp_path, VOXELS, change=turn_last)
        refused(tmp_path, "not parallel")

    @pytest.mark.parametrize(
        ("keyword", "value", "words"),
        [
            ("PixelSpacing", ["0.8", "0.9"], "differ in pixel spacing"),
            ("PixelSpacing", ["0", "0.7"], "pixel spacing of zero"),
            ("PixelSpacing", None, "do not say where"),
            ("ImagePositionPatient", None, "do not say where"),
            ("ImageOrientationPatient", None, "do not say where"),
            ("Rows", 4, "differ in size"),
        ],
    )
    def test_one_odd_image(self, tmp_path, keyword, value, words):
        def spoil(k, ds):
            if k == 2:
                if value is None:
                    delattr(ds, keyword)
                else:
                    setattr(ds, keyword, value)
            return ds

        write_series(tmp_path, VOXELS, change=spoil)
        refused(tmp_path, words)

    def test_images_without_orientation(self, tmp_path):
        write_series(tmp_path, VOXELS, row=(0, 0, 0))
        refused(tmp_path, "no valid orientation")

    def test_colour(self, tmp_path):
        def paint(_, ds):
            ds.SamplesPerPixel = 3
            ds.PhotometricInterpretation = "RGB"
            ds.PixelData = ds.PixelData * 3
            return ds

        write_series(tmp_path, VOXELS, change=paint)
        refused(tmp_path, "in colour")

    @pytest.mark.parametrize("keep", [0.5, 0.95])
    def test_an_image_cut_short(self, tmp_path, keep):
        paths = write_series(tmp_path, VOXELS)
        data = paths[3].read_bytes()
        paths[3].write_bytes(data[: int(len(data) * keep)])
        refused(tmp_path, "1 (of the 6 DICOM images are|DICOM files are damaged or) cut short")

    def test_compressed_pixels_that_are_damaged(self, tmp_path):
        def pack(k, ds):
            ds.compress(RLELossless)
            if k == 4:
                ds.PixelData = ds.PixelData.replace(ds.PixelData[100:500], b"\x7f" * 400)
            return ds

        write_series(tmp_path, LARGER, change=pack)
        refused(tmp_path, "pixels of the DICOM image 5 of 6 cannot be read")

    def test_a_folder_of_other_files(self, tmp_path):
        (tmp_path / "note.txt").write_text("hello" * 100)
        (tmp_path / "counts.bin").write_bytes(b"\x08\0\0\0\xff\xff" * 100)
        (tmp_path / "empty").touch()
        refused(tmp_path, "no DICOM image in it", DicomSeriesError)

    def test_a_folder_of_objects_that_are_no_images(self, tmp_path):
        write(dataset(STRUCTURES, "RTSTRUCT"), tmp_path / "rs.dcm")
        refused(tmp_path, "no DICOM image in it", DicomSeriesError)
        refused(tmp_path / "rs.dcm", "holds no image")


class TestSeries:
    @pytest.fixture
    def folder(self, tmp_path):
        write_series(tmp_path / "pet", VOXELS[:4], series="1.2.3.7", number=7, modality="PT")
        write_series(tmp_path / "ct", VOXELS, series="1.2.3.2", number=2)
        write(dataset(STRUCTURES, "RTSTRUCT"), tmp_path / "rs.dcm")
        mask = slice_dataset(VOXELS[0], (0, 0, 0), series="1.2.3.8", sop_class=SEGMENTATION, modality="SEG")
        write(mask, tmp_path / "seg.dcm")
        return tmp_path

    def test_several_have_to_be_chosen_from(self, folder):
        error = refused(folder, r"\(1: CT, 6 images; 2: PT, 4 images\); choose one with --series N", DicomSeriesError)
        assert [(info.number, info.modality, info.images) for info in error.series] == [(1, "CT", 6), (2, "PT", 4)]
        assert [info.uid for info in error.series] == ["1.2.3.2", "1.2.3.7"]

    def test_are_listed_without_reading_pixels(self, folder):
        infos = list_series(folder)
        assert [info.description for info in infos] == [DESCRIPTION] * 2
        assert DESCRIPTION not in repr(infos)

    @pytest.mark.parametrize(("choice", "modality"), [("1", "CT"), ("2", "PT"), ("1.2.3.2", "CT"), ("1.2.3.7", "PT")])
    def test_are_chosen_by_number_or_uid(self, folder, choice, modality):
        assert Volume.read(folder, series=choice).modality == modality

    @pytest.mark.parametrize("choice", ["0", "3", "-1", "1.2.3", "", "CT"])
    def test_wrong_choices_are_refused(self, folder, choice):
        refused(folder, "no such DICOM series .*1: CT", DicomSeriesError, series=choice)

    def test_a_wrong_choice_of_the_only_one_is_refused(self, tmp_path):
        write_series(tmp_path, VOXELS)
        refused(tmp_path, "no such DICOM series", DicomSeriesError, series="2")
        assert Volume.read(tmp_path, series="1").shape == SHAPE

    def test_copies_of_the_same_images_count_once(self, tmp_path):
        for path in write_series(tmp_path / "a", VOXELS):
            (tmp_path / f"copy of {path.name}").write_bytes(path.read_bytes())
        assert Volume.read(tmp_path).shape == SHAPE


class TestEncodings:
    @pytest.mark.parametrize(
        "syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless]
    )
    def test_transfer_syntaxes(self, tmp_path, syntax):
        def encode(_, ds):
            if syntax == RLELossless:
                ds.compress(RLELossless)
            elif syntax is not None:
                ds.file_meta.TransferSyntaxUID = syntax
            if syntax == ExplicitVRBigEndian:
                ds.PixelData = np.frombuffer(ds.PixelData, "<i2").byteswap().tobytes()
                ds["PixelData"].VR = "OW"
            return ds

        write_series(tmp_path, LARGER, change=encode)
        volume = Volume.read(tmp_path)
        assert np.array_equal(volume.array, LARGER)
        np.testing.assert_allclose(volume.ijk_to_ras, PLAIN, atol=1e-12)

    def test_files_without_preamble(self, tmp_path):
        for k, pixels in enumerate(VOXELS):
            ds = slice_dataset(pixels, (-10, -20, 30 + 2.5 * k))
            pydicom.dcmwrite(tmp_path / str(k), pydicom.Dataset(ds), implicit_vr=True, little_endian=True)
        assert np.array_equal(Volume.read(tmp_path).array, VOXELS)

    def test_header_says_what_pydicom_says(self, tmp_path):
        nested = multiframe(VOXELS, [(0, 0, k) for k in range(6)])
        nested.add_new((0x0009, 0x0010), "LO", "PRIVATE")
        nested.add_new((0x0009, 0x1001), "UN", b"\x01" * 300)
        icon = pydicom.Dataset()
        icon.Rows, icon.Columns, icon.BitsAllocated = 2, 2, 16
        icon.PixelData = b"\0" * 8
        nested.IconImageSequence = [icon]
        for name, undefined in [("a", False), ("b", True)]:
            for element in nested:
                if element.VR == "SQ":
                    element.is_undefined_length = undefined
                    for item in element.value:
                        item.is_undefined_length_sequence_item = undefined
            header = read_header(write(nested, tmp_path / name), WANTED)
            assert header.complete
            assert header.attributes[(0x0028, 0x0010)] == (5).to_bytes(2, "little")
            frames = header.attributes[(0x5200, 0x9230)]
            assert [item[(0x0020, 0x9113)][0][(0x0020, 0x0032)].decode().strip() for item in frames] == [
                rf"0\0\{k}" for k in range(6)
            ]

    def test_elements_without_representation_among_others(self, tmp_path):
        for path in write_series(tmp_path, VOXELS):
            data = path.read_bytes()
            place = data.index(b"\x08\x00\x60\x00CS")
            # Modality with a length of four bytes in place of its representation and a length of two.
            path.write_bytes(data[: place + 4] + b"\x02\0\0\0" + data[place + 8 :])
        volume = Volume.read(tmp_path)
        assert np.array_equal(volume.array, VOXELS)
        assert volume.modality == "CT"

    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_damaged_bytes_give_a_volume_or_a_volume_error(self, tmp_path, data):
        source = io.BytesIO()
        pydicom.dcmwrite(source, multiframe(VOXELS, [(0, 0, k) for k in range(6)]), enforce_file_format=True)
        content = bytearray(source.getvalue())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path / "damaged.dcm"
        path.write_bytes(content[: data.draw(st.integers(200, len(content)))])
        try:
            Volume.read(path)
        except VolumeError as error:
            assert "ITK" not in str(error)


class TestMultiFrame:
    POSITIONS = tuple((-10.0, -20.0, 30 + 2.5 * k) for k in range(6))

    @pytest.mark.parametrize("order", [range(6), range(5, -1, -1), [3, 1, 5, 0, 2, 4]])
    def test_frames_lie_where_each_says(self, tmp_path, order):
        order = list(order)
        path = write(multiframe(VOXELS[order], [self.POSITIONS[k] for k in order]), tmp_path / "e.dcm")
        for source in (path, tmp_path):
            volume = Volume.read(source)
            assert np.array_equal(volume.array, VOXELS * 2 - 100)
            np.testing.assert_allclose(volume.ijk_to_ras, PLAIN, atol=1e-12)

    def test_several_time_points_are_refused(self, tmp_path):
        path = write(multiframe(VOXELS, self.POSITIONS[:3] * 2), tmp_path / "e.dcm")
        refused(path, "3 of the 6 DICOM images lie at the position")

    def test_frames_without_positions_are_refused(self, tmp_path):
        ds = multiframe(VOXELS, self.POSITIONS)
        del ds.PerFrameFunctionalGroupsSequence
        refused(write(ds, tmp_path / "e.dcm"), "does not say where its frames lie")

    def test_frames_scaled_one_by_one_are_refused(self, tmp_path):
        ds = multiframe(VOXELS, self.POSITIONS, slopes=[1, 2, 3, 4, 5, 6])
        refused(write(ds, tmp_path / "e.dcm"), "scaled differently")


class TestZip:
    def test_is_read_and_leaves_nothing(self, tmp_path, temporary):
        write_series(tmp_path / "in", VOXELS, name=lambda k: f"{PATIENT}/{k}.dcm")
        (tmp_path / "in" / "notes.txt").write_text("hello")
        volume = Volume.read(zipped(tmp_path / "in", tmp_path / "series.zip"))
        assert np.array_equal(volume.array, VOXELS)

    def test_with_several_series_asks_as_a_folder_does(self, tmp_path, temporary):
        write_series(tmp_path / "in" / "a", VOXELS, series="1.2.3.2")
        write_series(tmp_path / "in" / "b", VOXELS, series="1.2.3.4")
        path = zipped(tmp_path / "in", tmp_path / "series.zip")
        refused(path, "several DICOM series", DicomSeriesError)
        assert Volume.read(path, series="2").shape == SHAPE

    def test_cannot_write_outside_of_its_folder(self, tmp_path, temporary):
        paths = write_series(tmp_path / "in", VOXELS)
        archive_path = tmp_path / "evil.zip"
        with zipfile.ZipFile(archive_path, "w") as target:
            for k, path in enumerate(paths):
                target.write(path, f"../../evil{k}.dcm" if k % 2 else f"/evil{k}.dcm")
        before = {p for p in tmp_path.rglob("*") if p.is_file()}
        assert np.array_equal(Volume.read(archive_path).array, VOXELS)
        assert {p for p in tmp_path.rglob("*") if p.is_file()} == before

    def test_links_are_not_followed(self, tmp_path, temporary):
        archive_path = tmp_path / "links.zip"
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(archive_path, "w") as target:
            target.writestr(link, "/etc/passwd")
        refused(archive_path, "no DICOM image in it", DicomSeriesError)

    def test_bombs_are_not_unpacked(self, tmp_path, temporary, monkeypatch):
        monkeypatch.setattr(archive, "_ANY_RATIO_BYTES", 1 << 20)
        archive_path = tmp_path / "bomb.zip"
        with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as target:
            target.writestr("bomb.dcm", bytes(128) + b"DICM" + bytes(20 << 20))
        refused(archive_path, "more than is reasonable")

    def test_too_many_members_are_refused(self, tmp_path, temporary, monkeypatch):
        monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
        write_series(tmp_path / "in", VOXELS)
        refused(zipped(tmp_path / "in", tmp_path / "many.zip"), "more than 3 files")

    def test_encrypted_ones_are_refused(self, tmp_path, temporary):
        write_series(tmp_path / "in", VOXELS)
        path = zipped(tmp_path / "in", tmp_path / "locked.zip")
        data = bytearray(path.read_bytes())
        # The flag in each entry of the directory at the end.
        start = -1
        while (start := data.find(b"PK\x01\x02", start + 1)) >= 0:
            data[start + 8] |= 1
        path.write_bytes(data)
        refused(path, "encrypted")

    @pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
    def test_damaged_ones_are_refused(self, tmp_path, temporary, damage):
        write_series(tmp_path / "in", VOXELS)
        path = zipped(tmp_path / "in", tmp_path / "damaged.zip")
        data = bytearray(path.read_bytes())
        if damage == "flip":
            data[150] ^= 0xFF
        path.write_bytes({"cut": data[: len(data) // 2], "flip": data, "empty": b"PK\x05\x06" + bytes(18)}[damage])
        refused(path, "damaged|no DICOM image")


@pytest.mark.skipif(REAL_DATA is None, reason=NO_REAL_DATA)
class TestRealSeries:
    @pytest.mark.parametrize(
        ("case", "shape", "modality", "spacing"),
        [
            ("ct_lung_ibsi_phantom", (60, 201, 204), "CT", (0.977, 0.977, 3.0)),
            ("pet_qin_hn_0139", (245, 168, 168), "PT", (3.394, 3.394, 2.025)),
        ],
    )
    def test_beside_structure_sets_and_segmentations(self, case, shape, modality, spacing, temporary):
        volume = Volume.read(REAL_DATA / case / "dicom.zip")
        assert (volume.shape, volume.modality, volume.warnings) == (shape, modality, ())
        assert volume.spacing_mm == pytest.approx(spacing, abs=1e-3)
        # The same image as NIfTI, perhaps with its axes in another order: the same tissue at the same place.
        reference = Volume.read(REAL_DATA / case / "image.nii.gz")
        points = reference.kji_to_ras(np.array([[10, 50, 50], [30, 100, 90], [50, 90, 120]]))
        values = [[v.array[tuple(np.round(v.ras_to_kji(p)).astype(int))] for p in points] for v in (volume, reference)]
        np.testing.assert_allclose(values[0], values[1], rtol=1e-3, atol=1)

    def test_three_modalities_in_one_zip(self, temporary):
        path = REAL_DATA / "sts_006_ct" / "dicom_ct_mr_pet.zip"
        error = refused(path, "several DICOM series", DicomSeriesError)
        assert {info.modality: info.images for info in error.series} == {"PT": 68, "CT": 68, "MR": 68}
        assert Volume.read(path, series="2").modality == error.series[1].modality
