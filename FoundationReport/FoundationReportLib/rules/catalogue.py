# SPDX-License-Identifier: Apache-2.0
"""The rules: one JSON file each in `Resources/ReportRules`, with thresholds, words and the sources of both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from FoundationSegLib.resources import resource_folder

from ..errors import TemplateError
from ..model import Code
from .tables import Condition, Interval, Row, Table

RULE_SCHEMA = "foundation-report/rule/1"


@dataclass(frozen=True)
class RuleSource:
    """Where a rule's numbers are published, and where they were read when the rule was written."""

    citation: str
    doi: str
    read_at: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """A category system.

    Attributes:
        id: name of its file.
        table: its rows; None for RECIST's response, which is arithmetic (`recist.py`).
        combine: "worst": one suggestion for the examination, by the subject of the highest category;
            "each": one per subject.
        order: outcomes, least first.
        data: the whole file.
    """

    id: str
    version: str
    about: str
    sources: tuple[RuleSource, ...]
    table: Table | None
    combine: str
    order: tuple[str, ...]
    code: Code | None
    data: Mapping[str, Any]

    def title(self, language: str = "en") -> str:
        return _in(language, self.data["title"])

    def outcome(self, key: str, language: str = "en") -> str:
        """An outcome in words."""
        return _in(language, self.data["outcomes"][key])

    def phrase(self, language: str = "en") -> str:
        """The sentence that suggests an outcome, with fields `title`, `outcome`, `the`, `The`, `of`."""
        return _in(language, self.data["phrase"])

    def question(self, name: str, language: str = "en") -> str:
        """What a person is asked for an input that no fact gives."""
        return _in(language, self.data["inputs"][name]["question"])


@cache
def rules() -> dict[str, Rule]:
    """All rules by id."""
    files = sorted(resource_folder("ReportRules").glob("*.json"))
    return {file.stem: _rule(json.loads(file.read_text(encoding="utf-8"))) for file in files}


def rule(name: str) -> Rule:
    """Raises TemplateError if there is none of that id."""
    if name not in rules():
        raise TemplateError(f"There is no category rule {name!r}; the rules are {', '.join(rules())}.")
    return rules()[name]


def _in(language: str, words: Mapping[str, str]) -> str:
    return words.get(language, words["en"])


def _rule(data: dict[str, Any]) -> Rule:
    choices = {name: tuple(spec["choices"]) for name, spec in data["inputs"].items() if "choices" in spec}
    rows = tuple(Row(_conditions(row["when"]), row["outcome"]) for row in data.get("rows", ()))
    sources = tuple(
        RuleSource(item["citation"], item.get("doi", ""), tuple(item["read_at"])) for item in data["sources"]
    )
    return Rule(
        id=data["id"],
        version=data["version"],
        about=data["about"],
        sources=sources,
        table=Table(rows, choices) if data["schema"] == RULE_SCHEMA else None,
        combine=data.get("combine", "worst"),
        order=tuple(data["order"]),
        code=Code(**data["code"]) if "code" in data else None,
        data=data,
    )


def _conditions(when: Mapping[str, Any]) -> dict[str, Condition]:
    return {name: Interval(**value) if isinstance(value, dict) else tuple(value) for name, value in when.items()}
