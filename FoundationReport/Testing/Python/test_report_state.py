# SPDX-License-Identifier: Apache-2.0
"""What a person may do to a report, and when: by example, and by random walks of which none may break a promise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import jsonschema
import pytest
from FoundationReportLib.check import check
from FoundationReportLib.errors import CaseError, FactsError, StateError
from FoundationReportLib.model import Facts, Origin, Report, State, Statement, Verdict
from FoundationReportLib.serialise import (
    facts_data,
    facts_from_data,
    json_text,
    load_facts,
    report_data,
    report_from_data,
    schema,
)
from FoundationReportLib.signatures import signature_problems
from FoundationReportLib.state import banner, unresolved
from FoundationReportLib.steps import check_step
from FoundationSegLib.resources import resource_folder
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from report_case import small_facts, small_report

TRUE = "The liver has a volume of 1500 mL."
FALSE = "The liver has a volume of 900 mL."
UNKNOWN = "The gallbladder contains stones."
NODULE = "There is a nodule in the right lung, 8 mm in diameter."


def verdict(report: Report, name: str) -> Verdict | None:
    judgement = report.statement(name).judgement
    return judgement.verdict if judgement is not None else None


def ready() -> Report:
    """A report that can be signed."""
    report = small_report().add("findings", NODULE).accept("s3", by="Dr. A").check()
    return report.accept("s2", *report.omitted, by="Dr. A")


def signed() -> Report:
    return ready().sign("Dr. A", organisation="Clinic")


def test_the_texts_mean_what_the_tests_take_them_for() -> None:
    report = small_report()
    for text in (TRUE, FALSE, UNKNOWN, NODULE):
        report = report.add("findings", text)
    report = check(report)
    assert [verdict(report, f"s{n}") for n in range(4, 8)] == [
        Verdict.SUPPORTED,
        Verdict.CONTRADICTED,
        Verdict.UNVERIFIABLE,
        Verdict.SUPPORTED,
    ]


def test_a_report_goes_its_way() -> None:
    report = signed()
    assert report.state is State.SIGNED
    assert report.signatures[0].signer == "Dr. A" and report.signatures[0].organisation == "Clinic"
    assert not signature_problems(report)
    amended = report.addendum(TRUE, "Dr. B")
    assert amended.state is State.AMENDED and amended.statements[:-1] == report.statements
    assert amended.addenda == (amended.statements[-1].id,) and amended.statements[-1].section == "addendum"
    twice = amended.addendum(UNKNOWN, "Dr. B", accept=True)
    assert twice.statements[-1].accepted_by == "Dr. B"
    gone = twice.retract("Wrong patient", "Dr. A")
    assert gone.state is State.RETRACTED and "Wrong patient" in gone.statements[-1].text
    assert not signature_problems(gone) and len(gone.signatures) == 4
    for before, after in ((report, amended), (amended, twice), (twice, gone)):
        check_step(before, after)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda report: report.add("findings", FALSE), "s5 is contradicted"),
        (lambda report: report.add("findings", UNKNOWN), "s5 is neither verified nor accepted"),
        (lambda report: report.edit("s2", UNKNOWN + " They are large."), "s2 is neither verified nor accepted"),
        (lambda report: report.edit("s1", FALSE), "s1 is contradicted"),
        (
            lambda report: report.with_statements([replace(s, accepted_by="") for s in report.statements]),
            "s3 is still to be filled",
        ),
        (lambda report: report.with_statements([]), "nothing to sign"),
        # What the report says of itself does not count: the cross-check runs anew.
        (
            lambda report: report.with_statements(
                [replace(s, text=FALSE, facts=()) if s.id == "s1" else s for s in report.statements]
            ),
            "s1 is contradicted",
        ),
    ],
)
def test_signing_is_refused_while_anything_is_unresolved(spoil: Callable[[Report], Report], says: str) -> None:
    with pytest.raises(StateError, match=says):
        spoil(ready()).sign("Dr. A")


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_nobody_cannot_sign(name: str) -> None:
    for act in (
        lambda: ready().sign(name),
        lambda: signed().addendum(TRUE, name),
        lambda: signed().retract("x", name),
        lambda: small_report().accept("s3", by=name),
    ):
        with pytest.raises(StateError, match="No name"):
            act()


def test_a_signed_report_is_closed() -> None:
    for closed in (signed(), signed().retract("Wrong", "Dr. A")):
        for act in (
            lambda r: r.edit("s1", "Other."),
            lambda r: r.add("findings", "More."),
            lambda r: r.dismiss("s1"),
            lambda r: r.accept("s1", by="x"),
            lambda r: r.sign("Dr. A"),
        ):
            with pytest.raises(StateError, match=r"signed|retracted"):
                act(closed)
    with pytest.raises(StateError, match="retracted"):
        signed().retract("Wrong", "Dr. A").addendum(TRUE, "Dr. A")
    for early in (lambda: ready().addendum(TRUE, "x"), lambda: ready().retract("Wrong", "x")):
        with pytest.raises(StateError, match="not signed yet"):
            early()


def test_an_addendum_is_checked_too() -> None:
    with pytest.raises(StateError, match="contradicted"):
        signed().addendum(FALSE, "Dr. A", accept=True)
    with pytest.raises(StateError, match="cannot be verified"):
        signed().addendum(UNKNOWN, "Dr. A")


def test_an_edit_is_a_persons_and_unchecked() -> None:
    report = small_report().accept("s2", by="Dr. A").edit("s2", "  Gallstones,\n 4 mm. ")
    statement = report.statement("s2")
    assert statement.text == "Gallstones, 4 mm." and statement.origin is Origin.HUMAN
    assert statement.judgement is None and not statement.accepted_by and statement.agreement is None
    assert statement.model == "m1"  # who wrote it first stays known
    assert small_report().edit("s1", small_report().statement("s1").text) == small_report()
    assert not small_report().edit("s3", "The spleen is small.").statement("s3").placeholder


def test_nobody_can_accept_what_is_contradicted_or_unknown() -> None:
    report = check(small_report().edit("s1", FALSE))
    with pytest.raises(StateError, match="s1 is contradicted"):
        report.accept("s1", by="Dr. A")
    for ids, says in ((("s99",), "no statement"), (("f3",), "no omitted fact")):
        with pytest.raises(StateError, match=says):
            report.accept(*ids, by="Dr. A")
    with pytest.raises(StateError, match="not been checked"):
        small_report().edit("s1", UNKNOWN).accept("s1", by="Dr. A")
    for act in (lambda: report.edit("s99", "x"), lambda: report.dismiss("s99")):
        with pytest.raises(StateError, match="s99"):
            act()
    with pytest.raises(StateError, match="findings, impression"):
        report.add("nowhere", "x")
    for act in (lambda: report.edit("s1", " \t"), lambda: report.add("findings", "")):
        with pytest.raises(StateError, match="empty"):
            act()


def test_an_omitted_fact_is_mentioned_or_left_out_on_purpose() -> None:
    report = replace(ready(), left_out=(), omitted=("f6",))
    assert unresolved(report).omitted == ("f6",)
    assert not unresolved(report.accept("f6", by="Dr. A"))


def test_a_sentence_goes_to_the_end_of_its_section() -> None:
    report = small_report().add("impression", "One.").add("findings", "Two.")
    assert [s.id for s in report.statements] == ["s1", "s2", "s3", "s5", "s4"]


def test_the_label_follows_from_the_state() -> None:
    assert banner(small_report()).startswith("AI-ASSISTED DRAFT -")
    assert "EDITED" in banner(small_report().edit("s1", "x"))
    assert banner(signed()).startswith("Signed by Dr. A") and "3 of 4 statements" in banner(signed())
    assert "amended by Dr. B" in banner(signed().addendum(TRUE, "Dr. B"))
    assert banner(signed().retract("Wrong", "Dr. A")).startswith("RETRACTED")


@pytest.mark.parametrize("field", ["text", "origin", "facts", "judgement", "accepted_by", "section"])
def test_a_change_after_signing_breaks_the_signature(field: str) -> None:
    report = signed()
    values = {
        "text": "Other.",
        "origin": Origin.VLM,
        "facts": ("f1",),
        "judgement": None,
        "accepted_by": "Dr. X",
        "section": "impression",
    }
    changed = report.with_statements(
        [replace(s, **{field: values[field]}) if s.id == "s1" else s for s in report.statements]
    )
    assert signature_problems(changed)
    with pytest.raises(StateError):
        check_step(ready(), changed)
    with pytest.raises(StateError):
        check_step(report, changed)


@settings(max_examples=40, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
class Walk(RuleBasedStateMachine):
    """Random acts; refused ones change nothing, and what is signed stays."""

    def __init__(self) -> None:
        super().__init__()
        self.report = small_report()
        self.ids = {s.id for s in self.report.statements}
        self.signed_texts: dict[str, Statement] = {}

    def act(self, change: Callable[[Report], Report]) -> None:
        before = self.report
        copy = json_text(report_data(before))
        try:
            after = change(before)
        except StateError as error:
            assert str(error).endswith(".")
            after = before
        assert json_text(report_data(before)) == copy  # the old report is as it was
        check_step(before, after)
        new = {s.id for s in after.statements} - {s.id for s in before.statements}
        assert not new & self.ids  # no id is given twice, even after its statement went
        self.ids |= new
        self.report = after
        if not self.signed_texts and after.state is State.SIGNED:
            self.signed_texts = {s.id: s for s in after.statements}

    names = st.integers(1, 8).map(lambda n: f"s{n}")
    texts = st.sampled_from([TRUE, FALSE, UNKNOWN, NODULE])

    @rule(name=names, text=texts)
    def edit(self, name: str, text: str) -> None:
        self.act(lambda report: report.edit(name, text))

    @rule(text=texts)
    def add(self, text: str) -> None:
        self.act(lambda report: report.add("findings", text))

    @rule(name=names)
    def dismiss(self, name: str) -> None:
        self.act(lambda report: report.dismiss(name))

    @precondition(lambda self: self.report.state in (State.DRAFT, State.EDITED))
    @rule()
    def check(self) -> None:
        self.act(check)

    @rule()
    def accept_what_can_be(self) -> None:
        todo = unresolved(self.report)
        self.act(lambda report: report.accept(*todo.unverifiable, *todo.unfilled, *todo.omitted, by="Dr. A"))

    @rule()
    def remove_what_is_wrong(self) -> None:
        for name in unresolved(self.report).contradicted:
            self.act(lambda report, name=name: report.dismiss(name))

    @rule()
    def sign(self) -> None:
        self.act(lambda report: report.sign("Dr. A"))

    @precondition(lambda self: self.report.state is State.EDITED)
    @rule()
    def settle_everything_and_sign(self) -> None:
        self.act(check)
        self.remove_what_is_wrong()
        self.act(check)
        self.accept_what_can_be()
        self.act(lambda report: report.sign("Dr. A"))

    @rule(text=texts, accept=st.booleans())
    def addendum(self, text: str, accept: bool) -> None:
        self.act(lambda report: report.addendum(text, "Dr. B", accept=accept))

    @precondition(lambda self: len(self.report.signatures) > 2)
    @rule()
    def retract(self) -> None:
        self.act(lambda report: report.retract("Wrong", "Dr. A"))

    @invariant()
    def promises_hold(self) -> None:
        report = self.report
        assert not signature_problems(report)
        assert (report.state in (State.DRAFT, State.EDITED)) == (not report.signatures)
        assert ("DRAFT" in banner(report)) == (report.state in (State.DRAFT, State.EDITED))
        assert report_from_data(json.loads(json_text(report_data(report)))) == report_from_data(report_data(report))
        if report.signatures:
            assert not unresolved(report)
            assert {s.id: s for s in report.statements if s.id in self.signed_texts} == self.signed_texts


TestWalk = Walk.TestCase


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_schemas_on_disk_are_those_of_the_model() -> None:
    for cls in (Facts, Report):
        path = resource_folder("Schemas") / f"{cls.__name__.lower()}.schema.json"
        assert json.loads(path.read_text(encoding="utf-8")) == schema(cls), f"write {path} anew"


def test_what_is_written_is_read_again_and_fits_the_schema() -> None:
    facts, report = small_facts(), signed().addendum(TRUE, "Dr. B")
    read = facts_from_data(json.loads(json_text(facts_data(facts))))
    assert read == facts
    assert read.facts[5].source is not None and read.facts[5].source.points[0] == (1.0, 2.0, 3.0)
    assert report_from_data(json.loads(json_text(report_data(report)))) == report
    jsonschema.validate(facts_data(facts), schema(Facts))
    jsonschema.validate(report_data(report), schema(Report))


BAD_FACTS = {
    '{"facts": []': "line 1",
    "[]": "is a list",
    '"x"': 'is "x"',
    '{"schema": "foundation-report/facts/2"}': 'should be "foundation-report/facts/1"',
    '{"subjets": []}': 'mean "subjects"',
    '{"subjects": [{"id": "a", "name": "A"}]}': 'subjects[0] lacks "kind"',
    '{"subjects": [{"id": "a", "name": "A", "kind": "bone"}]}': "subjects[0].kind should be one of organ",
    '{"subjects": [{"id": "a", "name": "A", "kind": "organ", "side": "Left"}]}': "subjects[0].side should be one of",
    '{"subjects": [{"id": "a", "name": "A", "kind": "organ"}, {"id": "a", "name": "B", "kind": "organ"}]}': "[1]",
    '{"subjects": [{"id": " ", "name": "A", "kind": "organ"}]}': "subjects[0].id is empty",
    '{"facts": [{"id": "f", "subject": "a", "quantity": "volume", "value": 1}]}': 'the subject "a"',
    '{"facts": [{"id": "f", "subject": "a", "quantity": "volume", "value": [1]}]}': "facts[0].value should be a number",
    '{"facts": [{"id": "f", "subject": "a", "quantity": "volume", "value": NaN}]}': "NaN",
    '{"facts": [{"id": "f", "subject": "a", "quantity": "volume", "value": 1e999}]}': "too large",
    '{"facts": [{"id": "f", "id": "g"}]}': 'the key "id" twice',
    '{"modality": 3}': "modality should be text, and is 3",
    '{"study": {"uid": 3}}': "study.uid should be text",
    '{"warnings": "none"}': "warnings should be a list",
    "": "line 1",
    "\ufeff" + "[" * 100_000: "nested",
}


@pytest.mark.parametrize("text", BAD_FACTS, ids=lambda text: text[:40])
def test_a_facts_file_that_is_wrong_is_named_with_the_place(tmp_path: object, text: str) -> None:
    path = tmp_path / "facts.json"  # type: ignore[operator]
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FactsError) as caught:
        load_facts(path)
    assert str(path) in str(caught.value) and BAD_FACTS[text] in str(caught.value)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_what_is_no_file_is_named(tmp_path: object) -> None:
    with pytest.raises(FactsError, match="is a folder"):
        load_facts(tmp_path)  # type: ignore[arg-type]
    (tmp_path / "x").write_bytes(b"\xff\xfe{}")  # type: ignore[operator]
    with pytest.raises(FactsError, match="UTF-8"):
        load_facts(tmp_path / "x")  # type: ignore[operator]


def test_a_report_that_refers_to_nothing_is_named() -> None:
    data = report_data(small_report())
    for change, says in (
        ({"omitted": ["f99"]}, "omitted names"),
        ({"addenda": ["s99"]}, "addenda names"),
        ({"sections": []}, "statements[0].section"),
        ({"models": []}, "statements[1].model"),
        ({"state": "final"}, "state should be one of"),
    ):
        with pytest.raises(CaseError) as caught:
            report_from_data({**data, **change})
        assert says in str(caught.value)
