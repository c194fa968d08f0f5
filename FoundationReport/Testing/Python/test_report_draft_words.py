# SPDX-License-Identifier: Apache-2.0
"""The draft's less frequent sentences: technique, comparison, neighbours, doubling time, and what is not asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from FoundationReportLib.draft import draft
from FoundationReportLib.model import Fact, Kind, Side, Source, Subject
from FoundationReportLib.templates import template_from_data
from test_report_draft import NODULE, f, findings, sized, study, texts

SIZE = sized("n1", 9.0, 8.0)
NODE = Subject("k", "k", Kind.NODE, "mediastinum", Side.NONE, "lymph node", "subcarinal")


def test_the_phase_stands_beside_the_contrast() -> None:
    facts = study(f("image", "contrast", "with"), f("image", "phase", "portal venous"))
    line = "CT with intravenous contrast in the portal venous phase."
    assert texts(draft(facts, "generic"), "technique") == [line]


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ((f("image", "interval", 1.0, "d"),), "Compared with the prior study from 1 day earlier."),
        ((f("image", "interval", 2.0, "d"),), "Compared with the prior study from 2 days earlier."),
        ((f("image", "comparison", True),), "Compared with the prior study."),
        # A change that was measured says that there was something to compare with.
        ((NODULE, SIZE, f("n1", "trend", "new")), "Compared with the prior study."),
        ((f("image", "comparison", False),), "No prior study was available for comparison."),
    ],
)
def test_comparison(facts: tuple[Subject | Fact, ...], line: str) -> None:
    assert texts(draft(study(*facts), "generic"), "comparison") == [line]


def test_the_nearest_structure_is_the_one_that_is_named() -> None:
    organs = [Subject(name, name, Kind.ORGAN, name) for name in ("heart", "pleura")]
    near = [f("n1", "distance", value, "mm", of=name) for name, value in (("heart", 14.0), ("pleura", 3.0))]
    assert "A 9 x 8 mm nodule is present in the right upper lobe, 3 mm from the pleura." in findings(
        *organs, NODULE, SIZE, *near
    )


def test_of_many_contacts_four_are_named() -> None:
    names = ("duodenum", "portal vein", "stomach", "spleen", "colon")
    organs = [Subject(name, name, Kind.ORGAN, name) for name in names]
    mass = Subject("m", "m", Kind.LESION, "pancreas", Side.NONE, "mass", "head")
    touching = [f("m", "adjacent", True, of=name) for name in names]
    lines = findings(*organs, mass, sized("m", 31.0, 24.0), *touching, template="ct-abdomen")
    assert [line.rpartition(" the ")[2] for line in lines if "abut" in line] == [f"{name}." for name in names[:4]]


@pytest.mark.parametrize(("trend", "doubles"), [("larger", True), ("smaller", False), ("unchanged", False)])
def test_only_what_grows_doubles(trend: str, doubles: bool) -> None:
    lines = findings(NODULE, SIZE, f("n1", "trend", trend), f("n1", "doubling_time", 120.0, "d"))
    assert any("prior study" in line for line in lines)
    assert any("doubling time of 120 days" in line for line in lines) is doubles


@pytest.mark.parametrize(("by", "said"), [("algorithm", True), ("human", False)])
def test_targets_that_nobody_chose_are_called_automatic(by: str, said: bool) -> None:
    target = Fact("t", "n1", "target", True, source=Source(method="RECIST 1.1", version="1", by=by))
    report = draft(study(NODULE, sized("n1", 20.0, 15.0), target), "oncology")
    line = "The target lesion was chosen automatically, as the largest measurable one at baseline."
    assert (line in texts(report, "targets")) is said


def test_a_count_of_all_nodes_leaves_no_further_ones_to_ask_for() -> None:
    space = Subject("space", "space", Kind.ORGAN, "mediastinum")
    for exhaustive in (False, True):
        count = f("space", "count", 1, "1", "lymph node", exhaustive=exhaustive)
        lines = findings(space, NODE, sized("k", 12.0, 11.0), count)
        assert ("Further lymph nodes: [not assessed]" in lines) is not exhaustive


def test_nothing_is_asked_of_an_organ_outside_the_field_of_view() -> None:
    liver = Subject("liver", "Liver", Kind.ORGAN, "liver")
    lines = findings(liver, f("liver", "coverage", "outside_view"), template="ct-abdomen")
    assert "The liver is outside the field of view." in lines
    assert not any("[not assessed]" in line and "liver" in line.lower() for line in lines)
    right, left = (Subject(f"k-{s}", "k", Kind.ORGAN, "kidney", s) for s in (Side.RIGHT, Side.LEFT))
    outside, searched = f(right.id, "coverage", "outside_view"), f(left.id, "presence", "searched_not_found")
    asked = "Focal renal lesions: [not assessed]"
    assert asked in findings(right, left, outside, template="ct-abdomen")  # of the left one, which nothing searched
    assert asked not in findings(right, left, outside, replace(searched, of="lesion"), template="ct-abdomen")


def test_a_large_hemangioma_comes_after_a_small_nodule() -> None:
    benign = Subject("h", "h", Kind.LESION, "liver", Side.NONE, "hemangioma")
    report = draft(study(benign, NODULE, sized("h", 60.0, 50.0), SIZE), "ct-chest")
    assert texts(report, "impression")[:2] == [
        "9 x 8 mm nodule in the right upper lobe.",
        "60 x 50 mm hemangioma in the liver.",
    ]


def test_a_category_of_the_examination_that_is_stated_is_not_suggested_for_another_lesion() -> None:
    other = replace(NODULE, id="n2", side=Side.LEFT)
    stated = Fact("c7", "n1", "category", "4A", of="Lung-RADS v2022")
    answers = {"screening": True, "density": "solid", "behaviour": "baseline"}
    report = draft(study(NODULE, other, SIZE, sized("n2", 20.0, 18.0), stated), "ct-chest", answers=answers)
    assert [fact.id for fact in report.facts.facts if fact.quantity == "category"] == ["c7"]


def test_a_field_of_an_organ_is_filled_from_its_facts() -> None:
    fields = [{"item": "field", "label": {"en": name}, "organ": name.lower()} for name in ("Liver", "Spleen")]
    data = {
        "schema": "foundation-report/template/1",
        "id": "mine",
        "version": "1.0.0",
        "title": {"en": "Mine"},
        "sections": [{"key": "findings", "items": fields}],
    }
    liver = Subject("liver", "Liver", Kind.ORGAN, "liver")
    report = draft(study(liver, f("liver", "volume", 1500.0, "mL")), template_from_data(data))
    assert texts(report, "findings") == ["The liver has a volume of 1500 mL.", "Spleen: [not assessed]"]
