# SPDX-License-Identifier: Apache-2.0
"""Names to codes: what is understood, what is refused, and that the codes can be right."""

from __future__ import annotations

import json

import pytest
from FoundationSegLib.resources import resource_folder
from FoundationSegLib.terminology import _words, lookup

DATA = json.loads((resource_folder("Terminology") / "structures.json").read_text(encoding="utf-8"))
GENERAL = "Segmentation category and type - 3D Slicer General Anatomy list"
REGIONS = "Anatomic codes - DICOM master list"


@pytest.mark.parametrize("name", ["Left kidney", "kidney_left", "L kidney", "KIDNEY (L)", "Kidney_L", "left  Kidneys"])
def test_names_of_one_thing_give_slicers_entry(name):
    found = lookup(name)
    assert found is not None
    assert found.entry == (
        f"{GENERAL}~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left~{REGIONS}~^^~^^"
    )
    assert found.color == pytest.approx((185 / 255, 102 / 255, 83 / 255))


@pytest.mark.parametrize(
    ("name", "code", "side"),
    [
        ("Right kidney", "64033007", "24028007"),
        ("kidney", "64033007", ""),
        ("both kidneys", "64033007", "51440002"),
        ("liver", "10200004", ""),
        ("SpinalCord", "2748008", ""),
        ("spinal_cord", "2748008", ""),
        ("lung_upper_lobe_left", "45653009", "7771000"),
        ("upper lobe of the left lung", "45653009", "7771000"),
        ("lung_middle_lobe_right", "72481006", ""),
        ("heart_ventricle_left", "87878005", ""),
        ("right atrium", "73829009", ""),
        ("vertebrae_L1", "66794005", ""),
        ("T12", "23215003", ""),
        ("rib_left_4", "25523003", "7771000"),
        ("Parotid_R", "45289007", "24028007"),
        ("hippocampus left", "5366008", "7771000"),
        ("coronary arteries", "41801008", ""),
        ("oesophagus", "32849002", ""),
        ("tumour", "108369006", ""),
        ("edema", "79654002", ""),
    ],
)
def test_structures(name, code, side):
    found = lookup(name)
    assert found is not None
    assert (found.type.value, found.type_modifier.value) == (code, side)


@pytest.mark.parametrize(
    ("name", "finding", "region", "side"),
    [
        ("liver cyst", "367643001", "10200004", ""),
        ("tumor of the left lung", "108369006", "39607008", "7771000"),
        ("left lung tumour", "108369006", "39607008", "7771000"),
        ("kidney_cyst_right", "367643001", "64033007", "24028007"),
        ("brain metastases", "14799000", "12738006", ""),
        ("primary tumor of the tongue", "86049000", "21974007", ""),
    ],
)
def test_findings_with_their_place(name, finding, region, side):
    found = lookup(name)
    assert found is not None
    assert (found.type.value, found.region.value, found.region_modifier.value) == (finding, region, side)
    assert found.type_modifier.value == ""
    assert found.category.meaning == "Morphologically Altered Structure"


@pytest.mark.parametrize(
    "name",
    ["", "the", "left", "Segment 1", "left liver", "left right kidney", "kidney stone", "tumor of nothing", "gtv"],
)
def test_what_is_not_understood_whole_gets_no_code(name):
    assert lookup(name) is None


def test_every_structure_is_found_by_each_of_its_names():
    for line in DATA["structures"]:
        for name in (line["name"], *line.get("synonyms", ())):
            found = lookup(name)
            assert found is not None
            assert list(found.type) == line["code"], name


def test_no_name_means_two_things():
    names = [name for line in DATA["structures"] for name in (line["name"], *line.get("synonyms", ()))]
    assert len(names) > 250
    assert len({_words(name) for name in names}) == len(names)


def test_entries_have_the_form_that_slicer_reads():
    slicerio = pytest.importorskip("slicerio.segmentation")
    for line in DATA["structures"]:
        found = lookup(line["name"])
        parts = found.entry.split("~")
        assert len(parts) == 7
        assert all(part.count("^") == 2 for n, part in enumerate(parts) if n not in (0, 4))
        assert slicerio.terminology_entry_to_string(slicerio.terminology_entry_from_string(found.entry)) == found.entry


def test_snomed_identifiers_have_right_check_digits():
    codes = [*DATA["categories"].values(), *DATA["sides"].values(), *(line["code"] for line in DATA["structures"])]
    for scheme, value, _ in codes:
        assert scheme == "SCT"
        assert _verhoeff(value) == 0, value


def test_colours_are_colours():
    for line in DATA["structures"]:
        assert len(line["color"]) == 3
        assert all(0 <= channel <= 255 for channel in line["color"])


def _verhoeff(digits: str) -> int:
    """Zero for a number whose last digit is its Verhoeff check digit, as SNOMED CT's are."""

    def times(a: int, b: int) -> int:
        """The dihedral group of the pentagon."""
        turn = (a % 5 + (b % 5 if a < 5 else -b % 5)) % 5
        return turn + 5 * ((a >= 5) != (b >= 5))

    step = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    check = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit)
        for _ in range(position % 8):
            value = step[value]
        check = times(check, value)
    return check
