# SPDX-License-Identifier: Apache-2.0
"""How the draft writes each part of a report from facts."""

from __future__ import annotations
