# SPDX-License-Identifier: Apache-2.0
"""Prompts as people give them, simulated from a target mask, and corrections simulated from the model's own errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from .inputs import box_map

MAX_POINTS = 16
Rng = np.random.Generator


@dataclass
class PromptSample:
    """What the decoder gets in its first round: coordinates (k, j, i) in voxels, labels as SAM's, maps on the grid."""

    point_coords: np.ndarray  # (MAX_POINTS, 3) float32
    point_labels: np.ndarray  # (MAX_POINTS,) int64: 1, 0, -1
    box: np.ndarray  # (1, n/2, n/2, n/2) float32, see `box_map`
    mask_input: np.ndarray  # (1, n, n, n) float32 logits


def _click_in(rng: Rng, mask: np.ndarray) -> np.ndarray:
    """A voxel of the mask: its deepest, a deep one, or any."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    roll = rng.random()
    if roll < 0.45:
        weight = depth >= depth.max() - 1e-6
    elif roll < 0.8:
        weight = depth * mask
    else:
        weight = mask
    flat = weight.ravel().astype(np.float64)
    index = int(rng.choice(flat.size, p=flat / flat.sum()))
    return np.array(np.unravel_index(index, mask.shape), np.float32)


def _scribble_in(rng: Rng, mask: np.ndarray, count: int) -> np.ndarray:
    """Points (count, 3) of a stroke on one slice through the mask."""
    axis = int(rng.integers(3))
    where = np.argwhere(mask)
    level = where[int(rng.integers(len(where))), axis]
    slice_points = where[where[:, axis] == level]
    a, b = slice_points[rng.integers(len(slice_points), size=2)]
    t = np.linspace(0, 1, count)[:, None]
    stroke = np.round(a * (1 - t) + b * t).astype(int)
    kept = stroke[mask[tuple(stroke.T)]]
    return kept.astype(np.float32)


def _degraded(rng: Rng, mask: np.ndarray) -> np.ndarray:
    """Logits (1, n, n, n) of a worse mask: what a coarser pass, a round before or a hasty hand would have left."""
    n = mask.shape[0]
    soft = ndimage.gaussian_filter(mask.astype(np.float32), rng.uniform(0.7, 3.0))
    bumps = ndimage.zoom(rng.standard_normal((5, 5, 5)).astype(np.float32), n / 5, order=1)
    soft = soft + rng.uniform(0, 0.3) * bumps
    if rng.random() < 0.5:
        soft = np.roll(soft, rng.integers(-2, 3, 3), (0, 1, 2))
    if rng.random() < 0.25:  # a piece is missing
        axis, level = int(rng.integers(3)), int(rng.integers(n // 4, 3 * n // 4))
        cut = [slice(None)] * 3
        cut[axis] = slice(level, None)
        soft[tuple(cut)] -= 0.6
    p = np.clip(1 / (1 + np.exp(-(soft - rng.uniform(0.35, 0.65)) * rng.uniform(4, 14))), 0.02, 0.98)
    return np.log(p / (1 - p)).astype(np.float32)[None]


def simulate_prompts(rng: Rng, mask: np.ndarray) -> PromptSample:
    """First-round prompts for a target mask (n, n, n): clicks, a scribble, a box, with or without an earlier mask."""
    n = mask.shape[0]
    box = np.zeros((1, n // 2, n // 2, n // 2), np.float32)
    mask_input = np.zeros((1, n, n, n), np.float32)
    coords: list[np.ndarray] = []
    labels: list[int] = []

    def add(points: np.ndarray, label: int) -> None:
        for p in points:
            if len(coords) < MAX_POINTS:
                coords.append(p + rng.uniform(-0.5, 0.5, 3).astype(np.float32))
                labels.append(label)

    kind = rng.choice(["click", "box", "box+click", "clicks", "scribble"], p=[0.42, 0.2, 0.1, 0.18, 0.1])
    if kind in ("click", "box+click", "clicks"):
        add(_click_in(rng, mask)[None], 1)
    if kind == "clicks":
        for _ in range(int(rng.integers(1, 5))):
            add(_click_in(rng, mask)[None], 1)
        shell = ndimage.binary_dilation(mask, iterations=int(rng.integers(2, 7))) & ~ndimage.binary_dilation(mask)
        if shell.any():
            for _ in range(int(rng.integers(0, 4))):
                where = np.argwhere(shell)
                add(where[int(rng.integers(len(where)))][None].astype(np.float32), 0)
    if kind == "scribble":
        add(_scribble_in(rng, mask, int(rng.integers(3, 9))), 1)
    if kind in ("box", "box+click"):
        where = np.argwhere(mask)
        low, high = where.min(0) - 0.5, where.max(0) + 0.5
        at_low, at_high = low < 0, high > n - 1  # a box goes on where the region ends
        extent = high - low
        sloppy = rng.choice([0.0, 0.05, 0.12])
        low = low + rng.normal(0, 1, 3) * sloppy * extent - at_low * rng.uniform(0, n / 2, 3)
        high = high + rng.normal(0, 1, 3) * sloppy * extent + at_high * rng.uniform(0, n / 2, 3)
        half = np.maximum((high - low) / 2, 0.7)
        box = box_map((low + high) / 2, np.eye(3), half, n // 2)
    if rng.random() < 0.3:
        mask_input = _degraded(rng, mask)
    padded = np.zeros((MAX_POINTS, 3), np.float32)
    flags = np.full(MAX_POINTS, -1, np.int64)
    if coords:
        padded[: len(coords)] = np.stack(coords)
        flags[: len(labels)] = labels
    return PromptSample(padded, flags, box, mask_input)


def depth(mask: Tensor, steps: int = 12) -> Tensor:
    """City-block depth (B, 1, n, n, n) of each voxel of a float mask, up to `steps`; the region's face is no edge."""
    total, current = mask.clone(), mask
    for _ in range(steps - 1):
        eroded = current.clone()
        for axis in (2, 3, 4):
            n = mask.shape[axis]
            low, high = (eroded.narrow(axis, start, n - 1) for start in (0, 1))
            before, after = (current.narrow(axis, start, n - 1) for start in (0, 1))
            torch.minimum(low, after, out=low)
            torch.minimum(high, before, out=high)
        current = eroded
        total += current
    return total


def correct(logits: Tensor, target: Tensor, coords: Tensor, labels: Tensor, generator: torch.Generator) -> None:
    """Writes one corrective click per sample into the first free slot of `coords` (B, P, 3) and `labels` (B, P).

    The click lands deep inside the largest kind of error (missing or surplus), as a person would place it, but not at
    its exact centre. Samples without an error of at least two voxels stay as they are.
    """
    mask = (logits > 0).float()
    missing, surplus = target * (1 - mask), (1 - target) * mask
    depths = torch.cat([depth(missing), depth(surplus)], dim=1)  # (B, 2, n, n, n)
    n = logits.shape[-1]
    blur = 0.6 + 0.8 * torch.rand((depths.shape[0], 1, 1, 1, 1), generator=generator).to(logits.device)
    score = (depths**blur) * (0.75 + 0.25 * torch.rand(depths.shape, generator=generator).to(logits.device))
    best = score.flatten(1).argmax(dim=1)
    for b in range(len(best)):
        if float(missing[b].sum() + surplus[b].sum()) < 2:
            continue
        free = (labels[b] < 0).nonzero()
        if len(free) == 0:
            continue
        index = int(best[b])
        sign, index = divmod(index, n**3)
        k, rest = divmod(index, n * n)
        j, i = divmod(rest, n)
        slot = int(free[0])
        coords[b, slot] = torch.tensor([k, j, i], dtype=coords.dtype)
        labels[b, slot] = 1 - sign
