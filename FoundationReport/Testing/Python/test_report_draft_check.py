# SPDX-License-Identifier: Apache-2.0
"""Draft and cross-check together: every sentence of a draft is supported, and no longer when a person changes it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from FoundationReportLib.check import check
from FoundationReportLib.draft import draft
from FoundationReportLib.drafting.stated import stated
from FoundationReportLib.model import ClinicalContext, Fact, Facts, Kind, Origin, Report, Side, Subject, Verdict
from FoundationReportLib.serialise import load_facts
from FoundationReportLib.templates import load_template, template_names

CORPUS = sorted((Path(__file__).parents[1] / "Data" / "checker_corpus").glob("facts_*.json"))
CONTEXT = ClinicalContext(
    age=62,
    sex="female",
    indication="Known metastatic colon cancer with a 40 mm lesion in the left kidney, follow-up",
    history=("Appendectomy 2010",),
    labs=("CEA 12 ng/mL (high)",),
)
ANSWERS: tuple[dict[str, Any], ...] = (
    {},
    {"incidental": True, "density": "solid", "risk": "high", "age": 60.0},
    {"screening": True, "density": "solid", "behaviour": "baseline", "new_lesion": False, "non_target": "none"},
)


def unsupported(report: Report) -> list[tuple[str, str]]:
    return [
        (statement.text, statement.judgement.reason)
        for statement in report.statements
        if statement.judgement is not None
        and not statement.placeholder
        and statement.judgement.verdict is not Verdict.SUPPORTED
    ]


@pytest.mark.parametrize("code", ["en", "de"])
@pytest.mark.parametrize("path", CORPUS, ids=[path.stem for path in CORPUS])
def test_every_sentence_of_a_draft_is_supported_and_nothing_is_omitted(path: Path, code: str) -> None:
    facts = load_facts(path)
    for name in template_names():
        template = load_template(name)
        if template.modality and facts.modality not in template.modality:
            continue
        has_rules = any("rules" in item for section in template.sections for item in section.items)
        for answers in ANSWERS[1:] if has_rules else ANSWERS[:1]:
            report = check(draft(facts, name, context=CONTEXT, language_code=code, answers=answers))
            assert unsupported(report) == []
            assert report.omitted == ()
            assert all(s.judgement is not None for s in report.statements)
            for statement in report.statements:
                if statement.placeholder:
                    assert statement.judgement is not None
                    assert statement.judgement.verdict is Verdict.UNVERIFIABLE


def edited(report: Report, before: str, after: str) -> Report:
    """A person changes some words of the first sentence that has them."""
    target = next(s for s in report.statements if before in s.text)
    changed = replace(target, text=target.text.replace(before, after), origin=Origin.HUMAN)
    return report.with_statements(changed if s is target else s for s in report.statements)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("16 x 11 mm", "26 x 11 mm"),
        ("right upper lobe", "left upper lobe"),
        ("Two nodules", "Three nodules"),
        ("is larger than", "is smaller than"),
        ("with intravenous contrast", "without intravenous contrast"),
        ("No pleural effusion was found", "A pleural effusion was found"),
        ("2750 mL", "3250 mL"),
        ("category: 4B", "category: 3"),
        ("CT at 3 to 6 months", "CT at 12 months"),
        ("colon cancer", "breast cancer"),
    ],
)
def test_a_changed_word_is_noticed(before: str, after: str) -> None:
    facts = load_facts(next(path for path in CORPUS if path.stem == "facts_chest_followup"))
    facts = replace(facts, facts=tuple(fact for fact in facts.facts if fact.of != "Lung-RADS v2022"))
    answers = ANSWERS[1] if "months" in before else {**ANSWERS[2], "behaviour": "growing"}
    report = draft(facts, "ct-chest", context=CONTEXT, answers=answers)
    assert unsupported(check(report)) == []
    assert len(unsupported(check(edited(report, before, after)))) >= 1


def test_a_changed_german_sentence_is_no_longer_taken_for_granted() -> None:
    facts = load_facts(next(path for path in CORPUS if path.stem == "facts_chest_followup"))
    report = draft(facts, "ct-chest", language_code="de")
    assert unsupported(check(report)) == []
    assert len(unsupported(check(edited(report, "16 x 11 mm", "26 x 11 mm")))) == 1


def test_only_words_that_follow_from_this_report_are_known() -> None:
    spleen = Subject("spleen", "Spleen", Kind.ORGAN, "spleen")
    facts = Facts((spleen,), (Fact("f1", "spleen", "volume", 400.0, "mL"),), "CT")
    report = draft(facts, "ct-abdomen", context=ClinicalContext(age=40, indication="Pain"))
    known = stated(report)
    sentence = "The volume of the spleen is above the published range of 107 to 315 mL (Prassopoulos 1997)."
    assert set(known) == {"Age: 40 years.", "Indication: Pain.", sentence}
    assert known[sentence].facts == ("c1",)
    other = draft(replace(facts, facts=(Fact("f1", "spleen", "volume", 200.0, "mL"),)), "ct-abdomen")
    assert sentence not in stated(other)


def test_a_report_whose_template_is_not_here_is_checked_without_it() -> None:
    liver = Subject("liver", "Liver", Kind.ORGAN, "liver", Side.NONE)
    facts = Facts((liver,), (Fact("f1", "liver", "volume", 1500.0, "mL"),), "CT")
    report = replace(draft(facts, "ct-abdomen", language_code="de"), template="gone")
    assert any("1500" in statement.text for statement in report.statements)
    assert unsupported(check(report)) == []


def test_what_stands_for_many_is_known() -> None:
    lung = Subject("lung", "Right lung", Kind.ORGAN, "lung", Side.RIGHT)
    nodules = [Subject(f"n{n}", "n", Kind.LESION, "lung", Side.RIGHT, "nodule") for n in range(15)]
    axes = [
        Fact(f"{axis}{n}", f"n{n}", axis, (30.0 if axis == "long_axis" else 20.0) - n, "mm")
        for n in range(15)
        for axis in ("long_axis", "short_axis")
    ]
    report = check(draft(Facts((lung, *nodules), tuple(axes), "CT"), "ct-chest"))
    assert any(s.text.startswith("Five further nodules in the right lung") for s in report.statements)
    assert unsupported(report) == []
    assert report.omitted == ()


@pytest.mark.parametrize("code", ["en", "de"])
def test_structures_that_no_lexicon_knows_are_told_by_their_names(code: str) -> None:
    names = ("gluteus maximus muscle", "gluteus medius muscle", "deep muscle of back", "common iliac vein", "hip")
    sides = (Side.LEFT, Side.RIGHT)
    subjects = [Subject(f"{name}-{side}", f"{name} {side}", Kind.ORGAN, name, side) for name in names for side in sides]
    subjects.append(Subject("veins", "veins", Kind.ORGAN, "portal vein and splenic vein"))
    facts = []
    for n, subject in enumerate(subjects):
        facts.append(Fact(f"v{n}", subject.id, "volume", 100.0 + 40 * n, "mL"))
        facts.append(Fact(f"c{n}", subject.id, "coverage", "assessed" if n % 4 > 1 else "partly_in_view"))
    report = check(draft(Facts(tuple(subjects), tuple(facts), "CT"), "ct-abdomen", language_code=code))
    assert unsupported(report) == []
    assert len([s for s in report.statements if not s.placeholder and re.search(r" m[Ll]\b", s.text)]) == len(subjects)
    if code == "en":
        said = [statement.text for statement in report.statements]
        assert "Both gluteus maximus muscles are only partly included in the field of view." in said
        assert "Both deep muscles of back are only partly included in the field of view." in said
        assert any(text.endswith("portal vein and splenic vein have a volume of 500 mL.") for text in said), said
        changed = check(edited(report, "140 mL", "240 mL"))
        assert len(unsupported(changed)) >= 1


def test_what_the_template_wants_mentioned_is_missed_in_what_a_person_writes() -> None:
    nodule = Subject("n1", "n", Kind.LESION, "lung", Side.RIGHT, "nodule")
    facts = (
        Fact("p", "n1", "presence", "present"),
        Fact("l", "n1", "long_axis", 20.0, "mm"),
        Fact("s", "n1", "short_axis", 15.0, "mm"),
        Fact("t", "n1", "trend", "larger"),
        Fact("c", "n1", "change_percent", 33.0, "%", "long_axis"),
        Fact("b", "n1", "prior", 15.0, "mm", "long_axis"),
        Fact("i", "image", "comparison", True),
    )
    image = Subject("image", "image", Kind.IMAGE)
    report = check(draft(Facts((image, nodule), facts, "CT"), "oncology"))
    assert report.omitted == ()
    for statement in [s for s in report.statements if not s.placeholder and set(s.facts) & {"p", "l", "t"}][1:]:
        report = report.dismiss(statement.id)
    (left,) = [s for s in report.statements if not s.placeholder and set(s.facts) & {"p", "l", "t"}]

    def omitted(text: str) -> set[str]:
        return set(report.edit(left.id, text).check().omitted)

    assert omitted("The heart is not enlarged.") == {"l", "t"}
    assert omitted("A nodule is present in the right lung.") == {"l", "t"}
    assert omitted("A 20 mm nodule is present in the right lung.") == {"t"}
    assert omitted("A 20 mm nodule in the right lung, larger than in the prior study.") == set()
    assert omitted("A 20 mm nodule in the right lung, previously 15 mm.") == set()


@pytest.mark.parametrize("code", ["en", "de"])
@pytest.mark.parametrize("number", [7, 8, 11])
def test_an_impression_of_many_kinds_leaves_none_out(code: str, number: int) -> None:
    sides = (Side.LEFT, Side.RIGHT)
    subjects = [Subject(f"m{n}", f"m{n}", Kind.LESION, "", sides[n % 2], "metastasis") for n in range(number - 1)]
    subjects.append(Subject("t", "t", Kind.LESION, "", Side.NONE, "tumor"))
    facts = []
    for n, subject in enumerate(subjects):
        facts.append(Fact(f"l{n}", subject.id, "long_axis", 60.0 - 4 * n, "mm"))
        facts.append(Fact(f"s{n}", subject.id, "short_axis", 40.0 - 3 * n, "mm"))
    report = check(draft(Facts(tuple(subjects), tuple(facts), "PT"), "oncology", language_code=code))
    assert unsupported(report) == []
    told = {name for s in report.statements if s.section == "impression" for name in s.facts}
    assert {f"l{n}" for n in range(number)} <= told
