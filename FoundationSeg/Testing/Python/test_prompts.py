# SPDX-License-Identifier: Apache-2.0
"""Prompts: what they refuse, and that their JSON form loses nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from FoundationSegLib import (
    Box,
    LabelledSlice,
    Lasso,
    MaskPrompt,
    Point,
    Prompt,
    PromptError,
    Scribble,
    SegmentPrompts,
    TextPrompt,
    load_prompts,
)
from FoundationSegLib.prompts import from_dict, rounds_from_list, rounds_to_list, to_dict
from hypothesis import assume, given, settings
from hypothesis import strategies as st

finite = st.floats(-2000, 2000, allow_nan=False)
vectors = st.tuples(finite, finite, finite)
signs = st.booleans()


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    low = draw(vectors)
    size = draw(st.tuples(*[st.floats(0.1, 500)] * 3))
    axes = None
    if draw(st.booleans()):
        matrix, _ = np.linalg.qr(np.array(draw(st.tuples(*[vectors] * 3))) + np.eye(3))
        axes = tuple(tuple(row) for row in matrix.tolist())
    return Box(low, tuple(a + b for a, b in zip(low, size, strict=True)), axes, draw(signs))


@st.composite
def lassos(draw: st.DrawFn) -> Lasso:
    points = draw(st.lists(vectors, min_size=3, max_size=8, unique=True))
    spread = np.linalg.svd(np.array(points) - np.mean(points, axis=0), compute_uv=False)
    assume(spread[1] > 1e-2)
    return Lasso(tuple(points), draw(signs))


@st.composite
def masks(draw: st.DrawFn) -> MaskPrompt:
    shape = draw(st.tuples(*[st.integers(1, 5)] * 3))
    bits = draw(st.lists(st.booleans(), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    assume(any(bits))
    return MaskPrompt(np.reshape(bits, shape), draw(signs))


@st.composite
def slices(draw: st.DrawFn) -> LabelledSlice:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    bits = draw(st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    return LabelledSlice(draw(st.sampled_from("kji")), draw(st.integers(0, 500)), np.reshape(bits, shape))


prompts = st.one_of(
    st.builds(Point, vectors, signs),
    boxes(),
    st.builds(
        Scribble, st.lists(vectors, min_size=1, max_size=8).map(tuple), signs, st.floats(0.1, 50, allow_nan=False)
    ),
    lassos(),
    st.builds(TextPrompt, st.text(min_size=1).filter(str.strip), signs),
    masks(),
    slices(),
)


@settings(deadline=None)
@given(prompts)
def test_a_prompt_survives_json(prompt: Prompt) -> None:
    assert from_dict(json.loads(json.dumps(to_dict(prompt)))) == prompt


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(prompts, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4))
def test_rounds_survive_json_in_their_order(rounds: list[tuple[Prompt, ...]]) -> None:
    assert rounds_from_list(json.loads(json.dumps(rounds_to_list(rounds)))) == tuple(rounds)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_whatever_is_no_prompt_is_a_prompt_error(data: Any) -> None:
    with pytest.raises(PromptError):
        from_dict(data)


@settings(deadline=None, max_examples=200)
@given(prompts, st.data())
def test_a_prompt_with_one_damaged_field_is_a_prompt_error_or_still_a_prompt(
    prompt: Prompt, data: st.DataObject
) -> None:
    """Never a TypeError or KeyError, which a user would see as a traceback."""
    fields = to_dict(prompt)
    field = data.draw(st.sampled_from(sorted(fields)))
    fields[field] = data.draw(
        st.none() | st.just("x") | st.just([]) | st.just({}) | st.just([[1]]) | st.just([1, 2, "y"])
    )
    try:
        from_dict(fields)
    except PromptError as error:
        assert str(error).endswith(".")


def test_rounds_are_sorted_and_prompts_without_one_come_first() -> None:
    a, b, c = Point((1, 2, 3)), Point((4, 5, 6)), Point((7, 8, 9), positive=False)
    items = [{**to_dict(c), "round": 7}, to_dict(a), {**to_dict(b), "round": 0}]
    assert rounds_from_list(items) == ((a, b), (c,))


def test_prompts_are_frozen_and_keep_no_alias_of_an_array() -> None:
    array = np.zeros((2, 2, 2), dtype=bool)
    array[0, 0, 0] = True
    prompt = MaskPrompt(array)
    array[...] = False
    assert prompt.array.any()
    with pytest.raises(ValueError, match="read-only"):
        prompt.array[...] = False
    with pytest.raises(dataclasses.FrozenInstanceError):
        Point((1, 2, 3)).positive = False  # type: ignore[misc]


def test_prompts_serve_as_keys() -> None:
    array = np.ones((2, 2, 2), dtype=bool)
    assert (
        len({Point((1, 2, 3)), Point((1.0, 2.0, 3.0)), Point((1, 2, 3), False), MaskPrompt(array), MaskPrompt(array)})
        == 3
    )
    assert len({LabelledSlice("k", 1, array[0]), LabelledSlice("k", 1, array[0]), LabelledSlice("j", 1, array[0])}) == 2


def test_a_labelled_slice_may_be_empty_and_keeps_no_alias() -> None:
    array = np.zeros((2, 3), dtype=bool)
    example = LabelledSlice("i", np.int64(4), array)
    array[...] = True
    assert not example.mask.any() and example.index == 4 and example.array_axis == 2 and example.positive


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"type": "point"}, "lacks 'ras'"),
        ({"type": "point", "ras": [1, 2]}, "three numbers"),
        ({"type": "point", "ras": [1, 2, float("nan")]}, "finite"),
        ({"type": "point", "ras": [1, 2, 3], "positive": "yes"}, '"positive"'),
        ({"type": "box", "ras_min": [0, 0, 0], "ras_max": [1, 1, 0]}, "no volume"),
        (
            {"type": "box", "ras_min": [0, 0, 0], "ras_max": [1, 1, 1], "axes": [[1, 0, 0], [1, 0, 0], [0, 0, 1]]},
            "right angles",
        ),
        ({"type": "box", "ras_min": [0, 0, 0], "ras_max": [1, 1, 1], "axes": 5}, "wrong kind"),
        ({"type": "scribble", "points": []}, "at least 1"),
        ({"type": "scribble", "points": [[1, 2, 3]], "radius_mm": 0}, "greater than zero"),
        ({"type": "scribble", "points": "abc"}, "list of points"),
        ({"type": "lasso", "points": [[0, 0, 0], [1, 1, 1]]}, "at least 3"),
        ({"type": "lasso", "points": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}, "one line"),
        ({"type": "text", "text": "  "}, "empty"),
        ({"type": "mask", "shape": [2, 2, 2], "runs": [3]}, "do not fill"),
        ({"type": "mask", "shape": [2, 2], "runs": [4]}, "do not fill"),
        ({"type": "mask", "shape": [2, 2, 2], "runs": [8]}, "at least one voxel"),
        ({"type": "slice", "axis": "k", "index": 0, "shape": [2, 2], "runs": [5]}, "do not fill"),
        ({"type": "slice", "axis": "k", "index": 0, "shape": [2, 2, 1], "runs": [4]}, "do not fill"),
        ({"type": "slice", "axis": "z", "index": 0, "shape": [1, 1], "runs": [1]}, "axis of a labelled slice is 'z'"),
        ({"type": "slice", "axis": "k", "index": -1, "shape": [1, 1], "runs": [1]}, "index of a labelled slice is -1"),
        ({"type": "slice", "axis": "k", "index": 0.5, "shape": [1, 1], "runs": [1]}, "index of a labelled slice"),
        ({"type": "slice", "axis": "k", "index": 0, "shape": [1, 1], "runs": [1], "positive": False}, "negative"),
        ({"type": "slice", "axis": "k", "shape": [1, 1], "runs": [1]}, "lacks 'index'"),
        ({"type": "circle"}, "'circle' is no prompt"),
        ({}, "None is no prompt"),
        ([1, 2, 3], "must be an object"),
    ],
    ids=str,
)
def test_a_bad_prompt_is_named(data: Any, complaint: str) -> None:
    with pytest.raises(PromptError, match=r"\.$") as caught:
        from_dict(data)
    assert complaint in str(caught.value)


def test_an_oriented_box_holds_what_its_definition_says() -> None:
    c, s = np.cos(0.4), np.sin(0.4)
    box = Box((-1, -2, -3), (4, 5, 6), ((c, s, 0), (-s, c, 0), (0, 0, 1)))
    inside = box.corners_ras.mean(axis=0)
    along = box.directions @ inside
    assert (np.array(box.ras_min) < along).all() and (along < box.ras_max).all()
    np.testing.assert_allclose((box.corners_ras @ box.directions.T).min(axis=0), box.ras_min)
    np.testing.assert_allclose((box.corners_ras @ box.directions.T).max(axis=0), box.ras_max)


def test_a_file_is_read_as_it_stands_in_the_readme(tmp_path: Path) -> None:
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    path = tmp_path / "prompts.json"
    path.write_text(readme.split("```json\n")[1].split("```")[0], encoding="utf-8")
    kidney, liver = load_prompts(path)
    assert kidney == SegmentPrompts("Left kidney", ((Point((-62.5, -30, 112)),), (Point((-20, -35, 110), False),)))
    assert liver == SegmentPrompts("Liver", ((Box((-10, -80, 60), (160, 90, 230)),),))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", 'no "segments"'),
        ('{"segments": []}', 'no "segments"'),
        ('{"segments": {"name": "x"}}', 'no "segments"'),
        ('{"segments": [7]}', "Segment 1 of the prompt file has no name"),
        ('{"segments": [{"prompts": []}]}', "has no name"),
        ('{"segments": [{"name": " ", "prompts": []}]}', "has no name"),
        ('{"segments": [{"name": "x"}]}', "at least one prompt"),
        ('{"segments": [{"name": "x", "prompts": []}]}', "at least one prompt"),
        ('{"segments": [{"name": "x", "prompts": [{"type": "point", "ras": [1, 2, 3], "round": -1}]}]}', '"round"'),
        ('{"segments": [{"name": "x", "prompts": [{"type": "point", "ras": [1, 2, 3], "round": true}]}]}', '"round"'),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PromptError) as caught:
        load_prompts(path)
    assert complaint in str(caught.value)


def test_a_file_that_is_not_text_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(PromptError, match="not JSON"):
        load_prompts(tmp_path / "binary")
    with pytest.raises(PromptError, match="cannot be read"):
        load_prompts(tmp_path / "gone")
    with pytest.raises(PromptError, match="cannot be read"):
        load_prompts(tmp_path)
