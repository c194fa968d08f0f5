# SPDX-License-Identifier: Apache-2.0
"""Facts from a volume and its segments: sizes, intensities, places, coverage, change.

>>> facts = measure("ct/", "ct.seg.nrrd", prior=earlier, searched=[Search("lung", "nodule")])
"""

from __future__ import annotations

from .counts import Search
from .header import ImageHeader, PetHeader, read_header, with_contrast
from .study import measure

__all__ = ["ImageHeader", "PetHeader", "Search", "measure", "read_header", "with_contrast"]
