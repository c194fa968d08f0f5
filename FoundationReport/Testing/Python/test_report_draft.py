# SPDX-License-Identifier: Apache-2.0
"""The draft: what it says of facts word for word, and what it never says."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from FoundationReportLib.draft import draft
from FoundationReportLib.errors import TemplateError
from FoundationReportLib.model import (
    ClinicalContext,
    Fact,
    Facts,
    Kind,
    Origin,
    Report,
    Side,
    State,
    Subject,
    canonical_json,
)
from FoundationReportLib.serialise import load_facts, report_data, report_from_data
from FoundationReportLib.templates import load_template, must_mention, template_names
from FoundationReportLib.wording import language
from hypothesis import given, settings
from hypothesis import strategies as st

CORPUS = sorted((Path(__file__).parents[1] / "Data" / "checker_corpus").glob("facts_*.json"))

IMAGE = Subject("image", "image", Kind.IMAGE)
LUNG_R = Subject("lung-r", "Right lung", Kind.ORGAN, "lung", Side.RIGHT)
LUNG_L = Subject("lung-l", "Left lung", Kind.ORGAN, "lung", Side.LEFT)
NODULE = Subject("n1", "Nodule 1", Kind.LESION, "lung", Side.RIGHT, "nodule", "upper lobe")


def f(subject: str, quantity: str, value: float | str | bool, unit: str = "", of: str = "", **more: bool) -> Fact:
    return Fact(f"{subject}.{quantity}.{of}", subject, quantity, value, unit, of, **more)


def sized(subject: str, long_axis: float, short_axis: float) -> tuple[Fact, ...]:
    return (f(subject, "long_axis", long_axis, "mm"), f(subject, "short_axis", short_axis, "mm"))


def study(*parts: Subject | Fact | tuple[Fact, ...], modality: str = "CT") -> Facts:
    subjects = [part for part in parts if isinstance(part, Subject)]
    facts = [
        fact
        for part in parts
        if not isinstance(part, Subject)
        for fact in (part if isinstance(part, tuple) else (part,))
    ]
    return Facts((IMAGE, *subjects), tuple(facts), modality)


def texts(report: Report, section: str | None = None) -> list[str]:
    return [s.text for s in report.statements if section in (None, s.section)]


def findings(*parts: Subject | Fact | tuple[Fact, ...], template: str = "ct-chest", code: str = "en") -> list[str]:
    modality = {"ct-chest": "CT", "ct-abdomen": "CT", "mr-brain": "MR"}.get(template, "CT")
    return texts(draft(study(*parts, modality=modality), template, language_code=code), "findings")


# --- A whole report --------------------------------------------------------------------------------------------------

FOLLOW_UP = study(
    LUNG_R,
    LUNG_L,
    Subject("pleura", "Pleura", Kind.ORGAN, "pleura", Side.BOTH),
    Subject("heart", "Heart", Kind.ORGAN, "heart"),
    NODULE,
    Subject("n2", "Nodule 2", Kind.LESION, "lung", Side.LEFT, "nodule", "lower lobe"),
    Subject("node", "Node", Kind.NODE, "mediastinum", Side.RIGHT, "lymph node", "paratracheal"),
    f("image", "contrast", "with"),
    f("image", "slice_thickness", 1.25, "mm"),
    f("image", "comparison", True),
    f("image", "interval", 182.0, "d"),
    f("lung-r", "volume", 2750.4, "mL"),
    f("lung-l", "volume", 2310.0, "mL"),
    f("pleura", "presence", "searched_not_found", of="pleural effusion"),
    f("heart", "coverage", "in_view_not_assessed"),
    f("n1", "presence", "present"),
    sized("n1", 16.4, 11.4),
    f("n1", "volume", 1.93, "mL"),
    f("n1", "mean", 28.2, "[hnsf'U]"),
    f("n1", "trend", "larger"),
    f("n1", "prior", 12.1, "mm", "long_axis"),
    f("n1", "change_percent", 35.5, "%", "long_axis"),
    f("n2", "presence", "present"),
    sized("n2", 8.4, 5.0),
    f("n2", "trend", "new"),
    f("node", "presence", "present"),
    sized("node", 18.0, 11.0),
    f("node", "trend", "unchanged"),
    f("node", "prior", 10.6, "mm", "short_axis"),
    f("lung-r", "count", 1, "1", "nodule", exhaustive=True),
    f("lung-l", "count", 1, "1", "nodule", exhaustive=True),
)
CONTEXT = ClinicalContext(age=62, sex="female", indication="Follow-up of pulmonary nodules", history=("Smoker",))


def test_a_chest_report_word_for_word() -> None:
    report = draft(FOLLOW_UP, "ct-chest", context=CONTEXT, answers={"screening": False, "incidental": False})
    assert {section.key: section.title for section in report.sections} == {
        "history": "Clinical information",
        "technique": "Technique",
        "comparison": "Comparison",
        "findings": "Findings",
        "impression": "Impression",
    }
    assert texts(report) == [
        "62-year-old woman.",
        "Indication: Follow-up of pulmonary nodules.",
        "History: Smoker.",
        "CT with intravenous contrast.",
        "The slice thickness is 1.25 mm.",
        "Compared with the prior study from 182 days earlier.",
        "The right lung has a volume of 2750 mL.",
        "The left lung has a volume of 2310 mL.",
        "A 16 x 11 mm nodule with a volume of 1.9 mL and a mean attenuation of 28 HU is present in the right upper "
        "lobe.",
        "The 16 x 11 mm nodule in the right upper lobe is larger than in the prior study (previously 12 mm, +36%).",
        "A new 8 x 5 mm nodule is present in the left lower lobe.",
        "Airways: [not assessed]",
        "No pleural effusion was found.",
        "An 18 x 11 mm right paratracheal lymph node is present.",
        "The 18 x 11 mm right paratracheal lymph node is unchanged from the prior study (short axis previously 11 mm).",
        "Further lymph nodes: [not assessed]",
        "Heart and pericardium: [not assessed]",
        "Great vessels: [not assessed]",
        "Thyroid gland: [not assessed]",
        "Chest wall: [not assessed]",
        "Bones: [not assessed]",
        "Two nodules in the lungs, the largest measuring 16 x 11 mm.",
        "16 x 11 mm nodule in the right upper lobe, larger than in the prior study.",
        "New 8 x 5 mm nodule in the left lower lobe.",
        "18 x 11 mm right paratracheal lymph node, unchanged from the prior study.",
    ]
    placeholders = [s.text for s in report.statements if s.placeholder]
    assert all(text.endswith("[not assessed]") for text in placeholders)
    assert len(placeholders) == 7


def test_the_same_report_in_german() -> None:
    report = draft(
        FOLLOW_UP, "ct-chest", context=CONTEXT, language_code="de", answers={"incidental": False, "screening": False}
    )
    german = texts(report)
    assert report.language == "de"
    assert report.sections[3].title == "Befund"
    assert german[:3] == ["Frau, 62 Jahre.", "Indikation: Follow-up of pulmonary nodules.", "Anamnese: Smoker."]
    assert "Die rechte Lunge stellt sich mit einem Volumen von 2750 ml dar." in german
    assert (
        "Ein 16 x 11 mm großer Rundherd mit einem Volumen von 1,9 ml und einer mittleren Dichte von 28 HE "
        "im rechten Oberlappen." in german
    )
    assert "Ein neuer 8 x 5 mm großer Rundherd im linken Unterlappen." in german
    assert "Herz und Perikard: [nicht beurteilt]" in german
    assert "Kein Pleuraerguss nachgewiesen." in german
    assert len(german) == len(
        texts(draft(FOLLOW_UP, "ct-chest", context=CONTEXT, answers={"incidental": False, "screening": False}))
    )


# --- Grammar, numbers, sides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("long_axis", "short_axis", "start"),
    [
        (8.0, 6.0, "An 8 x 6 mm nodule"), (11.0, 8.0, "An 11 x 8 mm nodule"), (18.0, 3.0, "An 18 x 3 mm nodule"),
        (80.0, 20.0, "An 80 x 20 mm nodule"), (85.0, 20.0, "An 85 x 20 mm nodule"), (1.0, 1.0, "A 1 x 1 mm nodule"),
        (100.0, 8.0, "A 100 x 8 mm nodule"), (110.0, 8.0, "A 110 x 8 mm nodule"), (10.0, 8.0, "A 10 x 8 mm nodule"),
        (4.5, 4.4, "A 5 x 4 mm nodule"), (0.4, 0.3, "A 0.4 x 0.3 mm nodule"),
    ],
)  # fmt: skip
def test_articles_and_whole_millimetres(long_axis: float, short_axis: float, start: str) -> None:
    lines = findings(NODULE, sized("n1", long_axis, short_axis))
    assert any(line.startswith(f"{start} is present in the right upper lobe.") for line in lines), lines


@pytest.mark.parametrize(
    ("volume", "text"),
    [(1523.6, "1524 mL"), (96.2, "96 mL"), (20.4, "20 mL"), (19.96, "20 mL"), (5.67, "5.7 mL"), (5.0, "5 mL"),
     (0.14, "0.14 mL"), (0.08, "0.08 mL"), (0.0004, "0.0004 mL")],
)  # fmt: skip
def test_volumes_are_rounded_as_they_can_be_read(volume: float, text: str) -> None:
    liver = Subject("liver", "Liver", Kind.ORGAN, "liver")
    assert f"The liver has a volume of {text}." in findings(
        liver, f("liver", "volume", volume, "mL"), template="ct-abdomen"
    )


@pytest.mark.parametrize(
    ("subject", "place"),
    [
        (Subject("s", "s", Kind.LESION, "liver", Side.RIGHT, "cyst", "segment VIII"), "in segment VIII of the liver"),
        (Subject("s", "s", Kind.LESION, "liver", Side.LEFT, "cyst"), "in the left side of the liver"),
        (Subject("s", "s", Kind.LESION, "liver", Side.NONE, "cyst", "left lobe"), "in the left lobe of the liver"),
        (
            Subject("s", "s", Kind.LESION, "kidney", Side.LEFT, "cyst", "lower pole"),
            "in the lower pole of the left kidney",
        ),
        (Subject("s", "s", Kind.LESION, "pancreas", Side.NONE, "cyst", "head"), "in the head of the pancreas"),
        (Subject("s", "s", Kind.LESION, "brain", Side.RIGHT, "cyst", "frontal lobe"), "in the right frontal lobe"),
        (Subject("s", "s", Kind.LESION, "rib", Side.LEFT, "cyst", "rib 7"), "in the left 7th rib"),
        (Subject("s", "s", Kind.LESION, "heart", Side.NONE, "cyst", "left ventricle"), "in the left ventricle"),
        (Subject("s", "s", Kind.LESION, "vertebra", Side.NONE, "cyst", "L2"), "in the L2 vertebra"),
        (Subject("s", "s", Kind.LESION, "adrenal gland", Side.RIGHT, "cyst"), "in the right adrenal gland"),
        (Subject("s", "s", Kind.LESION, "axilla", Side.RIGHT, "cyst"), "in the right axilla"),
        (Subject("s", "s", Kind.LESION, "", Side.LEFT, "cyst"), "on the left"),
        (Subject("s", "s", Kind.LESION, "", Side.NONE, "cyst"), ""),
        (Subject("s", "s", Kind.NODE, "mediastinum", Side.NONE, "lymph node", "station 4R"), "in station 4R"),
        (Subject("s", "s", Kind.NODE, "mediastinum", Side.NONE, "lymph node"), "in the mediastinum"),
    ],
)
def test_places(subject: Subject, place: str) -> None:
    report = draft(study(subject, sized("s", 12.0, 10.0)), "generic")
    noun = "lymph node" if subject.kind == Kind.NODE else "cyst"
    assert f"A 12 x 10 mm {noun} is present {place}".strip() + "." in texts(report, "findings")


def test_both_sides_are_one_sentence_where_they_share_it() -> None:
    kidneys = [Subject(f"k-{side[0]}", "k", Kind.ORGAN, "kidney", side) for side in (Side.LEFT, Side.RIGHT)]
    absent = [f(k.id, "presence", "searched_not_found", of="lesion") for k in kidneys]
    outside = [f(k.id, "coverage", "outside_view") for k in kidneys]
    assert "No lesion was found in the kidneys." in findings(*kidneys, *absent, template="ct-abdomen")
    assert "Both kidneys are outside the field of view." in findings(*kidneys, *outside, template="ct-abdomen")
    assert "No lesion was found in the left kidney." in findings(*kidneys, absent[0], template="ct-abdomen")
    volumes = [f(k.id, "volume", 150.0, "mL") for k in kidneys]
    lines = findings(*kidneys, *volumes, template="ct-abdomen")
    # The right side first, as on the image.
    assert lines.index("The right kidney has a volume of 150 mL.") < lines.index(
        "The left kidney has a volume of 150 mL."
    )


def test_findings_come_largest_first_and_what_is_gone_last() -> None:
    subjects = [replace(NODULE, id=f"n{n}") for n in range(3)]
    lines = findings(*subjects, sized("n0", 5.0, 4.0), sized("n1", 9.0, 8.0), f("n2", "trend", "resolved"))
    order = [
        next(i for i, line in enumerate(lines) if text in line) for text in ("9 x 8 mm", "5 x 4 mm", "has resolved")
    ]
    assert order == sorted(order)


@pytest.mark.parametrize("code", ["en", "de"])
def test_nothing_is_called_large_that_was_not_measured(code: str) -> None:
    effusion = Subject("e", "e", Kind.OTHER, "pleura", Side.LEFT, "pleural effusion")
    new = replace(effusion, id="n", finding="nodule", kind=Kind.LESION, organ="lung")
    facts = study(effusion, new, f("e", "presence", "present"), f("n", "presence", "present"), f("n", "trend", "new"))
    report = draft(facts, "ct-chest", language_code=code)
    impression = texts(report, "impression")
    expected = {
        "en": ["Pleural effusion on the left.", "New nodule in the left lung."],
        "de": ["Pleuraerguss links.", "Neuer Rundherd in der linken Lunge."],
    }
    assert set(expected[code]) <= set(impression)
    assert not any(re.search("groß|large", s.text.lower()) for s in report.statements if not s.placeholder)


# --- What it never says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", template_names())
@pytest.mark.parametrize("code", ["en", "de"])
def test_without_facts_everything_is_to_be_filled(template: str, code: str) -> None:
    report = draft(Facts(modality=""), template, language_code=code)
    words = [s.text for s in report.statements if not s.placeholder]
    assert words == [language(code).sentence("no_prior")]
    assert len([s for s in report.statements if s.placeholder]) >= 4


def test_a_volume_does_not_say_that_there_are_no_lesions() -> None:
    liver = Subject("liver", "Liver", Kind.ORGAN, "liver")
    volume = f("liver", "volume", 1500.0, "mL")
    assert "Focal liver lesions: [not assessed]" in findings(liver, volume, template="ct-abdomen")
    searched = f("liver", "presence", "searched_not_found", of="lesion")
    lines = findings(liver, volume, searched, template="ct-abdomen")
    assert "Focal liver lesions: [not assessed]" not in lines
    assert "No lesion was found in the liver." in lines
    # A search for one thing is no search for others.
    stones = f("liver", "presence", "searched_not_found", of="calcification")
    assert "Focal liver lesions: [not assessed]" in findings(liver, volume, stones, template="ct-abdomen")


def test_a_measured_lesion_does_not_say_that_it_is_the_only_one() -> None:
    liver = Subject("liver", "Liver", Kind.ORGAN, "liver")
    cyst = Subject("c", "c", Kind.LESION, "liver", Side.NONE, "cyst")
    parts = (liver, cyst, f("liver", "volume", 1500.0, "mL"), sized("c", 12.0, 10.0))
    lines = findings(*parts, f("liver", "count", 1, "1", "cyst"), template="ct-abdomen")
    assert "Further lesions of the liver: [not assessed]" in lines
    assert not any("single" in line for line in lines)
    all_of_them = findings(*parts, f("liver", "count", 1, "1", "cyst", exhaustive=True), template="ct-abdomen")
    assert "Further lesions of the liver: [not assessed]" not in all_of_them


def test_a_part_of_an_organ_is_called_a_part() -> None:
    liver = Subject("liver", "Liver", Kind.ORGAN, "liver")
    lines = findings(
        liver, f("liver", "coverage", "partly_in_view"), f("liver", "volume", 900.0, "mL"), template="ct-abdomen"
    )
    assert lines[:2] == [
        "The liver is only partly included in the field of view.",
        "The included part of the liver has a volume of 900 mL.",
    ]
    assert not any("published range" in line for line in lines)


def test_mr_intensities_are_no_attenuation() -> None:
    brain = Subject("brain", "Brain", Kind.ORGAN, "brain")
    lesion = Subject("l", "l", Kind.LESION, "brain", Side.LEFT, "lesion", "frontal lobe")
    parts = (brain, lesion, f("brain", "mean", 412.0, "1"), sized("l", 9.0, 8.0), f("l", "mean", 600.0, "1"))
    for template in ("mr-brain", "generic"):
        lines = texts(draft(study(*parts, modality="MR"), template), "findings")
        assert any("9 x 8 mm" in line for line in lines)
        assert not any("attenuation" in line for line in lines)


def test_contrast_is_not_guessed() -> None:
    assert "Intravenous contrast: [not assessed]" in texts(draft(study(), "ct-chest"), "technique")
    assert texts(draft(study(f("image", "contrast", "without")), "ct-chest"), "technique") == [
        "CT without intravenous contrast."
    ]


def test_nothing_is_compared_without_a_prior() -> None:
    report = draft(study(NODULE, sized("n1", 9.0, 8.0)), "ct-chest")
    assert texts(report, "comparison") == ["No prior study was available for comparison."]
    said = [s for s in report.statements if s.section in ("findings", "impression") and not s.placeholder]
    text = " ".join(statement.text for statement in said)
    assert not re.search(r"\b(new|larger|smaller|unchanged|stable|previous)", text.lower())


# --- Categories ------------------------------------------------------------------------------------------------------


def test_an_open_category_says_what_it_needs_and_a_decided_one_becomes_a_fact() -> None:
    facts = study(NODULE, sized("n1", 7.0, 7.0))
    open_report = draft(facts, "ct-chest", answers={"screening": False})
    line = next(s for s in open_report.statements if s.text.startswith("Fleischner 2017"))
    assert line.placeholder
    assert "[not assessed; depends on " in line.text
    assert "density (solid, part-solid or ground-glass)" in line.text
    assert open_report.facts == facts

    answers = {"incidental": True, "age": 60.0, "density": "solid", "risk": "low", "multiple": False}
    decided = draft(facts, "ct-chest", answers=answers)
    fact = decided.facts.facts[-1]
    assert (fact.quantity, fact.of, fact.subject) == ("category", "Fleischner 2017", "n1")
    assert set(fact.because) <= {f.id for f in facts.facts}
    statement = next(s for s in decided.statements if fact.id in s.facts)
    assert statement.text == (
        "Suggested follow-up by Fleischner 2017: CT at 6 to 12 months, then consider CT at 18 to 24 months."
    )
    assert not any("Lung-RADS" in s.text for s in decided.statements)


def test_the_age_of_the_context_is_used() -> None:
    answers = {"incidental": True, "density": "solid", "risk": "low", "multiple": False}
    young = draft(study(NODULE, sized("n1", 7.0, 7.0)), "ct-chest", context=ClinicalContext(age=30), answers=answers)
    assert not any("Fleischner" in s.text for s in young.statements)
    grown_up = draft(study(NODULE, sized("n1", 7.0, 7.0)), "ct-chest", context=ClinicalContext(age=40), answers=answers)
    assert any("Fleischner" in s.text and not s.placeholder for s in grown_up.statements)


def test_a_category_that_the_facts_state_is_said_as_they_state_it() -> None:
    stated = Fact("c7", "n1", "category", "4A", of="Lung-RADS v2022")
    report = draft(study(NODULE, sized("n1", 9.0, 9.0), stated), "ct-chest")
    assert any(
        s.text.startswith("Suggested Lung-RADS v2022 category: 4A (") and "c7" in s.facts for s in report.statements
    )
    assert not any("Fleischner" in s.text for s in report.statements)


def test_organ_volumes_are_held_against_published_ranges() -> None:
    spleen = Subject("spleen", "Spleen", Kind.ORGAN, "spleen")
    report = draft(study(spleen, f("spleen", "volume", 420.0, "mL")), "ct-abdomen")
    line = "The volume of the spleen is above the published range of 107 to 315 mL (Prassopoulos 1997)."
    assert line in texts(report, "findings")
    assert line in texts(report, "impression")
    inside = draft(study(spleen, f("spleen", "volume", 210.0, "mL")), "ct-abdomen")
    assert any("within the published range" in text for text in texts(inside, "findings"))
    assert not any("published range" in text for text in texts(inside, "impression"))


# --- Form ------------------------------------------------------------------------------------------------------------


def test_same_facts_same_draft_and_the_file_is_read_back() -> None:
    report = draft(FOLLOW_UP, "ct-chest", context=CONTEXT)
    assert canonical_json(report) == canonical_json(draft(FOLLOW_UP, "ct-chest", context=CONTEXT))
    assert report_from_data(report_data(report)) == report
    assert report.state is State.DRAFT
    assert report.next_statement == len(report.statements) + 1
    assert report.id != draft(FOLLOW_UP, "generic", context=CONTEXT).id
    assert (report.template, report.template_version) == ("ct-chest", load_template("ct-chest").version)


def test_wrong_modality_language_and_template_are_answers() -> None:
    with pytest.raises(TemplateError, match="ct-chest is for CT and the image is MR"):
        draft(study(modality="MR"), "ct-chest")
    with pytest.raises(TemplateError, match=r"cannot be written in 'xx'; the languages are de, en"):
        draft(study(), "ct-chest", language_code="xx")
    with pytest.raises(TemplateError, match="no report template"):
        draft(study(), "ct-foot")


@pytest.mark.parametrize("code", ["en", "de"])
@pytest.mark.parametrize("path", CORPUS, ids=[path.stem for path in CORPUS])
def test_every_fact_that_has_to_be_mentioned_is_mentioned(path: Path, code: str) -> None:
    facts = load_facts(path)
    for name in template_names():
        template = load_template(name)
        if template.modality and facts.modality not in template.modality:
            continue
        report = draft(facts, template, language_code=code)
        rested_on = {fact for statement in report.statements for fact in statement.facts}
        assert set(must_mention(template, facts)) <= rested_on
        _assert_well_formed(report)


def _assert_well_formed(report: Report) -> None:
    known = {fact.id for fact in report.facts.facts}
    for statement in report.statements:
        text = statement.text
        assert set(statement.facts) <= known
        assert statement.origin is Origin.TEMPLATE
        assert text == text.strip()
        assert "  " not in text
        assert not re.search(r"[{}]|None|\s[.,;)]|\.\.|,,|\(\)", text), text
        assert text[0].isupper() or text[0].isdigit() or text[0] in "[-", text
        assert text.endswith((".", "]")), text
        assert not re.search(r"\b(normal|unremarkable|unauffällig)\b", text.lower()), text
        if report.language == "en":
            assert not re.search(r"\b[aA] (8|11|18)\b|\b[aA]n (?!8|11|18|SUV|[aeio])", text), text
        assert statement.placeholder == text.endswith("]")


ORGANS = ["liver", "kidney", "lung", "brain", "pleura", "vertebra", "something else", ""]
FINDINGS = ["nodule", "mass", "cyst", "ground-glass nodule", "effusion", "odd thing", ""]
REGIONS = ["", "upper lobe", "segment IVb", "head", "L1", "station 7", "subcarinal", "somewhere"]
QUANTITIES = [
    *("volume", "long_axis", "short_axis", "mean", "suv_max", "count", "presence", "coverage", "trend", "prior"),
    *("change_percent", "distance", "adjacent", "level", "extent", "doubling_time", "target", "sum_of_diameters"),
    "baseline_sum",
]
VALUES = st.floats(-2000, 3000, allow_nan=False).map(lambda x: round(x, 2))


@st.composite
def any_facts(pick: st.DrawFn) -> Facts:
    subjects = [IMAGE]
    facts = []
    for n in range(pick(st.integers(0, 6))):
        kind = pick(st.sampled_from([Kind.ORGAN, Kind.LESION, Kind.NODE, Kind.OTHER]))
        finding = "" if kind is Kind.ORGAN else pick(st.sampled_from(FINDINGS))
        side = pick(st.sampled_from(list(Side)))
        organ = pick(st.sampled_from(ORGANS))
        subjects.append(Subject(f"s{n}", f"Name {n}", kind, organ, side, finding, pick(st.sampled_from(REGIONS))))
    for n in range(pick(st.integers(0, 20))):
        subject = pick(st.sampled_from(subjects))
        quantity = pick(st.sampled_from(QUANTITIES))
        value: float | str | bool = pick(VALUES)
        unit = {"volume": "mL", "mean": "[hnsf'U]", "count": "1", "change_percent": "%", "suv_max": "g/mL{SUVbw}"}.get(
            quantity, "mm"
        )
        of = pick(st.sampled_from(["", "long_axis", "lesion", "pleural effusion", *[s.id for s in subjects]]))
        words = {
            "presence": ["present", "searched_not_found"],
            "coverage": ["assessed", "partly_in_view", "in_view_not_assessed", "outside_view"],
            "trend": ["new", "larger", "smaller", "unchanged", "resolved"],
            "level": ["T5"],
        }
        if quantity in words:
            value, unit = pick(st.sampled_from(words[quantity])), ""
        elif quantity in ("adjacent", "target"):
            value, unit = pick(st.booleans()), ""
        elif quantity == "count":
            value = float(pick(st.integers(0, 40)))
        facts.append(Fact(f"f{n}", subject.id, quantity, value, unit, of, pick(st.booleans())))
    return Facts(tuple(subjects), tuple(facts), "")


@settings(max_examples=60, deadline=None)
@given(any_facts(), st.sampled_from(template_names()), st.sampled_from(["en", "de"]))
def test_any_facts_make_well_formed_sentences(facts: Facts, template: str, code: str) -> None:
    report = draft(facts, template, language_code=code)
    _assert_well_formed(report)
    assert canonical_json(report) == canonical_json(draft(facts, template, language_code=code))


def test_a_draft_of_a_hundred_lesions_takes_no_time() -> None:
    subjects = [replace(NODULE, id=f"n{n}") for n in range(100)]
    facts = study(*subjects, *(sized(s.id, 5.0 + n, 4.0 + n) for n, s in enumerate(subjects)))
    draft(facts, "ct-chest")
    start = time.perf_counter()
    draft(facts, "ct-chest")
    assert time.perf_counter() - start < 2


def test_what_a_person_stated_of_one_node_leaves_the_others_to_the_rule() -> None:
    nodes = [Subject(f"k{n}", "k", Kind.NODE, "", Side.NONE, "lymph node", "mesenteric") for n in range(2)]
    stated = Fact("c9", "k0", "category", "small", of="RECIST 1.1, node size")
    report = draft(study(*nodes, sized("k0", 20.0, 16.0), sized("k1", 19.0, 12.0), stated), "oncology")
    made = [fact for fact in report.facts.facts if fact.quantity == "category"]
    assert [(fact.id, fact.subject) for fact in made] == [("c9", "k0"), ("c1", "k1")]
    assert (
        "The 19 x 12 mm mesenteric lymph node is enlarged but not measurable "
        "(short axis of 10 to below 15 mm) by RECIST 1.1, node size." in texts(report)
    )


def test_an_impression_is_asked_for_where_nothing_is_worth_one() -> None:
    small = Subject("k", "k", Kind.NODE, "", Side.NONE, "lymph node", "hilar")
    report = draft(study(small, sized("k", 9.0, 5.0)), "ct-chest")
    assert texts(report, "impression") == ["Impression: [not assessed]"]


def test_a_pair_of_contacts_is_two_sentences() -> None:
    organs = [Subject(name, name, Kind.ORGAN, name) for name in ("pancreas", "duodenum", "portal vein")]
    mass = Subject("m", "m", Kind.LESION, "pancreas", Side.NONE, "mass", "head")
    touching = [f("m", "adjacent", True, of=name) for name in ("duodenum", "portal vein")]
    lines = findings(*organs, mass, sized("m", 31.0, 24.0), *touching, template="ct-abdomen")
    assert "A 31 x 24 mm mass is present in the head of the pancreas, abutting the duodenum." in lines
    assert "The 31 x 24 mm mass in the head of the pancreas also abuts the portal vein." in lines


def test_lesions_beside_a_cyst_are_not_counted() -> None:
    liver = Subject("liver", "Liver", Kind.ORGAN, "liver")
    kinds = [
        Subject(f"l{n}", "l", Kind.LESION, "liver", Side.NONE, kind)
        for n, kind in enumerate(("lesion", "lesion", "cyst"))
    ]
    count = f("liver", "count", 2, "1", "lesion", exhaustive=True)
    sizes = [sized(s.id, 20.0 + n, 10.0) for n, s in enumerate(kinds)]
    assert not any(
        line.startswith("Two lesions") for line in findings(liver, *kinds, *sizes, count, template="ct-abdomen")
    )
    assert "Two lesions are present in the liver." in findings(
        liver, *kinds[:2], *sizes[:2], count, template="ct-abdomen"
    )


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("en", "14 further nodules in the upper lobes have a longest diameter of 18 mm or less."),
        ("de", "14 weitere Rundherde in den Oberlappen mit einem Längsdurchmesser bis 18 mm."),
    ],
)
def test_of_many_alike_the_largest_and_the_new_are_described(code: str, line: str) -> None:
    nodules = [replace(NODULE, id=f"n{n}", side=(Side.LEFT, Side.RIGHT)[n % 2]) for n in range(25)]
    sizes = [sized(s.id, 28.0 - n, 3.0) for n, s in enumerate(nodules)]
    lines = findings(*nodules, *sizes, f("n24", "trend", "new"), code=code)
    described = [text for text in lines if re.match(r"(An?|Eine?) .*\d+ x \d+ mm", text)]
    assert len(described) == 11
    assert any("4 x 3 mm" in text for text in described)  # the new one, though the smallest
    assert line in lines
    report = draft(study(*nodules, *sizes), "ct-chest", language_code=code)
    assert set(must_mention(load_template("ct-chest"), report.facts)) <= {i for s in report.statements for i in s.facts}


def test_the_impression_begins_with_what_has_changed_and_ends_with_cysts() -> None:
    cyst = Subject("c", "c", Kind.LESION, "liver", Side.NONE, "cyst")
    mass = Subject("m", "m", Kind.LESION, "kidney", Side.LEFT, "mass")
    parts = (cyst, mass, NODULE, sized("c", 60.0, 50.0), sized("m", 40.0, 30.0), sized("n1", 7.0, 6.0))
    report = draft(study(*parts, f("n1", "trend", "new"), f("m", "trend", "unchanged")), "ct-chest")
    assert [text.split(" in ")[0] for text in texts(report, "impression")[:3]] == [
        "New 7 x 6 mm nodule",
        "40 x 30 mm mass",
        "60 x 50 mm cyst",
    ]


def test_an_organ_whose_target_is_described_is_not_called_unassessed() -> None:
    target = f("n1", "target", True)
    report = draft(study(LUNG_R, LUNG_L, NODULE, sized("n1", 20.0, 15.0), target), "oncology")
    assert "Right lung: [not assessed]" not in texts(report)
    assert "Left lung: [not assessed]" in texts(report)
    assert "Further lesions of the lungs: [not assessed]" in texts(report)
    alone = draft(study(NODULE, sized("n1", 20.0, 15.0), target), "oncology")
    assert "Further lesions of the lungs: [not assessed]" in texts(alone)


def test_a_count_that_may_not_be_all_is_not_stated() -> None:
    nodules = [replace(NODULE, id=f"n{n}") for n in range(2)]
    sizes = [sized(s.id, 9.0 + n, 8.0) for n, s in enumerate(nodules)]
    counted = [f("lung-r", "count", 2, "1", "nodule", exhaustive=known) for known in (False, True)]
    assert "Two nodules are present in the right lung." not in findings(LUNG_R, *nodules, *sizes, counted[0])
    assert "Two nodules are present in the right lung." in findings(LUNG_R, *nodules, *sizes, counted[1])
