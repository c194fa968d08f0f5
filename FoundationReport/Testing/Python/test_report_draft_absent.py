# SPDX-License-Identifier: Apache-2.0
"""The draft on findings that are subjects themselves and were searched for and not found: never "present"."""

from __future__ import annotations

import pytest
from FoundationReportLib.check import check
from FoundationReportLib.draft import draft
from FoundationReportLib.model import Kind, Side, Subject, Verdict
from FoundationReportLib.templates import load_template, template_names
from test_report_draft import f, findings, study, texts

SUBJECTS = (
    Subject("e", "Effusion", Kind.OTHER, "pleura", Side.LEFT, "pleural effusion"),
    Subject("p", "Air", Kind.OTHER, "", Side.NONE, "pneumothorax"),
    Subject("m", "Met", Kind.LESION, "liver", Side.NONE, "metastasis"),
    Subject("n", "Node", Kind.NODE, "mediastinum", Side.NONE, "lymph node", "subcarinal"),
)


@pytest.mark.parametrize("template", template_names())
def test_what_was_searched_for_and_not_found_is_never_present(template: str) -> None:
    """In the findings and in the impression, once, and the cross-check agrees."""
    modality = (load_template(template).modality or ("CT",))[0]
    absent = tuple(f(s.id, "presence", "searched_not_found") for s in SUBJECTS)
    report = check(draft(study(*SUBJECTS, absent, modality=modality), template))
    lines = texts(report)
    assert not [line for line in lines if "present" in line]
    assert "No pleural effusion was found on the left." in lines
    assert "No subcarinal lymph node was found." in lines
    for word in ("effusion", "pneumothorax", "metastasis", "subcarinal"):
        said = [s for s in report.statements if word in s.text.lower()]
        assert len(said) == 1 and said[0].text.startswith("No "), (template, said)
        assert said[0].judgement is not None and said[0].judgement.verdict is Verdict.SUPPORTED


def test_nor_in_german() -> None:
    lines = findings(SUBJECTS[3], f("n", "presence", "searched_not_found"), template="generic", code="de")
    said = [line for line in lines if "ymphknoten" in line]
    assert said and all(line.startswith("Kein") and "subkarinal" in line for line in said if "[" not in line), said
