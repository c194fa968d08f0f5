# SPDX-License-Identifier: Apache-2.0
"""UniverSeg behind the session. Its weights here are made by hand (it takes what is bright), so that masks can be
foreseen; they prove the wiring and the geometry, and say nothing of what trained weights do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the families need the extra `torch`")

from FoundationSegLib import (  # noqa: E402
    Box,
    Cancelled,
    CancelToken,
    LabelledSlice,
    MaskPrompt,
    ModelError,
    Point,
    PromptError,
    SegmentationSession,
    TextPrompt,
    Volume,
    families,
)
from FoundationSegLib.families.universeg.network import UniverSeg  # noqa: E402
from FoundationSegLib.families.universeg.segmenter import UniverSegModel  # noqa: E402
from FoundationSegLib.prompts import rounds_from_list, rounds_to_list  # noqa: E402
from universeg_case import HANDMADE, bright_network, card_for, example, oblique_volume, saved  # noqa: E402

VOLUME, TRUTH = oblique_volume()
FIRST, LAST = 5, 11  # slices across k that show the ellipsoid


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> UniverSegModel:
    path = saved(bright_network(), tmp_path_factory.mktemp("weights") / "bright.safetensors")
    return families.load(card_for(HANDMADE), path, "cpu")


@pytest.fixture
def session(model: UniverSegModel) -> SegmentationSession:
    return SegmentationSession(VOLUME, model)


def test_truth_is_where_the_tests_think() -> None:
    assert np.flatnonzero(TRUTH.any(axis=(1, 2))).tolist() == list(range(FIRST, LAST + 1))


@pytest.mark.parametrize(("axis", "index"), [("k", 8), ("j", 18), ("i", 13)])
def test_one_example_finds_the_structure_on_all_slices(session: SegmentationSession, axis: str, index: int) -> None:
    result = session.add("s", example(TRUTH, axis, index))
    assert np.array_equal(session.mask("s"), TRUTH)
    assert result.voxels == session.mask("s").sum() == session.mask("s")[result.box].sum()
    assert result.predicted_iou is None and {"examples", "slices", "voxels"} <= set(result.timings)


def test_labelled_slices_keep_their_label_and_correcting_one_replaces_it(session: SegmentationSession) -> None:
    session.add("s", example(TRUTH, "k", 8))
    assert np.array_equal(session.mask("s")[8], TRUTH[8])
    corrected = TRUTH[9].copy()
    corrected[:, :12] = False
    before = session.mask("s")
    result = session.add("s", LabelledSlice("k", 9, corrected))
    assert np.array_equal(session.mask("s")[9], corrected) and np.array_equal(session.mask("s")[8], TRUTH[8])
    assert result.box[0] == slice(9, 10), "only the corrected slice changed, as this network ignores its examples"
    assert session.undo("s") is not None and np.array_equal(session.mask("s"), before)
    assert session.redo("s") is not None and np.array_equal(session.mask("s")[9], corrected)
    session.add("s", example(TRUTH, "k", 9))
    assert np.array_equal(session.mask("s")[9], TRUTH[9]), "the later label of a slice counts"


def test_search_ends_after_empty_slices_and_at_an_empty_example(session: SegmentationSession) -> None:
    result = session.add("s", example(TRUTH, "k", 8))
    assert result.region_box[0] == slice(FIRST - 3, LAST + 4)
    nothing = LabelledSlice("k", 10, np.zeros(TRUTH.shape[1:], bool))
    result = session.add("s", nothing)
    assert result.region_box[0] == slice(FIRST - 3, 11) and not session.mask("s")[10:].any()
    assert session.mask("s")[9].any()


def test_a_box_says_where_to_look(session: SegmentationSession) -> None:
    corners = VOLUME.kji_to_ras(np.array([[6.6, 9.6, 5.6], [9.4, 20.4, 14.4]]))
    axes = VOLUME.ijk_to_ras[:3, :3] / np.array(VOLUME.spacing_mm)
    along = corners @ axes
    box = Box(tuple(along.min(0)), tuple(along.max(0)), tuple(map(tuple, axes.T)))
    result = session.add("s", example(TRUTH, "k", 8), box)
    assert result.region_box == (slice(7, 10), slice(10, 21), slice(6, 15))
    mask = session.mask("s")
    assert not mask[:7].any() and not mask[10:].any()
    assert (
        not mask[7, :10].any()
        and not mask[7, 21:].any()
        and np.array_equal(mask[7, 10:21, 6:15], TRUTH[7, 10:21, 6:15])
    )


def test_a_negative_box_stays_empty(session: SegmentationSession) -> None:
    corners = VOLUME.kji_to_ras(np.array([[6.6, 9.6, 5.6], [9.4, 20.4, 14.4]]))
    axes = VOLUME.ijk_to_ras[:3, :3] / np.array(VOLUME.spacing_mm)
    along = corners @ axes
    box = Box(tuple(along.min(0)), tuple(along.max(0)), tuple(map(tuple, axes.T)), positive=False)
    session.add("s", example(TRUTH, "k", 8), box)
    mask = session.mask("s")
    assert not mask[7:10, 10:21, 6:15].any() and mask[7, 22:].any()


def test_what_no_label_reaches_is_left_out(model: UniverSegModel) -> None:
    array = VOLUME.array.copy()
    array[4:12, 36:39, 26:29] = 400
    session = SegmentationSession(Volume(array, VOLUME.ijk_to_ras), model)
    session.add("s", example(TRUTH, "k", 8))
    assert not session.mask("s")[:, 36:, 26:].any() and np.array_equal(session.mask("s"), TRUTH)


def test_replay_from_json_is_the_same_to_the_bit(session: SegmentationSession, model: UniverSegModel) -> None:
    session.add("s", example(TRUTH, "k", 8), example(TRUTH, "k", 6))
    session.add("s", LabelledSlice("k", 9, TRUTH[8]))
    stored = json.loads(json.dumps(rounds_to_list(session.rounds("s"))))
    again = SegmentationSession(VOLUME, model)
    again.replay("s", rounds_from_list(stored))
    assert np.array_equal(again.mask("s"), session.mask("s")) and again.mask("s").any()
    assert again.provenance("s")["model"] == "universeg" and "torch" in again.provenance("s")["versions"]


@pytest.mark.parametrize("flips", [(0,), (1,), (2,), (0, 1, 2)])
def test_flipped_storage_gives_the_same_voxels(model: UniverSegModel, flips: tuple[int, ...]) -> None:
    reference = SegmentationSession(VOLUME, model)
    reference.add("s", example(TRUTH, "k", 8))
    matrix = VOLUME.ijk_to_ras.copy()
    for axis in flips:
        column = 2 - axis
        matrix[:3, 3] = matrix[:3, 3] + matrix[:3, column] * (VOLUME.shape[axis] - 1)
        matrix[:3, column] = -matrix[:3, column]
    session = SegmentationSession(Volume(np.flip(VOLUME.array, flips), matrix), model)
    session.add("s", example(np.flip(TRUTH, flips), "k", TRUTH.shape[0] - 1 - 8 if 0 in flips else 8))
    assert np.array_equal(np.flip(session.mask("s"), flips), reference.mask("s"))


def test_permuted_storage_gives_the_same_voxels(model: UniverSegModel) -> None:
    reference = SegmentationSession(VOLUME, model)
    reference.add("s", example(TRUTH, "k", 8))
    order = (2, 0, 1)
    matrix = VOLUME.ijk_to_ras.copy()
    matrix[:3, :3] = VOLUME.ijk_to_ras[:3, :3][:, ::-1][:, list(order)][:, ::-1]
    session = SegmentationSession(Volume(VOLUME.array.transpose(order), matrix), model)
    session.add("s", example(TRUTH.transpose(order), "j", 8))
    assert np.array_equal(session.mask("s").transpose(np.argsort(order)), reference.mask("s"))


def test_uncertainty_has_the_shape_of_the_region_and_is_none_on_labels(session: SegmentationSession) -> None:
    result = session.add("s", example(TRUTH, "k", 8))
    doubt = session.uncertainty("s")
    assert doubt.shape == session.mask("s")[result.region_box].shape
    assert doubt.dtype == np.float32 and doubt.min() >= 0 and doubt.max() <= 1
    labelled, others = doubt[8 - (FIRST - 3)], np.delete(doubt, 8 - (FIRST - 3), axis=0)
    assert labelled.max() < 1e-6 and others.min() == pytest.approx(1 - np.tanh(2.5), abs=1e-4), "logits are -5 and 5"


def test_cancel_between_slices_leaves_the_segment(session: SegmentationSession) -> None:
    session.add("s", example(TRUTH, "k", 8))
    before = session.mask("s")
    token, told = CancelToken(), []

    def progress(stage: str, fraction: float) -> None:
        assert 0 <= fraction <= 1
        told.append(stage)
        if len(told) == 4:
            token.cancel()

    with pytest.raises(Cancelled):
        session.add("s", LabelledSlice("k", 9, TRUTH[8]), cancel=token, progress=progress)
    assert told == ["examples", "slices", "slices", "slices"]
    assert np.array_equal(session.mask("s"), before) and len(session.rounds("s")) == 1


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([Point((0, 0, 0))], "no clicks"),
        ([example(TRUTH, "k", 8), Point((0, 0, 0))], "no clicks"),
        ([TextPrompt("liver")], "labelled slices"),
        ([MaskPrompt(TRUTH)], "labelled slices"),
        ([LabelledSlice("k", 8, np.zeros(TRUTH.shape[1:], bool))], "needs an example"),
        ([Box((-60, 20, 100), (60, 60, 160))], "needs an example"),
        ([example(TRUTH, "k", 8), example(TRUTH, "j", 18)], "axes j and k"),
        ([LabelledSlice("k", 16, TRUTH[8])], "has 16 slices"),
        ([LabelledSlice("j", 8, TRUTH[8])], "has (40, 30) pixels"),
    ],
)
def test_prompts_that_cannot_be_used_are_answered(session: SegmentationSession, prompts: list, message: str) -> None:
    with pytest.raises(PromptError, match=r"\.$") as caught:
        session.add("s", *prompts)
    assert message in str(caught.value) and session.segments() == []


def test_a_constant_slice_and_a_thin_label_do_no_harm(session: SegmentationSession) -> None:
    thin = np.zeros(TRUTH.shape[1:], bool)
    thin[18, 13] = True
    session.add("s", LabelledSlice("k", 1, thin))
    assert session.mask("s")[1].sum() == 1 and np.isfinite(session.uncertainty("s")).all()


def test_random_weights_run_and_examples_matter(tmp_path: Path) -> None:
    """Wiring only: other examples give other answers, the same ones the same."""
    torch.manual_seed(3)
    path = saved(UniverSeg([4, 4, 4, 4]), tmp_path / "random.safetensors")
    model = families.load(card_for([4, 4, 4, 4]), path, "cpu")
    answers = []
    for mask in (TRUTH[8], TRUTH[8], ~TRUTH[8]):
        prediction = model.segmenter(VOLUME, None).predict(((LabelledSlice("k", 8, mask),),), None)
        answers.append(prediction.logits[7 - prediction.first])
    assert np.array_equal(answers[0], answers[1]) and not np.array_equal(answers[0], answers[2])


def test_weights_of_other_sizes_are_known_by_name_and_shape() -> None:
    expected = families.expected_tensors(card_for([8, 8, 12, 8]))
    assert expected["dec_blocks.0.cross.cross_conv.weight"] == (12, 40, 3, 3) and len(expected) == 44
    with pytest.raises(ModelError, match="widths"):
        families.expected_tensors(card_for("wide"))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="device"):
        families.load(card_for(HANDMADE), Path("unused"), "quantum")
