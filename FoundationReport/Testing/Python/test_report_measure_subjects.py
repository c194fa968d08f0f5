# SPDX-License-Identifier: Apache-2.0
"""What a segment's name and coded terms say; the list of quantities, its units and its rounding."""

from __future__ import annotations

import pytest
from FoundationReportLib.measure.quantities import (
    HU,
    ML,
    MM,
    ONE,
    PERCENT,
    QUANTITIES,
    SUV,
    UNITS,
    Dimension,
    converted,
    dimension_of,
    display,
    rounded,
)
from FoundationReportLib.measure.subjects import anatomy, describe, make_subject, unique_id
from FoundationReportLib.model import Fact, Kind, Side
from FoundationSegLib.terminology import lookup
from hypothesis import given
from hypothesis import strategies as st

NAMES = [
    ("Liver", (Kind.ORGAN, "liver", Side.NONE, "", "")),
    ("kidney_left", (Kind.ORGAN, "kidney", Side.LEFT, "", "")),
    ("lung_r", (Kind.ORGAN, "lung", Side.RIGHT, "", "")),
    ("lung_upper_lobe_left", (Kind.ORGAN, "lung", Side.LEFT, "", "upper lobe")),
    ("lung_middle_lobe_right", (Kind.ORGAN, "lung", Side.RIGHT, "", "middle lobe")),
    ("vertebrae_L2", (Kind.ORGAN, "vertebra", Side.NONE, "", "L2")),
    ("LungNodule2", (Kind.LESION, "lung", Side.NONE, "nodule", "")),
    ("nodule RUL", (Kind.LESION, "lung", Side.RIGHT, "nodule", "upper lobe")),
    ("hypodense lesion segment VI of liver", (Kind.LESION, "liver", Side.RIGHT, "lesion", "segment VI")),
    ("left liver lobe metastasis", (Kind.LESION, "liver", Side.LEFT, "metastasis", "left lobe")),
    ("left renal cyst", (Kind.LESION, "kidney", Side.LEFT, "cyst", "")),
    ("cyst of the left kidney", (Kind.LESION, "kidney", Side.LEFT, "cyst", "")),
    ("brain metastasis 3 left frontal lobe", (Kind.LESION, "brain", Side.LEFT, "metastasis", "frontal lobe")),
    ("GTV-1", (Kind.LESION, "", Side.NONE, "tumor", "")),
    ("Lesion 1", (Kind.LESION, "", Side.NONE, "lesion", "")),
    ("lesion T1", (Kind.LESION, "", Side.NONE, "lesion", "")),
    ("LN 4R", (Kind.NODE, "", Side.RIGHT, "lymph node", "station 4R")),
    ("axillary nodes left", (Kind.NODE, "", Side.LEFT, "lymph node", "axillary")),
    ("mediastinal lymph node 2", (Kind.NODE, "mediastinum", Side.NONE, "lymph node", "mediastinal")),
    ("left pleural effusion", (Kind.OTHER, "pleura", Side.LEFT, "effusion", "")),
    ("Segment_1", (Kind.OTHER, "", Side.NONE, "", "")),
    ("wm_l", (Kind.OTHER, "", Side.LEFT, "", "")),
]


@pytest.mark.parametrize(("name", "expected"), NAMES, ids=[name for name, _ in NAMES])
def test_names(name: str, expected: tuple[Kind, str, Side, str, str]) -> None:
    found = describe(name)
    assert (found.kind, found.organ, found.side, found.finding, found.region) == expected


@pytest.mark.parametrize("name", ["lung nodules", "liver metastases", "axillary nodes left", "brain mets"])
def test_plurals(name: str) -> None:
    assert describe(name).several
    assert not describe(
        name.replace("nodules", "nodule")
        .replace("metastases", "metastasis")
        .replace("nodes", "node")
        .replace("mets", "met")
    ).several


def test_coded_terms_win_over_a_name_that_says_nothing() -> None:
    term = lookup("cyst of the left kidney")
    assert term is not None
    found = describe("Segment_3", term.entry)
    assert (found.kind, found.organ, found.side, found.finding) == (Kind.LESION, "kidney", Side.LEFT, "cyst")
    assert found.code is not None
    assert found.code.value == "367643001"


def test_slicers_default_term_says_nothing() -> None:
    term = lookup("tissue")
    assert term is not None
    assert describe("Liver", term.entry).organ == "liver"
    assert describe("Liver", "damaged~~").organ == "liver"


def test_contradicting_terms_are_said() -> None:
    term = lookup("right kidney")
    assert term is not None
    found = describe("left kidney", term.entry)
    assert found.side == Side.RIGHT
    assert "left" in found.conflict


@given(st.text(max_size=40))
def test_no_name_fails(name: str) -> None:
    subject = make_subject(name, describe(name), taken=("image",))
    assert subject.id
    assert subject.id != "image"


def test_ids_are_unique() -> None:
    assert unique_id("Liver", []) == "liver"
    assert unique_id("Liver", ["liver", "liver-2"]) == "liver-3"
    assert unique_id("image", []) == "image-2"
    assert unique_id("Leber(ü)", []) == "leber"


def test_anatomy_is_consistent() -> None:
    data = anatomy()
    assert {"liver", "kidney", "lung", "brain", "urinary bladder"} <= set(data.organs)
    for organ in data.organs.values():
        assert organ.levels is None or organ.levels[0] < organ.levels[1]
        assert lookup(organ.name) is None or organ.code.value in data.places
    assert list(data.vertebrae.values()) == list(range(1, 26))
    words = [word for finding in data.findings.values() for word in finding.words]
    assert len(words) == len(set(words))


# --- Quantities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (Fact("f", "s", "long_axis", 23.5, MM), "24 mm"),
        (Fact("f", "s", "volume", 5.654, ML), "5.7 mL"),
        (Fact("f", "s", "volume", 0.0512, ML), "0.051 mL"),
        (Fact("f", "s", "volume", 1523.4, ML), "1523 mL"),
        (Fact("f", "s", "mean", -12.4, HU), "-12 HU"),
        (Fact("f", "s", "mean", -0.2, HU), "0 HU"),
        (Fact("f", "s", "mean", 0.01234, ONE), "0.012"),
        (Fact("f", "s", "suv_max", 8.44, SUV), "8.4"),
        (Fact("f", "s", "change_percent", -33.3, PERCENT, "long_axis"), "-33%"),
        (Fact("f", "s", "prior", 19.6, MM, "long_axis"), "20 mm"),
        (Fact("f", "s", "mean_diameter", 7.25, MM), "7.3 mm"),
        (Fact("f", "s", "side", "left"), "left"),
        (Fact("f", "s", "inside", True), "yes"),
    ],
)
def test_display(fact: Fact, text: str) -> None:
    assert display(fact) == text


def test_display_in_another_unit() -> None:
    assert display(Fact("f", "s", "long_axis", 23.4, MM), "cm") == "2.3 cm"
    assert display(Fact("f", "s", "volume", 1523.4, ML), "L") == "1.5 L"
    with pytest.raises(KeyError):
        display(Fact("f", "s", "long_axis", 23.4, MM), ML)


@given(st.floats(0.1, 1e5))
def test_rounding_stays_within_the_checks_tolerance(value: float) -> None:
    """What the draft prints must agree with the fact: 5% of a volume, 1 mm of a length."""
    assert float(rounded(value, None)) == pytest.approx(value, rel=0.051)
    assert float(rounded(value, 0)) == pytest.approx(value, abs=0.5 + 1e-6)


def test_conversions() -> None:
    assert converted(2.4, "cm", MM) == pytest.approx(24)
    assert converted(3, "cm3", ML) == 3
    assert converted(1, "L", ML) == 1000
    assert converted(1, MM, ML) is None
    assert converted(1, ONE, "kV") is None
    assert converted(7, "furlong", "furlong") == 7


def test_every_quantity_is_complete() -> None:
    for key, quantity in QUANTITIES.items():
        assert quantity.key == key
        assert quantity.unit in ("", *UNITS)
        numeric = quantity.dimension not in (Dimension.TEXT, Dimension.FLAG, Dimension.OTHER)
        assert bool(quantity.unit) == numeric or quantity.dimension == Dimension.OTHER
    assert dimension_of(Fact("f", "s", "change", 3, ML, "volume")) == Dimension.VOLUME
    assert dimension_of(Fact("f", "s", "mean", 3, ONE)) == Dimension.INTENSITY


def test_spellings_are_not_shared_between_units() -> None:
    spellings = [word for unit in UNITS.values() for word in unit.spellings]
    assert len(spellings) == len(set(spellings))
