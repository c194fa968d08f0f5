# SPDX-License-Identifier: Apache-2.0
"""What `templates` does: list, show and import report templates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from FoundationSegLib.cli_base import Report as Result

from .rules import Question, questions

if TYPE_CHECKING:
    from .templates import Template


def list_templates() -> Result:
    """The shipped templates."""
    from .templates import load_template, template_names, words

    found = [load_template(name) for name in template_names()]
    lines = [f"{t.id:<12} {t.version:<6} {', '.join(t.modality) or 'any':<8} {words(t.title, 'en')}" for t in found]
    data = [
        {
            "id": t.id,
            "version": t.version,
            "modality": list(t.modality),
            "languages": list(t.languages),
            "title": dict(t.title),
        }
        for t in found
    ]
    return Result({"command": "templates list", "templates": data}, "\n".join(lines))


def show_template(name: str, source: bool = False) -> Result:
    """A template, shipped or from a file, checked against the schema: what it reports and asks; `source`: its JSON."""
    from .serialise import json_text
    from .templates import load_template

    template = load_template(name)
    asked = [question for rule in _rules(template) for question in questions(rule)]
    data = {
        "command": "templates show",
        "template": dict(template.data),
        "answers": [{"rule": q.rule, "name": q.name, "values": list(q.values), "question": q.question} for q in asked],
    }
    text = json_text(template.data).rstrip() if source else _described(template, asked)
    return Result(data, text)


def import_template(source: Path, out: Path) -> Result:
    """An MRRT (IHE Management of Radiology Report Templates) HTML file as a template file."""
    from .mrrt import read_mrrt
    from .templates import save_template

    template, notes = read_mrrt(source)
    save_template(template, out)
    text = "\n".join([*(f"Note: {note}" for note in notes), f"Wrote {out}: {len(template.sections)} sections."])
    data = {"command": "templates import", "id": template.id, "out": str(out), "notes": list(notes)}
    return Result(data, text)


def _rules(template: Template) -> list[str]:
    items = (item for section in template.sections for item in section.items)
    return list(dict.fromkeys(name for item in items for name in item.get("rules", ())))


def _described(template: Template, asked: Sequence[Question]) -> str:
    """The template for a reader: sections with what they are about, then what its category rules ask for."""
    from .templates import words
    from .wording import language

    head = f"{template.id} {template.version}: {words(template.title, 'en')}"
    kinds = ", ".join(template.modality) or "any image"
    lines = [f"{head} ({kinds}; {', '.join(template.languages)})", ""]
    for section in template.sections:
        title = words(section.title, "en") if section.title else language("en").section(section.key)
        labels = [words(item["label"], "en") for item in section.items if "label" in item]
        lines.append(f"  {title}{': ' if labels else ''}{', '.join(labels)}")
    if asked:
        lines += ["", "Answers for its category rules, as --answer NAME=VALUE (of one lesion: LESION.NAME=VALUE);"]
        lines += ["what was measured or is in the header need not be answered:"]
    for rule in dict.fromkeys(question.rule for question in asked):
        lines.append(f"  {rule}")
        for question in asked:
            if question.rule == rule:
                values = "|".join(question.values) or "NUMBER"
                lines.append(f"    {question.name}={values}  {question.question}")
    lines += ["", "Its file, to make one of your own: --source"]
    return "\n".join(lines)
