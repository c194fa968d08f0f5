# SPDX-License-Identifier: Apache-2.0
"""Label maps for training: scenes of shapes at many scales, painted back to front.

What anatomy has and a heap of blobs has not is painted on purpose: tissue that fills the space, a body that ends in
air, organs with walls and contents, trees of vessels, rows of bones that look alike, many small things between few
large ones. Coordinates span [-1, 1] along each axis of the region, before the warp that bends everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy import ndimage

Rng = np.random.Generator
Window = tuple[slice, slice, slice]
_LEAST_VOXELS = 6


@dataclass(frozen=True)
class Patch:
    """A shape: a mask of the window's size."""

    window: Window
    mask: np.ndarray


@dataclass
class Canvas:
    """Labels (n, n, n) while a scene is painted; `parents` says which object an object was painted into, or -1."""

    grid: np.ndarray  # (3, n, n, n) warped coordinates
    warp: float  # how far the warp moves a voxel at most
    labels: np.ndarray  # (n, n, n) int16; 0 is what nothing was painted on
    parents: list[int] = field(default_factory=lambda: [-1])
    main: int = -1  # the object that the region was laid around, if there is one
    air: int = -1  # what surrounds the body, if it ends within the region

    @property
    def size(self) -> int:
        return self.labels.shape[0]

    def paint(self, patch: Patch, parent: int = -1, over: np.ndarray | None = None) -> int:
        """A new label on the patch, or on its part in `over` (n, n, n); -1 if there is nothing to be seen of it."""
        mask = patch.mask if over is None else patch.mask & over[patch.window]
        if np.count_nonzero(mask) < _LEAST_VOXELS:
            return -1
        self.parents.append(parent)
        self.labels[patch.window][mask] = len(self.parents) - 1
        return len(self.parents) - 1

    def window(self, low: np.ndarray, high: np.ndarray) -> Window:
        """The voxels whose warped coordinates can lie between two corners."""
        n = self.size
        first = np.clip(np.floor((low - self.warp + 1) / 2 * (n - 1)), 0, n - 1).astype(int)
        last = np.clip(np.ceil((high + self.warp + 1) / 2 * (n - 1)) + 1, 1, n).astype(int)
        last = np.maximum(last, first + 1)
        return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])

    def local(self, centre: np.ndarray, reach: float) -> tuple[Window, np.ndarray]:
        """The window around `centre` and its coordinates (3, a, b, c) relative to it."""
        window = self.window(centre - reach, centre + reach)
        return window, self.grid[(slice(None), *window)] - centre[:, None, None, None].astype(np.float32)


def smooth_noise(rng: Rng, shape: tuple[int, int, int], cells: float) -> np.ndarray:
    """Random field with unit variance at its knots and about `cells` bumps along the longest axis."""
    for_axis = [max(2, round(cells * n / max(shape))) for n in shape]
    knots = rng.standard_normal([c + 1 for c in for_axis]).astype(np.float32)
    for axis, (n, c) in enumerate(zip(shape, for_axis, strict=True)):
        position = np.linspace(0, c, n, dtype=np.float32)
        low = np.minimum(position.astype(int), c - 1)
        t = position - low
        t = t * t * (3 - 2 * t)
        weight = t.reshape([n if a == axis else 1 for a in range(3)])
        knots = np.take(knots, low, axis) * (1 - weight) + np.take(knots, low + 1, axis) * weight
    return knots


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _turn(rng: Rng) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return (q * np.sign(np.diag(r))).astype(np.float32)


def _direction(rng: Rng) -> np.ndarray:
    d = rng.standard_normal(3)
    return d / np.linalg.norm(d)


def _ellipsoid(canvas: Canvas, rng: Rng, centre: np.ndarray, size: float) -> Patch:
    radii = size * np.exp(rng.uniform(-0.6, 0.6, 3))
    window, rest = canvas.local(centre, 1.6 * float(radii.max()))
    turned = np.tensordot(_turn(rng) / radii[:, None].astype(np.float32), rest, axes=1)
    level = (np.abs(turned) ** rng.choice([2.0, 2.0, 3.0, 5.0])).sum(0)
    if rng.random() < 0.5 and min(level.shape) > 4:
        level += rng.uniform(0.1, 0.5) * smooth_noise(rng, level.shape, rng.uniform(2, 7))
    return Patch(window, level < 1)


def _lobulated(canvas: Canvas, rng: Rng, centre: np.ndarray, size: float) -> Patch:
    window, rest = canvas.local(centre, 2.8 * size)
    total = np.zeros(rest.shape[1:], np.float32)
    for _ in range(int(rng.integers(2, 6))):
        c = (size * rng.normal(0, 0.6, 3)).astype(np.float32)
        radius = size * rng.uniform(0.4, 0.9)
        total += np.exp(-1.2 * ((rest - c[:, None, None, None]) ** 2).sum(0) / radius**2)
    return Patch(window, total > np.exp(-1.2))


def _capsules(canvas: Canvas, segments: list[tuple[np.ndarray, np.ndarray, float]]) -> Patch:
    """The union of capsules (end, end, radius)."""
    ends = np.array([[a, b] for a, b, _ in segments])
    reach = max(radius for *_, radius in segments)
    whole = canvas.window(ends.min((0, 1)) - reach, ends.max((0, 1)) + reach)
    mask = np.zeros([s.stop - s.start for s in whole], bool)
    for a, b, radius in segments:
        window = canvas.window(np.minimum(a, b) - radius, np.maximum(a, b) + radius)
        rest = canvas.grid[(slice(None), *window)] - a[:, None, None, None].astype(np.float32)
        along = (b - a).astype(np.float32)
        t = np.clip(np.tensordot(along, rest, axes=1) / max(float(along @ along), 1e-6), 0, 1)
        near = ((rest - t * along[:, None, None, None]) ** 2).sum(0) < radius**2
        inner = tuple(slice(w.start - o.start, w.stop - o.start) for w, o in zip(window, whole, strict=True))
        mask[inner] |= near
    return Patch(whole, mask)


def _walk(rng: Rng, start: np.ndarray, direction: np.ndarray, step: float, bend: float, count: int) -> list[np.ndarray]:
    points = [start]
    for _ in range(count):
        direction = direction + rng.normal(0, bend, 3)
        direction = direction / np.linalg.norm(direction)
        points.append(points[-1] + step * direction)
    return points


def _tube(canvas: Canvas, rng: Rng, centre: np.ndarray, size: float) -> Patch:
    """A bent tube through `centre`."""
    radius = size * rng.uniform(0.25, 0.7)
    step, way = max(1.5 * radius, 0.15), _direction(rng)
    points = _walk(rng, centre, -way, step, 0.35, int(rng.integers(2, 8)))[::-1]
    points += _walk(rng, centre, way, step, 0.35, int(rng.integers(2, 8)))[1:]
    return _capsules(canvas, [(a, b, radius) for a, b in pairwise(points)])


def _tree(canvas: Canvas, rng: Rng, centre: np.ndarray, size: float) -> Patch:
    """A tube that branches, each branch thinner than what it springs from."""
    segments: list[tuple[np.ndarray, np.ndarray, float]] = []
    thinnest = 1.2 / canvas.size
    tips = [(centre, _direction(rng), max(0.35 * size, thinnest))]
    for _ in range(int(rng.integers(4, 12))):
        start, way, radius = tips.pop(int(rng.integers(len(tips))))
        points = _walk(rng, start, way, max(3 * radius, 0.1), 0.3, int(rng.integers(2, 5)))
        segments += [(a, b, radius) for a, b in pairwise(points)]
        for _ in range(2):
            turned = way + rng.normal(0, 0.7, 3)
            tips.append((points[-1], turned / np.linalg.norm(turned), max(radius * rng.uniform(0.55, 0.9), thinnest)))
    return _capsules(canvas, segments)


def _sheet(canvas: Canvas, rng: Rng, centre: np.ndarray, size: float) -> Patch:
    thick = max(1.2 / canvas.size, size * rng.uniform(0.08, 0.25))
    window, rest = canvas.local(centre, 2.6 * size)
    turn = _turn(rng) / np.array([thick, 2 * size, 2 * size], np.float32)[:, None]
    z, y, x = np.tensordot(turn, rest, axes=1)
    bent = z + rng.uniform(0, 1.5) * size / thick * 0.3 * (y**2 - rng.uniform(-1, 1) * x**2)
    return Patch(window, (np.abs(bent) < 1) & (y**2 + x**2 < 1))


def _half_space(canvas: Canvas, rng: Rng, centre: np.ndarray, size: float) -> Patch:
    normal = _direction(rng)
    side = np.tensordot(normal.astype(np.float32), canvas.grid, axes=1) > normal @ centre
    return Patch((slice(None),) * 3, side)


def _blob(canvas: Canvas, rng: Rng, centre: np.ndarray, size: float) -> Patch:
    """One organic piece of a thresholded random field, the shape vocabulary of SynthMorph (Hoffmann et al., 2022)."""
    window, rest = canvas.local(centre, min(2.5 * size, 2.0))
    field_ = smooth_noise(rng, rest.shape[1:], rng.uniform(3, 6))
    middle = np.unravel_index(int((rest**2).sum(0).argmin()), field_.shape)
    components, _ = ndimage.label(field_ > min(float(field_[middle]) - 0.2, 0.8))
    label = components[middle]
    return Patch(window, components == label if label else np.zeros(field_.shape, bool))


Shape = Callable[[Canvas, Rng, np.ndarray, float], Patch]
_SHAPES: tuple[tuple[float, Shape], ...] = (
    (0.36, _ellipsoid),
    (0.18, _lobulated),
    (0.13, _tube),
    (0.05, _tree),
    (0.06, _sheet),
    (0.18, _blob),
    (0.04, _half_space),
)
_SHARES = np.array([share for share, _ in _SHAPES]) / sum(share for share, _ in _SHAPES)


def _any_shape(canvas: Canvas, rng: Rng, centre: np.ndarray, size: float) -> Patch:
    return _SHAPES[int(rng.choice(len(_SHAPES), p=_SHARES))][1](canvas, rng, centre, size)


def _blank(rng: Rng, n: int) -> Canvas:
    axis = np.linspace(-1, 1, n, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    amplitude, moved = rng.uniform(0, 0.2), np.zeros(grid.shape, np.float32)
    for axis_number in range(3):
        moved[axis_number] = amplitude * smooth_noise(rng, (n, n, n), rng.uniform(2, 5))
        if rng.random() < 0.5:
            moved[axis_number] += 0.25 * amplitude * smooth_noise(rng, (n, n, n), rng.uniform(5, 12))
    return Canvas(grid + moved, float(np.abs(moved).max()), np.zeros((n, n, n), np.int16))


def _paint_tissue(canvas: Canvas, rng: Rng) -> None:
    """Tissue everywhere: the arg-max of smooth random fields."""
    shape = canvas.labels.shape
    cells = rng.uniform(2, 7)
    fields = np.stack([smooth_noise(rng, shape, cells) for _ in range(int(rng.integers(2, 6)))])
    winner = fields.argmax(0)
    for value in range(fields.shape[0]):
        canvas.paint(Patch((slice(None),) * 3, winner == value))


def _paint_object(canvas: Canvas, rng: Rng, centre: np.ndarray, size: float, nested: bool) -> int:
    """One object, now and then with a wall, or with neighbours that look alike."""
    parent, over = -1, None
    if nested:  # a lesion, a lumen, a nucleus: inside what is already there
        k, j, i = rng.integers(0, canvas.size, 3)
        parent = int(canvas.labels[k, j, i])
        over = canvas.labels == parent
        radius = np.cbrt(over.sum() * 3 / (4 * np.pi)) * 2 / canvas.size
        size, centre = max(min(size, 0.8 * float(radius)), 2.5 / canvas.size), canvas.grid[:, k, j, i].astype(float)
    patch = _any_shape(canvas, rng, centre, size)
    label = canvas.paint(patch, parent if parent > 0 else -1, over)
    roll = rng.random()
    if label < 0 or roll > 0.3:
        return label
    if roll < 0.15:  # wall and lumen
        mask = canvas.labels[patch.window] == label
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
        canvas.paint(Patch(patch.window, depth > rng.uniform(0.15, 0.7) * depth.max()), label)
    else:  # vertebrae, ribs, loops, nodes
        way = _direction(rng) * size * rng.uniform(1.6, 2.6)
        free = canvas.labels != label
        for step in range(1, int(rng.integers(2, 6))):
            for sign in (-1, 1):
                canvas.paint(
                    _ellipsoid(canvas, rng, centre + sign * step * way + rng.normal(0, 0.2 * size, 3), size), -1, free
                )
    return label


def _paint_objects(canvas: Canvas, rng: Rng) -> None:
    low, high = [(3, 8), (8, 20), (20, 45)][int(rng.choice(3, p=[0.4, 0.42, 0.18]))]
    count, typical = int(rng.integers(low, high)), log_uniform(rng, 0.08, 0.9)
    with_main = rng.random() < 0.75
    for number in range(count):
        size = float(np.clip(typical * np.exp(rng.normal(0, 0.7)), 2.5 / canvas.size, 2.5))
        if with_main and number == max(count - 3, 0):  # what the region was laid around, as in use
            canvas.main = _paint_object(canvas, rng, rng.normal(0, 0.2, 3), log_uniform(rng, 0.12, 0.85), False)
        else:
            _paint_object(canvas, rng, rng.uniform(-1, 1, 3), size, len(canvas.parents) > 1 and rng.random() < 0.4)
    if rng.random() < 0.3:  # vessels, bronchi, strands of fat
        for _ in range(int(rng.integers(1, 4))):
            patch = _tree(canvas, rng, rng.uniform(-1, 1, 3), log_uniform(rng, 0.03, 0.25))
            canvas.paint(patch, over=canvas.labels != canvas.main if rng.random() < 0.8 else None)


def _paint_air(canvas: Canvas, rng: Rng) -> None:
    """The end of the body, with skin and fat under it; or of the scan, which is flat."""
    if rng.random() < 0.8:
        radii = rng.uniform(0.7, 1.6, 3)
        centre = rng.normal(0, 0.35, 3)
        rest = canvas.grid - centre[:, None, None, None].astype(np.float32)
        level = (np.abs(np.tensordot(_turn(rng) / radii[:, None].astype(np.float32), rest, axes=1)) ** 2.5).sum(0)
    else:
        normal = _direction(rng)
        level = np.tensordot(normal.astype(np.float32), canvas.grid, axes=1) - rng.uniform(0, 0.8) + 1
    if (level > 1).mean() > 0.8:
        return
    whole = (slice(None),) * 3
    if rng.random() < 0.5:
        layer = Patch(whole, (level > 1 - rng.uniform(0.08, 0.4)) & (level <= 1))
        canvas.paint(layer, over=np.isin(canvas.labels, [0, 1, 2]) if rng.random() < 0.7 else None)
    canvas.air = canvas.paint(Patch(whole, level > 1))


def paint_scene(rng: Rng, n: int) -> Canvas:
    """A scene of n³ voxels."""
    canvas = _blank(rng, n)
    if rng.random() < 0.7:
        _paint_tissue(canvas, rng)
    _paint_objects(canvas, rng)
    if rng.random() < 0.35:
        _paint_air(canvas, rng)
    return canvas
