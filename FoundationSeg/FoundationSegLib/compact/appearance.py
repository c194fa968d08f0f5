# SPDX-License-Identifier: Apache-2.0
"""How a scanner shows a scene: CT, MR, PET, ultrasound or anything, at voxels finer or coarser than the grid.

Domain randomisation after SynthSeg (Billot et al., Medical Image Analysis 2023). What decides whether samples look
like scans is the order: tissue with texture, the point spread, slices, noise *at the scanner's voxels*, and only then
the interpolation to the region's grid, which is often finer than the voxels: regions of small structures are smooth.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .scenes import Canvas, Rng, log_uniform, smooth_noise

KINDS = {"ct": 0.36, "mr": 0.34, "pet": 0.12, "any": 0.12, "us": 0.06}
# Tissue classes of a CT in HU: how often they are drawn, and their means.
_CT_TISSUES = (
    (0.07, -1000, -950),
    (0.12, -900, -700),
    (0.16, -130, -60),
    (0.37, 0, 90),
    (0.14, 90, 260),
    (0.14, 250, 1100),
)


def _draw_mean(rng: Rng, kind: str) -> float:
    if kind == "ct":
        weights = np.array([w for w, _, _ in _CT_TISSUES])
        _, low, high = _CT_TISSUES[int(rng.choice(len(_CT_TISSUES), p=weights / weights.sum()))]
        return float(rng.uniform(low, high))
    if kind == "pet":
        return float(rng.uniform(0.2, 2.0)) if rng.random() < 0.65 else log_uniform(rng, 2.0, 20.0)
    return float(rng.uniform(0, 1))


def _means(rng: Rng, kind: str, canvas: Canvas, noise: float) -> np.ndarray:
    """Mean intensity per label. Tissues recur, and what lies in an organ often differs from it by little."""
    spread = {"ct": 15.0, "pet": 0.15}.get(kind, 0.04)
    palette = [_draw_mean(rng, kind) for _ in range(int(rng.integers(3, 8)))]
    recurring = rng.uniform(0.2, 0.9)
    means = np.zeros(len(canvas.parents), np.float32)
    for label, parent in enumerate(canvas.parents):
        if parent > 0 and rng.random() < 0.65:
            means[label] = means[parent] + rng.choice([-1, 1]) * log_uniform(rng, 1.0, 8.0) * max(noise, 0.5 * spread)
        elif rng.random() < recurring:
            means[label] = palette[int(rng.integers(len(palette)))] + rng.normal(0, 0.5 * spread)
        else:
            means[label] = _draw_mean(rng, kind)
    if canvas.air >= 0:
        means[canvas.air] = -1000 if kind == "ct" else 0
    return means


def _texture(rng: Rng, kind: str, canvas: Canvas) -> np.ndarray:
    """What varies within a tissue, at two scales; in some tissues strongly, as in lung or spongy bone."""
    n = canvas.size
    spread = {"ct": 14.0, "pet": 0.2}.get(kind, 0.05)
    amplitude = np.abs(rng.normal(0, spread, len(canvas.parents))).astype(np.float32)
    amplitude[rng.random(amplitude.size) < 0.06] *= 6
    if canvas.air >= 0:
        amplitude[canvas.air] *= 0.1
    fine = smooth_noise(rng, (n, n, n), log_uniform(rng, 5, n / 2))
    if rng.random() < 0.25:  # strands and cells rather than clouds
        fine = np.abs(fine) * 2 - 1.6
    coarse = smooth_noise(rng, (n, n, n), rng.uniform(2, 6))
    return amplitude[canvas.labels] * (fine + rng.uniform(0, 1.2) * coarse)


def _grain(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of unit variance, white or correlated as after reconstruction filters."""
    grain = rng.standard_normal(shape).astype(np.float32)
    if rng.random() < 0.6:
        grain = ndimage.gaussian_filter(grain, rng.uniform(0.3, 0.9))
        grain /= grain.std() + 1e-6
    return grain


def _with_noise(rng: Rng, kind: str, image: np.ndarray, noise: float) -> np.ndarray:
    grain = _grain(rng, image.shape)
    if kind == "us":
        return image * (1 + rng.uniform(0.1, 0.4) * grain)
    if kind == "pet":
        return image + noise * grain * np.sqrt(np.maximum(image, 0.1))
    return image + noise * grain


def _resampling(n: int, ratio: float, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Where voxels of `ratio` grid points lie on n grid points, and the (n, m) weights of the way back."""
    count = max(int(np.ceil((n - 1 + phase) / ratio)) + 1, 2)
    voxels = np.arange(count) * ratio - phase
    position = (np.arange(n) + phase) / ratio
    low = np.clip(position.astype(int), 0, count - 2)
    back = np.zeros((n, count), np.float32)
    t = np.clip(position - low, 0, 1)
    back[np.arange(n), low] = 1 - t
    back[np.arange(n), low + 1] += t
    return voxels, back


def _along(matrix: np.ndarray, image: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)


def _scan(rng: Rng, kind: str, image: np.ndarray, noise: float) -> np.ndarray:
    """Point spread, voxels, noise, and interpolation to the grid."""
    n = image.shape[0]
    ratio = np.full(3, log_uniform(rng, 0.4, 4.0))  # grid points per voxel
    if rng.random() < 0.6:
        ratio[int(rng.integers(3))] *= log_uniform(rng, 1.3, 5.0)
    ratio = np.minimum(ratio, n / 6)
    sharpness = rng.uniform(0.6, 1.1) if kind == "pet" else rng.uniform(0.3, 0.6)
    width = sharpness * (np.full(3, ratio.max()) if kind == "pet" else ratio)
    image = ndimage.gaussian_filter(image, np.maximum(width, 0.25), mode="nearest", truncate=3.0)
    backs: list[tuple[int, np.ndarray]] = []
    for axis in range(3):
        if ratio[axis] > 1.15:
            voxels, back = _resampling(n, float(ratio[axis]), float(rng.uniform(0, ratio[axis])))
            image = np.take(image, np.clip(np.rint(voxels), 0, n - 1).astype(int), axis)
            backs.append((axis, back))
    # Several voxels per grid point average the noise away.
    image = _with_noise(rng, kind, image, noise * float(np.prod(np.minimum(ratio, 1.0)) ** 0.5))
    for axis, back in backs:
        image = _along(back, image, axis)
    return image


def render(rng: Rng, canvas: Canvas) -> np.ndarray:
    """An image (n, n, n), float32, of the scene; units as they come."""
    n = canvas.size
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    noise = {"ct": log_uniform(rng, 3, 40), "pet": log_uniform(rng, 0.03, 0.5)}.get(kind, log_uniform(rng, 0.005, 0.1))
    image = _means(rng, kind, canvas, noise)[canvas.labels] + _texture(rng, kind, canvas)
    image = _scan(rng, kind, image, noise)
    if kind in ("mr", "any", "us"):
        image = image * np.exp(rng.uniform(0, 0.5) * smooth_noise(rng, (n, n, n), 2))
        if rng.random() < 0.3:
            image = np.abs(image) ** rng.uniform(0.6, 1.6)
    if kind == "ct":
        if rng.random() < 0.7:
            image = np.maximum(image, -1024)
        if rng.random() < 0.3:  # a windowed export
            centre, width = rng.uniform(-50, 150), log_uniform(rng, 200, 1500)
            image = np.clip(image, centre - width / 2, centre + width / 2)
    if kind == "any" and rng.random() < 0.5:
        image = -image
    return image.astype(np.float32)
