# SPDX-License-Identifier: Apache-2.0
"""What a signature stands for: the hash of the text, facts and judgements that the signer saw.

The first signature of a report is for the report, each later one for one addendum or the retraction (whose text is an
addendum too). A later addendum leaves what an earlier signature stands for as it was.
"""

from __future__ import annotations

from .model import Code, Report, Section, State, sha256

ADDENDUM = Section("addendum", "Addendum", Code("55107-7", "LN", "Addendum Document"))
OPEN = (State.DRAFT, State.EDITED)


def signed_content_sha256(report: Report, addenda: int) -> str:
    """Hash of what a signature with so many addenda before it (its own included) stands for."""
    later = set(report.addenda[addenda:])
    return sha256(
        {
            "report": [report.id, report.template, report.template_version, report.language],
            "facts": report.facts,
            "context": report.context,
            "models": report.models,
            "sections": [s for s in report.sections if addenda or s.key != ADDENDUM.key],
            "statements": [s for s in report.statements if s.id not in later],
            "left_out": report.left_out,
        }
    )


def signature_problems(report: Report) -> list[str]:
    """Sentences on signatures that do not fit what the report says; empty if all do."""
    if report.state in OPEN:
        return ["The report is not signed and yet carries a signature."] if report.signatures else []
    problems = []
    if len(report.signatures) != len(report.addenda) + 1:
        problems.append(
            f"The report has {len(report.signatures)} signatures for itself and {len(report.addenda)} addenda."
        )
    for n, signature in enumerate(report.signatures):
        if signature.content_sha256 != signed_content_sha256(report, n):
            problems.append(f"The report is not what {signature.signer} signed at {signature.when}.")
    return problems
