# SPDX-License-Identifier: Apache-2.0
"""The package's own errors.

Every message is one sentence that a panel can show as it is: what was wrong, where, and what to do. No message carries
a patient identifier.
"""

from __future__ import annotations


class FoundationReportError(Exception):
    """Base of every error that the package raises on purpose."""


class MeasurementError(FoundationReportError):
    """Volume and segmentation do not belong together, or cannot be measured."""


class FactsError(FoundationReportError):
    """A facts file is malformed."""


class TemplateError(FoundationReportError):
    """A report template is unknown, or breaks its schema."""


class ContextError(FoundationReportError):
    """A clinical context (FHIR) cannot be read, or is of somebody else."""


class EngineError(FoundationReportError):
    """A vision-language model is unknown, absent, does not fit, or gave nothing that can be used."""


class StateError(FoundationReportError):
    """What was asked is not allowed in the report's state: signing what is unresolved, editing what is signed."""


class AuditError(FoundationReportError):
    """The record of what happened was changed, cut, or belongs to another report."""


class CaseError(FoundationReportError):
    """A case folder is missing, damaged, in use, or cannot be written."""


class Cancelled(FoundationReportError):
    """The user cancelled; nothing was changed."""
