# SPDX-License-Identifier: Apache-2.0
"""Sides from RAS geometry, containing and adjacent structures, distances, levels, coverage, counts."""

from __future__ import annotations

import numpy as np
import pytest
from FoundationReportLib.errors import MeasurementError
from FoundationReportLib.measure import ImageHeader, Search, measure
from FoundationReportLib.measure.coverage import depth_mm
from FoundationReportLib.model import Facts, Side
from FoundationSegLib import Volume
from report_phantom import FloatArray, ellipsoid, grid, positions, record, turned, volume_of, with_values

SIZE, SPACING = (90, 70, 60), (4.0, 4.0, 5.0)
ORGANS = {"Right lung": ((70, 0, 20), (45, 60, 110)), "Left lung": ((-70, 0, 20), (45, 60, 110))}
NODULE = ((75, 10, 60), (12, 9, 10))
FLIPS = {"RAS": np.eye(3), "LPS": np.diag([-1.0, -1.0, 1.0]), "oblique": turned(0, 20) @ turned(2, 15)}


def _scene(directions: FloatArray, name: str = "nodule", names: dict[str, str] | None = None) -> Facts:
    """Two lungs and a nodule in the right one, the lungs with holes where the nodule is."""
    matrix = grid(SIZE, SPACING, directions)
    points = positions(matrix, SIZE)
    nodule = ellipsoid(points, *NODULE)
    records = [
        record((names or {}).get(organ, organ), ellipsoid(points, *shape) & ~nodule) for organ, shape in ORGANS.items()
    ]
    return measure(volume_of(SIZE, matrix), [*records, record(name, nodule)])


@pytest.mark.parametrize("directions", FLIPS.values(), ids=FLIPS)
def test_side_and_organ_come_from_geometry(directions: FloatArray) -> None:
    facts = _scene(directions)
    nodule = facts.subject("nodule")
    assert (nodule.organ, nodule.side) == ("lung", Side.RIGHT)
    assert facts.of("nodule", "side")[0].value == "right"
    assert [f.of for f in facts.of("nodule", "inside")] == ["right-lung"]
    assert facts.subject("left-lung").side == Side.LEFT


def test_a_mirrored_volume_has_its_sides_swapped() -> None:
    matrix = grid(SIZE, SPACING)
    points = positions(matrix, SIZE) * (-1, 1, 1)
    nodule = ellipsoid(points, *NODULE)
    records = [record("spinal cord", ellipsoid(points, (0, -40, 0), (6, 6, 120))), record("lung nodule", nodule)]
    assert measure(volume_of(SIZE, matrix), records).subject("lung-nodule").side == Side.LEFT


def test_a_name_that_says_the_wrong_side_is_corrected_and_said() -> None:
    facts = _scene(np.eye(3), "left lung nodule")
    assert facts.subject("left-lung-nodule").side == Side.RIGHT
    assert any("called left" in sentence for sentence in facts.warnings)


def test_swapped_names_of_a_pair_do_not_move_the_midline() -> None:
    facts = _scene(np.eye(3), names={"Right lung": "Left lung", "Left lung": "Right lung"})
    assert facts.subject("left-lung").side == Side.RIGHT
    assert facts.subject("nodule").side == Side.RIGHT
    assert sum("it is called" in sentence for sentence in facts.warnings) == 2


def test_without_a_midline_the_name_is_all_there_is() -> None:
    """A field of view around one kidney: its place in the image says nothing about the side."""
    size = (40, 40, 20)
    matrix = grid(size, (1, 1, 2), None, (300, 0, 0))
    points = positions(matrix, size)
    records = [record("left kidney", ellipsoid(points, (300, 0, 0), (12, 12, 15)))]
    facts = measure(volume_of(size, matrix), [*records, record("mass", ellipsoid(points, (311, 10, 0), (3, 3, 4)))])
    assert facts.subject("left-kidney").side == Side.LEFT
    assert facts.subject("mass").side == Side.NONE
    assert not facts.of("mass", "side")


def test_midline_of_the_body_is_found_off_the_scanners_middle() -> None:
    matrix = grid(SIZE, SPACING, None, (60, 0, 0))
    points = positions(matrix, SIZE)
    body = ellipsoid(points, (60, 0, 0), (150, 110, 400))
    mass = ellipsoid(points, (30, 20, 0), (10, 10, 10))
    volume = with_values(volume_of(SIZE, matrix), (body, 40))
    assert measure(volume, [record("renal mass", mass)]).of("renal-mass", "side")[0].value == "left"


def test_unpaired_organs_lend_no_side() -> None:
    matrix = grid(SIZE, SPACING)
    points = positions(matrix, SIZE)
    liver, lesion = ellipsoid(points, (60, 0, 0), (70, 60, 60)), ellipsoid(points, (80, 10, 10), (10, 10, 10))
    cord = ellipsoid(points, (0, -60, 0), (6, 6, 120))
    facts = measure(
        volume_of(SIZE, matrix), [record("liver", liver), record("mass", lesion), record("spinal cord", cord)]
    )
    assert facts.subject("mass").organ == "liver"
    assert facts.subject("mass").side == Side.NONE


def _spheres(gap_mm: float, spacing: tuple[float, float, float], directions: FloatArray) -> Facts:
    size = tuple(int(90 / step) for step in spacing)
    matrix = grid(size, spacing, directions)
    points = positions(matrix, size)
    axis = np.array([1.0, 2.0, 0.5]) / np.linalg.norm([1.0, 2.0, 0.5])
    first, second = -axis * 12, axis * (gap_mm + 8 + 10 - 12)
    records = [
        record("mass", ellipsoid(points, first, (8, 8, 8))),
        record("aorta", ellipsoid(points, second, (10, 10, 10))),
    ]
    return measure(volume_of(size, matrix), records)


@pytest.mark.parametrize("gap", [6.0, 14.0])
@pytest.mark.parametrize("directions", [np.eye(3), turned(0, 25) @ turned(1, 10)], ids=["straight", "oblique"])
def test_distance_between_surfaces(gap: float, directions: FloatArray) -> None:
    facts = _spheres(gap, (0.9, 0.9, 1.2), directions)
    assert facts.of("mass", "distance")[0].value == pytest.approx(gap, abs=0.9)
    assert facts.of("mass", "distance")[0].of == "aorta"


def test_far_things_are_not_near() -> None:
    assert not _spheres(30.0, (1.0, 1.0, 1.5), np.eye(3)).of("mass", "distance")


def test_touching_is_adjacent() -> None:
    size = (40, 30, 20)
    mask = np.zeros((20, 30, 40), bool)
    other = mask.copy()
    mask[5:12, 10:18, 10:18] = True
    other[5:12, 10:18, 18:30] = True
    volume = volume_of(size, grid(size, (1, 1, 2)))
    facts = measure(volume, [record("mass", mask), record("aorta", other)])
    assert facts.of("mass", "adjacent")[0].of == "aorta"
    apart = np.roll(other, 1, axis=2)
    assert measure(volume, [record("mass", mask), record("aorta", apart)]).of("mass", "distance")[0].value == 1.0


def test_depth_below_the_surface_of_the_organ() -> None:
    size = (100, 100, 60)
    matrix = grid(size, (1.0, 1.0, 1.5))
    points = positions(matrix, size)
    liver, lesion = ellipsoid(points, (0, 0, 0), (40, 40, 40)), ellipsoid(points, (20, 0, 0), (8, 8, 8))
    for organ in (liver, liver & ~lesion):
        facts = measure(volume_of(size, matrix), [record("liver", organ), record("mass", lesion)])
        assert facts.of("mass", "depth")[0].value == pytest.approx(12, abs=1.0)


def test_lobes_give_the_region_and_vertebrae_the_level() -> None:
    matrix = grid(SIZE, SPACING)
    points = positions(matrix, SIZE)
    lung, nodule = ellipsoid(points, *ORGANS["Right lung"]), ellipsoid(points, *NODULE)
    upper = lung & (points[..., 2] > 20)
    cord = [
        record(f"vertebrae_{name}", ellipsoid(points, (0, -60, s), (15, 15, 10)))
        for name, s in (("T4", 85), ("T5", 61), ("T6", 37))
    ]
    records = [record("lung_upper_lobe_right", upper), record("lung_lower_lobe_right", lung & ~upper), *cord]
    facts = measure(volume_of(SIZE, matrix), [*records, record("nodule", nodule)])
    found = facts.subject("nodule")
    assert (found.organ, found.side, found.region) == ("lung", Side.RIGHT, "upper lobe")
    assert facts.of("nodule", "level")[0].value == "T5"
    bone = record("bone metastasis", ellipsoid(points, (2, -60, 61), (6, 6, 6)))
    found = measure(volume_of(SIZE, matrix), [*cord, bone]).subject("bone-metastasis")
    assert (found.organ, found.region) == ("vertebra", "T5")


def test_a_finding_called_by_another_organ_is_said() -> None:
    size = (60, 60, 30)
    points = positions(matrix := grid(size, (2, 2, 3)), size)
    records = [
        record("spleen", ellipsoid(points, (25, 0, 0), (25, 25, 25))),
        record("liver", ellipsoid(points, (-28, 0, 0), (25, 25, 25))),
        record("liver lesion", ellipsoid(points, (25, 0, 0), (8, 8, 8))),
    ]
    facts = measure(volume_of(size, matrix), records)
    assert any("although it is called a finding of the liver" in sentence for sentence in facts.warnings)


# --- Coverage ---------------------------------------------------------------------------------------------------------


def _chest(sex: str = "") -> Facts:
    matrix = grid(SIZE, SPACING)
    points = positions(matrix, SIZE)
    records = [record(name, ellipsoid(points, *shape)) for name, shape in ORGANS.items()]
    return measure(volume_of(SIZE, matrix), records, header=ImageHeader(sex=sex))


def test_coverage_of_a_chest() -> None:
    facts = _chest()
    states = {s.organ: facts.of(s.id, "coverage")[0].value for s in facts.subjects if facts.of(s.id, "coverage")}
    assert states["lung"] == "assessed"
    assert states["heart"] == states["mediastinum"] == "in_view_not_assessed"
    assert states["brain"] == states["prostate"] == states["urinary bladder"] == "outside_view"
    assert states.get("kidney") != "in_view_not_assessed"


def test_vertebrae_cut_at_the_top_tell_no_height_however_the_image_is_stored() -> None:
    """The upper of two is cut to a sliver, whose centre is not the vertebra's."""
    size = (20, 30, 40)  # R, A, S
    mask = np.zeros(size[::-1], bool)
    mask[39, 10:20, 8:12] = True
    whole = np.zeros_like(mask)
    whole[5:11, 10:20, 8:12] = True

    def coverage(order: tuple[int, int, int]) -> list[tuple[str, object]]:
        matrix = grid(size, (5, 5, 6))
        matrix[:3, :3] = matrix[:3, 2::-1][:, order][:, ::-1]
        volume = Volume(volume_of(size, matrix).array.transpose(order), matrix, "CT")
        names = ("vertebrae_T12", mask), ("vertebrae_L1", whole)
        facts = measure(volume, [record(name, np.ascontiguousarray(m.transpose(order))) for name, m in names])
        return sorted((f.subject, f.value) for f in facts.facts if f.quantity == "coverage")

    assert coverage((0, 1, 2)) == coverage((1, 0, 2)) == coverage((2, 1, 0))


def test_organs_of_the_other_sex_are_only_outside() -> None:
    size = (60, 60, 60)
    points = positions(matrix := grid(size, (5, 5, 6)), size)
    records = [record("bladder", ellipsoid(points, (0, 0, -40), (30, 30, 30)))]
    for sex, organ, absent in (("M", "prostate", "uterus"), ("F", "uterus", "prostate")):
        facts = measure(volume_of(size, matrix), records, header=ImageHeader(sex=sex))
        named = {s.organ for s in facts.subjects if facts.of(s.id, "coverage")}
        assert organ in named
        assert absent not in named


def test_body_part_of_the_header_tells_what_is_far() -> None:
    mask = np.zeros((20, 40, 40), bool)
    mask[5:9, 10:15, 10:15] = True
    volume = volume_of((40, 40, 20), grid((40, 40, 20), (5, 5, 10)))
    facts = measure(volume, [record("mass", mask)], header=ImageHeader(body_part="brain"))
    states = {s.organ: facts.of(s.id, "coverage")[0].value for s in facts.subjects if facts.of(s.id, "coverage")}
    assert states["lung"] == states["liver"] == "outside_view"
    assert "brain" not in states
    assert not [f for f in measure(volume, [record("mass", mask)]).facts if f.quantity == "coverage"]


def test_depths_grow_from_head_to_pelvis() -> None:
    levels = [-8, 1, 4.5, 8, 14, 20, 22, 25, 30]
    depths = [depth_mm(level) for level in levels]
    assert depths == sorted(depths)
    assert depth_mm(8) == pytest.approx(7 * 17)
    assert depth_mm(20) - depth_mm(8) == pytest.approx(12 * 23.5)


# --- Counts -----------------------------------------------------------------------------------------------------------


def _nodules(names: list[str], searched: list[Search]) -> Facts:
    matrix = grid(SIZE, SPACING)
    points = positions(matrix, SIZE)
    centres = ((75, 10, 60), (60, -20, -20), (-70, 10, 0))
    records = [record(name, ellipsoid(points, shape, (9, 9, 10))) for name, shape in zip(names, centres, strict=False)]
    lungs = [record(name, ellipsoid(points, *shape)) for name, shape in ORGANS.items()]
    return measure(volume_of(SIZE, matrix), [*lungs, *records], searched=searched)


def test_findings_of_one_organ_are_counted_together_whatever_their_side() -> None:
    matrix = grid(SIZE, SPACING)
    points = positions(matrix, SIZE)
    records = [record("liver", ellipsoid(points, (60, 0, 0), (70, 60, 60)))]
    for name, r in (("liver lesion segment II", 30), ("liver lesion segment VI", 90)):
        records.append(record(name, ellipsoid(points, (r, 0, 0), (10, 10, 10))))
    facts = measure(volume_of(SIZE, matrix), records)
    assert [(f.subject, f.value) for f in facts.facts if f.quantity == "count"] == [("liver", 2)]
    assert facts.subject("liver-lesion-segment-ii").side == Side.LEFT


def test_an_effusion_has_a_volume_but_no_diameter() -> None:
    matrix = grid(SIZE, SPACING)
    mask = ellipsoid(positions(matrix, SIZE), (60, -40, -60), (30, 20, 30))
    facts = measure(volume_of(SIZE, matrix), [record("right pleural effusion", mask)])
    assert facts.of("right-pleural-effusion", "volume")
    assert not facts.of("right-pleural-effusion", "long_axis")


def test_only_a_search_makes_a_count_exhaustive() -> None:
    facts = _nodules(["nodule 1", "nodule 2"], [])
    count = facts.of("right-lung", "count")[0]
    assert (count.value, count.of, count.exhaustive) == (2, "nodule", False)
    assert facts.of("right-lung", "multiplicity")[0].value == "multiple"
    assert not [f for f in facts.facts if f.value == "searched_not_found"]
    searched = _nodules(["nodule 1"], [Search("lung", "nodule", by="a detector")])
    assert searched.of("right-lung", "count")[0].exhaustive
    assert searched.of("right-lung", "multiplicity")[0].value == "single"
    gone = searched.of("left-lung", "presence")[0]
    assert (gone.value, gone.of) == ("searched_not_found", "nodule")
    assert "a detector" in gone.source.method  # type: ignore[union-attr]


def test_a_single_drawn_finding_may_have_others() -> None:
    assert not _nodules(["nodule 1"], []).of("right-lung", "multiplicity")


def test_a_plural_name_is_measured_part_by_part() -> None:
    matrix = grid(SIZE, SPACING)
    points = positions(matrix, SIZE)
    both = ellipsoid(points, (75, 10, 60), (14, 14, 14)) | ellipsoid(points, (60, -20, -20), (9, 9, 10))
    lung = record("Right lung", ellipsoid(points, *ORGANS["Right lung"]))
    volume = volume_of(SIZE, matrix)
    facts = measure(volume, [lung, record("lung nodules", both)])
    assert facts.of("lung-nodules-1", "long_axis")[0].value > facts.of("lung-nodules-2", "long_axis")[0].value  # type: ignore[operator]
    assert facts.of("right-lung", "count")[0].value == 2
    one = measure(volume, [lung, record("lung nodule", both)])
    assert one.of("lung-nodule", "parts")[0].value == 2
    assert any("separate parts" in sentence for sentence in one.warnings)


def test_searches_are_read_from_text() -> None:
    assert Search.parse("lung:nodule") == Search("lung", "nodule", by="stated")
    assert Search.parse("left kidney: stone").side == Side.LEFT
    for text in ("lung", "lung:", ":nodule", "loong:nodule"):
        with pytest.raises(MeasurementError):
            Search.parse(text)


def test_facts_about_the_image() -> None:
    size = (20, 30, 12)
    volume = volume_of(size, grid(size, (0.7, 0.9, 4.0), turned(0, 10)))
    mask = np.zeros((12, 30, 20), bool)
    mask[4:6, 5:9, 5:9] = True
    facts = measure(Volume(volume.array, volume.ijk_to_ras, "CT"), [record("mass", mask)])
    values = {(f.quantity, f.of): f.value for f in facts.of("image")}
    assert values["modality", ""] == "CT"
    assert values["plane", ""] == "axial"
    assert values["slice_spacing", ""] == pytest.approx(4.0)
    assert values["pixel_spacing", ""] == pytest.approx(0.9)
    assert values["slices", ""] == 12
    assert values["comparison", ""] is False
    assert ("contrast", "") not in values
