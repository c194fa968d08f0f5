# SPDX-License-Identifier: Apache-2.0
"""The cross-check: every sentence against the facts, as supported, contradicted or unverifiable."""

from __future__ import annotations

from .report import TextCheck, check, check_text

__all__ = ["TextCheck", "check", "check_text"]
