# SPDX-License-Identifier: Apache-2.0
"""What a negative click takes away where the model itself would keep everything that looks alike."""

from __future__ import annotations

import numpy as np
import pytest
from bright_predictor import BrightPredictor
from FoundationSegLib import Point, SegmentationSession, Volume
from FoundationSegLib.predictor import Decoded, Embedding, GridPrompts
from FoundationSegLib.region_segmenter import RegionModel, RegionPolicy


class StubbornPredictor(BrightPredictor):
    """All that is bright, whatever the clicks say."""

    def decode(self, embedding: Embedding, prompts: GridPrompts, previous_logits: np.ndarray | None) -> Decoded:
        image = embedding.tensors["image"]
        return Decoded(np.where(image > 0.5, np.float32(4), np.float32(-4)), 0.5)


@pytest.fixture
def volume() -> Volume:
    """A bar of 10 x 10 x 48 voxels of 1 mm in darkness."""
    array = np.zeros((40, 40, 64), np.float32)
    array[15:25, 15:25, 8:56] = 1
    return Volume(array, np.eye(4), None, "bar")


def kept(volume: Volume, negative: tuple[float, float, float], surplus: float) -> np.ndarray:
    """The voxels along the middle of the bar that are left after a click on it and one beside it."""
    return np.flatnonzero(clicked(volume, negative, surplus)[20, 20])


def clicked(volume: Volume, negative: tuple[float, float, float], surplus: float) -> np.ndarray:
    session = SegmentationSession(volume, RegionModel(StubbornPredictor(), RegionPolicy(surplus=surplus)))
    session.add("bar", Point((12.0, 20.0, 20.0)))
    before = session.mask("bar")
    session.add("bar", Point(negative, positive=False))
    assert (session.mask("bar") <= before).all(), "a negative click never adds"
    return session.mask("bar")


def test_a_click_deep_in_the_mask_clears_what_is_nearer_to_it_than_to_the_structure(volume: Volume) -> None:
    left = kept(volume, (40.0, 20.0, 20.0), surplus=20.0)
    assert left.min() == 8 and 24 <= left.max() <= 28, "the border runs half-way between the clicks"


def test_a_click_under_the_surface_clears_little(volume: Volume) -> None:
    left = clicked(volume, (40.0, 24.0, 20.0), surplus=2.0)
    assert not left[20, 24, 40], "what was clicked is gone"
    assert len(np.flatnonzero(left[20, 20])) >= 44, "the middle of the bar is hardly touched"


def test_without_the_rule_the_model_decides(volume: Volume) -> None:
    assert len(kept(volume, (40.0, 20.0, 20.0), surplus=0.0)) >= 46
