# SPDX-License-Identifier: Apache-2.0
"""The random walker as second opinion: against scikit-image, against the exact solution, and what clicks make of it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from bright_predictor import BrightPredictor
from FoundationSegLib import Box, Point, Volume
from FoundationSegLib.cues import cues_of
from FoundationSegLib.predictor import EmbeddingCache
from FoundationSegLib.region import CanonicalFrame, Region
from FoundationSegLib.region_segmenter import RegionPolicy, RegionSegmenter, to_logits
from FoundationSegLib.walker import second_opinion, walk


def waves(size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A smooth image in [0, 1] without links as weak as the floor that ours has and theirs has not, and seeds."""
    z, y, x = np.indices((size,) * 3)
    image = 0.5 + 0.25 * np.sin(x / 6) * np.cos(y / 7) + 0.2 * np.sin(z / 8)
    seeds = np.zeros(image.shape, np.uint8)
    seeds[12, 12, 10], seeds[0] = 1, 2
    return image.astype(np.float32), seeds


def test_it_is_the_random_walker_of_scikit_image() -> None:
    segmentation = pytest.importorskip("skimage.segmentation")
    image, seeds = waves()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        theirs = segmentation.random_walker(
            image, seeds.astype(np.int32), beta=5000, mode="cg_j", tol=1e-6, return_full_prob=True
        )[0]
    ours = walk(image, seeds)
    assert np.abs(ours - theirs).max() < 0.05  # ours stops at a coarser tolerance
    assert ((ours > 0.5) == (theirs > 0.5)).mean() > 0.999
    assert np.ptp(theirs[1:]) > 0.2 and (ours[12, 12, 8:13] > 0.01).all()


def test_between_two_plates_the_probability_falls_in_a_straight_line() -> None:
    seeds = np.zeros((3, 3, 21), np.uint8)
    seeds[..., 0], seeds[..., -1] = 1, 2
    got = walk(np.full(seeds.shape, 0.5, np.float32), seeds)
    assert np.allclose(got, np.linspace(1, 0, 21), atol=0.02)


def grey_block() -> Volume:
    """Nothing but noise, 60 mm wide, on an anisotropic grid."""
    noise = np.random.default_rng(2).integers(0, 50, (20, 60, 60)).astype(np.int16)
    return Volume(noise, np.diag([1.0, 1.0, 3.0, 1.0]))


def opinion_at(volume: Volume, *prompts: Point | Box) -> tuple[Region, np.ndarray | None]:
    frame = CanonicalFrame.of(volume)
    region = Region(tuple((frame.extent_mm / 2).tolist()), 1.0, 60)
    return region, second_opinion(volume, frame, cues_of(prompts, volume, frame), region)


def test_where_nothing_is_seen_the_nearer_click_decides() -> None:
    _, opinion = opinion_at(grey_block(), Point((15, 30, 30)), Point((45, 30, 30), positive=False))
    assert opinion is not None
    middle = opinion[30, 30]
    assert middle[15] > 0.95 and middle[45] < 0.05 and (np.diff(middle[16:45]) < 0.02).all()


def test_beyond_the_margin_is_background() -> None:
    volume = Volume(np.random.default_rng(3).integers(0, 50, (100, 40, 40)).astype(np.int16), np.diag([3.0, 3, 3, 1]))
    frame = CanonicalFrame.of(volume)
    region = Region(tuple((frame.extent_mm / 2).tolist()), 5.0, 60)
    cues = cues_of([Point((60, 60, 60))], volume, frame)
    opinion = second_opinion(volume, frame, cues, region)
    assert opinion is not None
    far = region.to_grid(np.array([150.0, 60.0, 60.0])).round().astype(int)
    near = region.to_grid(np.array([60.0, 60.0, 60.0])).round().astype(int)
    assert opinion[tuple(far)] == 0 and opinion[tuple(near)] > 0.9


def test_lone_negative_clicks_give_no_opinion() -> None:
    assert opinion_at(grey_block(), Point((20, 20, 20), positive=False))[1] is None


def test_with_a_box_the_walker_is_not_asked() -> None:
    rounds = ((Box((10, 10, 10), (50, 50, 50)), Point((30, 30, 30))), (Point((45, 30, 30), positive=False),))

    def stages(*given: tuple[Point | Box, ...]) -> set[str]:
        policy = RegionPolicy(walker_share=0.9, walker_reach=1000.0)
        segmenter = RegionSegmenter(grey_block(), BrightPredictor(), EmbeddingCache(), policy)
        previous = None
        for number in range(len(given)):
            previous = segmenter.predict(given[: number + 1], previous)
        assert previous is not None
        return set(previous.timings)

    assert "walker" not in stages(*rounds)
    assert "walker" in stages((Point((30, 30, 30)),), rounds[1])  # the very same clicks without the box


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_volume_gets_the_same_opinion(axis: int) -> None:
    volume = grey_block()
    matrix = volume.ijk_to_ras.copy()
    column = 2 - axis
    matrix[:3, 3] += matrix[:3, column] * (volume.shape[axis] - 1)
    matrix[:3, column] *= -1
    flipped = Volume(np.flip(volume.array, axis).copy(), matrix)
    points = (Point((15, 30, 30)), Point((45, 30, 30), positive=False))
    one, other = opinion_at(volume, *points)[1], opinion_at(flipped, *points)[1]
    assert one is not None and other is not None and np.array_equal(one, other)


def test_the_policy_says_how_much_the_opinion_counts() -> None:
    volume = grey_block()
    prompts = (Point((15.0, 30.0, 30.0)), Point((45.0, 30.0, 30.0), positive=False))

    def voxels(share: float) -> int:
        policy = RegionPolicy(walker_share=share)
        segmenter = RegionSegmenter(volume, BrightPredictor(), EmbeddingCache(), policy)
        first = segmenter.predict((prompts[:1],), None)
        return int(segmenter.predict((prompts[:1], prompts[1:]), first).mask.sum())

    assert voxels(0.0) != voxels(0.9)


def test_logits_of_certainties_stay_finite() -> None:
    logits = to_logits(np.array([0.0, 0.5, 1.0], np.float32))
    assert np.isfinite(logits).all() and logits[0] < -7 and logits[1] == 0 and logits[2] > 7


def test_the_mean_over_scales_lies_between_their_answers() -> None:
    volume = grey_block()
    best = RegionSegmenter(volume, BrightPredictor(), EmbeddingCache(), RegionPolicy())
    mean = RegionSegmenter(volume, BrightPredictor(), EmbeddingCache(), RegionPolicy(scale_blend=2.0))
    rounds = ((Point((30.0, 30.0, 30.0)),),)
    alone, blended = best.predict(rounds, None), mean.predict(rounds, None)
    assert alone.region == blended.region
    assert not np.array_equal(alone.logits, blended.logits)
    assert np.isfinite(blended.logits).all()


def bright_ball(radius_mm: float) -> Volume:
    """A bright ball in the middle of a cube of 120 mm, on an anisotropic grid."""
    z, y, x = np.indices((40, 120, 120))
    inside = (3 * (z - 20)) ** 2 + (y - 60) ** 2 + (x - 60) ** 2 < radius_mm**2
    noise = np.random.default_rng(4).integers(-5, 5, inside.shape)
    return Volume((np.where(inside, 200, 0) + noise).astype(np.int16), np.diag([1.0, 1.0, 3.0, 1.0]))


def test_a_deep_negative_click_raises_the_doubt_and_a_shallow_one_hardly() -> None:
    policy = RegionPolicy(walker_share=0.02)  # doubt is kept only where the walker may be asked
    segmenter = RegionSegmenter(bright_ball(40), BrightPredictor(), EmbeddingCache(), policy)
    first = segmenter.predict(((Point((75.0, 60.0, 60.0)),),), None)
    assert first.doubt == 0

    def doubt_after(x: float) -> float:
        rounds = ((Point((75.0, 60.0, 60.0)),), (Point((x, 60.0, 60.0), positive=False),))
        return segmenter.predict(rounds, first).doubt

    assert doubt_after(60.0) > 0.9
    assert 0 < doubt_after(24.0) < 0.5
    assert doubt_after(5.0) == 0  # beside the mask


def test_doubt_stays_with_the_prediction() -> None:
    policy = RegionPolicy(walker_share=0.02)  # doubt is kept only where the walker may be asked
    segmenter = RegionSegmenter(bright_ball(40), BrightPredictor(), EmbeddingCache(), policy)
    rounds = ((Point((75.0, 60.0, 60.0)),), (Point((60.0, 60.0, 60.0), positive=False),), (Point((80.0, 60.0, 60.0)),))
    first = segmenter.predict(rounds[:1], None)
    second = segmenter.predict(rounds[:2], first)
    assert segmenter.predict(rounds, second).doubt == second.doubt > 0


def test_what_is_far_larger_than_the_walker_s_world_is_left_to_the_model() -> None:
    def voxels(radius_mm: float, share: float) -> int:
        policy = RegionPolicy(walker_share=share, walker_reach=15.0)
        segmenter = RegionSegmenter(bright_ball(radius_mm), BrightPredictor(), EmbeddingCache(), policy)
        return int(segmenter.predict(((Point((60.0, 60.0, 60.0)),),), None).mask.sum())

    assert voxels(55, 0.9) == pytest.approx(voxels(55, 0.0), rel=0.02)
