# SPDX-License-Identifier: Apache-2.0
"""The session on a real CT: history, cancellation, caching, replay, and the same tissue however the volume is
stored."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slicerio
from FoundationSegLib import (
    Box,
    Cancelled,
    CancelToken,
    FoundationSegError,
    Lasso,
    MaskPrompt,
    ModelError,
    Point,
    PromptError,
    Scribble,
    SegmentationSession,
    TextPrompt,
    Volume,
)
from FoundationSegLib.prompts import rounds_from_list
from FoundationSegLib.segmentation_io import read_segmentation
from FoundationSegLib.session import PROMPTS_TAG

CT = Path(slicerio.__file__).parent / "data" / "CTChest4.nrrd"
IN_LUNG = (20, 70, 85)  # k, j, i


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume.read(CT)


@pytest.fixture
def session(volume: Volume) -> SegmentationSession:
    return SegmentationSession(volume, device="cpu")


def at(volume: Volume, *kji: float, positive: bool = True) -> Point:
    return Point(tuple(volume.kji_to_ras(np.array(kji, dtype=float))), positive)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_click_gives_a_connected_mask_at_the_click(session: SegmentationSession, volume: Volume) -> None:
    result = session.add("Right lung", at(volume, *IN_LUNG))
    mask = session.mask("Right lung")
    assert mask.shape == volume.shape and mask[IN_LUNG]
    assert result.voxels == mask.sum() > 100
    assert result.volume_ml == pytest.approx(mask.sum() * volume.voxel_volume_ml)
    assert mask[result.box].sum() == mask.sum(), "the changed box holds the whole new mask"
    assert 0 <= (result.predicted_iou or -1) <= 1
    assert {"crop", "encode", "decode", "voxels"} <= set(result.timings)


def test_changed_box_is_exactly_where_the_mask_changed(session: SegmentationSession, volume: Volume) -> None:
    session.add("s", at(volume, *IN_LUNG))
    before = session.mask("s")
    result = session.add("s", at(volume, 20, 40, 85))
    changed = np.argwhere(before != session.mask("s"))
    assert [(part.start, part.stop) for part in result.box] == list(
        zip(changed.min(0).tolist(), (changed.max(0) + 1).tolist(), strict=True)
    )


def test_undo_redo_reset_walk_the_same_masks(session: SegmentationSession, volume: Volume) -> None:
    session.add("s", at(volume, *IN_LUNG))
    first = session.mask("s")
    session.add("s", at(volume, 20, 40, 85, positive=False))
    second = session.mask("s")
    assert session.undo("s") is not None and np.array_equal(session.mask("s"), first)
    assert session.redo("s") is not None and np.array_equal(session.mask("s"), second)
    assert session.redo("s") is None
    assert session.reset("s") is not None and not session.mask("s").any()
    assert session.undo("s") is None
    session.redo("s")
    assert np.array_equal(session.mask("s"), first)
    session.add("s", at(volume, 20, 75, 85))
    assert session.redo("s") is None, "a new prompt ends what could be redone"
    assert len(session.rounds("s")) == 2


def test_second_segment_in_the_region_costs_no_encoder_run(session: SegmentationSession, volume: Volume) -> None:
    point = at(volume, *IN_LUNG)
    session.add("a", point)
    runs = session.cache.misses
    result = session.add("b", point)
    assert session.cache.misses == runs and "encode" not in result.timings
    assert np.array_equal(session.mask("a"), session.mask("b"))


def test_segments_do_not_touch_each_other(session: SegmentationSession, volume: Volume) -> None:
    session.add("a", at(volume, *IN_LUNG))
    before = session.mask("a")
    session.add("b", at(volume, 20, 70, 35))
    assert np.array_equal(session.mask("a"), before) and session.segments() == ["a", "b"]


def test_replay_is_the_same_to_the_bit(session: SegmentationSession, volume: Volume, tmp_path: Path) -> None:
    session.add("s", at(volume, *IN_LUNG))
    session.add("s", at(volume, 20, 40, 85), at(volume, 20, 64, 64, positive=False))
    record = read_segmentation(session.save(tmp_path / "out.seg.nrrd")).records[0]
    again = SegmentationSession(volume, device="cpu")
    again.replay("s", rounds_from_list(json.loads(record.tags[PROMPTS_TAG])))
    assert np.array_equal(again.mask("s"), record.mask) and record.mask.any()


def test_provenance_names_the_model_and_no_one_else(session: SegmentationSession, volume: Volume) -> None:
    session.add("s", at(volume, *IN_LUNG))
    provenance = session.provenance("s")
    assert provenance["model"] == "compact" and len(provenance["sha256"]) == 64
    assert provenance["volume"] == volume.fingerprint and provenance["device"] == "cpu"
    assert str(CT.parent) not in json.dumps(provenance) and CT.stem not in json.dumps(provenance)


def test_every_kind_of_prompt_gives_a_mask(volume: Volume) -> None:
    def ras(*kji: float) -> tuple[float, float, float]:
        return tuple(volume.kji_to_ras(np.array(kji, dtype=float)))

    corners = np.array([ras(12, 35, 68), ras(30, 95, 112)])
    seed = np.zeros(volume.shape, bool)
    seed[16:24, 55:85, 75:95] = True
    prompts = {
        "box": Box(tuple(corners.min(0)), tuple(corners.max(0))),
        "scribble": Scribble((ras(20, 50, 85), ras(20, 70, 90), ras(20, 85, 88))),
        "lasso": Lasso((ras(20, 45, 75), ras(20, 45, 100), ras(20, 85, 100), ras(20, 85, 75))),
        "mask": MaskPrompt(seed),
    }
    session = SegmentationSession(volume, device="cpu")
    for name, prompt in prompts.items():
        assert session.add(name, prompt).voxels > 0, name


def test_negative_box_is_left_empty(session: SegmentationSession, volume: Volume) -> None:
    session.add("s", at(volume, *IN_LUNG))
    corners = volume.kji_to_ras(np.array([[17.6, 64.6, 79.6], [22.4, 75.4, 90.4]]))
    session.add("s", Box(tuple(corners.min(0)), tuple(corners.max(0)), positive=False))
    assert not session.mask("s")[18:23, 65:76, 80:91].any()


def test_uncertainty_is_a_share_and_high_where_the_mask_ends(session: SegmentationSession, volume: Volume) -> None:
    result = session.add("s", at(volume, *IN_LUNG))
    doubt = session.uncertainty("s")
    mask = session.mask("s")[result.region_box]
    assert doubt.shape == mask.shape and doubt.min() >= 0 and doubt.max() <= 1
    edge = mask & ~np.roll(mask, 1, axis=2)
    assert doubt[edge].mean() > doubt.mean()


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "No prompt"),
        ([Point((0, 0, 5000))], "outside of the volume"),
        ([Point((20.0, -10.0, -150.0), positive=False)], "negative"),
        ([Point((20.0, -10.0, -150.0)), Point((20.0, -10.0, -150.0), positive=False)], "positive and negative"),
        ([Box((4000, 4000, 4000), (4001, 4001, 4001))], "outside of the volume"),
        ([TextPrompt("liver")], "does not know names"),
        ([MaskPrompt(np.ones((2, 2, 2), bool))], "voxels"),
    ],
)
def test_prompts_that_cannot_be_used_change_nothing(
    session: SegmentationSession, volume: Volume, prompts: list, message: str
) -> None:
    inside = [
        replace(p, ras=at(volume, *IN_LUNG).ras) if isinstance(p, Point) and p.ras[2] < 1000 else p for p in prompts
    ]
    with pytest.raises(PromptError, match=message):
        session.add("s", *inside)
    assert session.segments() == []


def test_failed_prompt_leaves_the_segment(session: SegmentationSession, volume: Volume) -> None:
    session.add("s", at(volume, *IN_LUNG))
    before = session.mask("s")
    with pytest.raises(PromptError):
        session.add("s", Point((0, 0, 9000)))
    assert np.array_equal(session.mask("s"), before) and len(session.rounds("s")) == 1


def test_a_point_given_twice_counts_once_and_is_reported(session: SegmentationSession, volume: Volume) -> None:
    point = at(volume, *IN_LUNG)
    result = session.add("twice", point, point)
    session.add("once", point)
    assert any("twice" in warning for warning in result.warnings)
    assert np.array_equal(session.mask("twice"), session.mask("once"))


def test_cancel_before_and_in_between_leaves_the_segment(session: SegmentationSession, volume: Volume) -> None:
    session.add("s", at(volume, *IN_LUNG))
    before = session.mask("s")
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        session.add("s", at(volume, 20, 40, 85), cancel=token)
    token = CancelToken()
    stages: list[str] = []

    def cancel_at_third_stage(stage: str, fraction: float) -> None:
        assert 0 <= fraction <= 1
        stages.append(stage)
        if len(stages) == 3:
            threading.Thread(target=token.cancel).start()
            while not token.cancelled:
                pass

    with pytest.raises(Cancelled):
        session.add("new", at(volume, 10, 70, 35), cancel=token, progress=cancel_at_third_stage)
    assert len(stages) == 3
    assert np.array_equal(session.mask("s"), before) and session.segments() == ["s"]


def test_unknown_names_are_answered(volume: Volume, session: SegmentationSession) -> None:
    with pytest.raises(ModelError, match="compact"):
        SegmentationSession(volume, model="nonsense")
    with pytest.raises(ModelError, match="device"):
        SegmentationSession(volume, device="quantum")
    with pytest.raises(FoundationSegError, match="no segment"):
        session.mask("nothing")


# --- the same tissue, presented otherwise ---------------------------------------------------------------------------

CLICKS = ((20, 70, 85, True), (20, 40, 85, True), (20, 64, 60, False))


def segmented(volume: Volume, to_ras: np.ndarray, source: Volume) -> np.ndarray:
    """Mask (k, j, i) of `volume` from clicks on `source`, whose tissue `to_ras` moves to where `volume` has it."""
    session = SegmentationSession(volume, device="cpu")
    for *kji, positive in CLICKS:
        ras = to_ras @ np.append(source.kji_to_ras(np.array(kji, dtype=float)), 1)
        session.add("s", Point(tuple(ras[:3]), positive))
    return session.mask("s")


@pytest.fixture(scope="module")
def reference(volume: Volume) -> np.ndarray:
    mask = segmented(volume, np.eye(4), volume)
    assert mask.sum() > 500
    return mask


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(4)
        a, b = [x for x in range(3) if x != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


@pytest.mark.parametrize("degrees", [(11, -17, 23), (0, 0, 31), (40, 10, -5)])
def test_oblique_header_gives_the_same_voxels(
    volume: Volume, reference: np.ndarray, degrees: tuple[float, float, float]
) -> None:
    turn = rotation(degrees)
    turn[:3, 3] = (100, -250, 31.7)
    mask = segmented(Volume(volume.array, turn @ volume.ijk_to_ras), turn, volume)
    assert np.array_equal(mask, reference)


@pytest.mark.parametrize("flips", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_flipped_storage_gives_the_same_voxels(volume: Volume, reference: np.ndarray, flips: tuple[int, ...]) -> None:
    matrix = volume.ijk_to_ras.copy()
    for axis in flips:  # array axis k, j, i is column 2, 1, 0
        column = 2 - axis
        matrix[:3, 3] = matrix[:3, 3] + matrix[:3, column] * (volume.shape[axis] - 1)
        matrix[:3, column] = -matrix[:3, column]
    mask = segmented(Volume(np.flip(volume.array, flips), matrix), np.eye(4), volume)
    assert np.array_equal(np.flip(mask, flips), reference)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_permuted_storage_gives_the_same_voxels(
    volume: Volume, reference: np.ndarray, order: tuple[int, int, int]
) -> None:
    matrix = volume.ijk_to_ras.copy()
    matrix[:3, :3] = volume.ijk_to_ras[:3, :3][:, ::-1][:, list(order)][:, ::-1]
    mask = segmented(Volume(volume.array.transpose(order), matrix), np.eye(4), volume)
    assert np.array_equal(mask.transpose(np.argsort(order)), reference)


def test_sheared_volume_gives_the_same_voxels(volume: Volume, reference: np.ndarray) -> None:
    shear = np.eye(4)
    shear[1, 2] = 0.3  # gantry tilt: A moves with S
    mask = segmented(Volume(volume.array, shear @ volume.ijk_to_ras), shear, volume)
    assert np.array_equal(mask, reference)


def test_other_units_of_intensity_give_nearly_the_same(volume: Volume, reference: np.ndarray) -> None:
    mask = segmented(Volume(volume.array.astype(np.float32) * 0.01 + 7, volume.ijk_to_ras), np.eye(4), volume)
    assert dice(mask, reference) > 0.98
