# SPDX-License-Identifier: Apache-2.0
"""Slice-wise models on volumes: where masks spread and stop, corrections, and any way of storing a volume."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from bright_slices import BoxSlices, BrightSlices
from FoundationSegLib import (
    Box,
    Cancelled,
    CancelToken,
    Lasso,
    MaskPrompt,
    Point,
    PromptError,
    Scribble,
    SegmentationSession,
    Volume,
)
from FoundationSegLib.predictor import Embedding
from FoundationSegLib.prompts import rounds_from_list, rounds_to_list
from FoundationSegLib.region import CanonicalFrame
from FoundationSegLib.slicewise.judge import SpreadPolicy, Tissue, Verdict, between, judge, overlap
from FoundationSegLib.slicewise.layout import lay_out
from FoundationSegLib.slicewise.plane import SlicePlane
from FoundationSegLib.slicewise.protocol import SliceDecoded, SliceGeometry, SlicePrompts
from FoundationSegLib.slicewise.segmenter import SliceModel, SlicePolicy, SlicePrediction
from FoundationSegLib.slicewise.solid import joined
from FoundationSegLib.slicewise.spread import SliceState
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

SHAPE = (30, 44, 40)  # k, j, i
SPACING = (1.0, 1.25, 3.0)  # i, j, k


def oblique() -> np.ndarray:
    """Axes turned out of the patient's by 10 and 15 degrees, so that k still runs mostly to S."""
    a, b = np.radians([10, 15])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ tilt @ np.diag(SPACING)
    matrix[:3, 3] = (-31.0, 12.0, 140.0)
    return matrix


def phantom(*bodies: tuple[np.ndarray, float]) -> Volume:
    """Bodies with their grey values on a background of 20, a little noise on top."""
    values = np.full(SHAPE, 20.0) + np.random.default_rng(1).normal(0, 2, SHAPE)
    for mask, value in bodies:
        values[mask] += value - 20
    return Volume(np.clip(values, 0, 254).astype(np.uint8), oblique(), "MR", "phantom")


K, J, I = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]  # noqa: E741 - the array axes


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    return sum(((x - c) / r) ** 2 for x, c, r in zip((K, J, I), centre, radii, strict=True)) <= 1


BALL = ellipsoid((14, 20, 18), (8, 11, 10))
TUBE = (np.hypot(J - 20, I - 18) < 7) & (K >= 3) & (K < 27)


def at(volume: Volume, *kji: float, positive: bool = True) -> Point:
    return Point(tuple(volume.kji_to_ras(np.array(kji, float)).tolist()), positive)


def box_of(volume: Volume, low: tuple[float, ...], high: tuple[float, ...]) -> Box:
    """An oriented box along the array's axes, around voxels low to high."""
    axes = (volume.ijk_to_ras[:3, :3] / volume.spacing_mm).T
    corners = volume.kji_to_ras(np.array([low, high], float)) @ axes.T
    return Box(tuple(corners.min(0)), tuple(corners.max(0)), axes=tuple(map(tuple, axes.tolist())))


def session_on(volume: Volume, model: BrightSlices | None = None, **policy: object) -> SegmentationSession:
    return SegmentationSession(volume, SliceModel(model or BrightSlices(), SlicePolicy(**policy)))


def state_of(session: SegmentationSession, name: str = "s") -> SlicePrediction:
    prediction = session._histories[name].current
    assert isinstance(prediction, SlicePrediction)
    return prediction


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return overlap(a, b)


def test_one_click_finds_the_whole_body_and_nothing_beyond() -> None:
    other = ellipsoid((14, 38, 34), (5, 4, 4))
    volume = phantom((BALL, 160), (other, 160))
    session = session_on(volume)
    result = session.add("s", at(volume, 14, 20, 18))
    mask = session.mask("s")
    assert dice(mask, BALL) > 0.97 and not (mask & other).any()
    assert mask[result.box].sum() == mask.sum() == result.voxels
    assert result.predicted_iou == pytest.approx(0.9)
    assert {"slice", "encode", "decode", "voxels"} <= set(result.timings)
    assert state_of(session).plane.name == "axial"
    region = session.uncertainty("s")
    assert region.shape == tuple(part.stop - part.start for part in result.region_box)
    assert mask[result.region_box].sum() == mask.sum(), "all of the mask was looked at"
    inside = mask[result.region_box]
    assert (region[inside] < 0.1).all(), "logits of 4 are certain"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_the_same_tissue_however_the_volume_is_stored(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    volume = phantom((BALL, 160))
    prompts = (at(volume, 14, 20, 18), at(volume, 12, 30, 30, positive=False))
    straight = session_on(volume)
    straight.add("s", *prompts)

    array, matrix = volume.array, volume.ijk_to_ras.copy()
    for axis in flips:
        array = np.flip(array, axis)
        column = 2 - axis
        matrix[:3, 3] += matrix[:3, column] * (array.shape[axis] - 1)
        matrix[:3, column] *= -1
    array = array.transpose(order)
    columns = [2 - order[2 - c] for c in range(3)]
    matrix[:3, :3] = matrix[:3, columns]
    stored = session_on(Volume(np.ascontiguousarray(array), matrix, "MR", "phantom"))
    stored.add("s", *prompts)
    back = stored.mask("s").transpose(np.argsort(order))
    np.testing.assert_array_equal(np.flip(back, flips), straight.mask("s"))


@pytest.mark.parametrize(
    ("fixed", "name"), [("i", "sagittal"), ("j", "coronal"), ("k", "axial")], ids=["sagittal", "coronal", "axial"]
)
@pytest.mark.parametrize("kind", [Scribble, Lasso])
def test_strokes_choose_the_orientation_in_which_they_lie(kind: type, fixed: str, name: str) -> None:
    volume = phantom((BALL, 160))
    centre = np.array([14.0, 20.0, 18.0])
    around = [np.cos(np.linspace(0, 5.5, 12)), np.sin(np.linspace(0, 5.5, 12)), np.zeros(12)]
    axis = "kji".index(fixed)
    reach = np.array([5.0, 7.0, 7.0])
    offsets = np.stack([around[(a - axis - 1) % 3] for a in range(3)], axis=1) * reach
    stroke = kind(tuple(map(tuple, volume.kji_to_ras(centre + offsets).tolist())))
    session = session_on(volume)
    session.add("s", stroke)
    assert state_of(session).plane.name == name
    # A lasso is drawn inside of the body here, and a box keeps to what it encloses on its slice.
    assert dice(session.mask("s"), BALL) > (0.97 if kind is Scribble else 0.7)


def test_the_orientation_can_be_asked_for() -> None:
    volume = phantom((BALL, 160))
    session = session_on(volume, orientation="coronal")
    session.add("s", at(volume, 14, 20, 18))
    assert state_of(session).plane.name == "coronal" and dice(session.mask("s"), BALL) > 0.95
    with pytest.raises(PromptError, match="axial, coronal, sagittal"):
        SlicePolicy(orientation="oblique")


def test_a_box_with_a_depth_limits_the_slices_and_a_flat_one_does_not() -> None:
    volume = phantom((TUBE, 160))
    deep = session_on(volume)
    deep.add("s", box_of(volume, (9.6, 10, 8), (18.4, 30, 28)))
    assert np.flatnonzero(deep.mask("s").any((1, 2))).tolist() == list(range(10, 19))
    assert dice(deep.mask("s"), TUBE & (K >= 10) & (K <= 18)) > 0.97
    flat = session_on(volume)
    flat.add("s", box_of(volume, (13.6, 10, 8), (14.4, 30, 28)))
    assert dice(flat.mask("s"), TUBE) > 0.97
    assert np.flatnonzero(flat.mask("s").any((1, 2))).tolist() == list(range(3, 27))


def test_spreading_stops_where_the_tissue_changes() -> None:
    upper = TUBE & (K >= 18)
    volume = phantom((TUBE & ~upper, 160), (upper, 110))
    session = session_on(volume, model=BoxSlices())  # which takes whatever is bright in its box
    session.add("s", box_of(volume, (9.6, 10, 8), (10.4, 30, 28)))
    assert np.flatnonzero(session.mask("s").any((1, 2))).tolist() == list(range(3, 18))


@pytest.mark.parametrize("model", [BrightSlices, BoxSlices])
def test_one_slice_that_cannot_be_read_is_bridged(model: type[BrightSlices]) -> None:
    volume = phantom((TUBE, 160))
    array = volume.array.copy()
    array[18, :, :] = 128  # a slice without any contrast
    plane = SlicePlane(CanonicalFrame.of(volume), 0)
    plane.stack(array)[18][0, 0] = 255
    bad = Volume(array, volume.ijk_to_ras, "MR", "phantom")
    session = session_on(bad, model=model(), spread=SpreadPolicy(tissue_slack=200.0, grow=1.5, slack=5.0))
    session.add("s", box_of(bad, (9.6, 12, 10), (10.4, 28, 26)))
    mask = session.mask("s")
    assert state_of(session).slices[18].guessed
    assert dice(mask[18], TUBE[18]) > 0.9 and dice(mask, TUBE) > 0.95
    unsure = [level.max() for level in session.uncertainty("s")]
    assert unsure[18 - 3] == max(unsure) > 0.3, "a guess is shown as one"


def test_a_correction_reaches_no_further_than_the_next_prompted_slices() -> None:
    leak = ellipsoid((14, 29, 18), (6, 6, 5)) & ~TUBE  # touches the tube on the slices around 14
    volume = phantom((TUBE, 160), (leak, 160))
    session = session_on(volume)
    session.add("s", at(volume, 5, 18, 16), at(volume, 14, 20, 18), at(volume, 24, 22, 20))
    before = state_of(session)
    assert session.mask("s")[14, 33, 18], "the leak is there"
    session.add("s", at(volume, 14, 33, 18, positive=False))
    after = state_of(session)
    assert not session.mask("s")[14, 31, 18]
    assert after.anchors == {5, 14, 24}
    unchanged = [number for number, state in after.slices.items() if before.slices.get(number) is state]
    # What lies beyond the old prompts and their halves of the gaps was not touched.
    assert unchanged == [*range(3, 10), *range(20, 27)]
    assert dice(session.mask("s"), TUBE) > dice(volume.array > 100, TUBE)


def test_beyond_the_last_prompt_a_correction_ends_where_nothing_changes_any_more() -> None:
    volume = phantom((TUBE, 160))
    model = BrightSlices()
    session = session_on(volume, model=model)
    session.add("s", at(volume, 14, 20, 18))
    before, decoded = state_of(session), model.decoded
    session.add("s", at(volume, 14, 22, 20))
    assert model.decoded - decoded == 1 + 2 + 2, "the prompted slice, and two on each side to see that all is as it was"
    after = state_of(session)
    assert all(after.slices[n] is before.slices[n] for n in (*range(3, 12), *range(17, 27)))


def test_between_prompts_a_structure_does_not_end() -> None:
    gap = TUBE & (K >= 12) & (K <= 16)
    volume = phantom((TUBE & ~gap, 160))
    session = session_on(volume)
    session.add("s", at(volume, 7, 18, 16), at(volume, 20, 22, 20))
    mask = session.mask("s")
    assert mask.any((1, 2))[3:27].all() and dice(mask, TUBE) > 0.95, "what cannot be seen is interpolated"
    assert all(state_of(session).slices[n].guessed for n in range(12, 17))
    alone = session_on(volume)
    alone.add("s", at(volume, 7, 20, 18))
    assert np.flatnonzero(alone.mask("s").any((1, 2))).tolist() == list(range(3, 12))


def test_clicks_beside_the_structure_only_take_away_and_clicks_on_it_only_add() -> None:
    volume = phantom((BALL, 160))
    session = session_on(volume)
    session.add("s", at(volume, 14, 20, 18))
    first = session.mask("s")
    session.add("s", at(volume, 14, 26, 18, positive=False))
    second = session.mask("s")
    assert not (second[14] & ~first[14]).any() and second[14].sum() < first[14].sum()
    session.add("s", at(volume, 14, 26, 19))
    assert not (second[14] & ~session.mask("s")[14]).any()


def test_a_click_on_other_tissue_does_not_lose_what_there_was() -> None:
    beside = ellipsoid((14, 36, 18), (8, 7, 10)) & ~BALL
    volume = phantom((BALL, 160), (beside, 90))
    session = session_on(volume)
    session.add("s", at(volume, 14, 20, 18))
    before = session.mask("s")[14]
    session.add("s", at(volume, 14, 38, 18))  # the mean of both grey values is neither's
    assert before.any() and not (before & ~session.mask("s")[14]).any()


def test_where_the_neighbours_mask_leads_astray_the_box_alone_is_asked() -> None:
    class Astray(BrightSlices):
        def decode_slice(self, embedding: Embedding, geometry: SliceGeometry, prompts: SlicePrompts) -> SliceDecoded:
            found = super().decode_slice(embedding, geometry, prompts)
            if prompts.mask is not None and embedding.tensors["image"][0, 0] > 200:
                return replace(found, logits=np.full_like(found.logits, 4))
            return found

    volume = phantom((TUBE, 160))
    array = volume.array.copy()
    SlicePlane(CanonicalFrame.of(volume), 0).stack(array)[18][0, 0] = 250
    session = session_on(replace(volume, array=array), model=Astray())
    session.add("s", box_of(volume, (9.6, 12, 10), (10.4, 28, 26)))
    assert not state_of(session).slices[18].guessed and dice(session.mask("s"), TUBE) > 0.97


def test_a_prompt_beyond_a_gap_fills_the_gap_from_both_sides() -> None:
    volume = phantom((TUBE & ~((K >= 12) & (K <= 16)), 160))
    session = session_on(volume)
    session.add("s", at(volume, 7, 18, 16))
    near = state_of(session)
    assert max(near.slices) == 11, "alone, the structure seems to end"
    session.add("s", at(volume, 21, 22, 20))
    assert session.mask("s").any((1, 2))[3:27].all()
    assert all(state_of(session).slices[n] is near.slices[n] for n in range(3, 12)), "what was there stays"


def test_a_click_at_the_end_of_a_given_mask_carries_it_on() -> None:
    volume = phantom((TUBE, 160))
    session = session_on(volume)
    session.add("s", MaskPrompt(TUBE & (K >= 10) & (K < 16)))
    session.add("s", at(volume, 15, 20, 18))
    assert np.flatnonzero(session.mask("s").any((1, 2))).tolist() == list(range(10, 27))


def test_a_negative_click_where_nothing_is_changes_nothing_and_says_so() -> None:
    volume = phantom((BALL, 160))
    session = session_on(volume)
    session.add("s", at(volume, 14, 20, 18))
    before = session.mask("s")
    result = session.add("s", at(volume, 27, 20, 18, positive=False))
    assert "changed nothing" in result.warnings[0]
    np.testing.assert_array_equal(session.mask("s"), before)


def test_undo_redo_and_replay_give_the_same_bits() -> None:
    volume = phantom((BALL, 160), (TUBE & (K > 24), 160))
    session = session_on(volume)
    session.add("s", at(volume, 14, 20, 18))
    first = session.mask("s")
    session.add("s", at(volume, 10, 20, 18), at(volume, 10, 28, 18, positive=False))
    second = session.mask("s")
    session.add("s", box_of(volume, (6.6, 10, 8), (20.4, 24, 28)))
    third = session.mask("s")
    session.undo("s")
    np.testing.assert_array_equal(session.mask("s"), second)
    session.undo("s")
    np.testing.assert_array_equal(session.mask("s"), first)
    session.redo("s")
    session.redo("s")
    np.testing.assert_array_equal(session.mask("s"), third)

    stored = rounds_from_list(rounds_to_list(session.rounds("s")))
    again = session_on(volume)
    again.replay("s", stored)
    np.testing.assert_array_equal(again.mask("s"), third)
    assert again.uncertainty("s").tobytes() == session.uncertainty("s").tobytes()


def test_a_second_segment_on_known_slices_costs_no_encoder_run() -> None:
    volume = phantom((BALL, 160))
    session = session_on(volume)
    session.add("a", at(volume, 14, 20, 18))
    runs = session.cache.misses
    session.add("b", at(volume, 11, 22, 18))
    assert session.cache.misses == runs > 0
    assert runs < SHAPE[0], "slices far from the structure were never encoded"


def test_cancelling_leaves_the_segment_and_progress_tells_of_every_slice() -> None:
    volume = phantom((TUBE, 160))
    session = session_on(volume)
    session.add("s", at(volume, 5, 20, 18))
    before, cancel, seen = session.mask("s"), CancelToken(), []

    def progress(stage: str, fraction: float) -> None:
        seen.append((stage, fraction))
        if len(seen) == 7:
            threading.Thread(target=cancel.cancel).run()

    with pytest.raises(Cancelled):
        session.add("s", at(volume, 20, 34, 30), cancel=cancel, progress=progress)
    np.testing.assert_array_equal(session.mask("s"), before)
    assert len(seen) == 7 and len(session.rounds("s")) == 1
    fractions: list[float] = []
    fresh = session_on(volume)
    fresh.add("s", at(volume, 5, 20, 18), progress=lambda stage, fraction: fractions.append(fraction))
    assert fractions == sorted(fractions) and len(fractions) > 24 and fractions[-1] == 1.0


def test_a_model_for_boxes_says_what_it_takes() -> None:
    volume = phantom((BALL, 160))
    session = session_on(volume, model=BoxSlices())
    inside = at(volume, 14, 20, 18)
    for prompt in (inside, replace(inside, positive=False), Scribble((inside.ras,))):
        with pytest.raises(PromptError, match=r"boxes-only cannot use .*it takes boxes, lassos \(as the box"):
            session.add("s", prompt)
    outline = [(14, 20 + 13 * np.sin(t), 18 + 12 * np.cos(t)) for t in np.linspace(0, 5.5, 12)]
    result = session.add("s", Lasso(tuple(map(tuple, volume.kji_to_ras(np.array(outline)).tolist()))))
    assert dice(session.mask("s"), BALL) > 0.97 and result.predicted_iou is None
    across = [(10 + t, 20.0, 18 + t) for t in range(6)] + [(12.0, 26.0, 18.0)]
    with pytest.raises(PromptError, match="draw it on one axial slice"):
        session.add("s", Lasso(tuple(map(tuple, volume.kji_to_ras(np.array(across, float)).tolist()))))


def test_only_negative_prompts_are_refused() -> None:
    volume = phantom((BALL, 160))
    with pytest.raises(PromptError, match="at least one positive"):
        session_on(volume).add("s", at(volume, 14, 20, 18, positive=False))


def test_a_mask_on_one_slice_spreads_and_one_on_several_is_filled_in_between() -> None:
    volume = phantom((TUBE, 160))
    one = session_on(volume)
    one.add("s", MaskPrompt(TUBE & (K == 10)))
    assert dice(one.mask("s"), TUBE) > 0.97
    some = session_on(volume)
    some.add("s", MaskPrompt(TUBE & ((K == 10) | (K == 15))))
    assert np.flatnonzero(some.mask("s").any((1, 2))).tolist() == list(range(10, 16))
    given_mask = TUBE & (K >= 10) & (K < 16)
    whole = session_on(volume)
    whole.add("s", MaskPrompt(given_mask))
    np.testing.assert_array_equal(whole.mask("s"), given_mask)


def test_negative_boxes_cut() -> None:
    volume = phantom((BALL, 160))
    session = session_on(volume)
    session.add("s", at(volume, 14, 20, 18))
    session.add("s", replace(box_of(volume, (-0.5, -0.5, -0.5), (29.5, 16.4, 39.5)), positive=False))
    mask = session.mask("s")
    assert not mask[:, :17].any()
    np.testing.assert_array_equal(mask[:, 17:], session_mask_of_click(volume)[:, 17:])


def session_mask_of_click(volume: Volume) -> np.ndarray:
    session = session_on(volume)
    session.add("s", at(volume, 14, 20, 18))
    return session.mask("s")


def test_islands_go_and_what_hangs_together_across_slices_stays() -> None:
    volume = phantom()
    frame = CanonicalFrame.of(volume)
    plane = SlicePlane(frame, 0)
    click = at(volume, 10, 20, 18)
    layout = lay_out([(click,)], volume, frame, BrightSlices.takes, plane)
    (_, centre) = plane.locate(layout.positives)
    row, column = np.rint(centre[0]).astype(int).tolist()
    states = {}
    for number in (10, 11, 12):
        mask = np.zeros(plane.geometry.shape, bool)
        mask[row - 2 : row + 3, column + number - 12 : column + number - 8] = True  # moves on from slice to slice
        mask[1:4, 1:4] = True
        states[number] = SliceState.of(mask.astype(np.float32), mask, 0.9)
    corner, block = joined(states, layout, [10]) or pytest.fail("nothing was joined")
    assert block.sum() == 3 * 20 and corner == (10, 1, 1)
    boxed = lay_out([(box_of(volume, (9.6, 18, 16), (10.4, 22, 20)),)], volume, frame, BoxSlices.takes, plane)
    assert joined(states, boxed, [10])[1].sum() == 3 * 29, "on a slice prompted by a box, its larger pieces are meant"


def test_spreading_can_be_bounded() -> None:
    volume = phantom((TUBE, 160))
    session = session_on(volume, spread=SpreadPolicy(most_slices=4))
    result = session.add("s", at(volume, 14, 20, 18))
    assert np.flatnonzero(session.mask("s").any((1, 2))).tolist() == list(range(10, 19))
    assert "no further than 4 slices" in result.warnings[0]


@pytest.mark.parametrize(
    ("candidate", "iou", "verdict"),
    [
        (slice(10, 30), 0.9, Verdict.GOOD),
        (slice(12, 30), 0.9, Verdict.GOOD),
        (slice(10, 30), 0.3, Verdict.BAD),
        (slice(25, 45), 0.9, Verdict.BAD),  # beside the neighbour
        (slice(2, 48), 0.9, Verdict.BAD),  # grown over everything
        (slice(18, 22), 0.9, Verdict.SHRUNK),
        (slice(10, 10), 0.9, Verdict.ENDED),
    ],
)
def test_verdicts(candidate: slice, iou: float, verdict: Verdict) -> None:
    image = np.full((50, 20), 150, np.uint8)
    neighbour, mask = np.zeros(image.shape, bool), np.zeros(image.shape, bool)
    neighbour[10:30], mask[candidate] = True, True
    reference = Tissue.of(image, neighbour)
    assert judge(mask, iou, neighbour, image, reference, SpreadPolicy()) is verdict
    if mask.any():
        dark = np.full((50, 20), 100, np.uint8)
        assert judge(mask, iou, neighbour, dark, reference, SpreadPolicy()) is Verdict.ENDED


def test_between_two_masks_lies_a_mask_between() -> None:
    row, column = np.mgrid[:60, :60]
    small, large = np.hypot(row - 30, column - 20) < 6, np.hypot(row - 30, column - 40) < 14
    middle = between(small, large, 0.5)
    assert overlap(between(small, large, 0.0), small) > 0.9 and overlap(between(small, large, 1.0), large) > 0.9
    assert small.sum() * 0.2 < middle.sum() < large.sum()


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-0.6, 0.6)] * 3),
    st.tuples(*[st.floats(4.0, 14.0)] * 3),
    st.integers(0, 2),
)
def test_a_tilted_box_cuts_slices_where_it_is(angles: tuple[float, ...], half: tuple[float, ...], axis: int) -> None:
    volume = phantom()
    a, b, c = angles
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    turn = turn @ np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    centre = turn @ volume.kji_to_ras(np.array([14.0, 20.0, 18.0]))
    box = Box(tuple(centre - half), tuple(centre + half), axes=tuple(map(tuple, turn.tolist())))
    frame = CanonicalFrame.of(volume)
    plane = SlicePlane(frame, axis)
    layout = lay_out([(box,)], volume, frame, BoxSlices.takes, plane)
    along = volume.kji_to_ras(np.stack([K, J, I], -1).reshape(-1, 3)) @ turn.T
    inside = ((along >= box.ras_min) & (along <= box.ras_max)).all(1).reshape(SHAPE)
    stack = plane.stack(inside)
    first, last = layout.depth
    filled = np.flatnonzero(stack.any((1, 2)))
    if layout.boxes and len(filled):
        assert first <= filled[0] and filled[-1] <= last
        for number in filled.tolist():
            r0, c0, r1, c1 = layout.section(number)
            rows, columns = np.nonzero(stack[number])
            assert r0 - 1e-6 <= rows.min() and rows.max() <= r1 + 1e-6
            assert c0 - 1e-6 <= columns.min() and columns.max() <= c1 + 1e-6
            # Corners of a tilted cut may reach beyond the centres of voxels, but not far where many are cut.
            assert rows.max() - rows.min() > (r1 - r0) - 4 or stack[number].sum() < 40
