# SPDX-License-Identifier: Apache-2.0
"""Which of the facts that a template wants mentioned a report does not tell, for the cross-check."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..model import Fact, Report
from ..templates import load_template, must_mention, template_names

# Facts that tell the same of a finding: who says that it grew by 6 mm has said that it is larger.
_ALIKE = {
    "long_axis": frozenset({"long_axis", "mean_diameter", "bidimensional_product"}),
    "short_axis": frozenset({"short_axis", "bidimensional_product"}),
    "trend": frozenset({"trend", "prior", "change", "change_percent", "doubling_time"}),
}


def omitted_by_template(report: Report, told: Collection[str], silent: Sequence[str]) -> tuple[str, ...]:
    """Ids of the facts that the report's template wants mentioned and no statement tells.

    Args:
        told: ids of the facts that statements tell without being contradicted.
        silent: one fact for each subject of which nothing is told. It stays where the template wants nothing of that
            subject, and all of them do for a report whose template is a file that may not be here.
    """
    if report.template not in template_names():
        return tuple(silent)
    facts = {fact.id: fact for fact in report.facts.facts}
    subjects = {facts[name].subject for name in silent}
    known = {(facts[name].subject, facts[name].quantity) for name in told if name in facts}
    wanted = [facts[name] for name in must_mention(load_template(report.template), report.facts)]
    missing = [fact.id for fact in wanted if fact.subject in subjects or not _is_told(fact, known)]
    covered = {fact.subject for fact in wanted}
    return (*missing, *(name for name in silent if facts[name].subject not in covered))


def _is_told(fact: Fact, known: Collection[tuple[str, str]]) -> bool:
    if fact.quantity == "presence":
        return True  # of a subject that is spoken of
    alike = _ALIKE.get(fact.quantity, frozenset({fact.quantity}))
    return any((fact.subject, quantity) in known for quantity in alike)
