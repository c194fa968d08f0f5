# SPDX-License-Identifier: Apache-2.0
"""Radiology reports whose every sentence is checked against what was measured.

>>> facts = measure("ct.nrrd", "ct.seg.nrrd")
>>> report = check(draft(facts, template="ct-chest"))
>>> report = sign(report.edit("s3", "...").check(), signer="...")
"""

from __future__ import annotations

__version__ = "0.1.0"

# After the version, which they write into what they make. Some functions have the name of their module, so these
# imports have to stay here: a later import of the module would take the function's place.
from .case import Case
from .check import check, check_text
from .draft import draft
from .measure import measure
from .model import ClinicalContext, Facts, Report
from .serialise import load_facts
from .state import sign

__all__ = [
    "Case",
    "ClinicalContext",
    "Facts",
    "Report",
    "check",
    "check_text",
    "draft",
    "load_facts",
    "measure",
    "sign",
]
