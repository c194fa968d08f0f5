# SPDX-License-Identifier: Apache-2.0
"""What SAM-Med3D is shown and what becomes of its answer, against the original's tools (torchio 0.20.4)."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the families need the extra `torch`")

from FoundationSegLib import Volume  # noqa: E402
from FoundationSegLib.families.sam_med3d.inputs import network_image, normalise, sample_linear  # noqa: E402
from FoundationSegLib.families.sam_med3d.segmenter import nearest  # noqa: E402
from FoundationSegLib.families.sam_med3d.tiling import Canvas, Lattice, TilePolicy  # noqa: E402
from FoundationSegLib.region import CanonicalFrame, Region  # noqa: E402
from FoundationSegLib.volume import LPS_RAS  # noqa: E402
from sam_med3d_case import golden, needs_fixtures, oblique_volume  # noqa: E402


@pytest.fixture(scope="module")
def case() -> dict[str, np.ndarray]:
    return golden("golden_preprocess.npz")


def golden_volume(case: dict[str, np.ndarray]) -> Volume:
    matrix = np.eye(4)
    # The original read the spacing from a NIfTI header, which keeps 32 bits of it.
    spacing = case["spacing_xyz"].astype(np.float32).astype(np.float64)
    matrix[:3, :3] = case["direction_lps"].reshape(3, 3) * spacing
    matrix[:3, 3] = case["origin_lps"]
    return Volume(case["array_zyx"], LPS_RAS @ matrix)


def golden_region(case: dict[str, np.ndarray], volume: Volume, frame: CanonicalFrame) -> Region:
    first = frame.from_kji(volume.ras_to_kji(case["roi_affine_ras"][:3, 3]))
    z, y, x = (first + (int(case["crop_size"]) - 1) / 2 * 1.5).tolist()
    return Region((z, y, x), 1.5, int(case["crop_size"]))


@needs_fixtures
def test_the_network_sees_what_the_original_sees(case: dict[str, np.ndarray]) -> None:
    volume = golden_volume(case)
    frame = CanonicalFrame.of(volume)
    image = network_image(volume, frame, golden_region(case, volume, frame))
    different = np.abs(image - case["roi_image"][0])
    # Whole numbers are cut off, not rounded. Where the interpolated value is whole to the last bit, that bit decides.
    assert np.mean(different <= 1e-4) >= 0.999
    assert different.max() <= 0.035, "one intensity unit"


@needs_fixtures
def test_masks_return_to_the_voxels_as_in_the_original(case: dict[str, np.ndarray]) -> None:
    volume = golden_volume(case)
    frame = CanonicalFrame.of(volume)
    region = golden_region(case, volume, frame)
    label = np.unpackbits(case["roi_label_bits"])[: 32**3].reshape(32, 32, 32).astype(bool).transpose(2, 1, 0)
    lattice = Lattice(frame, 32, TilePolicy())
    canvas = Canvas(lattice, (0, 0, 0), label.astype(np.float32), np.ones_like(label))
    # A canvas on the original's grid instead of the volume's own lattice.
    object.__setattr__(lattice, "region", lambda _place: region)
    whole = (slice(0, 22), slice(0, 38), slice(0, 44))
    back = nearest(label, canvas, frame, whole)
    wanted = frame.canonical_view(case["back_label_zyx"] > 0)
    assert wanted.sum() > 100
    assert np.mean(back == wanted) >= 0.999


def test_statistics_are_those_of_voxels_above_zero() -> None:
    values = np.array([-500.0, -20.0, 0.0, 10.0, 20.0, 60.0], np.float32)
    chosen = np.array([10.0, 20.0, 60.0])
    np.testing.assert_allclose(normalise(values), (values - 30) / chosen.std(ddof=1), rtol=1e-6)


@pytest.mark.parametrize("values", [[-3.0, -1.0, -1.0], [-5.0, 7.0, 7.0], [4.0, 4.0, 4.0], [0.0, 0.0, 0.0]])
def test_regions_without_contrast_above_zero_stay_finite(values: list[float]) -> None:
    out = normalise(np.array(values, np.float32))
    assert np.isfinite(out).all()
    assert (out == 0).all() if len(set(values)) == 1 else out.std(ddof=1) == pytest.approx(1)


def test_ct_is_clamped_and_other_modalities_are_not() -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(-1024, 3000, (20, 20, 20)).astype(np.int16)
    shown = {}
    for modality in ("CT", "MR", None):
        volume = Volume(array, np.diag([1.5, 1.5, 1.5, 1]), modality)
        frame = CanonicalFrame.of(volume)
        shown[modality] = network_image(volume, frame, Region((14.25,) * 3, 1.5, 20))
    np.testing.assert_array_equal(shown["MR"], shown[None])
    clamped = np.clip(array, -1000, 1000).astype(np.float32)
    np.testing.assert_allclose(shown["CT"][0], normalise(clamped).transpose(2, 1, 0), atol=1e-6)


def test_beyond_the_volume_is_zero_and_grid_points_on_voxels_are_the_voxels() -> None:
    volume = Volume(np.arange(1, 1001, dtype=np.float32).reshape(10, 10, 10), np.diag([1.5, 1.5, 1.5, 1]))
    frame = CanonicalFrame.of(volume)
    out = sample_linear(volume, frame, Region((6.75,) * 3, 1.5, 14))
    np.testing.assert_array_equal(out[2:12, 2:12, 2:12], volume.array)
    out[2:12, 2:12, 2:12] = 0
    assert not out.any()


def test_storage_of_the_volume_does_not_matter() -> None:
    volume = oblique_volume()
    frame = CanonicalFrame.of(volume)
    flip = np.eye(4)
    flip[2, 2], flip[2, 3] = -1, volume.shape[0] - 1
    permute = np.eye(4)[[2, 1, 0, 3]]
    stored = Volume(volume.array[::-1].transpose(2, 1, 0), volume.ijk_to_ras @ flip @ permute, "MR")
    region = Region(tuple((np.array(frame.shape) * frame.spacing / 2).tolist()), 1.5, 32)
    a = network_image(volume, frame, region)
    b = network_image(stored, CanonicalFrame.of(stored), region)
    assert np.mean(np.abs(a - b) < 1e-4) > 0.99, "but for whole numbers on which the last bit decides"
    assert np.abs(a - b).max() < 0.05
