# SPDX-License-Identifier: Apache-2.0
"""Simulated prompts and metrics against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from segbench import clicks, metrics, strokes

SPACING = (3.0, 1.0, 0.5)


def block(shape, *boxes):
    mask = np.zeros(shape, bool)
    for k, j, i in boxes:
        mask[slice(*k), slice(*j), slice(*i)] = True
    return mask


class TestClicks:
    def test_first_click_is_deepest_in_millimetres_not_in_voxels(self):
        # 3 x 9 x 9 voxels are 9 x 9 x 4.5 mm: i decides the depth, though k has fewer voxels.
        mask = block((9, 15, 15), ((3, 6), (3, 12), (3, 12)))
        click = clicks.first_click(mask, SPACING)
        assert click.positive
        assert click.depth_mm == pytest.approx(2.5)  # five half-millimetre steps from voxel 7 to voxel 12
        assert click.kji[2] == 7
        # First of the ties in (k, j, i) order: everything within 3 mm along k and j of a face is no shallower.
        assert click.kji == (3, 5, 7)

    def test_beyond_the_border_of_the_volume_is_outside(self):
        mask = np.ones((5, 5, 5), bool)
        click = clicks.first_click(mask, (1, 1, 1))
        assert click.kji == (2, 2, 2)
        assert click.depth_mm == 3

    def test_next_click_corrects_the_largest_region_whichever_its_sign(self):
        target = block((20, 20, 20), ((2, 9), (2, 9), (2, 9)))
        missing_much = block((20, 20, 20), ((2, 9), (2, 9), (8, 9)), ((12, 15), (12, 15), (12, 15)))
        click = clicks.next_click(target, missing_much, (1, 1, 1))
        assert click is not None and click.positive and click.kji[2] < 8
        leaking = target | block((20, 20, 20), ((11, 18), (11, 18), (11, 18)))
        leaking[2, 2, 2] = False
        click = clicks.next_click(target, leaking, (1, 1, 1))
        assert click is not None and not click.positive and click.kji == (14, 14, 14)

    def test_largest_is_by_volume_of_one_component_not_by_depth_or_total(self):
        empty = np.zeros((30, 30, 30), bool)
        thin = block((30, 30, 30), ((0, 30), (0, 30), (0, 1)))  # 900 voxels, one deep
        ball = block((30, 30, 30), ((10, 15), (10, 15), (10, 15)))  # 125 voxels, three deep
        click = clicks.next_click(thin | ball, empty, (1, 1, 1))
        assert click is not None and click.kji[2] == 0
        # False positives: two components of 125 together exceed the false negative of 200, each alone does not.
        target = block((30, 30, 30), ((0, 2), (0, 10), (0, 10)))
        wrong = block((30, 30, 30), ((10, 15), (10, 15), (10, 15)), ((20, 25), (20, 25), (20, 25)))
        click = clicks.next_click(target, wrong, (1, 1, 1))
        assert click is not None and click.positive

    def test_components_that_touch_at_a_corner_are_one(self):
        target = block((12, 12, 12), ((0, 3), (0, 3), (0, 3)), ((3, 6), (3, 6), (3, 6)))
        bigger = block((12, 12, 12), ((8, 12), (8, 12), (8, 11)))  # 48 voxels against 27 + 27
        click = clicks.next_click(target, bigger, (1, 1, 1))
        assert click is not None and click.positive

    def test_no_error_no_click(self):
        mask = block((5, 5, 5), ((1, 3), (1, 3), (1, 3)))
        assert clicks.next_click(mask, mask, SPACING) is None

    def test_untidy_click_is_at_half_depth_seeded_and_in_the_same_region(self):
        mask = block((40, 40, 40), ((5, 35), (5, 35), (5, 35)))
        other = block((40, 40, 40), ((0, 2), (0, 2), (0, 2)))
        places = set()
        for seed in range(20):
            click = clicks.next_click(mask | other, np.zeros_like(mask), (1, 1, 1), clicks.generator(seed))
            assert click is not None
            assert 0.4 <= click.depth_mm / 15 <= 0.6
            assert click == clicks.next_click(mask | other, np.zeros_like(mask), (1, 1, 1), clicks.generator(seed))
            places.add(click.kji)
        assert len(places) > 10

    def test_untidy_click_in_a_region_without_half_depths(self):
        mask = block((5, 5, 5), ((2, 3), (2, 3), (1, 4)))
        assert mask[clicks.first_click(mask, (1, 1, 1), clicks.generator("x")).kji]

    def test_wrong_use_is_refused(self):
        with pytest.raises(ValueError, match="empty"):
            clicks.first_click(np.zeros((3, 3, 3), bool), SPACING)
        with pytest.raises(ValueError, match="shapes"):
            clicks.next_click(np.zeros((3, 3, 3), bool), np.zeros((3, 3, 4), bool), SPACING)


class TestStrokes:
    def test_tidy_stroke_lies_on_the_widest_slice_along_its_longest_direction(self):
        # 10 x 6 x 30 mm: the slice across k is 6 x 30 mm, that across j 10 x 30 mm, and i is the longest way.
        mask = block((20, 20, 60), ((5, 10), (5, 11), (5, 35)))
        stroke = strokes.first_stroke(mask, (2.0, 1.0, 1.0))
        assert stroke.positive
        np.testing.assert_allclose(np.ptp(stroke.kji[:, :2], axis=0), 0, atol=1e-9)
        assert stroke.kji[0, 1] in (7.0, 8.0)
        # 60 % of the way to either side, at most 10 mm: neither the whole length of 30 mm nor a dot.
        assert 9 < np.ptp(stroke.kji[:, 2]) < 19
        steps = np.linalg.norm(np.diff(stroke.kji, axis=0), axis=1)
        np.testing.assert_allclose(steps, steps[0])

    def test_stroke_is_never_longer_than_twice_its_reach(self):
        k, j, i = np.ogrid[:15, :15, :201]
        mask = ((k - 7) / 6) ** 2 + ((j - 7) / 6) ** 2 + ((i - 100) / 99) ** 2 <= 1
        assert np.ptp(strokes.first_stroke(mask, (1, 1, 1)).kji[:, 2]) == pytest.approx(20, abs=1)

    def test_stroke_stays_inside_a_bent_region_on_one_slice(self):
        k, j, i = np.ogrid[:9, :60, :60]
        radius = np.hypot(j - 30, i - 30)
        ring = (radius > 18) & (radius < 24) & (np.abs(k - 4) < 3)
        for seed in (None, *range(20)):
            stroke = strokes.first_stroke(ring, (1, 1, 1), None if seed is None else clicks.generator(seed))
            places = np.round(stroke.kji).astype(int)
            assert ring[tuple(places.T)].all()
            assert (np.ptp(stroke.kji, axis=0) < 1e-9).any()
            assert len(places) >= 3

    def test_untidy_strokes_differ_by_seed_alone(self):
        mask = block((30, 30, 30), ((5, 25), (5, 25), (5, 25)))
        drawn = [strokes.first_stroke(mask, (1, 1, 1), clicks.generator(seed)).kji for seed in (1, 1, 2)]
        np.testing.assert_array_equal(drawn[0], drawn[1])
        assert drawn[0].shape != drawn[2].shape or np.abs(drawn[0] - drawn[2]).max() > 1

    def test_correction_is_drawn_in_the_largest_error(self):
        target = block((20, 20, 40), ((5, 15), (5, 15), (5, 15)))
        leak = target | block((20, 20, 40), ((5, 15), (5, 15), (20, 35)))
        stroke = strokes.next_stroke(target, leak, (1, 1, 1))
        assert stroke is not None and not stroke.positive
        assert (leak & ~target)[tuple(np.round(stroke.kji).astype(int).T)].all()
        assert strokes.next_stroke(target, target, (1, 1, 1)) is None

    def test_single_voxel_gets_a_stroke_of_one_point(self):
        mask = block((5, 5, 5), ((2, 3), (3, 4), (1, 2)))
        np.testing.assert_array_equal(strokes.first_stroke(mask, SPACING).kji, [[2, 3, 1]])


class TestBoxes:
    def test_box_holds_whole_voxels_of_an_oblique_volume_and_nothing_more(self):
        angle = np.deg2rad(30)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1]])
        matrix = np.eye(4)
        matrix[:3, :3] = turn * [0.5, 1.0, 3.0]
        matrix[:3, 3] = (-20, 7, 300)
        mask = block((8, 9, 10), ((2, 5), (3, 7), (4, 6)))
        low, high = clicks.tight_box(mask, matrix)
        corners = []
        for k, j, i in np.argwhere(mask):
            for dk in (-0.5, 0.5):
                for dj in (-0.5, 0.5):
                    for di in (-0.5, 0.5):
                        corners.append((matrix @ [i + di, j + dj, k + dk, 1])[:3])
        np.testing.assert_allclose(low, np.min(corners, axis=0))
        np.testing.assert_allclose(high, np.max(corners, axis=0))

    def test_jitter_moves_every_face_by_at_most_a_tenth(self):
        low, high = np.array([0.0, 0, 0]), np.array([10.0, 20, 40])
        moved = np.array([np.r_[clicks.jitter_box(low, high, clicks.generator(seed))] for seed in range(200)])
        shift = (moved - np.r_[low, high]) / np.r_[high - low, high - low]
        assert np.abs(shift).max() <= 0.1
        assert (
            np.all(np.abs(shift).max(axis=0) > 0.08) and np.all(shift.min(axis=0) < 0) and np.all(shift.max(axis=0) > 0)
        )


class TestMetrics:
    def test_dice(self):
        a = block((4, 4, 4), ((0, 2), (0, 4), (0, 4)))
        b = block((4, 4, 4), ((1, 4), (0, 4), (0, 4)))
        assert metrics.dice(a, b) == pytest.approx(2 * 16 / (32 + 48))
        assert metrics.dice(a & ~a, b & ~b) == 1
        assert metrics.dice(a, b & ~b) == 0
        with pytest.raises(ValueError, match="shapes"):
            metrics.dice(a, b[1:])

    def test_surface_area_is_that_of_the_body(self):
        mask = block((40, 40, 80), ((4, 34), (4, 34), (4, 64)))
        spacing = (3.0, 1.0, 0.5)
        sides = np.array([30 * 3.0, 30 * 1.0, 60 * 0.5])
        exact = 2 * (sides[0] * sides[1] + sides[1] * sides[2] + sides[0] * sides[2])
        assert metrics.Surface(mask, spacing).areas.sum() == pytest.approx(exact, rel=0.03)  # edges are cut

    @pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (2, 1.0), (3, None)])
    def test_within_tolerance_is_right_and_exactly_two_millimetres_counts(self, shift, expected):
        mask = block((24, 24, 24), ((6, 16), (6, 16), (6, 16)))
        score = metrics.nsd(mask, np.roll(mask, shift, axis=2), (1, 1, 1), 2.0)
        if expected is None:
            # The faces across the shift are off: each is a sixth of either surface, the sides stay within.
            assert 0.6 < score < 0.85
        else:
            assert score == expected

    def test_tolerance_is_in_millimetres(self):
        mask = block((24, 24, 24), ((6, 16), (6, 16), (6, 16)))
        moved = np.roll(mask, 1, axis=0)
        assert metrics.nsd(mask, moved, (1.9, 1, 1), 2.0) == 1.0
        assert metrics.nsd(mask, moved, (2.1, 1, 1), 2.0) < 1.0

    def test_symmetric_and_independent_of_place(self):
        rng = np.random.default_rng(3)
        a, b = (np.pad(rng.random((8, 9, 7)) > 0.5, 3) for _ in range(2))
        value = metrics.nsd(a, b, SPACING)
        assert metrics.nsd(b, a, SPACING) == pytest.approx(value)
        assert metrics.nsd(a[3:-3, 3:-3, 3:-3], b[3:-3, 3:-3, 3:-3], SPACING) == pytest.approx(value)
        turned = metrics.nsd(a.transpose(2, 0, 1), b.transpose(2, 0, 1), (SPACING[2], SPACING[0], SPACING[1]))
        assert turned == pytest.approx(value)

    def test_empty(self):
        mask = block((5, 5, 5), ((1, 3), (1, 3), (1, 3)))
        nothing = np.zeros_like(mask)
        assert metrics.nsd(nothing, nothing, SPACING) == 1
        assert metrics.nsd(mask, nothing, SPACING) == 0
        assert metrics.nsd(nothing, mask, SPACING) == 0

    def test_far_leak_counts_against_the_score(self):
        mask = block((20, 20, 60), ((5, 15), (5, 15), (5, 15)))
        leak = mask | block((20, 20, 60), ((5, 15), (5, 15), (40, 50)))
        assert metrics.nsd(mask, leak, (1, 1, 1)) == pytest.approx(2 / 3)

    def test_agrees_with_the_reference_implementation(self):
        reference = pytest.importorskip("surface_distance", reason="DeepMind's surface-distance is not installed")
        ndimage = pytest.importorskip("scipy.ndimage")
        rng = np.random.default_rng(0)
        for spacing in ((1.0, 1.0, 1.0), (3.0, 0.977, 0.977), (2.5, 3.906, 3.906)):
            field = ndimage.gaussian_filter(rng.normal(size=(30, 40, 36)), 3)
            other = field + 0.4 * field.std() * ndimage.gaussian_filter(rng.normal(size=field.shape), 2) * 10
            a, b = field > np.quantile(field, 0.8), other > np.quantile(other, 0.8)
            theirs = reference.compute_surface_dice_at_tolerance(
                reference.compute_surface_distances(a, b, spacing), 2.0
            )
            assert metrics.nsd(a, b, spacing, 2.0) == pytest.approx(theirs, abs=5e-4)
