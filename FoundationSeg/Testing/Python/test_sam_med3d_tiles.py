# SPDX-License-Identifier: Apache-2.0
"""Structures larger than SAM-Med3D's region: followed from region to region, never cut at a face in silence.

The model is replaced by one whose answer is known (what is bright), since random weights segment nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the families need the extra `torch`")

from FoundationSegLib import MaskPrompt, Point, SegmentationSession, Volume  # noqa: E402
from FoundationSegLib.families.sam_med3d.predictor import SamMed3dPredictor  # noqa: E402
from FoundationSegLib.families.sam_med3d.segmenter import SamMed3dSegmenter  # noqa: E402
from FoundationSegLib.families.sam_med3d.tiling import Canvas, Lattice, TilePolicy  # noqa: E402
from FoundationSegLib.predictor import Array, Embedding, EmbeddingCache, ModelIdentity  # noqa: E402
from FoundationSegLib.region import CanonicalFrame  # noqa: E402
from FoundationSegLib.region import sample as sample_region  # noqa: E402


class BrightTiles(SamMed3dPredictor):
    """Bright is inside, to half a grid point; a tile without a positive click is empty. 48 mm per region."""

    def __init__(self) -> None:
        self.grid_size, self.mask_size = 32, 16
        self.calls: list[tuple[np.ndarray, np.ndarray, Array | None]] = []

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity("bright", "test", "0" * 64, "cpu", "float32")

    def prepare(self, volume: Any, frame: Any, region: Any) -> Array:
        return sample_region(volume, frame, region)

    def encode(self, prepared: Array) -> Embedding:
        return Embedding({"image": prepared})

    def refine(self, embedding: Embedding, coords: Array, labels: Any, previous: Array | None) -> tuple[Array, float]:
        self.calls.append((coords, labels, previous))
        low = embedding.tensors["image"].reshape(16, 2, 16, 2, 16, 2).mean(axis=(1, 3, 5))
        logits = np.where(low > 50, np.float32(4), np.float32(-4))
        if not (labels == 1).any() and previous is None:
            logits[:] = -4
        for coordinate in np.rint(coords[labels == 0] / 2 - 0.25).astype(int):
            logits[tuple(slice(max(c - 2, 0), c + 3) for c in coordinate)] = -4
        return logits, 0.8


class BrightModel:
    def __init__(self, policy: TilePolicy | None = None) -> None:
        self.predictor, self.policy = BrightTiles(), policy
        self.identity = self.predictor.identity

    def segmenter(self, volume: Volume, cache: EmbeddingCache) -> SamMed3dSegmenter:
        return SamMed3dSegmenter(volume, self.predictor, cache, self.policy)


def bar_volume(length: int = 120) -> tuple[Volume, np.ndarray]:
    """A bright L, 12 x 12 mm across: along i nearly from end to end, then along k. Voxels of 1.5 x 1.5 x 2 mm."""
    array = np.zeros((60, 60, length), np.int16)
    truth = np.zeros(array.shape, bool)
    truth[10:16, 26:34, 6 : length - 6] = True
    truth[10:55, 26:34, length - 14 : length - 6] = True
    array[truth] = 100
    array += np.random.default_rng(0).integers(0, 9, array.shape).astype(np.int16)
    return Volume(array, np.diag([1.5, 1.5, 2.0, 1.0])), truth


def at(volume: Volume, *kji: float, positive: bool = True) -> Point:
    return Point(tuple(volume.kji_to_ras(np.array(kji, dtype=float))), positive)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_long_structure_is_followed_to_its_ends() -> None:
    volume, truth = bar_volume()
    model = BrightModel()
    session = SegmentationSession(volume, model)
    result = session.add("bar", at(volume, 13, 30, 12))
    assert dice(session.mask("bar"), truth) > 0.9
    assert session.cache.misses >= 6, "180 mm in steps of 24 mm"
    assert not result.warnings
    region = [part.stop - part.start for part in result.region_box]
    assert region[2] > 100 and region[0] > 50
    # The first region is given zeros (None), the next ones what is known, and a click of ours where none is visible.
    assert model.predictor.calls[0][2] is None
    for coords, labels, previous in model.predictor.calls[1:]:
        assert previous is not None and previous.max() > 1 and (previous == 0).any()
        assert (labels == 1).any() and len(coords)
    assert session.uncertainty("bar").shape == tuple(region)


def test_the_number_of_regions_is_bounded_and_the_cut_is_said() -> None:
    volume, truth = bar_volume()
    session = SegmentationSession(volume, BrightModel(TilePolicy(most_tiles=3)))
    result = session.add("bar", at(volume, 13, 30, 12))
    assert session.cache.misses == 3
    assert any("reaches the edge of what was looked at" in w for w in result.warnings)
    part = session.mask("bar").sum()
    assert part < 0.7 * truth.sum()
    further = session.add("bar", at(volume, 13, 30, 90))
    assert session.cache.misses > 3 and further.voxels > part, "a click further on goes on from there"


def test_a_thin_contact_is_not_followed_but_said() -> None:
    array = np.zeros((40, 40, 90), np.int16)
    array[18:22, 18:22, 4:20] = 100
    array[18:20, 18:20, 4:86] = 100  # two grid points across, and so in line with the regions' grid
    volume = Volume(array, np.diag([1.5, 1.5, 1.5, 1.0]))
    for touch, warned in ((30, True), (1, False)):
        session = SegmentationSession(volume, BrightModel(TilePolicy(touch=touch)))
        result = session.add("s", at(volume, 20, 20, 10))
        assert bool(result.warnings) == warned
        assert (session.cache.misses == 1) == warned


def test_small_structures_take_one_region_and_refine_with_their_own_logits() -> None:
    volume, _ = bar_volume()
    array = np.array(volume.array)
    array[30:34, 10:16, 30:36] = 100
    volume = Volume(array, volume.ijk_to_ras)
    model = BrightModel()
    session = SegmentationSession(volume, model)
    session.add("s", at(volume, 32, 12, 32))
    mask = session.mask("s")
    assert 100 < mask.sum() < 220 and session.cache.misses == 1
    session.add("s", at(volume, 31, 11, 31))
    coords, labels, previous = model.predictor.calls[-1]
    assert len(coords) == 2 and (labels == 1).all()
    np.testing.assert_array_equal(previous, session._histories["s"].predictions[0].tiles[0].logits)  # type: ignore
    far = session.add("s", at(volume, 5, 50, 110, positive=False))
    assert any("changes nothing" in w for w in far.warnings) and session.cache.misses == 1
    session.add("s", at(volume, 32, 12, 32.5, positive=False))
    assert session.mask("s").sum() < mask.sum()


def test_clicks_and_masks_that_are_wider_than_a_region() -> None:
    volume, truth = bar_volume()
    session = SegmentationSession(volume, BrightModel())
    session.add("both ends", at(volume, 13, 30, 8), at(volume, 50, 30, 108))
    assert dice(session.mask("both ends"), truth) > 0.9
    session.add("mask", MaskPrompt(truth))
    assert dice(session.mask("mask"), truth) > 0.9
    pieces = truth.copy()
    pieces[:, :, 50:70] = False
    array = np.where(pieces, 100, 0).astype(np.int16)
    apart = SegmentationSession(Volume(array, volume.ijk_to_ras), BrightModel())
    apart.add("two pieces", MaskPrompt(pieces))
    assert dice(apart.mask("two pieces"), pieces) > 0.9, "both pieces of a given mask stay"


def test_the_same_tissue_however_the_volume_is_stored() -> None:
    volume, _ = bar_volume()
    flip = np.diag([-1.0, 1, -1, 1])
    flip[0, 3], flip[2, 3] = volume.shape[2] - 1, volume.shape[0] - 1
    flipped = Volume(volume.array[::-1, :, ::-1], volume.ijk_to_ras @ flip)
    session, other = SegmentationSession(volume, BrightModel()), SegmentationSession(flipped, BrightModel())
    prompt = at(volume, 13, 30, 12.4)
    session.add("s", prompt)
    other.add("s", prompt)
    np.testing.assert_array_equal(other.mask("s")[::-1, :, ::-1], session.mask("s"))


def test_places_lie_on_one_lattice_and_stay_in_the_volume() -> None:
    volume, _ = bar_volume()
    frame = CanonicalFrame.of(volume)
    lattice = Lattice(frame, 32, TilePolicy())
    rng = np.random.default_rng(1)
    for position in rng.uniform(0, 1, (50, 3)) * frame.extent_mm:
        place = lattice.around(position)
        region = lattice.region(place)
        grid = region.to_grid(position)
        assert ((grid > -1) & (grid < 32)).all()
        assert (region.origin > -0.75 * 3).all() and (region.origin + region.side < frame.extent_mm + 0.75 * 3).all()
        steps = (region.origin - lattice.region((0, 0, 0)).origin) / 1.5
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    end = lattice.around(frame.extent_mm)
    assert all(lattice.ends(end, axis, 1) for axis in range(3))
    assert not lattice.ends(lattice.around((0, 0, 0)), 2, 1)


def test_overlapping_regions_are_blended_and_single_ones_untouched() -> None:
    volume, _ = bar_volume()
    lattice = Lattice(CanonicalFrame.of(volume), 32, TilePolicy())
    rng = np.random.default_rng(2)
    one, two = rng.normal(size=(2, 32, 32, 32)).astype(np.float32)
    assert Canvas.of(lattice, {(0, 0, 0): one}).logits is one
    canvas = Canvas.of(lattice, {(0, 0, 0): one, (0, 0, 16): two})
    assert canvas.logits.shape == (32, 32, 48) and canvas.seen.all()
    np.testing.assert_allclose(canvas.logits[:, :, :16], one[:, :, :16], atol=1e-6)
    np.testing.assert_allclose(canvas.logits[:, :, 32:], two[:, :, 16:], atol=1e-6)
    mixed = canvas.logits[:, :, 16:32]
    assert (mixed <= np.maximum(one[:, :, 16:], two[:, :, :16]) + 1e-6).all()
    assert (mixed >= np.minimum(one[:, :, 16:], two[:, :, :16]) - 1e-6).all()
    corner = Canvas.of(lattice, {(0, 0, 0): one, (16, 16, 16): two})
    assert (corner.logits[~corner.seen] == -8).all() and (~corner.seen).any()
