# SPDX-License-Identifier: Apache-2.0
"""Clinical context from FHIR R4: what is read, what is refused, and that no identifier gets through."""

from __future__ import annotations

import base64
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from FoundationReportLib.context import load_context, read_context
from FoundationReportLib.errors import ContextError
from FoundationReportLib.redaction import redact
from hypothesis import given, settings
from hypothesis import strategies as st

ON = date(2026, 3, 10)


def text(words: str) -> dict[str, Any]:
    return {"text": words}


def coded(code: str) -> dict[str, Any]:
    return {"coding": [{"code": code}]}


def lab(name: str, value: float, unit: str, day: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "status": "final", "category": [coded("laboratory")], "code": text(name),
        "subject": {"reference": "Patient/p1"}, "effectiveDateTime": f"{day}T08:00:00Z",
        "valueQuantity": {"value": value, "unit": unit}, **more,
    }  # fmt: skip


PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "urn:mrn", "value": "MRN-778120"}],
    "name": [{"family": "Okonkwo", "given": ["Adaeze", "Li"]}],
    "telecom": [{"system": "phone", "value": "555 0199 233"}],
    "address": [{"line": ["12 Elm Street"], "city": "Springfield", "postalCode": "62704"}],
    "gender": "female",
    "birthDate": "1962-05-04",
}
REQUEST = {
    "resourceType": "ServiceRequest",
    "status": "active",
    "subject": {"reference": "Patient/p1", "display": "Adaeze Okonkwo"},
    "authoredOn": "2026-03-10T09:30:00+01:00",
    "requester": {"display": "Dr. Marlene Huber"},
    "reasonCode": [text("Ms Okonkwo has known colon cancer since 12 March 2024, restaging")],
    "reasonReference": [{"reference": "Condition/c1"}],
    "note": [{"text": "Please call Huber at 555 0123 456 or huber@example.org. Creatinine below."}],
}
CONDITIONS = [
    {"resourceType": "Condition", "id": "c1", "subject": {"reference": "Patient/p1"},
     "code": text("Adenocarcinoma of the sigmoid colon"), "clinicalStatus": coded("active")},
    {"resourceType": "Condition", "id": "c2", "subject": {"reference": "Patient/p1"},
     "code": {"coding": [{"display": "Pneumonia"}]}, "clinicalStatus": coded("resolved")},
    {"resourceType": "Condition", "id": "c3", "subject": {"reference": "Patient/p1"}, "code": text("Tuberculosis"),
     "verificationStatus": coded("refuted")},
]  # fmt: skip
LABS = [
    lab("Creatinine", 1.1, "mg/dL", "2026-01-02"),
    lab("Creatinine", 1.4, "mg/dL", "2026-03-07", interpretation=[coded("H")],
        referenceRange=[{"low": {"value": 0.6}, "high": {"value": 1.2}}]),
    lab("CEA", 28.0, "ng/mL", "2026-03-10"),
    lab("CRP", 3.0, "mg/L", "2026-03-09", status="entered-in-error"),
    {**lab("Blood pressure", 120, "mm[Hg]", "2026-03-10"), "category": [coded("vital-signs")]},
]  # fmt: skip
PAGE = b"<p>Compared with 2025-03-01.</p><script>alert(1)</script> Patient: Adaeze Okonkwo"
PRIOR = {
    "resourceType": "DiagnosticReport",
    "status": "final",
    "category": [coded("RAD")],
    "subject": {"reference": "Patient/p1"},
    "effectiveDateTime": "2025-09-01",
    "conclusion": "Two liver metastases, the larger 24 mm. Dr. Huber informed.",
    "presentedForm": [{"contentType": "text/html", "data": base64.b64encode(PAGE).decode()}],
}


def bundle(*resources: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": one} for one in resources]}


ALL = bundle(PATIENT, REQUEST, *CONDITIONS, *LABS, PRIOR, {"resourceType": "Appointment", "unknownField": 3})
IDENTIFIERS = "Okonkwo,Adaeze,Huber,Marlene,778120,555,Elm,Springfield,62704,huber@,1962,2026-03,12 March,alert"


def test_what_is_read() -> None:
    context = read_context(ALL)
    assert (context.age, context.sex) == (63, "female")
    assert context.indication.startswith(
        "Ms [name] has known colon cancer since [date in 2024], restaging; Adenocarcinoma"
    )
    assert context.history == ("Adenocarcinoma of the sigmoid colon", "Pneumonia (resolved)")
    assert context.labs == (
        "Creatinine 1.4 mg/dL (reference 0.6-1.2, high; 3 days before)",
        "CEA 28 ng/mL (same day)",
    )
    assert context.prior_report.startswith("Compared with [date in 2025].")
    assert "Two liver metastases, the larger 24 mm." in context.prior_report


def test_no_identifier_is_in_anything_that_is_kept() -> None:
    kept = repr(read_context(ALL))
    assert not [word for word in IDENTIFIERS.split(",") if word in kept]


def test_the_record_says_what_was_used_and_what_was_taken_out() -> None:
    context = read_context(ALL)
    assert {"Patient.birthDate: 1", "Patient.gender: 1", "ServiceRequest.reasonCode: 1", "Observation.value: 2"} <= set(
        context.used
    )
    kinds = dict(line.split(": ") for line in context.redacted)
    assert int(kinds["name"]) >= 4 and int(kinds["date"]) >= 4 and int(kinds["contact"]) >= 2


def test_the_age_is_that_on_the_day_and_none_is_above_ninety() -> None:
    born = lambda day: bundle({**PATIENT, "birthDate": day}, REQUEST)  # noqa: E731
    assert read_context(born("1962-03-11"), on=ON).age == 63
    assert read_context(born("1962-03-10"), on=ON).age == 64
    assert read_context(born("1962"), on=ON).age == 64
    assert read_context(born("1926-01-01"), on=ON).age == 90
    assert "age: 1" in read_context(born("1926-01-01"), on=ON).redacted
    for broken in ("unknown", "2062-01-01", "1500-01-01", ""):
        assert read_context(born(broken), on=ON).age is None


def test_one_resource_without_a_bundle_is_enough() -> None:
    assert read_context(REQUEST).indication
    assert read_context({**PRIOR, "status": "preliminary"}).prior_report == "", (
        "a preliminary report is no prior report"
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("<Bundle xmlns='http://hl7.org/fhir'/>", "looks like XML"),
        ("age: 61", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("{}", "has no resourceType"),
        ("[1, 2]", "has no resourceType"),
        ('{"resourceType": "Bundle"}', "no resources in it"),
        ('{"resourceType": "Bundle", "entry": 3}', '"entry" is no list'),
        ('{"resourceType": "Bundle", "entry": [{"resource": 3}]}', "Entry 1 of"),
        ('{"resourceType": "ValueSet"}', "says nothing about a patient"),
    ],
)
def test_files_that_are_no_fhir_are_refused(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "context.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ContextError, match=complaint):
        load_context(file)


def test_a_missing_file_is_said_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match=r"gone.json cannot be read \(No such file"):
        load_context(tmp_path / "gone.json")


def test_a_file_is_read_like_its_contents(tmp_path: Path) -> None:
    file = tmp_path / "context.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(ALL).encode())
    assert load_context(file) == read_context(ALL)


def test_data_of_somebody_else_are_refused() -> None:
    other = {**PATIENT, "id": "p2"}
    with pytest.raises(ContextError, match="holds 2 patients"):
        read_context(bundle(PATIENT, other, REQUEST))
    stranger = {**LABS[0], "subject": {"reference": "Patient/p2"}}
    with pytest.raises(ContextError, match="more than one patient"):
        read_context(bundle(PATIENT, REQUEST, stranger))
    with pytest.raises(ContextError, match="more than one patient"):
        read_context(bundle(REQUEST, stranger))
    same = {**LABS[0], "subject": {"reference": "https://ehr.example/fhir/Patient/p1/_history/2"}}
    assert read_context(bundle(PATIENT, REQUEST, same)).labs
    by_url = {"resourceType": "Bundle", "entry": [
        {"fullUrl": "urn:uuid:11", "resource": {**PATIENT, "id": None}},
        {"resource": {**LABS[1], "subject": {"reference": "urn:uuid:11"}}},
    ]}  # fmt: skip
    assert read_context(by_url).labs


LEAVES = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8)
KEYS = st.sampled_from(
    ["code", "text", "coding", "display", "reference", "value", "name", "subject", "status", "given"]
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
NAMES = (
    "code valueQuantity reasonCode note name identifier category birthDate status presentedForm referenceRange "
    "effectiveDateTime telecom contained subject id"
)
KINDS = st.sampled_from(["Patient", "ServiceRequest", "Condition", "Observation", "DiagnosticReport"])


@given(KINDS, st.dictionaries(st.sampled_from(NAMES.split()), JSON, max_size=6))
@settings(max_examples=200, deadline=None)
def test_no_resource_however_malformed_breaks_the_reader(kind: str, fields: dict[str, Any]) -> None:
    try:
        read_context(bundle({**fields, "resourceType": kind}))
    except ContextError as error:
        assert len(str(error)) > 20


# --- Redaction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("seen by Dr. Anna Meyer-Lang today", "seen by [name] today"),
        ("Patient name: John Q Public, pain", "[name], pain"),
        ("DOE^JOHN^A", "[name]"),
        ("MRN: 00123456 and accession no. A-77", "[number] and [number]"),
        ("SSN 123-45-6789", "[number]"),
        ("on 2024-11-03 and 3.11.2024 and 11/03/2024", "on [date in 2024] and [date in 2024] and [date in 2024]"),
        ("on March 3rd, 2024 and 3 March 2024", "on [date in 2024] and [date in 2024]"),
        ("call +1 555 123 4567 or a.b@c.org, see https://x.org/p?id=1", "call [contact] or [contact], see [contact]"),
        ("lives at 12 Elm Street", "lives at [address]"),
        ("a 93-year-old woman", "a over 89-year-old woman"),
        ("a 61-year-old man", "a 61-year-old man"),
    ],
)
def test_identifiers_are_taken_out(before: str, after: str) -> None:
    assert redact(before).text == after


@pytest.mark.parametrize(
    "clinical",
    [
        "Creatinine 1.4 mg/dL, CEA 28.5 ng/mL, platelets 250000",
        "Lesion of 24 x 18 mm in segment VII, previously 31 mm (-22.6 %)",
        "T2N1M0, G2, HER2 positive, BRAF V600E, Gleason 3+4",
        "Slice thickness 1.25 mm, 120 kV, 512 x 512",
        "L4/5 disc, Th12 fracture, C5-6 stenosis",
        "May be a hemangioma. Progression since 2023.",
    ],
)
def test_what_is_clinical_stays(clinical: str) -> None:
    assert redact(clinical).text == clinical and not redact(clinical).kinds


def test_known_names_are_taken_out_whatever_their_case_and_short_ones_as_names_only() -> None:
    assert redact("mrs OKONKWO's scan, okonkwo", ["Okonkwo"]).text == "mrs [name] scan, [name]"
    assert redact("Li was seen; lithium and li stay", ["Li"]).text == "[name] was seen; lithium and li stay"
    assert redact("Smithson", ["Smith"]).text == "Smithson"
