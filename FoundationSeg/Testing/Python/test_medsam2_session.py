# SPDX-License-Identifier: Apache-2.0
"""MedSAM2 behind the session, on an oblique volume of thick slices, with a small network of drawn weights.

Drawn weights segment nothing that means anything: these tests are about wiring (which slices, which pixels, what is
remembered, cached, undone and cancelled), not about the quality of masks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from FoundationSegLib import (  # noqa: E402
    Box,
    Cancelled,
    CancelToken,
    MaskPrompt,
    Point,
    PromptError,
    SegmentationSession,
    TextPrompt,
    Volume,
)
from FoundationSegLib.cues import cues_of  # noqa: E402
from FoundationSegLib.families import medsam2  # noqa: E402
from FoundationSegLib.families.medsam2.frames import GreyScale, Stack  # noqa: E402
from FoundationSegLib.families.medsam2.prompting import choose_axis, slice_prompts  # noqa: E402
from FoundationSegLib.region import CanonicalFrame  # noqa: E402
from medsam2_case import card, checkpoint  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

SHAPE = (9, 40, 48)
SPACING = np.array([0.8, 1.1, 4.0])  # i, j, k


def oblique(shape: tuple[int, int, int] = SHAPE, modality: str | None = "CT") -> Volume:
    """Thick slices, turned by 20 degrees about R, columns of the matrix along L, P and S."""
    angle = np.deg2rad(20)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([-1, -1, 1]) @ np.diag(SPACING)
    matrix[:3, 3] = (15, 20, -30)
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    ball = ((k - 4) * 4) ** 2 + ((j - 20) * 1.1) ** 2 + ((i - 24) * 0.8) ** 2 < 100
    noise = np.random.default_rng(1).normal(0, 10, shape)
    return Volume(np.where(ball, 80, -1000 + noise).astype(np.int16), matrix, modality, "volume")


@pytest.fixture(scope="module")
def volume() -> Volume:
    return oblique()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(checkpoint(), path)
    return medsam2.load(card(), path, "cpu")


@pytest.fixture
def session(volume: Volume, model: Any) -> SegmentationSession:
    return SegmentationSession(volume, model)


def at(volume: Volume, *kji: float, positive: bool = True) -> Point:
    return Point(tuple(volume.kji_to_ras(np.array(kji, dtype=float))), positive)


def box(volume: Volume, low: tuple[float, ...], high: tuple[float, ...], positive: bool = True) -> Box:
    """The box of whole voxels from `low` to `high` (k, j, i), both included, along the volume's own axes."""
    axes = (volume.ijk_to_ras[:3, :3] / SPACING).T
    ends = volume.kji_to_ras(np.array([np.array(low) - 0.5, np.array(high) + 0.5])) @ axes.T
    return Box(tuple(ends.min(0)), tuple(ends.max(0)), tuple(tuple(row) for row in axes.tolist()), positive)


BALL = ((2, 11, 12), (6, 29, 36))


def test_box_keeps_to_its_slices_and_undo_redo_replay_agree(session: SegmentationSession, volume: Volume) -> None:
    result = session.add("ball", box(volume, *BALL))
    first = session.mask("ball")
    assert 0 < result.voxels == first.sum()
    assert (result.region_box[0].start, result.region_box[0].stop) == (2, 7), "the box's depth limits the passes"
    assert not first[:2].any() and not first[7:].any()
    assert 0 <= (result.predicted_iou or -1) <= 1
    assert {"encode", "prompt", "track", "voxels"} <= set(result.timings)
    encoded = session.cache.misses
    assert encoded == 5
    session.add("ball", at(volume, 5, 20, 20, positive=False))
    second = session.mask("ball")
    assert session.cache.misses == encoded, "a correction encodes no slice again"
    assert (first != second).any()
    session.undo("ball")
    assert (session.mask("ball") == first).all()
    session.redo("ball")
    assert (session.mask("ball") == second).all()
    rounds = session.rounds("ball")
    session.replay("again", rounds)
    assert (session.mask("again") == second).all()
    uncertainty = session.uncertainty("ball")
    assert uncertainty.shape == tuple(part.stop - part.start for part in result.region_box)
    assert uncertainty.min() >= 0 and uncertainty.max() <= 1 and uncertainty.std() > 0


def test_flat_box_is_followed_to_the_ends(session: SegmentationSession, volume: Volume) -> None:
    result = session.add("s", box(volume, (4, 11, 12), (4, 29, 36)))
    reached = result.region_box[0]
    assert reached.start < 2 and reached.stop > 7, "one slice starts it, depth does not limit it"


def test_corrections_become_memories(session: SegmentationSession, volume: Volume) -> None:
    session.add("s", box(volume, *BALL))
    session.add("s", at(volume, 6, 20, 24))
    session.add("s", at(volume, 6, 22, 26, positive=False), at(volume, 4, 20, 24))
    prediction = session._histories["s"].current
    assert sorted(prediction.memories) == [4, 6]
    assert prediction.starts == {4}
    assert sorted(prediction.logits) == [2, 3, 4, 5, 6]


def test_same_tissue_however_the_volume_is_stored(volume: Volume, model: Any) -> None:
    """Flipped and permuted arrays hold the same tissue, so the network sees the same pictures."""
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, SHAPE[2] - 1
    flipped = Volume(volume.array[:, :, ::-1].copy(), volume.ijk_to_ras @ flip, "CT", "volume")
    swap = np.eye(4)[[2, 1, 0, 3]]
    permuted = Volume(volume.array.transpose(2, 1, 0).copy(), volume.ijk_to_ras @ swap, "CT", "volume")
    prompts = (box(volume, *BALL), at(volume, 3, 20, 24))
    masks = []
    for stored in (volume, flipped, permuted):
        session = SegmentationSession(stored, model)
        session.add("s", *prompts)
        masks.append(session.mask("s"))
    assert masks[0].any()
    assert (masks[1][:, :, ::-1] == masks[0]).mean() >= 0.9999
    assert (masks[2].transpose(2, 1, 0) == masks[0]).mean() >= 0.9999


def test_cancelling_keeps_the_segment_and_progress_grows(session: SegmentationSession, volume: Volume) -> None:
    session.add("s", box(volume, *BALL))
    before = session.mask("s")
    token, seen = CancelToken(), []

    def progress(stage: str, share: float) -> None:
        seen.append(share)
        if stage == "track" and len(seen) > 4:
            token.cancel()

    with pytest.raises(Cancelled):
        session.add("s", at(volume, 3, 20, 24), cancel=token, progress=progress)
    assert (session.mask("s") == before).all()
    assert seen == sorted(seen) and len(session.rounds("s")) == 1


def test_mask_prompt_starts_anew_and_exclusions_hold(session: SegmentationSession, volume: Volume) -> None:
    given = np.zeros(SHAPE, bool)
    given[4, 12:28, 14:34] = True
    session.add("s", box(volume, *BALL))
    session.add("s", MaskPrompt(given), at(volume, 4, 20, 24))
    prediction = session._histories["s"].current
    assert set(prediction.memories) == {4} and prediction.axis == 0
    session.add("s", box(volume, (0, 0, 0), (8, 39, 23), positive=False))
    mask = session.mask("s")
    assert mask.any() and not mask[:, :, :24].any()


def test_prompts_that_cannot_be_used(session: SegmentationSession, volume: Volume) -> None:
    with pytest.raises(PromptError, match="negative"):
        session.add("s", at(volume, 4, 20, 24, positive=False))
    with pytest.raises(PromptError, match="names of structures"):
        session.add("s", TextPrompt("liver"))
    assert session.segments() == []


def test_plane_is_that_of_the_prompts() -> None:
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    volume = Volume(np.arange(20**3, dtype=np.int16).reshape(20, 20, 20), matrix, "MR", "volume")
    frame = CanonicalFrame.of(volume)

    def axis(*points: tuple[int, int, int]) -> int:
        return choose_axis(cues_of([at(volume, *point) for point in points], volume, frame), (), frame)

    assert axis((3, 4, 5)) == 0, "a lone click says nothing: axial"
    assert axis((3, 4, 5), (9, 4, 12)) == 1
    assert axis((3, 4, 5), (9, 10, 5)) == 2
    assert axis((3, 4, 5), (9, 10, 11)) == 0
    sagittal = Volume(volume.array, matrix @ np.diag([4, 1, 1, 1]), "MR", "volume")
    frame = CanonicalFrame.of(sagittal)
    assert choose_axis(cues_of([at(sagittal, 3, 4, 5)], sagittal, frame), (), frame) == 2, "as it was acquired"


def test_prompts_land_on_the_right_pixels(volume: Volume) -> None:
    frame = CanonicalFrame.of(volume)
    stack = Stack(volume, frame, 0)
    assert stack.count == 9 and stack.size == (40, 48)
    np.testing.assert_array_equal(stack.image(4), volume.array[4])  # stored as displayed: L, P, S
    cues = cues_of([box(volume, *BALL), at(volume, 3, 10, 30)], volume, frame)
    prompts = slice_prompts(cues, (), stack, 96)
    assert sorted(prompts.by_slice) == [3, 4] and (prompts.first, prompts.stop) == (2, 7)
    scale = np.array([96 / 48, 96 / 40])
    np.testing.assert_allclose(prompts.by_slice[4].coords, np.array([[12, 11], [36, 29]]) * scale, atol=1e-3)
    assert prompts.by_slice[4].labels.tolist() == [2, 3]
    np.testing.assert_allclose(prompts.by_slice[3].coords, np.array([[30, 10]]) * scale, atol=1e-3)


def test_grey_values_and_pixels_as_in_the_original(volume: Volume) -> None:
    """The original's steps, written out: window, least and greatest value of the volume, RGB, resize, mean and std."""
    from PIL import Image

    array = volume.array.astype(np.float64)
    clipped = np.clip(array, 40 - 200, 40 + 200)
    grey = np.uint8((clipped - clipped.min()) / (clipped.max() - clipped.min()) * 255.0)
    picture = Image.fromarray(grey[4]).convert("RGB").resize((64, 64))
    pixels = np.array(picture).transpose(2, 0, 1) / 255.0
    pixels -= np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
    pixels /= np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
    stack = Stack(volume, CanonicalFrame.of(volume), 0)
    scale = GreyScale.of(volume, (40.0, 400.0))
    np.testing.assert_array_equal(scale.grey(volume.array), grey)
    np.testing.assert_array_equal(stack.input(4, scale, 64), pixels.astype(np.float32))


def test_without_ct_percentiles_take_the_place_of_the_window() -> None:
    array = np.zeros((4, 30, 30), np.float32)
    array[:, 5:25, 5:25] = np.linspace(1, 1000, 1600).reshape(4, 20, 20)
    scale = GreyScale.of(Volume(array, np.eye(4), "MR", "volume"), None)
    low, high = np.percentile(array[array > 0], (0.5, 99.5))
    assert (scale.low, scale.high) == pytest.approx((low, high))
    grey = scale.grey(array)
    assert grey[0, 0, 0] == 0 and grey.max() == 255 and np.median(grey[:, 5:25, 5:25]) == pytest.approx(127, abs=3)


def test_dark_boxes_are_seen_in_a_wider_window(volume: Volume, model: Any) -> None:
    session = SegmentationSession(volume, model)
    session.add("air", box(volume, (2, 1, 1), (4, 8, 8)))
    assert session._histories["air"].current.scale == GreyScale.of(volume, (-600.0, 1500.0))
    session.add("ball", box(volume, *BALL))
    assert session._histories["ball"].current.scale == GreyScale.of(volume, (40.0, 400.0))


def test_provenance_and_file(session: SegmentationSession, volume: Volume, tmp_path: Path) -> None:
    session.add("s", box(volume, *BALL))
    provenance = session.provenance("s")
    assert provenance["model"] == "medsam2-small" and provenance["precision"] == "float32"
    assert {"torch", "transformers"} <= set(provenance["versions"])
    assert session.save(tmp_path / "out.seg.nrrd").exists()
