# SPDX-License-Identifier: Apache-2.0
"""A page of results beside their references: three planes through the largest error of each, with the prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from FoundationSegLib.prompts import Box, Point, Prompt, Scribble
from FoundationSegLib.slices import ORIENTATIONS, Orientation, View, choose_view, display_range, sample_plane
from FoundationSegLib.volume import Volume

from . import clicks
from .metrics import BoolArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REFERENCE, OURS, POSITIVE, NEGATIVE = "#4fb3ff", "#ffb000", "#35e05a", "#ff4d4d"
_BACKGROUND, _INK, _FAINT = "#101014", "#f0f0f0", "#b0b0b8"
_PANEL, _TEXT = 2.6, 0.76  # inches: a plane's edge, and the room for the text above a row
_PIXELS = 340
_LETTERS = 145  # of small print on a line
_NEAR_MM = 5.0  # a prompt this near to a plane is drawn solid, others faintly


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the page. `caption`: what it is and how good, `source`: where the data is from and its licence."""

    volume: Volume
    reference: BoolArray
    mask: BoolArray
    prompts: tuple[Prompt, ...]
    caption: str
    source: str

    def largest_error(self) -> tuple[np.ndarray, str] | None:
        """RAS mm of the deepest point of the largest error, and what it is; None where there is no error."""
        found = clicks.largest_error(self.reference, self.mask)
        if found is None:
            return None
        box, region, missing = found
        at = clicks.region_click(region, self.volume.spacing_mm[::-1], missing).kji
        ras = self.volume.kji_to_ras(np.array(at, float) + [part.start for part in box])
        ml = np.count_nonzero(region) * self.volume.voxel_volume_ml
        size = f"{ml:.0f}" if ml >= 10 else f"{ml:.2g}"
        return ras, f"largest error: {size} mL {'missing' if missing else 'too much'}"


def view_of(entry: Entry) -> View:
    """Planes through the largest error, wide enough for the reference and for what was made of it."""
    marked = np.array([prompt.ras for prompt in entry.prompts if isinstance(prompt, Point)]).reshape(-1, 3)
    view = choose_view(entry.volume, [entry.reference, entry.mask], marked)
    error = entry.largest_error()
    return view if error is None else dataclasses.replace(view, centre=error[0])


def write_page(path: Path, entries: Sequence[Entry], title: str) -> None:
    """A PNG with one row per entry."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    gap = 0.06
    width = 3 * _PANEL + 4 * gap
    height = 0.55 + len(entries) * (_PANEL + _TEXT)
    figure = Figure(figsize=(width, height), dpi=130, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    words: dict[str, Any] = {"va": "top", "parse_math": False}
    figure.text(gap / width, 1 - 0.06 / height, title, color=_INK, fontsize=10, fontweight="bold", **words)
    legend = ((REFERENCE, "reference"), (OURS, "ours"), (POSITIVE, "● click, stroke or box on it"))
    for number, (colour, text) in enumerate((*legend, (NEGATIVE, "✖ click or stroke beside it"))):
        left = (gap + (0, 0.75, 1.15, 3.0)[number]) / width
        figure.text(left, 1 - 0.3 / height, text, color=colour, fontsize=8, **words)
    for number, entry in enumerate(entries):
        top = height - 0.55 - number * (_PANEL + _TEXT)
        error = entry.largest_error()
        caption = entry.caption if error is None else f"{entry.caption}; {error[1]}"
        figure.text(gap / width, (top - 0.06) / height, caption, color=_INK, fontsize=8, **words)
        figure.text(
            gap / width, (top - 0.27) / height, fill(entry.source, _LETTERS), color=_FAINT, fontsize=6.5, **words
        )
        view = view_of(entry)
        images = [sample_plane(entry.volume, entry.volume.array, view.points(o, _PIXELS), np.nan) for o in ORIENTATIONS]
        shown = np.concatenate([image[np.isfinite(image)] for image in images])
        window = display_range(entry.volume, [entry.reference], shown)
        for column, (orientation, image) in enumerate(zip(ORIENTATIONS, images, strict=True)):
            place = (gap + column * (_PANEL + gap), top - _TEXT - _PANEL + 0.1)
            axes = figure.add_axes((place[0] / width, place[1] / height, _PANEL / width, _PANEL / height))
            image = np.nan_to_num(image, nan=window[0]).reshape(_PIXELS, _PIXELS)
            _draw_plane(axes, entry, view, orientation, image, window)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", facecolor=_BACKGROUND)


def _draw_plane(
    axes: Axes,
    entry: Entry,
    view: View,
    orientation: Orientation,
    image: np.ndarray,
    window: tuple[float, float],
) -> None:
    left, right, bottom, top = extent = view.extent(orientation)
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, origin="lower")
    points = view.points(orientation, _PIXELS)
    ticks = ((np.arange(_PIXELS) + 0.5) / _PIXELS * 2 - 1) * view.half
    x, y = ticks + view.middle[orientation.horizontal], ticks + view.middle[orientation.vertical]
    for mask, colour in ((entry.reference, REFERENCE), (entry.mask, OURS)):
        inside = sample_plane(entry.volume, mask, points, 0.0).reshape(_PIXELS, _PIXELS)
        if inside.max() > 0.5:
            axes.contour(x, y, inside, levels=[0.5], colors=[colour], linewidths=1.2)
    for prompt in entry.prompts:
        _draw_prompt(axes, prompt, orientation, float(view.centre[orientation.normal]))
    axes.set_xlim(right, left)  # radiological: the coordinate grows to the left
    axes.set_ylim(bottom, top)
    axes.set_axis_off()
    letter = "RAS"[orientation.normal]
    text = f"{orientation.name} {letter} {view.centre[orientation.normal]:+.0f} mm"
    axes.text(0.02, 0.98, text, color=_INK, fontsize=6.5, va="top", transform=axes.transAxes)


def _draw_prompt(axes: Axes, prompt: Prompt, orientation: Orientation, plane: float) -> None:
    u, v, n = orientation.horizontal, orientation.vertical, orientation.normal
    colour = POSITIVE if getattr(prompt, "positive", True) else NEGATIVE
    if isinstance(prompt, Point):
        marker = "o" if prompt.positive else "X"
        strength = 1.0 if abs(prompt.ras[n] - plane) <= _NEAR_MM else 0.3
        axes.plot(prompt.ras[u], prompt.ras[v], marker, ms=5, mfc=colour, mec="black", mew=0.8, alpha=strength)
    elif isinstance(prompt, Scribble):
        line = np.array(prompt.points)
        strength = 1.0 if np.abs(line[:, n] - plane).min() <= _NEAR_MM else 0.3
        axes.plot(line[:, u], line[:, v], color=colour, lw=2, alpha=strength)
    elif isinstance(prompt, Box):
        low, high = prompt.corners_ras.min(axis=0), prompt.corners_ras.max(axis=0)
        ends = [(low[u], low[v]), (high[u], low[v]), (high[u], high[v]), (low[u], high[v]), (low[u], low[v])]
        axes.plot(*zip(*ends, strict=True), "--", color=colour, lw=1, alpha=0.9 if low[n] <= plane <= high[n] else 0.3)
