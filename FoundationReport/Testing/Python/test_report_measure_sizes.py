# SPDX-License-Identifier: Apache-2.0
"""Volume, extents, 3-D diameter, intensity statistics and parts of a region."""

from __future__ import annotations

import numpy as np
import pytest
from FoundationReportLib.measure.extents import diameter_3d, extents_ras
from FoundationReportLib.measure.intensity import share_between, statistics
from FoundationReportLib.measure.region import Region, bounding_box, region_of
from FoundationReportLib.measure.sizes import part_sizes, split_parts
from FoundationSegLib import Volume
from FoundationSegLib.measure_table import extents_mm
from hypothesis import given, settings
from hypothesis import strategies as st
from report_phantom import ellipsoid, grid, positions, rotation, turned, volume_of

SHEARED = np.array([[1.0, 0.3, 0.1], [0.0, 1.0, -0.2], [0.0, 0.0, 1.0]])


def _region(volume: Volume, mask: np.ndarray) -> Region:
    region = region_of(volume, mask)
    assert region is not None
    return region


def _blob(directions: np.ndarray, seed: int = 0) -> tuple[Volume, np.ndarray]:
    size = (40, 34, 22)
    matrix = grid(size, (0.9, 0.8, 2.0), directions, (10, -20, 30))
    own = rotation(np.random.default_rng(seed))
    return volume_of(size, matrix), ellipsoid(positions(matrix, size), (11, -20, 31), (12, 8, 10), own)


@pytest.mark.parametrize("directions", [np.eye(3), turned(0, 20) @ turned(1, 10), SHEARED, -np.eye(3)])
def test_volume_and_extents(directions: np.ndarray) -> None:
    volume, mask = _blob(directions)
    region = _region(volume, mask)
    assert region.volume_ml == pytest.approx(mask.sum() * volume.voxel_volume_ml)
    assert region.volume_ml == pytest.approx(4 / 3 * np.pi * 12 * 8 * 10 / 1000, rel=0.02)
    assert extents_ras(region) == pytest.approx(extents_mm(volume, mask))
    centre = volume.kji_to_ras(np.argwhere(mask)).mean(axis=0)
    assert region.centroid_ras == pytest.approx(centre.tolist())


def test_diameter_3d_is_the_largest_of_all_pairs() -> None:
    for seed in range(4):
        volume, mask = _blob(rotation(np.random.default_rng(seed)), seed)
        found = diameter_3d(_region(volume, mask))
        offsets = np.vstack([0.5 * np.eye(3), -0.5 * np.eye(3)])
        surface = np.concatenate([np.argwhere(mask) + offset for offset in offsets])
        # Only outermost points can be ends: those beyond two thirds of the half axes' length from the centre.
        points = volume.kji_to_ras(surface)
        far = points[np.linalg.norm(points - points.mean(axis=0), axis=1) > 9.0]
        expected = max(float(np.linalg.norm(far - point, axis=1).max()) for point in far)
        assert found.length == pytest.approx(expected, abs=1e-6)
        assert found.length == pytest.approx(24, abs=1.2)
        assert np.linalg.norm(np.subtract(*found.ends)) == pytest.approx(found.length)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1024, 3000), min_size=1, max_size=80), st.booleans())
def test_statistics_are_those_of_numpy(values: list[int], whole: bool) -> None:
    array = np.array(values, np.int16 if whole else np.float32)
    found = statistics(array)
    exact = array.astype(np.float64)
    assert found.mean == pytest.approx(exact.mean())
    assert found.sd == pytest.approx(exact.std(), abs=1e-9)
    assert (found.min, found.max) == (exact.min(), exact.max())
    for value, q in ((found.p5, 5), (found.median, 50), (found.p95, 95)):
        assert value == pytest.approx(np.percentile(exact, q), abs=1e-9)


def test_wide_whole_numbers_need_no_histogram() -> None:
    array = np.array([0, 5, 2**30], np.int32)
    assert statistics(array).median == 5
    assert statistics(array).max == 2**30


def test_share_between() -> None:
    assert share_between(np.array([-200, -190, -100, -30, 0]), -190, -30) == pytest.approx(60)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 7)), max_size=6))
def test_bounding_box_is_the_smallest(voxels: set[tuple[int, int, int]]) -> None:
    mask = np.zeros((6, 7, 8), bool)
    for voxel in voxels:
        mask[voxel] = True
    box = bounding_box(mask)
    if not voxels:
        assert box is None
        return
    assert box is not None
    points = np.array(sorted(voxels))
    assert [(p.start, p.stop) for p in box] == list(
        zip(points.min(axis=0).tolist(), (points.max(axis=0) + 1).tolist(), strict=True)
    )


def test_parts_are_split_the_largest_first() -> None:
    mask = np.zeros((10, 30, 30), bool)
    mask[2:4, 2:5, 2:5] = True  # 18 voxels
    mask[6:9, 10:20, 10:20] = True  # 300
    mask[5, 25, 25] = True
    volume = volume_of((30, 30, 10), grid((30, 30, 10), (1, 1, 1)))
    region = _region(volume, mask)
    assert part_sizes(region) == [300, 18, 1]
    parts = split_parts(region, least_ml=0.01)
    assert [part.voxels for part in parts] == [300, 18]
    again = np.zeros_like(mask)
    for part in parts:
        again[part.box] |= part.mask
    assert (again == (mask & (np.indices(mask.shape)[2] != 25))).all()


def test_edges_of_the_volume_are_told_by_axis() -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[0:3, 2:4, 2:4] = True
    assert _region(volume_of((6, 6, 6), grid((6, 6, 6), (1, 1, 1))), mask).cut == (True, False, False)
