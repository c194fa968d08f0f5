# SPDX-License-Identifier: Apache-2.0
"""A few numbers for each segment, as a table: volume, extents, intensity."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .atomic import atomic_output
from .errors import FoundationSegError
from .volume import Volume


@dataclass(frozen=True)
class Measures:
    """The numbers of one segment; None where an empty segment has none.

    Attributes:
        segment: its name.
        voxels, volume_ml: its size.
        extent_r_mm, extent_a_mm, extent_s_mm: edges of the box around its voxels (outer faces) along R, A and S.
        mean, std: of the intensities within; the standard deviation is the population's.
        unit: "HU" for a CT, else empty because the file does not say.
    """

    segment: str
    voxels: int
    volume_ml: float
    extent_r_mm: float | None
    extent_a_mm: float | None
    extent_s_mm: float | None
    mean: float | None
    std: float | None
    unit: str


def measure_segment(volume: Volume, segment: str, mask: npt.NDArray[np.bool_]) -> Measures:
    """The numbers of one segment; `mask` is bool (k, j, i) of the volume's shape."""
    if mask.shape != volume.shape:
        raise FoundationSegError(f"The mask has {mask.shape} voxels (k, j, i) and the volume {volume.shape}.")
    unit = "HU" if volume.modality == "CT" else ""
    inside = volume.array[mask]
    if inside.size == 0:
        return Measures(segment, 0, 0.0, None, None, None, None, None, unit)
    r, a, s = extents_mm(volume, mask)
    values = inside.astype(np.float64)
    volume_ml = inside.size * volume.voxel_volume_ml
    return Measures(segment, inside.size, volume_ml, r, a, s, float(values.mean()), float(values.std()), unit)


def extents_mm(volume: Volume, mask: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Edges along R, A, S in mm of the box around all voxels, faces included. `mask`: (k, j, i), not empty."""
    centres = volume.kji_to_ras(np.argwhere(mask))
    # A voxel is a parallelepiped: this is how far it reaches along each of R, A and S.
    reach = np.abs(volume.ijk_to_ras[:3, :3]).sum(axis=1)
    r, a, s = (np.ptp(centres, axis=0) + reach).tolist()
    return r, a, s


def write_table(path: str | os.PathLike[str], rows: Sequence[Measures]) -> Path:
    """Writes the rows as CSV (UTF-8, header first, numbers unrounded). Raises OutputError."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(Measures.__dataclass_fields__))
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    with atomic_output(path) as file:
        file.write(text.getvalue().encode("utf-8"))
    return Path(path)


def format_table(rows: Sequence[Measures], extra: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """The rows as aligned text. `extra`: further columns, title to segment name to text."""
    extra = extra or {}

    def size(row: Measures) -> str:
        return f"{row.volume_ml:.3g}" if row.volume_ml < 1 else f"{row.volume_ml:.1f}"

    unit = " HU" if any(row.unit == "HU" for row in rows) else ""
    table = [["segment", "volume mL", "R x A x S mm", f"mean{unit}", f"SD{unit}", *extra]]
    for row in rows:
        extents = (row.extent_r_mm, row.extent_a_mm, row.extent_s_mm)
        edges = " x ".join(f"{x:.0f}" for x in extents if x is not None)
        numbers = ["" if x is None else f"{x:.1f}" for x in (row.mean, row.std)]
        more = [texts.get(row.segment, "") for texts in extra.values()]
        table.append([row.segment, size(row), edges, *numbers, *more])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
