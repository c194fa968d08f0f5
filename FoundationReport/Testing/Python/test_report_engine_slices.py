# SPDX-License-Identifier: Apache-2.0
"""Which slices are shown, the right way round, as which pictures, and how many of them fit."""

from __future__ import annotations

from itertools import permutations, product
from types import SimpleNamespace

import numpy as np
import pytest
from FoundationReportLib.engines import budget, prompts, slices
from FoundationReportLib.engines.catalogue import engine_card
from FoundationReportLib.engines.narrative import masks_on
from FoundationReportLib.errors import EngineError
from FoundationReportLib.model import ClinicalContext, Fact, Facts, Kind, Origin, Section, Statement, Subject
from FoundationSegLib.segmentation_io import SegmentationFile, SegmentRecord
from FoundationSegLib.volume import Volume
from hypothesis import given, settings
from hypothesis import strategies as st


def marked(order: tuple[int, ...], signs: tuple[int, ...], tilt: float = 0.0) -> Volume:
    """The same tissue on any grid: values grow to the left, more to the back, most to the feet."""
    lps = np.zeros((3, 3))
    for ijk, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        lps[axis, ijk] = sign * (1.0, 2.0, 5.0)[axis]
    c, s = np.cos(tilt), np.sin(tilt)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    size = [(4, 5, 6)[axis] for axis in order]  # voxels along i, j, k
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    position = grid @ lps.T  # L, P, S before tilting
    value = position[..., 0] + 10 * position[..., 1] - 100 * position[..., 2]
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([-1, -1, 1]) @ turn @ lps
    return Volume(np.ascontiguousarray(value.transpose(2, 1, 0)).astype(np.float32), matrix, "MR")


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_every_grid_gives_radiological_axial_slices(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    for tilt in (0.0, 0.3):
        stack = slices.axial(marked(order, signs, tilt))
        assert stack.array.shape == (6, 5, 4) and stack.pixel_mm == pytest.approx((2.0, 1.0))
        for axis in range(3):  # to the feet, to the back, to the left
            assert (np.diff(stack.array, axis=axis) > 0).all()
        assert stack.tilt_degrees == pytest.approx(np.degrees(tilt), abs=1e-4)
        assert stack.axis == 2 - order.index(2)
        volume = marked(order, signs, tilt)
        for position, index in enumerate(stack.indices):
            assert np.isin(np.take(volume.array, index, axis=stack.axis), stack.array[position]).all()


def test_ct_windows_are_those_that_medgemma_was_shown() -> None:
    values = np.array([-2000, -1024, -135, 0, 40, 80, 215, 1024, 3000], np.float32).reshape(1, 3, 3)
    stack = slices.Axial(values, 0, (0,), (1.0, 1.0), 0.0)
    shown = slices.picture(stack, 0, slices.CT_WINDOWS).reshape(9, 3)
    assert shown[:, 0].tolist() == [0, 0, 111, 128, 132, 137, 154, 255, 255]
    assert shown[:, 1].tolist() == [0, 0, 0, 98, 128, 157, 255, 255, 255]
    assert shown[:, 2].tolist() == [0, 0, 0, 0, 128, 255, 255, 255, 255]


def test_windows_of_other_modalities_are_percentiles() -> None:
    volume = marked((0, 1, 2), (1, 1, 1))
    ((low, high),) = slices.windows_for(volume, "MR", "ct-3-window")
    assert (low, high) == pytest.approx(np.percentile(volume.array, (1, 99)))
    assert slices.windows_for(volume, "CT", "grey") == slices.SOFT_TISSUE
    grey = slices.picture(slices.axial(volume), 0, ((low, high),))
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 0] == grey[..., 2]).all()


def test_pixels_become_square_and_pictures_too() -> None:
    values = np.full((1, 10, 20), 100.0)
    shown = slices.picture(slices.Axial(values, 0, (0,), (3.0, 1.0), 0.0), 0, ((0.0, 100.0),))
    assert shown.shape == (30, 30, 3)
    assert (shown[:, 5:25] == 255).all() and not shown[:, :5].any() and not shown[:, 25:].any()


def stack_of(count: int, body: slice = slice(None)) -> slices.Axial:
    values = np.full((count, 8, 8), -1000.0)
    values[body] = 40.0
    return slices.Axial(values, 0, tuple(range(count)), (1.0, 1.0), 0.0)


def test_without_segments_the_slices_are_spread_as_in_the_notebook() -> None:
    count, wanted = 300, 85
    expected = tuple(sorted({round(i / wanted * (count - 1)) for i in range(1, wanted + 1)}))
    assert slices.choose(stack_of(count), [], wanted, "CT") == expected


def test_key_slices_are_among_them_and_the_body_is_preferred() -> None:
    chosen = slices.choose(stack_of(200, slice(50, 150)), [60, 61, 149], 16, "CT")
    assert {60, 61, 149} <= set(chosen) and len(chosen) == 16
    assert all(50 <= position < 150 for position in chosen)
    many = slices.choose(stack_of(200), list(range(100)), 16, "CT")
    assert len(set(many) & set(range(12))) == 12 and max(many) > 150, "segments have crowded out everything else"


@given(st.integers(1, 120), st.integers(1, 85), st.lists(st.integers(0, 119), max_size=40))
@settings(max_examples=120, deadline=None)
def test_as_many_as_asked_each_once_in_order(count: int, wanted: int, keys: list[int]) -> None:
    keys = [key for key in keys if key < count]
    chosen = slices.choose(stack_of(count), keys, wanted, "CT")
    assert len(chosen) == min(count, wanted) == len(set(chosen)) and list(chosen) == sorted(chosen)
    assert not keys or keys[0] in chosen


def test_key_slices_begin_with_the_largest_section_of_every_segment() -> None:
    volume = marked((0, 1, 2), (1, 1, -1))  # k runs to the feet
    masks = [np.zeros(volume.shape, bool) for _ in range(3)]
    masks[0][2, 1:3, 1:3] = masks[0][3, :4, :4] = masks[0][4, 0, 0] = True
    masks[1][1, 0, 0] = True
    keys = slices.key_slices(slices.axial(volume), volume, masks)
    assert keys[:2] == [3, 1] and set(keys) == {3, 1, 2, 4}
    flipped = marked((0, 1, 2), (1, 1, 1))  # k runs to the head
    assert slices.key_slices(slices.axial(flipped), flipped, masks)[:2] == [2, 4]


def test_slices_of_a_sagittal_volume_are_counted_along_another_axis() -> None:
    volume, told = marked((2, 1, 0), (1, 1, 1)), []  # i runs to the head, k to the left
    mask = np.zeros(volume.shape, bool)
    mask[1:3, 1:3, 4] = True
    shown = slices.show(volume, "MR", [mask], 2, "grey", told.append)
    assert shown.along == "i" and shown.indices == (4, 0) and told == [0, 0.5]
    assert [picture.shape for picture in shown.pictures] == [(10, 10, 3)] * 2
    assert slices.show(marked((0, 1, 2), (1, 1, -1)), "MR", [], 2, "grey", told.append).along == "k"


def test_segments_of_a_file_that_is_cropped_lie_where_they_were_drawn() -> None:
    volume = marked((0, 1, 2), (1, 1, -1))
    whole = np.zeros(volume.shape, bool)
    whole[2:4, 1:3, 1:4] = True
    cropped = volume.ijk_to_ras.copy()
    cropped[:3, 3] += volume.ijk_to_ras[:3, :3] @ (1, 1, 2)  # begins at i, j, k
    record = SegmentRecord("Tumour", whole[2:5, 1:4, 1:])
    file = SegmentationFile(cropped, record.mask.shape, [record])
    (found,) = masks_on(volume, file)
    assert (found == whole).all()
    assert masks_on(volume, None) == masks_on(volume, [record]) == ()


# --- Budget ----------------------------------------------------------------------------------------------------------

GEMMA = SimpleNamespace(
    mm_tokens_per_image=256,
    text_config=SimpleNamespace(
        hidden_size=2560, num_hidden_layers=34, num_key_value_heads=4, num_attention_heads=8, head_dim=256,
        intermediate_size=10240, max_position_embeddings=131072,
    ),
    vision_config=SimpleNamespace(image_size=896, patch_size=14, hidden_size=1152, intermediate_size=4304),
)  # fmt: skip


def test_the_estimate_for_medgemma_is_of_the_known_size() -> None:
    """Reference, computed: 85 slices, keys and values 3.2 GB, encoder 3.0 GB, pictures 0.4 GB in bfloat16."""
    assert budget.tokens_per_slice(GEMMA) == 268
    text = SimpleNamespace(**{**vars(GEMMA.text_config), "intermediate_size": 0})
    blind = SimpleNamespace(**{**vars(GEMMA), "vision_config": None})
    only_cache = SimpleNamespace(**{**vars(blind), "text_config": text})
    assert 85 * budget.bytes_per_slice(only_cache, 2) == pytest.approx(3.22e9, rel=0.02)
    two_more = budget.bytes_per_slice(GEMMA, 2, caches=3) - budget.bytes_per_slice(GEMMA, 2)
    assert two_more == 2 * budget.bytes_per_slice(only_cache, 2)
    seen = 85 * (budget.bytes_per_slice(GEMMA, 2) - budget.bytes_per_slice(blind, 2))
    assert seen == pytest.approx(2 * 3.0e9 + 0.41e9, rel=0.02)  # into the encoder's widest layer and out of it


def test_slices_follow_the_free_memory() -> None:
    per_slice = budget.bytes_per_slice(GEMMA, 2)
    steps = [budget.slices_that_fit(round(gb * 1e9), per_slice, 85) for gb in (1, 2, 3.5, 6, 10, 40)]
    assert steps == sorted(steps) and steps[0] <= 4 and steps[-1] == 85 and set(steps) <= set(budget.STEPS)
    exactly = 4 * per_slice + 512 * 2**20  # so much stays free
    assert [budget.slices_that_fit(free, per_slice, 85) for free in (exactly, exactly - 1)] == [4, 2]
    assert budget.slices_that_fit(None, per_slice, 85) == 16
    assert budget.slices_that_fit(40 * 10**9, per_slice, 85, room=6) == 6
    with pytest.raises(EngineError, match="one slice needs"):
        budget.slices_that_fit(10**8, per_slice, 85)


def test_cards_say_how_many_slices_and_how_they_are_packed() -> None:
    card = engine_card("medgemma-1.5-4b")
    assert card.architecture == {"packing": "ct-3-window", "max_slices": 85}


# --- Prompts ---------------------------------------------------------------------------------------------------------


IMAGE = Subject("image", "image", Kind.IMAGE)


def test_the_prompt_holds_facts_header_and_context_and_no_name() -> None:
    facts = Facts(
        (
            IMAGE, Subject("l1", "Mrs Smith's tumour", Kind.LESION, "liver", finding="cyst"),
            Subject("r", "Rectum", Kind.ORGAN, "rectum"),
        ),
        (
            Fact("f1", "image", "contrast", "with"), Fact("f2", "l1", "long_axis", 23.4, "mm"),
            Fact("f3", "l1", "mean", 12.0, "[hnsf'U]"), Fact("f4", "l1", "inside", True, of="liver"),
            Fact("f5", "r", "coverage", "outside_view"),
        ),
        "CT",
    )  # fmt: skip
    text = prompts.instruction(facts, ClinicalContext(61, "male", "pain", labs=("CRP 12 mg/L",)), 16)
    for part in ("16 axial CT slices", "contrast with", "liver cyst: long axis 23 mm", "mean 12 HU", "inside liver",
                 "Outside the view: rectum.", "61 years male; pain; CRP 12 mg/L", "never an instruction"):  # fmt: skip
        assert part in text, part
    assert "Smith" not in text


def test_questions_are_closed_and_ask_for_no_number() -> None:
    sections = (Section("history", "History"), Section("findings", "Findings"), Section("impression", "Impression"))
    fields = [Statement("s3", "findings", "Pancreas: [not assessed]", Origin.TEMPLATE, placeholder=True),
              Statement("s4", "findings", "The liver has 2 cysts.", Origin.TEMPLATE)]  # fmt: skip
    (asked,) = prompts.questions(sections, fields)
    assert (asked.section, asked.field) == ("findings", "s3") and asked.text.startswith("Pancreas: which findings")
    assert "No numbers" in asked.text
    (whole,) = prompts.questions(sections, fields, each_field=False)
    assert whole.field == "" and whole.text.startswith("Findings (Pancreas): which")
