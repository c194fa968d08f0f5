# SPDX-License-Identifier: Apache-2.0
"""Randomised synthesis of volumes with labels: the only thing the compact model is trained on.

Domain randomisation after SynthSeg and SynthMorph (Billot et al., 2023; Hoffmann et al., 2022): shapes and intensities
are drawn far more widely than anatomy varies, so that real scans look like one more draw. A scene is painted back to
front with organs, shells, tubes, sheets, clusters and lesions inside organs, coloured like CT, MR, PET or ultrasound,
and then degraded by blur, thick slices, bias and noise. No image of a patient takes part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy import ndimage

Rng = np.random.Generator


@dataclass
class Scene:
    """A synthetic region: `image` float32 (k, j, i) in arbitrary units, `targets` bool masks of the same shape."""

    image: np.ndarray
    targets: list[np.ndarray]


@dataclass
class _Canvas:
    """Labels while a scene is painted; `parent` says which object an object was painted into."""

    grid: np.ndarray  # (3, n, n, n) warped coordinates, the region spans [-1, 1]
    labels: np.ndarray  # (n, n, n) int16
    parent: list[int] = field(default_factory=lambda: [-1])
    main: int = -1  # the object in the middle, if there is one

    def paint(self, mask: np.ndarray, parent: int = -1) -> int:
        self.parent.append(parent)
        self.labels[mask] = len(self.parent) - 1
        return len(self.parent) - 1


def smooth_noise(rng: Rng, n: int, cells: int) -> np.ndarray:
    """Random field (n, n, n) with unit variance at its knots and about `cells` bumps per side."""
    cells = max(2, min(cells, n))
    knots = rng.standard_normal((cells + 1,) * 3).astype(np.float32)
    position = np.linspace(0, cells, n, dtype=np.float32)
    low = np.minimum(position.astype(int), cells - 1)
    t = position - low
    t = t * t * (3 - 2 * t)
    for axis in range(3):  # separable interpolation: three small passes instead of one over eight neighbours
        shape = [1, 1, 1]
        shape[axis] = n
        weight = t.reshape(shape)
        knots = np.take(knots, low, axis) * (1 - weight) + np.take(knots, low + 1, axis) * weight
    return knots


def _random_rotation(rng: Rng) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return (q * np.sign(np.diag(r))).astype(np.float32)


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _canvas(rng: Rng, n: int) -> _Canvas:
    axis = np.linspace(-1, 1, n, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    amplitude = rng.uniform(0, 0.25)
    for d in range(3):
        grid[d] += amplitude * smooth_noise(rng, n, int(rng.integers(2, 5)))
        if rng.random() < 0.5:
            grid[d] += 0.25 * amplitude * smooth_noise(rng, n, int(rng.integers(5, 12)))
    return _Canvas(grid, np.zeros((n, n, n), np.int16))


def _local(canvas: _Canvas, rng: Rng, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Coordinates (3, n, n, n) in the frame of a randomly turned object with the given half axes."""
    turn = _random_rotation(rng) / radii[:, None].astype(np.float32)
    shifted = canvas.grid - centre[:, None, None, None].astype(np.float32)
    return np.tensordot(turn, shifted, axes=1)


def _ellipsoid(canvas: _Canvas, rng: Rng, centre: np.ndarray, size: float) -> np.ndarray:
    radii = size * np.exp(rng.uniform(-0.5, 0.5, 3))
    power = rng.choice([2.0, 2.0, 3.0, 5.0])
    level = (np.abs(_local(canvas, rng, centre, radii)) ** power).sum(0)
    if rng.random() < 0.5:
        level = level + rng.uniform(0.1, 0.5) * smooth_noise(rng, level.shape[0], int(rng.integers(3, 9)))
    return level < 1


def _lobulated(canvas: _Canvas, rng: Rng, centre: np.ndarray, size: float) -> np.ndarray:
    total = np.zeros(canvas.labels.shape, np.float32)
    for _ in range(int(rng.integers(2, 6))):
        c = centre + size * rng.normal(0, 0.6, 3)
        radius = size * rng.uniform(0.4, 0.9)
        total += np.exp(-((canvas.grid - c[:, None, None, None].astype(np.float32)) ** 2).sum(0) / (radius**2) * 1.2)
    return total > np.exp(-1.2)


def _tube(canvas: _Canvas, rng: Rng, centre: np.ndarray, size: float) -> np.ndarray:
    """A bent tube: the union of capsules along a smooth random walk."""
    radius = size * rng.uniform(0.3, 0.7)
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    step = max(radius * 1.5, 0.18)
    points = [centre]
    for sign in (1, -1):
        p, d = centre.copy(), sign * direction
        for _ in range(int(rng.integers(2, 7))):
            d = d + rng.normal(0, 0.35, 3)
            d /= np.linalg.norm(d)
            p = p + step * d
            points = [*points, p] if sign == 1 else [p, *points]
    best = np.full(canvas.labels.shape, np.inf, np.float32)
    for a, b in pairwise(points):
        ab = (b - a).astype(np.float32)
        rel = canvas.grid - a[:, None, None, None].astype(np.float32)
        t = np.clip(np.tensordot(ab, rel, axes=1) / max(float(ab @ ab), 1e-6), 0, 1)
        best = np.minimum(best, ((rel - t * ab[:, None, None, None]) ** 2).sum(0))
    return best < radius**2


def _sheet(canvas: _Canvas, rng: Rng, centre: np.ndarray, size: float) -> np.ndarray:
    local = _local(canvas, rng, centre, np.array([max(0.06, size * 0.2), size * 2.5, size * 2.5]))
    return (np.abs(local[0] + rng.uniform(0, 0.8) * (local[1] ** 2 - local[2] ** 2)) < 1) & (
        local[1] ** 2 + local[2] ** 2 < 1
    )


def _half_space(canvas: _Canvas, rng: Rng, centre: np.ndarray, size: float) -> np.ndarray:
    normal = rng.standard_normal(3)
    normal /= np.linalg.norm(normal)
    return np.tensordot(normal.astype(np.float32), canvas.grid, axes=1) > normal @ centre


def _partition_cell(canvas: _Canvas, rng: Rng, centre: np.ndarray, size: float) -> np.ndarray:
    """One organic blob of a thresholded random field, the shape vocabulary of SynthMorph."""
    n = canvas.labels.shape[0]
    field_ = smooth_noise(rng, n, int(np.clip(round(1.2 / size), 2, 12)))
    k, j, i = (np.clip(((centre + 1) / 2 * (n - 1)).round().astype(int), 0, n - 1)).tolist()
    components, _ = ndimage.label(field_ > min(float(field_[k, j, i]) - 0.2, 0.8))
    label = components[k, j, i]
    return components == label if label else np.zeros_like(field_, bool)


_SHAPES: tuple[tuple[float, Callable[[_Canvas, Rng, np.ndarray, float], np.ndarray]], ...] = (
    (0.34, _ellipsoid),
    (0.20, _lobulated),
    (0.16, _tube),
    (0.06, _sheet),
    (0.18, _partition_cell),
    (0.06, _half_space),
)


def _shape(canvas: _Canvas, rng: Rng, centre: np.ndarray, size: float) -> np.ndarray:
    weights = np.array([w for w, _ in _SHAPES])
    return _SHAPES[int(rng.choice(len(_SHAPES), p=weights / weights.sum()))][1](canvas, rng, centre, size)


def _paint_partition(canvas: _Canvas, rng: Rng) -> None:
    """Tissue everywhere: the arg-max of smooth random fields."""
    n = canvas.labels.shape[0]
    cells = int(rng.integers(2, 7))
    fields = np.stack([smooth_noise(rng, n, cells) for _ in range(int(rng.integers(2, 6)))])
    winner = fields.argmax(0)
    for value in range(fields.shape[0]):
        canvas.paint(winner == value)


def _paint_objects(canvas: _Canvas, rng: Rng) -> None:
    n = canvas.labels.shape[0]
    smallest = 2.5 / n  # half a voxel more than one voxel of radius
    count = int(rng.integers(4, 11))
    for number in range(count):
        centre, parent = rng.uniform(-1, 1, 3), -1
        size = _log_uniform(rng, smallest * 1.5, 1.3) if rng.random() < 0.88 else rng.uniform(1.0, 2.5)
        nested = len(canvas.parent) > 1 and rng.random() < 0.4
        if number == count - 2 and rng.random() < 0.7:  # what the region was laid around, as in use
            nested, centre, size = False, rng.normal(0, 0.2, 3), _log_uniform(rng, 0.12, 0.85)
            canvas.main = len(canvas.parent)
        if nested:  # a lesion, a lumen, a nucleus: inside what is already there
            k, j, i = rng.integers(0, n, 3)
            parent = int(canvas.labels[k, j, i])
            inside = canvas.labels == parent
            size = min(size, 0.8 * float(np.cbrt(inside.sum() * 3 / (4 * np.pi)) * 2 / n))
            size = max(size, smallest)
            centre = canvas.grid[:, k, j, i].astype(float)
        mask = _shape(canvas, rng, centre, size)
        if nested:
            mask &= inside
        if mask.sum() < 6:
            continue
        label = canvas.paint(mask, parent if parent > 0 else -1)
        roll = rng.random()
        if roll < 0.12:  # wall and lumen
            depth = ndimage.distance_transform_edt(mask)
            core = depth > rng.uniform(0.15, 0.6) * depth.max()
            if core.sum() >= 6:
                canvas.paint(core, label)
        elif roll < 0.22:  # neighbours that look alike: vertebrae, loops, nodes
            for _ in range(int(rng.integers(1, 5))):
                other = _ellipsoid(canvas, rng, centre + rng.normal(0, 2.2 * size, 3), size * rng.uniform(0.7, 1.2))
                if other.sum() >= 6:
                    canvas.paint(other & (canvas.labels != label))


# Tissue classes of a CT in HU: mean range and how often they are drawn.
_CT_TISSUES = (
    (0.10, -1000, -950),
    (0.12, -900, -700),
    (0.14, -130, -60),
    (0.34, 0, 90),
    (0.16, 90, 260),
    (0.14, 250, 1100),
)


def _means(rng: Rng, kind: str, parents: list[int], noise: float) -> np.ndarray:
    """Mean intensity per label; a child often stands out from its parent by little more than the noise."""
    means = np.zeros(len(parents), np.float32)
    weights = np.array([w for w, _, _ in _CT_TISSUES])
    for label, parent in enumerate(parents):
        if parent > 0 and rng.random() < 0.6:
            contrast = rng.choice([-1, 1]) * _log_uniform(rng, 0.8, 6.0) * noise
            means[label] = means[parent] + contrast
        elif kind == "ct":
            _, low, high = _CT_TISSUES[int(rng.choice(len(_CT_TISSUES), p=weights / weights.sum()))]
            means[label] = rng.uniform(low, high)
        elif kind == "pet":
            means[label] = rng.uniform(0.2, 2.0) if rng.random() < 0.6 else _log_uniform(rng, 2.0, 20.0)
        else:
            means[label] = rng.uniform(0, 1)
    return means


def _render(rng: Rng, canvas: _Canvas) -> np.ndarray:
    n = canvas.labels.shape[0]
    kind = str(rng.choice(["ct", "mr", "mr", "pet", "any", "us"], p=[0.36, 0.2, 0.14, 0.12, 0.12, 0.06]))
    noise = {"ct": _log_uniform(rng, 4, 40), "pet": _log_uniform(rng, 0.05, 0.6)}.get(
        kind, _log_uniform(rng, 0.01, 0.12)
    )
    means = _means(rng, kind, canvas.parent, noise)
    image = means[canvas.labels]
    # texture that belongs to the tissue, before the scanner blurs it
    spread = {"ct": 12.0, "pet": 0.25}.get(kind, 0.06)
    amplitude = np.abs(rng.normal(0, spread, means.size)).astype(np.float32)
    image = image + amplitude[canvas.labels] * smooth_noise(rng, n, int(rng.integers(4, max(6, n // 2))))
    if rng.random() < 0.4:
        image = image + amplitude[canvas.labels] * smooth_noise(rng, n, int(rng.integers(3, 8)))
    # the scanner: point spread, thick slices
    sigma = rng.uniform(0.8, 2.2) if kind == "pet" else rng.uniform(0.2, 1.0)
    blur = np.full(3, sigma)
    if rng.random() < 0.4:
        thick = int(rng.integers(2, 6))
        axis = int(rng.integers(3))
        blur[axis] = max(sigma, 0.45 * thick)
        image = ndimage.gaussian_filter(image, blur, mode="nearest")
        coordinate = np.arange(n) / thick
        low = np.minimum(np.floor(coordinate).astype(int), (n - 1) // thick)
        high = np.minimum(low + 1, (n - 1) // thick)
        shape = [1, 1, 1]
        shape[axis] = n
        t = (coordinate - low).reshape(shape).astype(np.float32)
        slices = np.take(image, np.arange(0, n, thick), axis)
        slices = slices + noise * rng.standard_normal(slices.shape).astype(np.float32)
        image = np.take(slices, low, axis) * (1 - t) + np.take(slices, high, axis) * t
    else:
        image = ndimage.gaussian_filter(image, blur, mode="nearest")
        grain = rng.standard_normal(image.shape).astype(np.float32)
        if rng.random() < 0.6:
            width = rng.uniform(0.4, 1.1)
            grain = ndimage.gaussian_filter(grain, width)
            grain /= grain.std() + 1e-6
        if kind == "us":
            image = image * (1 + rng.uniform(0.1, 0.4) * grain)
        elif kind == "pet":
            image = image + noise * grain * np.sqrt(np.maximum(image, 0.1))
        else:
            image = image + noise * grain
    if kind in ("mr", "any", "us"):
        image = image * np.exp(rng.uniform(0, 0.5) * smooth_noise(rng, n, 2))
        if rng.random() < 0.3:
            image = np.abs(image) ** rng.uniform(0.6, 1.6)
    if kind == "ct" and rng.random() < 0.3:  # a windowed export
        centre, width = rng.uniform(-50, 150), _log_uniform(rng, 200, 1500)
        image = np.clip(image, centre - width / 2, centre + width / 2)
    if kind == "any" and rng.random() < 0.5:
        image = -image
    return image.astype(np.float32)


def _targets(rng: Rng, canvas: _Canvas, count: int) -> list[np.ndarray]:
    """Different things to point at in the same picture, so that only the prompt can tell which is meant."""
    chosen: list[np.ndarray] = []
    children: dict[int, list[int]] = {}
    for label, parent in enumerate(canvas.parent):
        if parent > 0:
            children.setdefault(parent, []).append(label)
    sizes = np.bincount(canvas.labels.ravel(), minlength=len(canvas.parent))
    candidates = [label for label in range(1, len(canvas.parent)) if sizes[label] >= 6]
    weights = np.array([4.0 if label == canvas.main else 1.0 for label in candidates])
    attempts = 0
    while len(chosen) < count and candidates and attempts < 4 * count:
        attempts += 1
        label = int(rng.choice(candidates, p=weights / weights.sum()))
        mask = canvas.labels == label
        if label in children and rng.random() < 0.7:  # an organ with what it contains
            for child in children[label]:
                mask |= canvas.labels == child
        components, number = ndimage.label(mask)
        if number > 1:  # the piece that a person would click on; now and then all of them
            counts = np.bincount(components.ravel())
            counts[0] = 0
            if rng.random() < 0.9:
                mask = components == int(rng.choice(counts.size, p=counts / counts.sum()))
        if 6 <= mask.sum() < 0.97 * mask.size:
            chosen.append(mask)
    return chosen


def _visibility(gradient: np.ndarray, mask: np.ndarray) -> float:
    """Mean gradient on the surface of a mask over that just beside it: near 1 where nothing can be seen."""
    inside, outside = ndimage.binary_erosion(mask, border_value=1), ndimage.binary_dilation(mask)
    surface = outside & ~inside
    around = ndimage.binary_dilation(outside, iterations=3) & ~surface
    if not surface.any() or not around.any():
        return 1.0
    return float(gradient[surface].mean() / (gradient[around].mean() + 1e-9))


def _beyond_the_scan(rng: Rng, image: np.ndarray, masks: list[np.ndarray]) -> None:
    """Blanks a side of the region, as where it reaches beyond the volume; in place."""
    n = image.shape[0]
    axis, depth = int(rng.integers(3)), int(rng.integers(2, max(3, n // 3)))
    cut: list[slice] = [slice(None)] * 3
    cut[axis] = slice(0, depth) if rng.random() < 0.5 else slice(n - depth, n)
    image[tuple(cut)] = image.min()
    for mask in masks:
        mask[tuple(cut)] = False


def synthesise(rng: Rng, n: int, targets: int) -> Scene:
    """A scene of n³ voxels with `targets` masks of at least 6 voxels, most of them visible."""
    while True:
        canvas = _canvas(rng, n)
        if rng.random() < 0.7:
            _paint_partition(canvas, rng)
        _paint_objects(canvas, rng)
        masks = _targets(rng, canvas, 2 * targets)
        if len(masks) < targets:
            continue
        image = _render(rng, canvas)
        if rng.random() < 0.15:
            _beyond_the_scan(rng, image, masks)
        if float(image.max() - image.min()) <= 1e-4:
            continue
        # Borders that nobody could see teach little; some stay, because anatomy has them too.
        gradient = ndimage.gaussian_gradient_magnitude(image, 1.0)
        kept = [m for m in masks if m.sum() >= 6 and (_visibility(gradient, m) > 1.5 or rng.random() < 0.3)]
        if len(kept) >= targets:
            return Scene(image, kept[:targets])
