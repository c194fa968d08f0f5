# SPDX-License-Identifier: Apache-2.0
"""Prompts in a volume's canonical frame: what every model family can turn into its own input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import PromptError
from .predictor import GridBox, GridPrompts
from .prompts import Box, LabelledSlice, Lasso, MaskPrompt, Point, Prompt, Scribble, TextPrompt
from .region import CanonicalFrame, Region
from .volume import Volume

FloatArray = npt.NDArray[np.float64]
_STROKE_POINTS = 8
_LASSO_INSIDE, _LASSO_OUTSIDE = 4, 8


@dataclass(frozen=True)
class Cues:
    """Positions are canonical (z, y, x) in mm. `labels`: 1 positive, 0 negative, one per position."""

    positions: FloatArray  # (P, 3)
    labels: npt.NDArray[np.int64]  # (P,)
    boxes: tuple[GridBox, ...]  # positive boxes, in canonical mm
    exclusions: tuple[GridBox, ...]  # negative boxes: the structure is not in there
    warnings: tuple[str, ...] = ()

    @property
    def has_positive(self) -> bool:
        return bool(self.boxes) or bool((self.labels == 1).any())

    def bounds(self) -> FloatArray | None:
        """(2, 3) canonical box around all positive cues; None without any."""
        corners = [self.positions[self.labels == 1]]
        for box in self.boxes:
            reach = np.abs(np.linalg.inv(box.directions)) @ box.half
            corners.append(np.stack([box.centre - reach, box.centre + reach]))
        points = np.concatenate(corners)
        return np.stack([points.min(0), points.max(0)]) if len(points) else None

    def on_grid(self, region: Region) -> GridPrompts:
        """The cues in a region's grid coordinates; positions beyond its faces are left out."""
        coords = region.to_grid(self.positions)
        inside = ((coords > -0.5) & (coords < region.size - 0.5)).all(axis=1)
        boxes = tuple(GridBox(region.to_grid(b.centre), b.directions, b.half / region.spacing) for b in self.boxes)
        return GridPrompts(coords[inside].astype(np.float32), self.labels[inside], boxes)


def cues_of(prompts: Iterable[Prompt], volume: Volume, frame: CanonicalFrame) -> Cues:
    """Checks prompts against a volume and brings them into its canonical frame.

    Raises PromptError for a prompt outside of the volume, for a point that is positive and negative at once, and for
    text, which this kind of model does not know. Repeated points count once and are reported in `warnings`.
    """
    positions: list[FloatArray] = []
    labels: list[int] = []
    boxes: list[GridBox] = []
    exclusions: list[GridBox] = []
    warnings: list[str] = []
    seen: dict[tuple[float, float, float], bool] = {}

    def add(points: npt.ArrayLike, positive: bool) -> None:
        for position in frame.from_kji(volume.ras_to_kji(np.reshape(points, (-1, 3)))):
            positions.append(position)
            labels.append(int(positive))

    for prompt in prompts:
        match prompt:
            case Point():
                _require_inside(volume, [prompt.ras], "The point")
                if prompt.ras in seen:
                    if seen[prompt.ras] != prompt.positive:
                        raise PromptError(
                            f"The point at {_mm(prompt.ras)} is positive and negative; remove one of the two."
                        )
                    warnings.append(f"The point at {_mm(prompt.ras)} was given twice and counts once.")
                    continue
                seen[prompt.ras] = prompt.positive
                add(prompt.ras, prompt.positive)
            case Box():
                if not _box_touches(prompt, volume):
                    raise PromptError(
                        f"The box around {_mm(prompt.corners_ras.mean(0))} lies outside of the volume; move it inside."
                    )
                (boxes if prompt.positive else exclusions).append(_canonical_box(prompt, volume, frame))
            case Scribble():
                _require_inside(volume, prompt.points, "The scribble")
                add(_along(np.array(prompt.points), _STROKE_POINTS), prompt.positive)
            case Lasso():
                _require_inside(volume, prompt.points, "The lasso")
                inside, outside = _lasso_points(np.array(prompt.points))
                add(inside, prompt.positive)
                if prompt.positive:
                    add(outside[volume.contains(outside)], False)
            case TextPrompt():
                raise PromptError(
                    "This model does not know names of structures; use points, boxes, scribbles or a lasso."
                )
            case MaskPrompt():
                if prompt.array.shape != volume.shape:
                    raise PromptError(
                        f"The mask prompt has {prompt.array.shape} voxels (k, j, i) and the volume {volume.shape}."
                    )
            case LabelledSlice():
                raise PromptError(
                    "This model does not learn from labelled slices; use points, boxes, scribbles or a lasso, or a "
                    "model that learns in context."
                )
    return Cues(
        np.array(positions, dtype=np.float64).reshape(-1, 3),
        np.array(labels, dtype=np.int64),
        tuple(boxes),
        tuple(exclusions),
        tuple(warnings),
    )


def inside_box(box: GridBox, positions: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether positions (..., 3), in the units of the box, lie in it."""
    return np.asarray((np.abs((positions - box.centre) @ box.directions.T) <= box.half).all(axis=-1))


def _mm(ras: Sequence[float] | FloatArray) -> str:
    return "({:.1f}, {:.1f}, {:.1f}) mm RAS".format(*ras)


def _require_inside(volume: Volume, points: Sequence[Sequence[float]], what: str) -> None:
    outside = ~volume.contains(np.array(points))
    if outside.any():
        low, high = volume.bounds_ras
        where = points[int(np.argmax(outside))]
        raise PromptError(
            f"{what} at {_mm(where)} lies outside of the volume, which reaches from {_mm(low)} to {_mm(high)}; "
            "place it inside."
        )


def _box_touches(box: Box, volume: Volume) -> bool:
    """Whether box and volume overlap, judged on a lattice of points of both."""
    t = np.linspace(0, 1, 9)
    lattice = np.stack(np.meshgrid(t, t, t, indexing="ij"), axis=-1).reshape(-1, 3)
    low, high = np.array(box.ras_min), np.array(box.ras_max)
    if volume.contains((low + lattice * (high - low)) @ box.directions).any():
        return True
    along = volume.kji_to_ras(lattice * (np.array(volume.shape) - 1)) @ box.directions.T
    return bool(((along >= low) & (along <= high)).all(axis=1).any())


def _canonical_box(box: Box, volume: Volume, frame: CanonicalFrame) -> GridBox:
    """The box in canonical mm. In a sheared volume its faces are no longer at right angles, but still planes."""
    origin = volume.kji_to_ras(frame.to_kji(np.zeros(3)))
    to_ras = (volume.kji_to_ras(frame.to_kji(np.eye(3))) - origin).T  # columns: canonical unit steps in RAS
    covectors = box.directions @ to_ras
    length = np.linalg.norm(covectors, axis=1)
    half = (np.array(box.ras_max) - np.array(box.ras_min)) / 2
    centre_ras = (np.array(box.ras_max) + np.array(box.ras_min)) / 2 @ box.directions
    centre = frame.from_kji(volume.ras_to_kji(centre_ras))
    return GridBox(centre, covectors / length[:, None], half / length)


def _along(points: FloatArray, count: int) -> FloatArray:
    """Points evenly spaced along a polyline, its ends included."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    if at[-1] == 0:
        return points[:1]
    wanted = np.linspace(0, at[-1], count)
    return np.stack([np.interp(wanted, at, points[:, axis]) for axis in range(points.shape[1])], axis=1)


def _lasso_points(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A few points deep inside of a planar outline, and a few just outside of it, both in RAS mm."""
    centre = points.mean(0)
    _, _, basis = np.linalg.svd(points - centre)
    flat = (points - centre) @ basis[:2].T  # (n, 2) on the plane of best fit
    low, high = flat.min(0), flat.max(0)
    axes = [np.linspace(a, b, 25) for a, b in zip(low, high, strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    outline = _along(np.concatenate([flat, flat[:1]]), 96)
    distance = np.linalg.norm(lattice[:, None] - outline[None], axis=2).min(1)
    depth = np.where(_in_polygon(lattice, flat), distance, -1.0)
    chosen = [int(np.argmax(depth))]
    for _ in range(_LASSO_INSIDE - 1):  # the deepest, then each time the one that is deep and far from the others
        spread = np.linalg.norm(lattice[:, None] - lattice[chosen][None], axis=2).min(1)
        chosen.append(int(np.argmax(np.where(depth > 0.5 * depth.max(), spread, -1.0))))
    outward = _along(np.concatenate([flat, flat[:1]]), _LASSO_OUTSIDE + 1)[:-1]
    middle = lattice[chosen[0]]
    reach = np.linalg.norm(outward - middle, axis=1, keepdims=True)
    outside = middle + (outward - middle) * (1 + 0.25 * depth.max() / np.maximum(reach, 1e-6))
    outside = outside[~_in_polygon(outside, flat)]
    return centre + lattice[chosen] @ basis[:2], centre + outside @ basis[:2]


def _in_polygon(points: FloatArray, polygon: FloatArray) -> npt.NDArray[np.bool_]:
    """Even-odd rule for points (n, 2) and a polygon (m, 2)."""
    x, y = points[:, 0, None], points[:, 1, None]
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    crosses = (y0 > y) != (y1 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = x < (x1 - x0) * (y - y0) / (y1 - y0) + x0
    result: npt.NDArray[np.bool_] = (crosses & left).sum(axis=1) % 2 == 1
    return result
