# SPDX-License-Identifier: Apache-2.0
"""Volume.read on NRRD, NIfTI and MetaImage: exact geometry, and one clear sentence for every bad file."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from FoundationSegLib.errors import VolumeError
from FoundationSegLib.volume import Volume
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from image_files import (
    GEOMETRIES,
    LPS,
    NO_REAL_DATA,
    OBLIQUE,
    REAL_DATA,
    SHAPE,
    SHEARED,
    VOXELS,
    affine,
    matrices,
    metaimage_bytes,
    metaimage_data,
    nifti_bytes,
    nrrd_bytes,
    rotation,
)

WRITERS = {
    "raw.nrrd": nrrd_bytes,
    "gzip.nrrd": lambda voxels, matrix: nrrd_bytes(voxels, matrix, encoding="gzip"),
    "ras.nrrd": lambda voxels, matrix: nrrd_bytes(voxels, matrix, space="right-anterior-superior"),
    "plain.mha": metaimage_bytes,
    "compressed.mha": lambda voxels, matrix: metaimage_bytes(voxels, matrix, compressed=True),
    "bigendian.mha": lambda voxels, matrix: metaimage_bytes(voxels, matrix, big_endian=True),
    "one.nii": nifti_bytes,
    "one.nii.gz": lambda voxels, matrix: gzip.compress(nifti_bytes(voxels, matrix)),
    "two.nii": lambda voxels, matrix: nifti_bytes(voxels, matrix, version=2),
    "bigendian.nii": lambda voxels, matrix: nifti_bytes(voxels, matrix, order=">"),
    "two_bigendian.nii.gz": lambda voxels, matrix: gzip.compress(nifti_bytes(voxels, matrix, version=2, order=">")),
}
# NIfTI-1 stores geometry in single precision.
TOLERANCE = {name: 1e-3 if name in ("one.nii", "one.nii.gz", "bigendian.nii") else 1e-12 for name in WRITERS}


@pytest.fixture
def write(tmp_path):
    def _write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return _write


@pytest.fixture
def nothing_on_stderr(capfd):
    """The libraries below say nothing (where a test asks ITK itself for comparison, that may)."""
    yield
    assert capfd.readouterr().err == ""


def refused(path: Path, words: str, **options) -> None:
    """The file is refused with one sentence that names it, says `words`, and has no trace of the libraries below."""
    with pytest.raises(VolumeError, match=words) as caught:
        Volume.read(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "ITK" not in message and "\n" not in message
    assert message.endswith((".", ")."))


@pytest.mark.usefixtures("nothing_on_stderr")
@pytest.mark.parametrize("name", WRITERS)
class TestEveryFormat:
    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_keeps_voxels_and_geometry(self, write, name, geometry):
        matrix = GEOMETRIES[geometry]
        volume = Volume.read(write(name, WRITERS[name](VOXELS, matrix)))
        assert np.array_equal(volume.array, VOXELS)
        assert volume.array.dtype == np.int16
        np.testing.assert_allclose(volume.ijk_to_ras, matrix, atol=TOLERANCE[name])
        assert volume.warnings == ()
        assert (volume.name, volume.modality) == ("volume", None)

    def test_is_told_by_its_content_not_its_name(self, write, name):
        data = WRITERS[name](VOXELS, OBLIQUE)
        assert Volume.read(write("no_suffix", data)).shape == SHAPE
        assert Volume.read(write("wrong.jpg", data)).shape == SHAPE

    def test_cut_short_anywhere_is_refused(self, write, name):
        data = WRITERS[name](VOXELS, OBLIQUE)
        for length in [1, 100, len(data) // 2, len(data) - 9, len(data) - 1]:
            refused(write(name, data[:length]), ".")

    def test_that_is_not_finite_is_refused_or_repaired(self, write, name):
        voxels = VOXELS.astype(np.float32)
        voxels[2, 3, :2] = np.nan, np.inf
        path = write(name, WRITERS[name](voxels, OBLIQUE))
        refused(path, "^.*: 2 of the image's 210 voxels")
        repaired = Volume.read(path, nonfinite="minimum")
        assert repaired.array[2, 3, :2].tolist() == [VOXELS.min()] * 2

    def test_constant_is_refused(self, write, name):
        refused(write(name, WRITERS[name](np.full(SHAPE, -5, np.int16), OBLIQUE)), "value -5")

    @pytest.mark.parametrize("kind", ["u1", "i4", "f4", "f8"])
    def test_reads_other_voxel_types(self, write, name, kind):
        voxels = np.abs(VOXELS // 20).astype(kind)
        volume = Volume.read(write(name, WRITERS[name](voxels, OBLIQUE)))
        assert np.array_equal(volume.array, voxels)
        assert volume.array.dtype == np.dtype("f4" if kind == "f8" else kind)

    @settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_with_damaged_bytes_gives_a_volume_or_a_volume_error(self, write, name, data):
        content = bytearray(WRITERS[name](VOXELS, OBLIQUE))
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, min(700, len(content) - 1)))] = data.draw(st.integers(0, 255))
        try:
            Volume.read(write(name, bytes(content)))
        except VolumeError as error:
            assert "ITK" not in str(error)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(matrices())
def test_any_geometry_comes_back_from_nrrd_and_metaimage(write, matrix):
    for name in ("raw.nrrd", "ras.nrrd", "plain.mha"):
        read = Volume.read(write(name, WRITERS[name](VOXELS, matrix)))
        np.testing.assert_allclose(read.ijk_to_ras, matrix, atol=1e-9)


class TestAgainstSimpleITK:
    """Where ITK reads a file, so that 3D Slicer does, the two have to agree."""

    @pytest.mark.parametrize("suffix", ["nrrd", "mha", "nii", "nii.gz", "mhd", "nhdr"])
    @pytest.mark.parametrize("compressed", [False, True])
    def test_reads_what_itk_writes(self, tmp_path, suffix, compressed):
        path = tmp_path / f"image.{suffix}"
        sitk.WriteImage(Volume(VOXELS, OBLIQUE).to_sitk(), str(path), compressed)
        read = Volume.read(path)
        assert np.array_equal(read.array, VOXELS)
        np.testing.assert_allclose(read.ijk_to_ras, OBLIQUE, atol=1e-4 if "nii" in suffix else 1e-9)

    @settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(matrix=matrices(sheared=False), sform_code=st.sampled_from([1, 2, 4]), turn=st.floats(-60, 60))
    @example(matrix=OBLIQUE, sform_code=1, turn=0.0)
    def test_chooses_the_same_nifti_form(self, write, matrix, sform_code, turn):
        quaternion = tuple(np.sin(np.radians(turn) / 2) * np.array([0.36, 0.48, 0.8]))
        path = write(
            "both.nii", nifti_bytes(VOXELS, matrix, sform_code=sform_code, qform=(*quaternion, 1, 2, 3), qform_code=1)
        )
        read = Volume.read(path)
        expected = Volume.from_sitk(sitk.ReadImage(str(path)))
        np.testing.assert_allclose(read.ijk_to_ras, expected.ijk_to_ras, atol=2e-3)
        assert any("two positions" in warning for warning in read.warnings)

    @pytest.mark.parametrize("qfac", [1.0, -1.0, 0.0])
    @pytest.mark.parametrize("quaternion", [(0.1, -0.2, 0.3), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.6, 0.0, 0.8)])
    def test_qform(self, write, qfac, quaternion):
        pixdim = (qfac, 0.7, 0.8, 2.5, 0, 0, 0, 0)
        path = write("q.nii", nifti_bytes(VOXELS, None, pixdim=pixdim, qform=(*quaternion, 4, 5, 6), qform_code=1))
        expected = Volume.from_sitk(sitk.ReadImage(str(path)))
        np.testing.assert_allclose(Volume.read(path).ijk_to_ras, expected.ijk_to_ras, atol=1e-5)

    @pytest.mark.parametrize("units", [1, 3])
    def test_units(self, write, units):
        path = write("units.nii", nifti_bytes(VOXELS, OBLIQUE, units=units))
        expected = Volume.from_sitk(sitk.ReadImage(str(path)))
        np.testing.assert_allclose(Volume.read(path).ijk_to_ras, expected.ijk_to_ras, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize(("slope", "intercept"), [(2.0, -5.0), (1.0, -1024.0), (0.5, 0.25), (1.0, 0.0), (0.0, 0.0)])
    def test_scaling(self, write, slope, intercept):
        path = write("scaled.nii", nifti_bytes(VOXELS, OBLIQUE, slope=slope, intercept=intercept))
        np.testing.assert_allclose(
            Volume.read(path).array, sitk.GetArrayFromImage(sitk.ReadImage(str(path))), rtol=1e-6
        )


@pytest.mark.usefixtures("nothing_on_stderr")
class TestNifti:
    def test_whole_number_shift_keeps_integers(self, write):
        read = Volume.read(
            write("ct.nii", nifti_bytes(VOXELS.astype(np.uint16) % 4096, OBLIQUE, slope=1, intercept=-1024))
        )
        assert read.array.dtype == np.int16

    def test_sheared_sform_that_itk_refuses(self, write):
        path = write("sheared.nii", nifti_bytes(VOXELS, SHEARED))
        np.testing.assert_allclose(Volume.read(path).ijk_to_ras, SHEARED, atol=1e-4)
        with pytest.raises(RuntimeError, match="orthonormal"):
            sitk.ReadImage(str(path))

    def test_cut_short_that_itk_fills_with_zeros(self, write):
        data = nifti_bytes(VOXELS, affine(np.diag([1.0, 2.0, 3.0])))
        path = write("short.nii", data[:-100])
        assert sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[-1, -1, -1] == 0
        refused(path, r"cut short.*\(320 of 420 bytes")

    def test_without_orientation_is_read_as_slicer_does_with_a_warning(self, write):
        path = write("unknown.nii", nifti_bytes(VOXELS, None, pixdim=(1, 2, 3)))
        read = Volume.read(path)
        np.testing.assert_allclose(read.ijk_to_ras, Volume.from_sitk(sitk.ReadImage(str(path))).ijk_to_ras)
        assert "left and right may be swapped" in read.warnings[0]

    def test_size_that_contradicts_the_sform_is_said(self, write):
        read = Volume.read(write("size.nii", nifti_bytes(VOXELS, OBLIQUE, pixdim=(1.4, 0.8, 3.1))))
        assert "disagree" in read.warnings[0]
        np.testing.assert_allclose(read.ijk_to_ras, OBLIQUE, atol=1e-3)

    def test_trailing_single_dimensions_are_no_fourth(self, write):
        assert Volume.read(write("t.nii", nifti_bytes(dim=(4, *SHAPE[::-1], 1, 1, 1, 1)))).shape == SHAPE

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"pixdim": (1, 2, 0)}, "spacing .* 1, 2, 0 mm"),
            ({"pixdim": (1, -2, 3)}, "spacing .* 1, -2, 3 mm"),
            ({"pixdim": (1, float("nan"), 3)}, "spacing"),
            ({"matrix": affine([[1, 0, 1], [0, 1, 0], [1, 0, 1]]), "pixdim": (1, 1, 1)}, "one plane"),
            ({"matrix": affine(np.diag([1.0, 1.0, 0.0])), "pixdim": (1, 1, 1)}, "spacing .* 1, 1, 0 mm"),
            ({"matrix": affine(np.eye(3), (np.nan, 0, 0))}, "finite numbers"),
            ({"dim": (2, 42, 5, 1, 1, 1, 1, 1)}, "2 dimensions"),
            ({"dim": (4, 7, 6, 1, 5, 1, 1, 1)}, "4 dimensions.*time series"),
            ({"dim": (5, 7, 6, 1, 1, 5, 1, 1)}, "5 values per voxel"),
            ({"dim": (3, -7, 6, 5, 1, 1, 1, 1)}, "impossible"),
            ({"dim": (9, 7, 6, 5, 1, 1, 1, 1)}, "impossible"),
            ({"dim": (3, 30000, 30000, 30000, 1, 1, 1, 1)}, "cut short"),
            ({"datatype": 128}, "values per voxel"),
            ({"datatype": 32}, "values per voxel"),
            ({"datatype": 1536}, "not supported"),
        ],
    )
    @pytest.mark.parametrize("compressed", [False, True])
    def test_refuses(self, write, options, words, compressed):
        data = nifti_bytes(**options)
        refused(write("bad.nii.gz", gzip.compress(data) if compressed else data), words)

    def test_refuses_a_header_whose_voxels_begin_nowhere(self, write):
        data = bytearray(nifti_bytes())
        struct.pack_into("<f", data, 108, float("nan"))
        refused(write("bad.nii", bytes(data)), "impossible place")

    def test_gzip_checksum_is_checked(self, write):
        data = bytearray(gzip.compress(nifti_bytes()))
        data[-6] ^= 0xFF
        refused(write("bad.nii.gz", bytes(data)), "damaged")

    def test_gzip_may_have_several_members(self, write):
        data = nifti_bytes()
        joined = gzip.compress(data[:600]) + gzip.compress(data[600:])
        assert np.array_equal(Volume.read(write("two.nii.gz", joined)).array, VOXELS)

    def test_a_bomb_is_not_inflated(self, write):
        huge = nifti_bytes(np.zeros((2, 2, 2), np.int16), dim=(3, 20000, 20000, 20000, 1, 1, 1, 1))
        refused(write("bomb.nii.gz", gzip.compress(huge + bytes(1 << 20))), "cut short")


@pytest.mark.usefixtures("nothing_on_stderr")
class TestNrrd:
    def test_modality_from_the_header(self, write):
        for line, expected in [("modality:=CT\n", "CT"), ("Modality:=mri\n", "MR"), ("0008|0060:=PT\n", "PT")]:
            assert Volume.read(write("m.nrrd", nrrd_bytes(extra=line))).modality == expected
        assert Volume.read(write("m.nrrd", nrrd_bytes(extra="modality:=unheard of\n"))).modality is None

    def test_detached_data(self, write, tmp_path):
        (tmp_path / "voxels.raw").write_bytes(VOXELS.tobytes())
        header = nrrd_bytes(data_file="voxels.raw")[: -VOXELS.nbytes]
        assert np.array_equal(Volume.read(write("image.nhdr", header)).array, VOXELS)
        (tmp_path / "voxels.raw").unlink()
        refused(tmp_path / "image.nhdr", "data file voxels.raw .* is missing")

    @pytest.mark.parametrize("skips", [{"byte_skip": "16"}, {"line_skip": "2"}, {"byte_skip": "-1"}])
    def test_data_behind_something_else(self, write, tmp_path, skips):
        (tmp_path / "voxels.raw").write_bytes(b"1234567\n1234567\n" + VOXELS.tobytes())
        header = nrrd_bytes(data_file="voxels.raw", **skips)[: -VOXELS.nbytes]
        assert np.array_equal(Volume.read(write("image.nhdr", header)).array, VOXELS)

    def test_big_endian(self, write):
        data = nrrd_bytes(VOXELS.byteswap(), endian="big")
        assert np.array_equal(Volume.read(write("big.nrrd", data)).array, VOXELS)

    def test_directions_with_spaces_in_them(self, write):
        data = nrrd_bytes(space_directions="(1, 0, 0) (0, 2, 0) (0, 0, 3)", space_origin="(4, 5, 6)")
        np.testing.assert_allclose(
            Volume.read(write("s.nrrd", data)).ijk_to_ras, LPS @ affine(np.diag([1, 2, 3]), (4, 5, 6))
        )

    @pytest.mark.parametrize(
        "options", [{"matrix": None, "spacings": "1 2 3"}, {"matrix": None}, {"space": "scanner-xyz"}]
    )
    def test_without_a_known_space_is_read_as_slicer_does_with_a_warning(self, write, options):
        path = write("s.nrrd", nrrd_bytes(**options))
        read = Volume.read(path)
        expected = Volume.from_sitk(sitk.ReadImage(str(path)))
        np.testing.assert_allclose(read.ijk_to_ras, expected.ijk_to_ras, atol=1e-12)
        assert "left and right may be swapped" in read.warnings[0]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"space_directions": "(1,0,0) (0,1,0) (0,0,0)"}, "spacing .* 1, 1, 0 mm"),
            ({"space_directions": "(1,0,0) (0,1,0) (1,0,0)"}, "one plane"),
            ({"space_directions": "(1,0,0) (0,1,0) (nan,0,0)"}, "finite numbers"),
            ({"space_directions": "(1,0,0) (0,1,0) none"}, "three directions"),
            ({"space_directions": "(1,0,0) (0,1,0)"}, "three directions"),
            ({"matrix": None, "spacings": "1 2 0"}, "spacing .* 1, 2, 0 mm"),
            ({"matrix": None, "spacings": "1 2 -3"}, "spacing .* 1, 2, -3 mm"),
            ({"matrix": None, "dimension": "2", "sizes": "42 5"}, "2 dimensions"),
            ({"matrix": None, "dimension": "4", "sizes": "7 6 5 1"}, "4 dimensions"),
            ({"dimension": "4", "sizes": "5 7 6 1", "kinds": "list domain domain domain"}, "values per"),
            ({"matrix": None, "sizes": "3 7 10", "kinds": "RGB-color domain domain"}, "values per voxel"),
            ({"sizes": "60000 60000 60000"}, "cut short"),
            ({"sizes": "7 6"}, "how its voxels are stored"),
            ({"sizes": "7 6 x"}, "how its voxels are stored"),
            ({"type": "block"}, "how its voxels are stored"),
            ({"byte_skip": "-7"}, "how its voxels are stored"),
            ({"encoding": "bzip2"}, "encoding bzip2"),
            ({"data_file": "LIST"}, "several files"),
            ({"extra": "no colon here\n"}, "header is damaged"),
        ],
    )
    def test_refuses(self, write, options, words):
        refused(write("bad.nrrd", nrrd_bytes(**options)), words)

    def test_refuses_damaged_gzip(self, write):
        data = bytearray(nrrd_bytes(encoding="gzip"))
        data[-200:-180] = bytes(20)
        refused(write("bad.nrrd", bytes(data)), "damaged")


@pytest.mark.usefixtures("nothing_on_stderr")
class TestMetaImage:
    def test_modality_from_the_header(self, write):
        for value, expected in [("MET_MOD_CT", "CT"), ("MET_MOD_MR", "MR"), ("CT", "CT"), ("MET_MOD_UNKNOWN", None)]:
            assert Volume.read(write("m.mha", metaimage_bytes(Modality=value))).modality == expected

    @pytest.mark.parametrize("compressed", [False, True])
    def test_detached_data(self, write, tmp_path, compressed):
        (tmp_path / "voxels.raw").write_bytes(metaimage_data(VOXELS, compressed))
        path = write("image.mhd", metaimage_bytes(source="voxels.raw", compressed=compressed))
        assert np.array_equal(Volume.read(path).array, VOXELS)
        (tmp_path / "voxels.raw").unlink()
        refused(path, "data file voxels.raw .* is missing")

    @pytest.mark.parametrize("header_size", ["16", "-1"])
    def test_data_behind_a_foreign_header(self, write, tmp_path, header_size):
        (tmp_path / "voxels.raw").write_bytes(bytes(16) + VOXELS.tobytes())
        path = write("image.mhd", metaimage_bytes(source="voxels.raw", HeaderSize=header_size))
        assert np.array_equal(Volume.read(path).array, VOXELS)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"ElementSpacing": "1 2 0"}, "spacing .* 1, 2, 0 mm"),
            ({"ElementSpacing": "1 2 -3"}, "spacing .* 1, 2, -3 mm"),
            ({"ElementSpacing": "1 2"}, "no complete position"),
            ({"ElementSpacing": "one 2 3"}, "not made of finite numbers"),
            ({"TransformMatrix": "1 0 0 0 1 0 1 0 0"}, "one plane"),
            ({"Offset": "nan 0 0"}, "finite"),
            ({"DimSize": "42 5"}, "2 dimensions"),
            ({"DimSize": "7 6 5 1"}, "4 dimensions"),
            ({"DimSize": "7 6 0"}, "impossible"),
            ({"DimSize": "7 6 -5"}, "impossible"),
            ({"DimSize": ""}, "0 dimensions"),
            ({"DimSize": "60000 60000 60000"}, "cut short"),
            ({"ElementNumberOfChannels": "3"}, "3 values per voxel"),
            ({"ElementType": "MET_SHORT_ARRAY"}, "several values"),
            ({"ElementType": "MET_STRING"}, "unsupported"),
            ({"BinaryData": "False"}, "unsupported"),
            ({"HeaderSize": "many"}, "HeaderSize is not made of finite numbers"),
            ({"HeaderSize": "nan"}, "HeaderSize is not made of finite numbers"),
            ({"DimSize": "7 6 inf"}, "DimSize is not made of finite numbers"),
            ({"source": "LIST"}, "several files"),
            ({"source": "slice%03d.raw 1 5 1"}, "several files"),
        ],
    )
    def test_refuses(self, write, options, words):
        refused(write("bad.mha", metaimage_bytes(**options)), words)

    def test_damaged_compression_that_itk_overlooks(self, write):
        header = metaimage_bytes(compressed=True)[: -len(metaimage_data(VOXELS, True))]
        packed = bytearray(zlib.compress(VOXELS.tobytes()))
        packed[60:70] = bytes(10)
        refused(write("bad.mha", header + bytes(packed)), "damaged")


@pytest.mark.usefixtures("nothing_on_stderr")
class TestRefuses:
    def test_a_missing_path(self, tmp_path):
        refused(tmp_path / "none.nrrd", "no such file or folder; check the path")

    def test_an_empty_file(self, write):
        refused(write("empty.nii.gz", b""), "is empty")

    def test_an_empty_folder(self, tmp_path):
        refused(tmp_path, "no DICOM image in it")

    @pytest.mark.parametrize("data", [b"hello", bytes(1000), b"\x1f\x8b" + bytes(500), gzip.compress(b"hello" * 500)])
    def test_what_is_no_image(self, write, data):
        refused(write("other.nrrd", data), "unknown kind")

    def test_what_may_not_be_read(self, write, monkeypatch):
        path = write("secret.nrrd", nrrd_bytes())

        def denied(*_args, **_kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
        refused(path, r"cannot be opened \(permission denied\); check its permissions")


@pytest.mark.skipif(REAL_DATA is None, reason=NO_REAL_DATA)
@pytest.mark.parametrize("case", ["ct_headneck_kbp66", "mr_itksnap_crop", "sts_001_pet", "spine_ct_tptbox"])
def test_real_volumes_as_itk_reads_them(case):
    path = REAL_DATA / case / "image.nii.gz"
    read = Volume.read(path)
    expected = Volume.from_sitk(sitk.ReadImage(str(path)))
    assert np.array_equal(read.array, expected.array)
    np.testing.assert_allclose(read.ijk_to_ras, expected.ijk_to_ras, atol=1e-9)
    assert read.fingerprint == expected.fingerprint


def test_rotation_helper_makes_rotations():
    turned = rotation((1, 2, 3), 50)
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1)
