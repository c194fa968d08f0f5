# SPDX-License-Identifier: Apache-2.0
"""A picture of a result: three planes with outlines and prompts, and a 3-D view. Needs no display.

It is drawn on matplotlib's canvas object, not through pyplot, so that it neither opens a window nor leaves a state
behind in a program that draws with matplotlib itself.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .atomic import atomic_output
from .errors import OutputError
from .prompts import Box, Lasso, Point, Prompt, Scribble
from .slices import (
    AXIAL,
    CORONAL,
    ORIENTATIONS,
    SAGITTAL,
    Orientation,
    View,
    choose_view,
    display_range,
    sample_plane,
)
from .surface import Camera, render
from .volume import Volume

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Told apart on grey and by colour-blind readers; a segment's own colour in Slicer is often tissue-like and would drown.
PALETTE = ("#ffb000", "#4fb3ff", "#ff5c8a", "#5ad469", "#c39bff", "#f5e663")
_BACKGROUND, _INK, _FAINT = "#101014", "#f0f0f0", "#9a9aa2"
_POSITIVE, _NEGATIVE = "#35e05a", "#ff4d4d"
# The page, in inches: four square panels, a head and a foot.
_PANEL, _GAP, _HEAD, _FOOT = 4.85, 0.1, 0.72, 0.28
_WIDTH, _HEIGHT = 2 * _PANEL + 3 * _GAP, _HEAD + 2 * _PANEL + _GAP + _FOOT
_PIXELS = 560  # along the edge of a plane
_SOLID_PIXELS = 800  # along the edge of the 3-D view
_LEGEND_LETTERS = 90
_NEAR_MM = 5.0  # a prompt this near to a plane is drawn solid, others faintly


@dataclass(frozen=True)
class PictureSegment:
    """What the picture shows of a segment: its mask is bool (k, j, i) of the volume's shape."""

    name: str
    mask: BoolArray
    prompts: tuple[Prompt, ...] = ()
    caption: str = ""


def write_picture(
    path: str | os.PathLike[str], volume: Volume, segments: Sequence[PictureSegment], title: str = "", footer: str = ""
) -> Path:
    """Writes a PNG of about 1500 x 1620 pixels. Raises OutputError."""
    if Path(path).suffix.lower() != ".png":
        raise OutputError(f"The picture is a PNG; let {os.fspath(path)} end in .png.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OutputError("The picture needs matplotlib; install it (pip install matplotlib) or go without.") from error
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=150, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    _draw(figure, volume, segments, title, footer)
    with atomic_output(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that the font lacks become boxes, and that shows
        figure.savefig(file, format="png", facecolor=_BACKGROUND)
    return Path(path)


def _draw(figure: Figure, volume: Volume, segments: Sequence[PictureSegment], title: str, footer: str) -> None:
    masks = [segment.mask for segment in segments]
    marked = np.array([point for segment in segments for point in _marked(segment.prompts)], dtype=float).reshape(-1, 3)
    view = choose_view(volume, masks, marked)
    low = float(volume.array.min())
    images = {o: sample_plane(volume, volume.array, view.points(o, _PIXELS), np.nan) for o in ORIENTATIONS}
    window = display_range(volume, masks, np.concatenate([image[np.isfinite(image)] for image in images.values()]))
    for orientation, column, row in ((AXIAL, 0, 0), (CORONAL, 0, 1), (SAGITTAL, 1, 1)):
        image = np.nan_to_num(images[orientation], nan=low).reshape(_PIXELS, _PIXELS)
        _draw_plane(_panel(figure, column, row), volume, view, orientation, image, window, segments)
    _draw_solid(_panel(figure, 1, 0), volume, segments)
    left = _GAP / _WIDTH
    figure.text(left, 1 - 0.15 / _HEIGHT, title, color=_INK, fontsize=13, fontweight="bold", va="top", parse_math=False)
    _legend(figure, segments, left, 1 - 0.45 / _HEIGHT)
    figure.text(left, 0.09 / _HEIGHT, footer, color=_FAINT, fontsize=7.5, parse_math=False)


def _panel(figure: Figure, column: int, row: int) -> Axes:
    """One of the four squares, counted from the top left."""
    left = _GAP + column * (_PANEL + _GAP)
    bottom = _FOOT + (1 - row) * (_PANEL + _GAP)
    return figure.add_axes((left / _WIDTH, bottom / _HEIGHT, _PANEL / _WIDTH, _PANEL / _HEIGHT))


def _draw_plane(
    axes: Axes,
    volume: Volume,
    view: View,
    orientation: Orientation,
    image: npt.NDArray[np.float32],
    window: tuple[float, float],
    segments: Sequence[PictureSegment],
) -> None:
    left, right, bottom, top = extent = view.extent(orientation)
    axes.imshow(
        image, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, origin="lower", interpolation="bilinear"
    )
    points = view.points(orientation, _PIXELS)
    ticks = ((np.arange(_PIXELS) + 0.5) / _PIXELS * 2 - 1) * view.half
    x, y = ticks + view.middle[orientation.horizontal], ticks + view.middle[orientation.vertical]
    for segment, color in zip(segments, _colors(), strict=False):
        inside = sample_plane(volume, segment.mask, points, 0.0).reshape(_PIXELS, _PIXELS)
        if inside.max() > 0.5:
            axes.contourf(x, y, inside, levels=[0.5, 1.1], colors=[color], alpha=0.16)
            axes.contour(x, y, inside, levels=[0.5], colors=[color], linewidths=1.5)
        for prompt in segment.prompts:
            _draw_prompt(axes, prompt, orientation, float(view.centre[orientation.normal]))
    axes.axhline(view.centre[orientation.vertical], color=_color_of(orientation.vertical), lw=0.6, alpha=0.5)
    axes.axvline(view.centre[orientation.horizontal], color=_color_of(orientation.horizontal), lw=0.6, alpha=0.5)
    axes.set_xlim(right, left)  # radiological: the coordinate grows to the left
    axes.set_ylim(bottom, top)
    axes.set_axis_off()
    at = float(view.centre[orientation.normal])
    letter = "RAS"[orientation.normal]
    text: dict[str, Any] = {"color": _INK, "transform": axes.transAxes, "fontsize": 10, "path_effects": _outlined()}
    heading = {**text, "color": orientation.color, "fontweight": "bold"}
    axes.text(0.02, 0.98, f"{orientation.name}  {letter} {at:+.0f} mm", va="top", **heading)
    for label, (u, v) in zip(orientation.labels, ((0.02, 0.5), (0.98, 0.5), (0.5, 0.975), (0.5, 0.025)), strict=True):
        axes.text(u, v, label, ha="left" if u < 0.1 else "right" if u > 0.9 else "center", va="center", **text)
    _scale_bar(axes, view, text)


def _draw_prompt(axes: Axes, prompt: Prompt, orientation: Orientation, plane: float) -> None:
    """The prompt where it lies on this view; faintly where it lies on another plane."""
    u, v, n = orientation.horizontal, orientation.vertical, orientation.normal
    color = _POSITIVE if getattr(prompt, "positive", True) else _NEGATIVE

    def strength(points: FloatArray) -> float:
        return 1.0 if np.abs(points[:, n] - plane).min() <= _NEAR_MM else 0.35

    match prompt:
        case Point():
            ras = np.array([prompt.ras])
            marker = "o" if prompt.positive else "X"
            axes.plot(
                ras[:, u], ras[:, v], marker, ms=8, mfc=color, mec="black", mew=1.2, alpha=strength(ras), zorder=5
            )
        case Box():
            corners = prompt.corners_ras
            crossed = corners[:, n].min() <= plane <= corners[:, n].max()
            for a, b in combinations(range(8), 2):
                if bin(a ^ b).count("1") == 1:  # corners that differ in one coordinate share an edge
                    ends = corners[[a, b]]
                    alpha = 0.9 if crossed else 0.35
                    axes.plot(ends[:, u], ends[:, v], "--", color=color, lw=1.2, alpha=alpha, zorder=4)
        case Scribble() | Lasso():
            points = np.array(prompt.points)
            line = np.concatenate([points, points[:1]]) if isinstance(prompt, Lasso) else points
            axes.plot(line[:, u], line[:, v], "-", color=color, lw=2, alpha=strength(points), zorder=4)


def _draw_solid(axes: Axes, volume: Volume, segments: Sequence[PictureSegment]) -> None:
    from matplotlib.colors import to_rgb

    camera = Camera()
    axes.set_facecolor("#17171d")
    shown = [(s.mask, to_rgb(color)) for s, color in zip(segments, _colors(), strict=False)]
    picture = render(volume, [mask for mask, _ in shown], [color for _, color in shown], _SOLID_PIXELS, camera)
    axes.imshow(picture, extent=(-1, 1, -1, 1))
    axes.set_xlim(-1, 1)
    axes.set_ylim(-1, 1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(0.02, 0.98, "3-D", color="#9d9bd6", fontweight="bold", fontsize=10, va="top", transform=axes.transAxes)
    origin = np.array([-0.84, -0.84])
    for axis, label in ((0, "R"), (1, "A"), (2, "S")):
        direction = camera.rows[:2, axis] * 0.12
        axes.plot(*zip(origin, origin + direction, strict=True), color=_FAINT, lw=1.2)
        x, y = origin + direction * 1.35
        axes.text(x, y, label, color=_INK, fontsize=8, ha="center", va="center")


def _legend(figure: Figure, segments: Sequence[PictureSegment], left: float, top: float) -> None:
    """One line under the title: each segment in its colour, then what the marks mean."""
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    entries = [("■", color, f"{s.name}  {s.caption}", _INK) for s, color in zip(segments, _colors(), strict=False)]
    room = [sum(len(entry[2]) + 6 for entry in entries[: n + 1]) <= _LEGEND_LETTERS for n in range(len(entries))]
    if not all(room):
        entries = [*entries[: sum(room)], ("", _INK, f"and {len(entries) - sum(room)} more", _INK)]
    prompts = [prompt for segment in segments for prompt in segment.prompts]
    marks = (
        ("●", _POSITIVE, "click", any(isinstance(p, Point) and p.positive for p in prompts)),
        ("✖", _NEGATIVE, "click beside it", any(isinstance(p, Point) and not p.positive for p in prompts)),
        ("□", _POSITIVE, "box", any(isinstance(p, Box) for p in prompts)),
        ("~", _POSITIVE, "stroke", any(isinstance(p, Scribble | Lasso) for p in prompts)),
    )
    entries += [(symbol, color, meaning, _FAINT) for symbol, color, meaning, there in marks if there]
    parts: list[Artist] = []
    for symbol, color, text, ink in entries:
        parts.append(TextArea(symbol, textprops={"color": color, "fontsize": 11}))
        parts.append(TextArea(f"{text}   ", textprops={"color": ink, "fontsize": 9.5, "parse_math": False}))
    if parts:
        row = HPacker(children=parts, pad=0, sep=4, align="center")
        place: dict[str, Any] = {"bbox_to_anchor": (left, top), "bbox_transform": figure.transFigure}
        figure.add_artist(AnchoredOffsetbox("upper left", child=row, pad=0, borderpad=0, frameon=False, **place))


def _scale_bar(axes: Axes, view: View, text: dict[str, Any]) -> None:
    length = max((n for n in (1, 2, 5, 10, 20, 50, 100, 200) if n <= view.half / 2), default=1)
    fraction = length / (2 * view.half)
    axes.plot([0.97 - fraction, 0.97], [0.035, 0.035], color=_INK, lw=2, transform=axes.transAxes)
    axes.text(0.97 - fraction / 2, 0.05, f"{length} mm", ha="center", va="bottom", **{**text, "fontsize": 8})


def _marked(prompts: Sequence[Prompt]) -> Iterator[tuple[float, float, float]]:
    """The positions that were pointed at (a box says an extent, which the mask shows)."""
    for prompt in prompts:
        match prompt:
            case Point():
                yield prompt.ras
            case Scribble() | Lasso():
                yield from prompt.points


def _colors() -> Iterator[str]:
    while True:
        yield from PALETTE


def _color_of(axis: int) -> str:
    """The colour of the view whose plane a line across another view stands for."""
    return next(orientation.color for orientation in ORIENTATIONS if orientation.normal == axis)


def _outlined() -> list[object]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2, foreground="black")]
