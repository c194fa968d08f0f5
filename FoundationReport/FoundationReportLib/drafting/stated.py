# SPDX-License-Identifier: Apache-2.0
"""Sentences that follow word for word from facts and context, for the cross-check.

Some sentences are no claims about a single thing that a reader of English could check: what the referrer says, the
suggested categories with their advice ("CT at 6 to 12 months"), segments that have nothing but a name, and "twelve
further nodules" of many. Of these the check asks whether they are, to the letter, what the draft writes from a report's
own facts. In other languages than English that holds for every sentence. Any word changed by a person leaves this list.
"""

from __future__ import annotations

from ..model import Judgement, Report, Verdict
from ..rules import rules
from ..templates import load_template, template_names
from ..wording import language, languages
from .impression import write_categories
from .opening import write_history
from .organs import write_segments
from .pen import Pen

_REFERRER = "It is what the referrer says; the image was not asked."
_CATEGORY = "It is the category that the facts state, in the words of its rule."
_WORDS = "It is, word for word, what the facts state."


def stated(report: Report) -> dict[str, Judgement]:
    """Judgements by the text of such sentences; empty for a report whose language is not known."""
    if report.language not in languages():
        return {}
    found = _drafts(report, only_exact=report.language == "en")
    pen = _pen(report)
    write_history(pen, report.context)
    found |= _judgements(pen, _REFERRER)
    pen = _pen(report)
    pen.written |= {subject.id for subject in report.facts.subjects if subject.finding or subject.organ}
    write_segments(pen)
    found |= _judgements(pen, _WORDS)
    pen = _pen(report)
    write_categories(pen, list(rules()))
    return found | _judgements(pen, _CATEGORY)


def _drafts(report: Report, only_exact: bool) -> dict[str, Judgement]:
    """Sentences of the draft by the report's template, of all shipped ones if that is a file that may not be here.

    Templates choose and order sentences; what a sentence says of a fact is the same in all of them.
    """
    from ..draft import write_sections

    found: dict[str, Judgement] = {}
    for name in (report.template,) if report.template in template_names() else template_names():
        pen = _pen(report)
        write_sections(pen, load_template(name), report.context)
        pen.lines = [line for line in pen.lines if line.exact or not only_exact]
        found |= _judgements(pen, _WORDS)
    return found


def _pen(report: Report) -> Pen:
    return Pen(report.facts, language(report.language), {})


def _judgements(pen: Pen, reason: str) -> dict[str, Judgement]:
    return {line.text: Judgement(Verdict.SUPPORTED, reason, line.facts) for line in pen.lines if not line.placeholder}
