# SPDX-License-Identifier: Apache-2.0
"""Randomised synthesis of volumes with labels: the only thing the compact model is trained on.

Shapes (scenes.py) and appearances (appearance.py) are drawn far more widely than anatomy and scanners vary, so that
real scans look like one more draw. Here it is decided what of a scene can be pointed at. No image of a patient takes
part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .appearance import render
from .scenes import Canvas, Rng, paint_scene


@dataclass
class Scene:
    """A synthetic region: `image` float32 (k, j, i) in arbitrary units, `targets` bool masks of the same shape."""

    image: np.ndarray
    targets: list[np.ndarray]


def _targets(rng: Rng, canvas: Canvas, count: int) -> list[np.ndarray]:
    """Different things to point at in the same picture, so that only the prompt can tell which is meant."""
    chosen: list[np.ndarray] = []
    children: dict[int, list[int]] = {}
    for label, parent in enumerate(canvas.parents):
        if parent > 0:
            children.setdefault(parent, []).append(label)
    sizes = np.bincount(canvas.labels.ravel(), minlength=len(canvas.parents))
    candidates = [label for label in range(1, len(canvas.parents)) if sizes[label] >= 6 and label != canvas.air]
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
        canvas = paint_scene(rng, n)
        masks = _targets(rng, canvas, 2 * targets)
        if len(masks) < targets:
            continue
        image = render(rng, canvas)
        if rng.random() < 0.08:
            _beyond_the_scan(rng, image, masks)
        if float(image.max() - image.min()) <= 1e-4:
            continue
        # Borders that nobody could see teach little; some stay, because anatomy has them too.
        gradient = ndimage.gaussian_gradient_magnitude(image, 1.0)
        kept = [m for m in masks if m.sum() >= 6 and (_visibility(gradient, m) > 1.5 or rng.random() < 0.25)]
        if len(kept) >= targets:
            return Scene(image, kept[:targets])
