# SPDX-License-Identifier: Apache-2.0
"""The draft: a template filled with facts, without any model. Same facts, same draft, character for character.

It states what was measured, searched for, or known from headers, and nothing else. What nobody looked at is a field
"[not assessed]" that a person fills or dismisses before signing; "normal" is never written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import __version__
from .drafting.impression import category_facts, write_categories, write_impression, write_targets
from .drafting.opening import write_comparison, write_history, write_technique
from .drafting.organs import write_nodes, write_organ, write_other
from .drafting.pen import Pen, label_of
from .errors import TemplateError
from .model import ClinicalContext, Fact, Facts, Kind, Origin, Report, Section, Source, Statement, Subject, sha256
from .rules import Answers, rule, suggest
from .templates import Template, load_template, words
from .wording import Language, language


def draft(
    facts: Facts,
    template: str | os.PathLike[str] | Template = "generic",
    *,
    context: ClinicalContext | None = None,
    language_code: str = "en",
    answers: Answers | None = None,
) -> Report:
    """A report from facts.

    Args:
        facts: what `measure` found. The report's facts have the context's age and sex and the suggested categories
            beside them.
        template: name of a shipped template, path of a template file, or a template.
        context: what the referrer says; quoted in the history.
        language_code: "en", "de", ... (`wording.languages`).
        answers: for the category rules, what no fact says ("density": "solid"), see `rules.parse_answers`.

    Raises:
        TemplateError: if template or language is unknown, or the template is for another modality.
    """
    chosen = template if isinstance(template, Template) else load_template(template)
    words_of = _language(chosen, language_code)
    if chosen.modality and facts.modality and facts.modality not in chosen.modality:
        raise TemplateError(
            f"The template {chosen.id} is for {' and '.join(chosen.modality)} and the image is {facts.modality}; "
            "choose another template, or `generic`, which is for any image."
        )
    known = _with_categories(_with_context(facts, context), chosen, answers or {})
    pen = Pen(known, words_of, answers or {})
    write_sections(pen, chosen, context)
    statements = tuple(
        Statement(f"s{n}", line.section, line.text, Origin.TEMPLATE, line.facts, placeholder=line.placeholder)
        for n, line in enumerate(pen.lines, start=1)
    )
    sections = tuple(
        Section(s.key, words(s.title, words_of.code) if s.title else words_of.section(s.key), s.code)
        for s in chosen.sections
    )
    report = Report(
        id="",
        template=chosen.id,
        template_version=chosen.version,
        language=words_of.code,
        facts=known,
        sections=sections,
        statements=statements,
        context=context,
        next_statement=len(statements) + 1,
    )
    return replace(report, id=f"r{sha256(report)[:16]}")


def write_sections(pen: Pen, template: Template, context: ClinicalContext | None) -> None:
    """All lines of a draft by a template."""
    for section in template.sections:
        pen.section = section.key
        for item in section.items:
            _write(pen, item, context)


def _language(template: Template, code: str) -> Language:
    if code not in template.languages:
        language(code)  # says so if there is no such language at all
        raise TemplateError(
            f"The template {template.id} is in {', '.join(template.languages)} and not in {code}; "
            "choose one of its languages or another template."
        )
    return language(code)


def _write(pen: Pen, item: Mapping[str, Any], context: ClinicalContext | None) -> None:
    kind = item["item"]
    if kind == "history":
        write_history(pen, context)
    elif kind == "technique":
        write_technique(pen)
    elif kind == "comparison":
        write_comparison(pen)
    elif kind == "organ":
        write_organ(pen, item)
    elif kind == "nodes":
        write_nodes(pen, item)
    elif kind == "field":
        _write_field(pen, item)
    elif kind == "other":
        write_other(pen)
    elif kind == "targets":
        write_targets(pen)
    elif kind == "impression":
        write_impression(pen)
    elif kind == "categories":
        write_categories(pen, item["rules"], item.get("which") == "remarkable")


def _write_field(pen: Pen, item: Mapping[str, Any]) -> None:
    """A field of an imported template: what facts say of its organ, else to be filled."""
    if "organ" in item:
        write_organ(pen, {"organs": [item["organ"]], "label": item["label"], "quantities": ("volume", "mean")})
    else:
        pen.ask(label_of(item, "label", pen.language))


def _with_categories(facts: Facts, template: Template, answers: Answers) -> Facts:
    """The facts and the categories that the template's rules suggest for them."""
    items = (item for section in template.sections for item in section.items)
    names = dict.fromkeys(name for item in items for name in item.get("rules", ()))
    # What a person or another program stated of a subject stands; it is not said a second time.
    stated = {(fact.of, fact.subject) for fact in facts.facts if fact.quantity == "category"}
    titles = {title for title, _ in stated}
    suggestions = [
        item
        for item in suggest(facts, answers, names)
        if (rule(item.rule).title(), item.subject) not in stated
        and not (item.for_examination and rule(item.rule).title() in titles)
    ]
    made = category_facts(facts, suggestions, __version__)
    return replace(facts, facts=(*facts.facts, *made))


def _with_context(facts: Facts, context: ClinicalContext | None) -> Facts:
    """The facts and what the referrer says of the patient."""
    if context is None:
        return facts
    image = next((s for s in facts.subjects if s.kind == Kind.IMAGE), None)
    subjects = facts.subjects if image is not None else (*facts.subjects, Subject("image", "image", Kind.IMAGE))
    subject_id = image.id if image is not None else "image"
    source = Source(method="clinical context", version=__version__, by="header")
    made = []
    if context.age is not None:
        made.append(Fact("x1", subject_id, "age", context.age, "a", source=source))
    if context.sex:
        made.append(Fact("x2", subject_id, "sex", context.sex, source=source))
    return replace(facts, subjects=subjects, facts=(*facts.facts, *made))
