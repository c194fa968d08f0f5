# SPDX-License-Identifier: Apache-2.0
"""Category rules: they suggest, with reasons and with what they would have to know; they never decide.

Every threshold is data with its source, in `Resources/ReportRules`. `suggest` is a pure function of facts and answers.
"""

from __future__ import annotations

from .catalogue import Rule, RuleSource, rule, rules
from .inputs import Answers, Question, parse_answers, questions
from .suggestion import Suggestion, suggest

__all__ = [
    "Answers",
    "Question",
    "Rule",
    "RuleSource",
    "Suggestion",
    "parse_answers",
    "questions",
    "rule",
    "rules",
    "suggest",
]
