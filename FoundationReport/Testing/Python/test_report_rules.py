# SPDX-License-Identifier: Apache-2.0
"""Category rules: thresholds from both sides, what is open while something is not known, where numbers are from."""

from __future__ import annotations

from typing import Any

import pytest
from FoundationReportLib.errors import TemplateError
from FoundationReportLib.model import Fact, Facts, Kind, Side, Subject
from FoundationReportLib.rules import Suggestion, parse_answers, rule, rules, suggest
from FoundationReportLib.rules.recist import Candidate, measurable, overall_response, select_targets, target_response
from FoundationReportLib.rules.tables import Interval, Row, Table, decide

IMAGE = Subject("image", "image", Kind.IMAGE)


def nodule(name: str = "n1", side: Side = Side.RIGHT) -> Subject:
    return Subject(name, name, Kind.LESION, "lung", side, "nodule")


def study(*subjects: Subject, facts: dict[tuple[str, str], Any], modality: str = "CT", of: str = "") -> Facts:
    """Facts by (subject, quantity); "quantity:of" names what it is of."""
    made = []
    for n, ((subject, quantity), value) in enumerate(facts.items(), start=1):
        key, _, what = quantity.partition(":")
        made.append(Fact(f"f{n}", subject, key, value, of=what))
    return Facts((IMAGE, *subjects), tuple(made), modality)


def one(name: str, facts: Facts, **answers: Any) -> Suggestion:
    found = suggest(facts, answers, [name])
    assert len(found) == 1, found
    return found[0]


def single(long_axis: float, short_axis: float, more: dict[tuple[str, str], Any] | None = None) -> Facts:
    facts = {("n1", "long_axis"): long_axis, ("n1", "short_axis"): short_axis, **(more or {})}
    return study(nodule(), facts=facts)


# --- Fleischner 2017 -------------------------------------------------------------------------------------------------

ADULT = {"incidental": True, "age": 60.0, "multiple": False}


@pytest.mark.parametrize(
    ("long_axis", "short_axis", "density", "risk", "outcome"),
    [
        # The mean is rounded to the whole millimetre: 5.4 is 5, 5.5 is 6; 8.4 is 8, 8.5 is 9.
        (5.8, 5.0, "solid", "low", "none"),
        (5.8, 5.0, "solid", "high", "optional-12"),
        (6.0, 5.0, "solid", "low", "6-12-consider-18-24"),
        (8.8, 8.0, "solid", "low", "6-12-consider-18-24"),
        (8.8, 8.0, "solid", "high", "6-12-then-18-24"),
        (9.0, 8.0, "solid", "low", "consider-3-pet-tissue"),
        (9.0, 8.0, "solid", "high", "consider-3-pet-tissue"),
        (5.0, 5.0, "ground-glass", "high", "none"),
        (6.0, 6.0, "ground-glass", "low", "6-12-then-2-years"),
        (5.0, 5.0, "part-solid", "low", "none"),
        (6.0, 6.0, "part-solid", "low", "3-6-then-yearly"),
    ],
)
def test_fleischner_single(long_axis: float, short_axis: float, density: str, risk: str, outcome: str) -> None:
    item = one("fleischner-2017", single(long_axis, short_axis), density=density, risk=risk, **ADULT)
    assert (item.outcome, item.needs) == (outcome, ())
    assert item.because == ("f1", "f2")


@pytest.mark.parametrize(
    ("size", "density", "risk", "outcome"),
    [
        (5.0, "solid", "low", "none"),
        (5.0, "solid", "high", "optional-12"),
        (6.0, "solid", "low", "3-6-consider-18-24"),
        (12.0, "solid", "high", "3-6-then-18-24"),
        (5.0, "ground-glass", "low", "3-6-consider-2-and-4-years"),
        (6.0, "part-solid", "low", "3-6-then-most-suspicious"),
    ],
)
def test_fleischner_multiple(size: float, density: str, risk: str, outcome: str) -> None:
    answers = {**ADULT, "multiple": True}
    assert one("fleischner-2017", single(size, size), density=density, risk=risk, **answers).outcome == outcome


def test_two_measured_nodules_are_multiple_and_the_worse_one_decides() -> None:
    facts = study(
        nodule("n1"),
        nodule("n2", Side.LEFT),
        facts={
            ("n1", "long_axis"): 5.0,
            ("n1", "short_axis"): 5.0,
            ("n2", "long_axis"): 7.0,
            ("n2", "short_axis"): 7.0,
        },
    )
    item = one("fleischner-2017", facts, density="solid", risk="low", incidental=True, age=60.0)
    assert (item.outcome, item.subject) == ("3-6-consider-18-24", "n2")


@pytest.mark.parametrize("answers", [{"incidental": False}, {"age": 34.0}, {"screening": True}])
def test_fleischner_is_silent_where_it_does_not_apply(answers: dict[str, Any]) -> None:
    known = {**ADULT, "density": "solid", "risk": "low", **answers}
    if "screening" in answers:
        known.pop("incidental")
    assert suggest(single(7.0, 7.0), known, ["fleischner-2017"]) == ()


def test_fleischner_does_not_cover_masses() -> None:
    known = {**ADULT, "density": "solid", "risk": "low"}
    assert suggest(single(31.0, 30.0), known, ["fleischner-2017"]) == ()
    assert one("fleischner-2017", single(30.0, 30.0), **known).outcome == "consider-3-pet-tissue"


def test_only_what_decides_is_asked_for() -> None:
    # Above 8 mm a solid nodule is managed alike at any risk.
    large = one("fleischner-2017", single(12.0, 12.0), density="solid", **ADULT)
    assert (large.outcome, large.needs) == ("consider-3-pet-tissue", ())
    small = one("fleischner-2017", single(7.0, 7.0), density="solid", **ADULT)
    assert (small.outcome, small.needs) == ("", ("risk",))
    assert small.possible == ("6-12-consider-18-24", "6-12-then-18-24")
    unknown = one("fleischner-2017", single(7.0, 7.0))
    assert unknown.needs == ("incidental", "age", "density", "multiple", "risk")
    assert "" in unknown.possible


def test_an_exhaustive_count_says_whether_there_are_others() -> None:
    lung = Subject("lung-r", "Right lung", Kind.ORGAN, "lung", Side.RIGHT)
    axes = (Fact("f1", "n1", "long_axis", 7.0, "mm"), Fact("f2", "n1", "short_axis", 7.0, "mm"))
    count = Fact("f3", "lung-r", "count", 1, "1", "nodule", exhaustive=True)
    facts = Facts((IMAGE, lung, nodule()), (*axes, count), "CT")
    item = one("fleischner-2017", facts, density="solid", risk="low", incidental=True, age=60.0)
    assert (item.outcome, item.because) == ("6-12-consider-18-24", ("f1", "f2", "f3"))


# --- Lung-RADS v2022 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("diameter", "behaviour", "category"),
    [
        (5.9, "baseline", "2"), (6.0, "baseline", "3"), (7.9, "baseline", "3"), (8.0, "baseline", "4A"),
        (14.9, "baseline", "4A"), (15.0, "baseline", "4B"),
        (3.9, "new", "2"), (4.0, "new", "3"), (5.9, "new", "3"), (6.0, "new", "4A"), (7.9, "new", "4A"),
        (8.0, "new", "4B"), (7.9, "growing", "4A"), (8.0, "growing", "4B"), (5.0, "slow-growing", "4B"),
    ],
)  # fmt: skip
def test_lung_rads_solid(diameter: float, behaviour: str, category: str) -> None:
    facts = single(diameter, diameter)
    item = one("lung-rads-2022", facts, screening=True, density="solid", behaviour=behaviour)
    assert item.outcome == category


@pytest.mark.parametrize(
    ("diameter", "behaviour", "category"),
    [
        (29.9, "baseline", "2"), (29.9, "new", "2"), (29.9, "growing", "2"), (30.0, "baseline", "3"),
        (30.0, "new", "3"), (35.0, "stable", "2"), (35.0, "slow-growing", "2"),
    ],
)  # fmt: skip
def test_lung_rads_ground_glass(diameter: float, behaviour: str, category: str) -> None:
    item = one(
        "lung-rads-2022", single(diameter, diameter), screening=True, density="ground-glass", behaviour=behaviour
    )
    assert item.outcome == category


@pytest.mark.parametrize(
    ("diameter", "behaviour", "component", "component_behaviour", "category"),
    [
        (5.9, "baseline", 3.0, "baseline", "2"), (6.0, "baseline", 5.9, "baseline", "3"),
        (6.0, "baseline", 6.0, "baseline", "4A"), (12.0, "baseline", 7.9, "baseline", "4A"),
        (12.0, "baseline", 8.0, "baseline", "4B"), (5.9, "new", 3.9, "baseline", "3"),
        (9.0, "growing", 3.9, "growing", "4A"), (9.0, "growing", 4.0, "growing", "4B"),
    ],
)  # fmt: skip
def test_lung_rads_part_solid(
    diameter: float, behaviour: str, component: float, component_behaviour: str, category: str
) -> None:
    answers = {"solid_component_mm": component, "solid_component_behaviour": component_behaviour}
    facts = single(diameter, diameter)
    item = one("lung-rads-2022", facts, screening=True, density="part-solid", behaviour=behaviour, **answers)
    assert item.outcome == category


@pytest.mark.parametrize(("before", "category"), [("3", "2"), ("4A", "3"), ("4B", "4B"), ("2", "2")])
def test_lung_rads_steps_down_what_is_stable(before: str, category: str) -> None:
    facts = single(9.0, 9.0)
    item = one("lung-rads-2022", facts, screening=True, density="solid", behaviour="stable", previous_category=before)
    assert item.outcome == category


def test_lung_rads_measures_growth_within_a_year_itself() -> None:
    grown = {("n1", "change:long_axis"): 2.0, ("n1", "change:short_axis"): 1.2, ("image", "interval"): 365.0}
    assert one("lung-rads-2022", single(9.0, 7.0, grown), screening=True, density="solid").outcome == "4B"
    # 1.5 mm is not more than 1.5 mm.
    stable = {**grown, ("n1", "change:short_axis"): 1.0}
    item = one("lung-rads-2022", single(9.0, 7.0, stable), screening=True, density="solid", previous_category="3")
    assert item.outcome == "2"
    late = {**grown, ("image", "interval"): 500.0}
    assert "behaviour" in one("lung-rads-2022", single(9.0, 7.0, late), screening=True, density="solid").needs


def test_lung_rads_is_for_screening_only() -> None:
    answers = {"density": "solid", "behaviour": "baseline"}
    assert suggest(single(9.0, 9.0), {"screening": False, **answers}, ["lung-rads-2022"]) == ()
    assert suggest(single(9.0, 9.0), {"incidental": True, **answers}, ["lung-rads-2022"]) == ()
    assert one("lung-rads-2022", single(9.0, 9.0), **answers).needs == ("screening",)


def test_a_worse_nodule_makes_the_open_one_irrelevant() -> None:
    facts = study(
        nodule("n1"),
        nodule("n2", Side.LEFT),
        facts={(n, axis): size for n, size in (("n1", 20.0), ("n2", 7.0)) for axis in ("long_axis", "short_axis")},
    )
    answers = {"screening": True, "n1.density": "solid", "behaviour": "baseline"}
    assert one("lung-rads-2022", facts, **answers).outcome == "4B"
    answers = {"screening": True, "n2.density": "solid", "behaviour": "baseline"}
    still_open = one("lung-rads-2022", facts, **answers)
    assert (still_open.outcome, still_open.subject) == ("", "n1")
    assert still_open.possible == ("3", "4A", "4B")
    assert "density" in still_open.needs


# --- RECIST 1.1 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "baseline", "nadir", "response"),
    [
        (70.0, 100.0, None, "PR"), (70.1, 100.0, None, "SD"), (120.0, 100.0, None, "PD"), (119.9, 100.0, None, "SD"),
        # Against the nadir, and by 5 mm at least.
        (60.0, 100.0, 50.0, "PD"), (59.9, 100.0, 50.0, "PR"), (24.0, 100.0, 20.0, "PR"), (25.0, 100.0, 20.0, "PD"),
        (14.0, 11.0, 11.0, "SD"), (0.0, 100.0, 20.0, "CR"), (6.0, 100.0, 0.0, "PD"), (4.0, 100.0, 0.0, "PR"),
        # The baseline itself can be the smallest sum.
        (125.0, 100.0, 110.0, "PD"),
    ],
)  # fmt: skip
def test_recist_target_response(current: float, baseline: float, nadir: float | None, response: str) -> None:
    assert target_response(current, baseline, nadir) == response


def test_recist_nodes_below_10_mm_are_a_complete_response_though_the_sum_is_not_0() -> None:
    assert target_response(8.0, 40.0, 30.0, all_resolved=True) == "CR"
    assert target_response(8.0, 40.0, 30.0, all_resolved=False) == "PR"


@pytest.mark.parametrize(
    ("target", "new", "rest", "possible", "needs"),
    [
        ("CR", False, "complete", ("CR",), ()), ("CR", False, "none", ("CR",), ()),
        ("CR", False, "incomplete", ("PR",), ()), ("PR", False, "incomplete", ("PR",), ()),
        ("SD", False, "incomplete", ("SD",), ()), ("SD", False, "progression", ("PD",), ()),
        ("PR", True, "complete", ("PD",), ()), ("PD", None, None, ("PD",), ()),
        ("PR", None, "none", ("PR", "PD"), ("new_lesion",)),
        ("CR", False, None, ("CR", "PR", "PD"), ("non_target",)),
    ],
)  # fmt: skip
def test_recist_overall_response(
    target: str, new: bool | None, rest: str | None, possible: tuple[str, ...], needs: tuple[str, ...]
) -> None:
    decision = overall_response(target, new, rest)
    assert (decision.possible, decision.needs) == (possible, needs)


def test_recist_measurable() -> None:
    assert measurable(Kind.LESION, 10.0, 4.0, 5.0)
    assert not measurable(Kind.LESION, 9.9, 9.0, 5.0)
    assert not measurable(Kind.LESION, 15.0, 9.0, 8.0)  # twice the slice thickness
    assert measurable(Kind.LESION, 16.0, 9.0, 8.0)
    assert measurable(Kind.NODE, 30.0, 15.0, None)
    assert not measurable(Kind.NODE, 30.0, 14.9, None)


def test_recist_takes_the_largest_two_of_an_organ_and_five_in_all() -> None:
    lesions = [Candidate(f"l{n}", Kind.LESION, "liver", 20.0 + n, 10.0) for n in range(4)]
    lesions += [Candidate(f"m{n}", Kind.LESION, organ, 15.0, 10.0) for n, organ in enumerate(("lung", "bone", "brain"))]
    lesions += [Candidate("small", Kind.LESION, "spleen", 9.0, 8.0), Candidate("node", Kind.NODE, "nodes", 40.0, 14.0)]
    assert select_targets(lesions) == ("l3", "l2", "m0", "m1", "m2")


def test_recist_response_from_facts() -> None:
    sums = {("image", "sum_of_diameters"): 47.0, ("image", "baseline_sum"): 72.0, ("image", "nadir_sum"): 60.0}
    facts = study(nodule(), facts=sums)
    item = one("recist-1.1", facts, new_lesion=False, non_target="none")
    assert (item.outcome, item.because[:3], item.subject) == ("PR", ("f1", "f2", "f3"), "image")
    assert one("recist-1.1", facts).needs == ("new_lesion", "non_target")
    with_new = study(nodule(), facts={**sums, ("n1", "trend"): "new"})
    assert one("recist-1.1", with_new).outcome == "PD"


@pytest.mark.parametrize(
    ("short", "outcome"), [(15.0, "target"), (14.9, "non-target"), (10.0, "non-target"), (9.9, "small")]
)
def test_recist_node_size(short: float, outcome: str) -> None:
    node = Subject("node", "node", Kind.NODE, "mediastinum", Side.NONE, "lymph node")
    facts = study(node, facts={("node", "short_axis"): short})
    assert one("recist-1.1-nodes", facts).outcome == outcome


# --- Organs ----------------------------------------------------------------------------------------------------------


def organ(name: str, **facts: Any) -> Facts:
    subject = Subject(name, name, Kind.ORGAN, name)
    return study(subject, facts={(name if q != "contrast" else "image", q): value for q, value in facts.items()})


@pytest.mark.parametrize(
    ("volume", "outcome"), [(107.1, "below"), (107.2, "within"), (314.5, "within"), (314.6, "above")]
)
def test_spleen_volume(volume: float, outcome: str) -> None:
    assert one("spleen-volume", organ("spleen", volume=volume)).outcome == outcome


@pytest.mark.parametrize(
    ("volume", "outcome"), [(689.0, "below"), (690.0, "within"), (1720.0, "within"), (1721.0, "above")]
)
def test_liver_volume(volume: float, outcome: str) -> None:
    assert one("liver-volume", organ("liver", volume=volume)).outcome == outcome


def test_a_part_of_an_organ_is_not_held_against_the_whole() -> None:
    assert suggest(organ("spleen", volume=50.0, coverage="partly_in_view"), {}, ["spleen-volume"]) == ()


def test_liver_attenuation_counts_without_contrast_only() -> None:
    assert one("liver-attenuation", organ("liver", mean=40.0, contrast="without")).outcome == "low"
    assert suggest(organ("liver", mean=41.0, contrast="without"), {}, ["liver-attenuation"]) == ()
    assert suggest(organ("liver", mean=30.0, contrast="with"), {}, ["liver-attenuation"]) == ()
    assert one("liver-attenuation", organ("liver", mean=30.0)).needs == ("contrast",)


@pytest.mark.parametrize(("mean", "outcome"), [(10.0, "lipid-rich"), (10.1, "indeterminate")])
def test_adrenal_attenuation(mean: float, outcome: str) -> None:
    adrenal = Subject("a", "a", Kind.LESION, "adrenal gland", Side.LEFT, "nodule")
    facts = study(adrenal, facts={("a", "mean"): mean, ("image", "contrast"): "without"})
    assert one("adrenal-attenuation", facts).outcome == outcome


@pytest.mark.parametrize(("score", "outcome"), [(0, "0"), (1, "1-10"), (10, "1-10"), (11, "11-100"), (100, "11-100"),
                                                (101, "101-400"), (400, "101-400"), (401, "over-400")])  # fmt: skip
def test_agatston(score: float, outcome: str) -> None:
    heart = organ("heart", volume=600.0)
    assert one("agatston", heart, agatston_score=float(score)).outcome == outcome
    assert suggest(heart, {}, ["agatston"]) == ()


# --- All rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(rules()))
def test_every_rule_is_complete_and_says_where_its_numbers_are_from(name: str) -> None:
    each = rule(name)
    assert each.sources
    assert each.about.endswith(".")
    assert all(source.citation and source.read_at for source in each.sources)
    for language in ("en", "de"):
        assert "{outcome}" in each.phrase(language)
        assert each.title(language)
        for key in each.order:
            assert language in each.data["outcomes"][key]
        for question in each.data["inputs"]:
            assert language in each.data["inputs"][question]["question"]
    if each.table is not None:
        assert {row.outcome for row in each.table.rows} - {""} == set(each.order)
        used = {key for row in each.table.rows for key in row.when}
        assert used == set(each.data["inputs"])


def test_a_rule_that_covers_another_modality_is_silent() -> None:
    assert suggest(study(nodule(), facts={("n1", "long_axis"): 9.0}, modality="MR")) == ()


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(TemplateError, match=r"'birads'.*fleischner-2017"):
        suggest(single(9.0, 9.0), {}, ["birads"])


def test_answers_are_read_in_the_form_of_the_rules() -> None:
    texts = ["density=Solid", "n1.risk=high", "screening=yes", "incidental = false", "age=61", "previous_category=4a"]
    assert parse_answers(texts) == {
        "density": "solid",
        "n1.risk": "high",
        "screening": True,
        "incidental": False,
        "age": 61.0,
        "previous_category": "4A",
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("density", "not of the form name=value"),
        ("colour=red", "No rule asks for 'colour'"),
        ("density=fluffy", "give one of: density"),
        ("age=old", "not a number"),
        ("age=nan", "not a number"),
        ("screening=maybe", "yes or no"),
    ],
)
def test_wrong_answers_are_explained(text: str, complaint: str) -> None:
    with pytest.raises(TemplateError, match=complaint):
        parse_answers([text])


def test_tables_try_every_value_that_makes_a_difference() -> None:
    table = Table(
        (Row({"a": Interval(below=3)}, "low"), Row({"b": (True,)}, "yes"), Row({}, "no")), {"b": (True, False)}
    )
    assert decide(table, {"a": 2.0}).possible == ("low",)
    assert decide(table, {"a": 3.0}).possible == ("yes", "no")
    assert decide(table, {"a": 3.0}).needs == ("b",)
    assert decide(table, {}).needs == ("a", "b")
    assert decide(table, {"b": True}).possible == ("low", "yes")


def test_what_makes_no_difference_is_not_asked_for() -> None:
    same = Table((Row({"a": (True,)}, "x"), Row({"a": (False,)}, "x")), {"a": (True, False)})
    assert decide(same, {}).possible == ("x",)
    assert decide(same, {}).needs == ()
