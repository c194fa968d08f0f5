# SPDX-License-Identifier: Apache-2.0
"""Volume: what it refuses, and that its geometry is exact on any grid."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from FoundationSegLib.errors import FoundationSegError, VolumeError
from FoundationSegLib.resources import resource_folder
from FoundationSegLib.volume import Volume, replace_nonfinite
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import GEOMETRIES, OBLIQUE, SHAPE, VOXELS, affine, matrices

indices = st.tuples(*[st.floats(-50, 50)] * 3)


@pytest.mark.parametrize("matrix", GEOMETRIES.values(), ids=GEOMETRIES)
def test_every_voxel_centre_maps_where_the_matrix_says_and_back(matrix):
    volume = Volume(VOXELS, matrix)
    kji = np.argwhere(np.ones(SHAPE, dtype=bool)).astype(float)
    expected = kji[:, ::-1] @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(volume.kji_to_ras(kji), expected, atol=1e-12)
    np.testing.assert_allclose(volume.ras_to_kji(expected), kji, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(matrices(), indices)
def test_indices_survive_the_way_to_ras_and_back(matrix, index):
    volume = Volume(VOXELS, matrix)
    np.testing.assert_allclose(volume.ras_to_kji(volume.kji_to_ras(index)), index, atol=1e-6)
    np.testing.assert_allclose(volume.ras_to_ijk @ volume.ijk_to_ras, np.eye(4), atol=1e-8)


@settings(deadline=None, max_examples=60)
@given(matrices())
def test_simpleitk_agrees_on_where_points_are_and_brings_the_volume_back(matrix):
    volume = Volume(VOXELS, matrix, "CT")
    image = volume.to_sitk()
    lps = np.array(image.TransformContinuousIndexToPhysicalPoint((1.5, 2.25, 3.0)))
    np.testing.assert_allclose(volume.kji_to_ras((3.0, 2.25, 1.5)), lps * (-1, -1, 1), atol=1e-9)
    again = Volume.from_sitk(image, "CT")
    assert np.array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.ijk_to_ras, matrix, atol=1e-10)


def test_spacing_is_in_ijk_order_and_voxel_volume_counts_the_shear():
    shear = affine([[1, 0, 1], [0, 2, 0], [0, 0, 3]])
    volume = Volume(VOXELS, shear)
    assert volume.spacing_mm == pytest.approx((1, 2, np.sqrt(10)))
    assert volume.voxel_volume_ml == pytest.approx(0.006)
    assert volume.shape == SHAPE


def test_bounds_reach_to_the_outer_faces():
    volume = Volume(VOXELS, affine(np.diag([-1.0, 2.0, 3.0]), (10, 20, 30)))
    np.testing.assert_allclose(volume.bounds_ras, [[10 - 6.5, 19, 28.5], [10.5, 31, 30 + 13.5]])


@settings(deadline=None, max_examples=60)
@given(matrices(), st.tuples(*[st.floats(0, 1)] * 3))
def test_contains_knows_inside_from_outside(matrix, fraction):
    volume = Volume(VOXELS, matrix)
    inside = np.array(fraction) * SHAPE - 0.5
    assert volume.contains(volume.kji_to_ras(inside))
    outside = inside.copy()
    outside[1] = SHAPE[1] - 0.4
    assert volume.contains(volume.kji_to_ras([inside, outside])).tolist() == [True, False]


class TestFingerprint:
    def test_is_the_same_for_equal_volumes_only(self):
        volume = Volume(VOXELS, OBLIQUE)
        assert volume.fingerprint == Volume(VOXELS.copy(), OBLIQUE.copy(), "MR", "other").fingerprint
        changed = VOXELS.copy()
        changed[0, 0, 0] += 1
        assert volume.fingerprint != Volume(changed, OBLIQUE).fingerprint
        moved = OBLIQUE.copy()
        moved[0, 3] += 1e-3
        assert volume.fingerprint != Volume(VOXELS, moved).fingerprint

    def test_does_not_see_rounding_byte_order_or_negative_zero(self):
        matrix = affine(np.diag([1.0, 2.0, 3.0]))
        noisy = matrix + 1e-12
        noisy[3] = matrix[3]
        noisy[0, 1] = -0.0
        expected = Volume(VOXELS, matrix).fingerprint
        assert Volume(VOXELS.astype(">i2"), noisy).fingerprint == expected

    def test_is_defined_by_bytes_and_so_stable_across_releases(self):
        array = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
        stated = b"int16 (2, 2, 2)" + np.eye(4).astype("<f8").tobytes() + array.astype("<i2").tobytes()
        assert Volume(array, np.eye(4)).fingerprint == hashlib.sha256(stated).hexdigest()


class TestRefuses:
    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (VOXELS[0], "2 dimensions"),
            (VOXELS[np.newaxis], "4 dimensions"),
            (VOXELS[:1], "at least 2"),
            (np.full(SHAPE, 7), "value 7"),
            (VOXELS.astype(complex), "not a real number"),
        ],
    )
    def test_voxels(self, array, words):
        with pytest.raises(VolumeError, match=words):
            Volume(array, np.eye(4))

    def test_voxels_that_are_not_finite_and_counts_them(self):
        array = VOXELS.astype(np.float32)
        array[0, 0, :3] = np.nan, np.inf, -np.inf
        with pytest.raises(VolumeError, match=r"^3 of the image's 210 voxels") as caught:
            Volume(array, np.eye(4))
        assert "nonfinite" in str(caught.value)

    def test_doubles_that_single_precision_cannot_hold(self):
        array = VOXELS.astype(np.float64)
        array[1, 1, 1] = 1e300
        with pytest.raises(VolumeError, match=r"^1 of"):
            Volume(array, np.eye(4))

    @pytest.mark.parametrize(
        ("matrix", "words"),
        [
            (affine(np.diag([1.0, 0.0, 3.0])), "spacing"),
            (affine([[1, 0, 1], [0, 1, 0], [1, 0, 1]]), "one plane"),
            (affine([[1, 0, 1], [0, 1, 0], [0, 0, 1e-9]]), "one plane"),
            (affine(np.eye(3), (np.nan, 0, 0)), "finite"),
            (np.eye(3), "4x4"),
            (np.diag([1.0, 1.0, 1.0, 2.0]), "4x4"),
        ],
    )
    def test_geometry(self, matrix, words):
        with pytest.raises(VolumeError, match=words):
            Volume(VOXELS, matrix)

    @pytest.mark.parametrize(
        ("image", "words"),
        [
            (sitk.Image(4, 4, sitk.sitkInt16), "2 dimensions"),
            (sitk.Image((4, 4, 4, 4), sitk.sitkInt16), "4 dimensions"),
            (sitk.Image((4, 4, 4), sitk.sitkVectorUInt8, 3), "3 values per voxel"),
        ],
    )
    def test_simpleitk_images(self, image, words):
        with pytest.raises(VolumeError, match=words):
            Volume.from_sitk(image)


@pytest.mark.parametrize(
    ("given_type", "kept"),
    [
        *[(t, t) for t in ("i1", "i2", "i4", "u1", "u2", "f4")],
        *[
            ("f8", "f4"),
            ("f2", "f4"),
            ("u4", "i4"),
            ("i8", "i4"),
            ("u8", "i4"),
            ("?", "u1"),
            (">i2", "i2"),
            (">f8", "f4"),
        ],
    ],
)
def test_voxel_types_are_kept_or_become_the_nearest(given_type, kept):
    array = (VOXELS % 2).astype(given_type)
    volume = Volume(array, np.eye(4))
    assert volume.array.dtype == np.dtype(kept)
    assert np.array_equal(volume.array, VOXELS % 2)


def test_integers_beyond_32_bits_become_float():
    array = VOXELS.astype(np.int64)
    array[0, 0, 0] = 2**40
    assert Volume(array, np.eye(4)).array.dtype == np.float32


def test_is_contiguous_and_read_only_but_the_callers_array_is_not():
    array = VOXELS.copy()
    matrix = np.eye(4)
    volume = Volume(array, matrix)
    fortran = Volume(np.asfortranarray(array), matrix)
    assert fortran.array.flags.c_contiguous
    for kept in (volume.array, volume.ijk_to_ras, volume.ras_to_ijk, volume.bounds_ras):
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 0
    array[0, 0, 0] = 1
    matrix[0, 0] = 5
    assert volume.ijk_to_ras[0, 0] == 1


def test_nonfinite_voxels_become_the_least_finite_one():
    array = np.array([[1.0, np.nan], [np.inf, -3.0]])
    assert replace_nonfinite(array).tolist() == [[1.0, -3.0], [-3.0, -3.0]]
    integers = np.array([1, 2])
    assert replace_nonfinite(integers) is integers
    hopeless = np.full(3, np.nan)
    assert replace_nonfinite(hopeless) is hopeless


def test_importing_it_loads_no_image_library():
    code = "import sys, FoundationSegLib.volume; print({'SimpleITK', 'slicerio', 'torch'} & set(sys.modules))"
    folder = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_resources_are_found_by_the_folder_that_is_asked_for():
    assert (resource_folder("Terminology") / "structures.json").is_file()
    with pytest.raises(FoundationSegError, match="install the extension again"):
        resource_folder("Nothing")
