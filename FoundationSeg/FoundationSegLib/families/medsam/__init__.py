# SPDX-License-Identifier: Apache-2.0
"""MedSAM: SAM's network with weights for medical images; the card's family says how pictures are prepared."""

from __future__ import annotations

from ..sam import expected_tensors, load, rename

__all__ = ["expected_tensors", "load", "rename"]
