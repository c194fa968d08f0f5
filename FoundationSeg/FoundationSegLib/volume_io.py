# SPDX-License-Identifier: Apache-2.0
"""Reading volumes from files."""

from __future__ import annotations

import os

from .sitk_files import existing_path, read_image
from .volume import NonFinite, Volume


def read_volume(path: str | os.PathLike[str], *, series: str | None = None, nonfinite: NonFinite = "error") -> Volume:
    """Read a volume (first form; DICOM and header checks follow)."""
    return Volume.from_sitk(read_image(existing_path(path)))
