# SPDX-License-Identifier: Apache-2.0
"""Radiology reports whose every sentence is checked against what was measured."""

from __future__ import annotations

__version__ = "0.1.0"
