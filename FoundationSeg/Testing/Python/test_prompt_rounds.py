# SPDX-License-Identifier: Apache-2.0
"""Rounds that follow their markups, and voxels that follow the rounds: the parts of the panel that are plain logic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from FoundationSegLib import Box, MaskPrompt, Point, Scribble
from FoundationSegLib.expectation import Expectation
from FoundationSegLib.prompts import Prompt, Round
from FoundationSegLib.scene import outcome, rounds
from FoundationSegLib.scene.rounds import Book, Entry, Key
from FoundationSegLib.segmenter import Prediction
from hypothesis import given
from hypothesis import strategies as st

A, B, C = ("n", "a"), ("n", "b"), ("n", "c")
HAND = MaskPrompt(np.ones((2, 2, 2), bool))


def point(r: float, positive: bool = True) -> Point:
    return Point((r, 0.0, 0.0), positive)


def book_of(*parts: dict[Key, Prompt]) -> Book:
    return tuple(tuple(Entry(prompt, key, prompt) for key, prompt in part.items()) for part in parts)


def test_what_is_new_makes_a_round_and_what_is_moved_stays_in_its_own() -> None:
    book = book_of({A: point(1)}, {B: point(2, False)})
    present = {A: point(1), B: point(2.5, False), C: point(3)}
    goal = rounds.follow(book, present)
    assert rounds.rounds_of(goal) == ((point(1),), (point(2.5, False),), (point(3),))
    assert goal[0][0] is book[0][0], "what nobody touched stays to the bit"
    assert rounds.pending_keys(book, present) == [B, C]
    assert rounds.has_new_round(book, goal) and not rounds.has_new_round(book, goal[:2])


def test_rounds_without_prompts_vanish() -> None:
    book = book_of({A: point(1)}, {B: point(2)})
    assert rounds.rounds_of(rounds.follow(book, {B: point(2)})) == ((point(2),),)
    assert rounds.follow(book, {}) == ()


def test_what_came_before_a_hand_edit_is_part_of_it() -> None:
    book = (*book_of({A: point(1)}), (Entry(HAND),), *book_of({B: point(2)}))
    goal = rounds.follow(book, {A: point(9), B: point(2.5)})
    assert rounds.rounds_of(goal) == ((HAND,), (point(2.5),), (point(9),))


def test_a_moved_markup_within_rounding_is_the_same() -> None:
    book = book_of({A: point(1)})
    assert rounds.follow(book, {A: point(1 + 1e-5)}) == book


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-50, 50), st.booleans()), max_size=12))
def test_following_reaches_what_is_there_and_then_rests(steps: list[tuple[int, float, bool]]) -> None:
    """Whatever a person does: every markup is in exactly one round, nothing else is, and the second look is idle."""
    book: Book = ()
    present: dict[Key, Prompt] = {}
    for number, place, there in steps:
        key = ("n", str(number))
        if there:
            present[key] = point(place)
        else:
            present.pop(key, None)
        book = rounds.follow(book, present)
        assert sorted(str(entry.key) for entry in rounds.entries_of(book)) == sorted(str(key) for key in present)
        assert rounds.follow(book, present) == book and not rounds.pending_keys(book, present)


def test_adopted_rounds_keep_their_markups_or_take_those_that_are_alike() -> None:
    stored: tuple[Round, ...] = ((point(1), point(2)), (Box((0, 0, 0), (1, 1, 1)),))
    present = {A: point(2 + 0.01), B: Box((0, 0, 0), (1, 1, 1.01)), C: point(40)}
    book = rounds.adopt(stored, (), present)
    assert [entry.key for entry in rounds.entries_of(book)] == [None, A, B]
    assert rounds.rounds_of(book) == stored, "the stored prompts count, not what was read"
    assert rounds.needs_markup(book[0][0]) and not rounds.needs_markup(Entry(HAND))
    assert rounds.follow(rounds.with_markup(book, book[0][0], ("n", "d"), point(1)), present)[-1][0].key == C


def test_curves_that_are_sampled_otherwise_are_alike_only_in_files() -> None:
    line = [(float(x), 0.0, 0.0) for x in np.linspace(0, 10, 11)]
    one, other = Scribble(tuple(line)), Scribble(tuple((x * 10 / 9, y, z) for x, y, z in line[:10]))
    assert not rounds.alike(one, other) and rounds.alike(one, other, 0.1)
    assert not rounds.alike(one, Scribble(one.points, positive=False), 0.1)
    assert not rounds.alike(point(1), one)


def prediction(box: tuple[slice, slice, slice], mask: np.ndarray, region: tuple[slice, slice, slice]) -> Prediction:
    return Prediction(predicted_iou=None, box=box, mask=mask, region_box=region)


WHOLE = (slice(0, 8), slice(0, 8), slice(0, 8))


def cube(*bounds: tuple[int, int]) -> Prediction:
    box = tuple(slice(a, b) for a, b in bounds)
    return prediction(box, np.ones([b - a for a, b in bounds], bool), WHOLE)  # type: ignore[arg-type]


def test_a_hand_edit_is_exact_and_only_what_the_model_changes_after_it_changes() -> None:
    drawn = np.zeros((8, 8, 8), bool)
    drawn[0:4, 0:4, 0:4] = True
    drawn[7, 7, 7] = True  # far away and tiny: the model's rendering of the mask loses it
    rendered, after = cube((0, 4), (0, 4), (0, 5)), cube((0, 6), (0, 4), (0, 5))
    stored: tuple[Round, ...] = ((point(1),), (MaskPrompt(drawn),), (point(2),))
    patch = outcome.outcome(stored, [cube((0, 1), (0, 1), (0, 1)), rendered, after])
    expected = drawn.copy()
    expected[4:6, 0:4, 0:5] = True  # what the model added; the column that it rendered too much is not in it
    np.testing.assert_array_equal(patch.within(WHOLE), expected)
    assert outcome.outcome(stored[:1], [rendered]).mask.sum() == rendered.mask.sum()
    assert outcome.outcome((), []) is outcome.EMPTY
    np.testing.assert_array_equal(outcome.outcome(stored[1:2], [rendered]).within(WHOLE), drawn)


def test_a_mask_with_company_is_no_hand_edit() -> None:
    assert rounds.is_hand_edit((HAND,)) and not rounds.is_hand_edit((HAND, point(1)))
    assert rounds.last_hand_edit(((HAND,), (point(1),), (HAND,), (point(2),))) == 2


def test_changes_are_carried_over_and_hand_edits_stay() -> None:
    current = np.zeros((8, 8, 8), bool)
    current[0, 0, :] = True  # by the model but for the last two, which are by hand
    before, after = cube((0, 1), (0, 1), (0, 6)), cube((0, 1), (0, 2), (0, 3))
    merged = outcome.merged(current, WHOLE, outcome.patch_of(before), outcome.patch_of(after))
    expected = np.zeros_like(current)
    expected[0, 0, [0, 1, 2, 6, 7]] = expected[0, 1, :3] = True
    np.testing.assert_array_equal(merged, expected)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=5))
def test_tight_boxes_hold_everything_and_no_more(voxels: list[tuple[int, int, int]]) -> None:
    mask = np.zeros((8, 8, 8), bool)
    mask[tuple(np.transpose(voxels))] = True
    box = outcome.tight(mask)
    assert box is not None and mask[box].sum() == mask.sum()
    assert [(b.start, b.stop - 1) for b in box] == [(min(c), max(c)) for c in zip(*voxels, strict=True)]
    assert outcome.tight(np.zeros((2, 2, 2), bool)) is None


@pytest.mark.parametrize(("region", "touches"), [((0, 5), True), ((0, 6), False), ((0, 8), False)])
def test_a_mask_at_an_inner_face_of_its_region_goes_on_beyond(region: tuple[int, int], touches: bool) -> None:
    inside = prediction((slice(1, 5), slice(2, 4), slice(2, 4)), np.ones((4, 2, 2), bool), (slice(*region), *WHOLE[1:]))
    assert outcome.touches_face(inside, (8, 8, 8)) is touches


def test_times_are_learnt_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "home" / "timings.json"
    first = Expectation(path)
    assert first.seconds("compact", "auto", first=False) is None
    assert 1 < (first.seconds("compact", "auto", first=True) or 0) < 30
    first.learn("compact", "auto", False, 2.0)
    first.learn("compact", "auto", True, 6.0)
    again = Expectation(path)
    assert again.seconds("compact", "auto", first=True) == 6.0 and again.seconds("compact", "auto", first=False) == 2.0
    again.learn("compact", "auto", True, 4.0)
    assert again.seconds("compact", "auto", first=True) == 5.0
    assert set(json.loads(path.read_text())) == {"compact auto first", "compact auto next"}
    path.write_text("[1")
    assert Expectation(path).seconds("compact", "auto", first=False) is None
    blocked = Expectation(tmp_path / "timings.json" / "x")
    (tmp_path / "timings.json").write_text("")
    blocked.learn("compact", "auto", True, 4.0)
    assert blocked.seconds("compact", "auto", first=True) == 4.0
