# SPDX-License-Identifier: Apache-2.0
"""A second opinion that needs no training: the random walker (Grady, IEEE TPAMI 28(11), 2006) between the clicks.

A small network knows shapes, and floods where it has never seen the tissue; the random walker knows nothing but edges
and distances to the clicks, and stops. Over the structures of the benchmark the mean of their probabilities is better
than either.

Solved on a coarse cube around the clicks, in the volume's canonical axes, by conjugate gradients on the six-neighbour
grid: no matrix is built, and nothing but numpy is needed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .cues import Cues
from .predictor import Array
from .region import CanonicalFrame, Region, regrid, sample, squared_distances
from .volume import Volume

_SIZE = 48  # points along an edge of the cube
_MARGIN_MM = 40.0  # beyond the clicks; farther away is background
_SEED_RADIUS_MM = 5.0
_EDGE_WEIGHT = 5000.0  # how fast a link weakens with the step of intensity (scikit-image's `beta`)
_WEAKEST_LINK = 1e-5
_SMOOTHING = np.array([0.166, 0.668, 0.166], np.float32)  # a Gaussian of 0.6 points
_MOST_ITERATIONS = 200
_TOLERANCE = 2e-2

_FREE, _TARGET, _BACKGROUND = 0, 1, 2
Seeds = npt.NDArray[np.uint8]


def second_opinion(volume: Volume, frame: CanonicalFrame, cues: Cues, region: Region) -> Array | None:
    """Probability (size, size, size) on a region's grid that a walk from there meets a positive click first.

    0 beyond the cube; boxes are not looked at. None without a positive click.
    """
    if not (cues.labels == 1).any():
        return None
    cube, seeds = _laid_out(frame, cues)
    probability = walk(_in_unit_range(_smoothed(sample(volume, frame, cube))), seeds)
    return np.clip(regrid(probability, cube, region, 0.0), 0, 1)


def walk(image: Array, seeds: Seeds) -> Array:
    """The random walker's probability of the target, float32 of the image's shape (three axes, cubic points).

    Args:
        image: intensities in [0, 1].
        seeds: 0 free, 1 target, 2 background.
    """
    links = _links(image)
    degree = np.zeros_like(image)
    for axis, link in enumerate(links):
        low, high = _neighbours(axis)
        degree[low] += link
        degree[high] += link
    free = seeds == _FREE
    x = (seeds == _TARGET).astype(np.float32)
    # Conjugate gradients with the diagonal as preconditioner, on the free points alone.
    inverse = np.where(free, 1 / degree, 0).astype(np.float32)
    residual = np.where(free, -_laplacian(x, links, degree), np.float32(0))
    step = inverse * residual
    direction = step.copy()
    size = _dot(residual, step)
    goal = _TOLERANCE**2 * size
    for _ in range(_MOST_ITERATIONS):
        if size <= goal or size < 1e-12:
            break
        bent = np.where(free, _laplacian(direction, links, degree), np.float32(0))
        length = np.float32(size / _dot(direction, bent))
        x += length * direction
        residual -= length * bent
        step = inverse * residual
        size, before = _dot(residual, step), size
        direction *= np.float32(size / before)
        direction += step
    return x


def _dot(a: Array, b: Array) -> float:
    """Not BLAS's, whose last bits depend on the number of threads."""
    return float((a * b).sum())


def _laid_out(frame: CanonicalFrame, cues: Cues) -> tuple[Region, Seeds]:
    """The cube around the clicks, and on it the seeds: balls at the clicks; background beyond the margin."""
    low, high = cues.positions.min(0) - _MARGIN_MM, cues.positions.max(0) + _MARGIN_MM
    # Points closer than half a voxel show nothing new. Rounded, so that a flipped volume gets the same cube.
    side = round(max(float((high - low).max()), _SIZE * 0.5 * min(frame.spacing)), 6)
    z, y, x = np.round((low + high) / 2, 6).tolist()
    cube = Region((z, y, x), side / _SIZE, _SIZE)
    seeds = np.zeros((_SIZE,) * 3, np.uint8)
    for axis, (count, spacing) in enumerate(zip(frame.shape, frame.spacing, strict=True)):
        at = np.round(cube.origin[axis] + np.arange(_SIZE) * cube.spacing, 6)
        least = max(low[axis] + cube.spacing, -0.5 * spacing)
        most = min(high[axis] - cube.spacing, (count - 0.5) * spacing)
        np.moveaxis(seeds, axis, 0)[(at < least) | (at > most)] = _BACKGROUND
    nearest = np.full(seeds.shape, np.inf, np.float32)
    grid = cues.on_grid(cube)
    for coordinate, label in zip(grid.point_coords, grid.point_labels, strict=True):
        squared = squared_distances(_SIZE, coordinate) * np.float32(cube.spacing**2)
        squared[tuple(np.clip(np.rint(coordinate).astype(int), 0, _SIZE - 1))] = 0  # however coarse the cube
        ball = (squared <= _SEED_RADIUS_MM**2) & (squared < nearest)
        nearest[ball] = squared[ball]
        seeds[ball] = _TARGET if label == 1 else _BACKGROUND
    return cube, seeds


def _in_unit_range(image: Array) -> Array:
    low, high = np.percentile(image, (1, 99))
    result: Array = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
    return result


def _smoothed(image: Array) -> Array:
    for axis in range(3):
        padded = np.pad(image, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        image = sum(
            weight * padded.take(np.arange(shift, shift + image.shape[axis]), axis)
            for shift, weight in enumerate(_SMOOTHING)
        )
    return image


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index of all points but the last, and of all but the first, along an axis."""
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)


def _links(image: Array) -> list[Array]:
    """Weights of the links to the next point, one array per axis, one shorter along it."""
    scale = _EDGE_WEIGHT / (10 * float(image.std()) + 1e-6)
    return [(np.exp(-scale * np.diff(image, axis=axis) ** 2) + _WEAKEST_LINK).astype(np.float32) for axis in range(3)]


def _laplacian(x: Array, links: list[Array], degree: Array) -> Array:
    """The graph's Laplacian times x."""
    result = degree * x
    for axis, link in enumerate(links):
        low, high = _neighbours(axis)
        result[high] -= link * x[low]
        result[low] -= link * x[high]
    return result
