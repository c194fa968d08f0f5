# SPDX-License-Identifier: Apache-2.0
"""Dice and normalised surface Dice (NSD).

NSD is the surface Dice of Nikolov et al. ("Clinically applicable segmentation of head and neck anatomy for
radiotherapy", JMIR 2021; reference code: DeepMind's `surface-distance`, Apache-2.0), written anew here because the
published package is unmaintained. With S_a and S_b the two surfaces and t the tolerance in mm:

    NSD = (|{x in S_a : d(x, S_b) <= t}| + |{x in S_b : d(x, S_a) <= t}|) / (|S_a| + |S_b|)

where |.| is an *area*. As in the reference code a surface element is one 2x2x2 neighbourhood of voxel centres that
is neither all in nor all out; it sits at the neighbourhood's centre, and its area is that of the marching-cubes
triangles inside it at the volume's spacing. Counting elements by area, not by number, is what keeps the figure
meaningful on anisotropic voxels. The unit test compares with the reference package where that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

BoolArray = NDArray[np.bool_]

# Distances are sums of products of spacings in floating point: 2.0 mm must still count as "within 2 mm".
_EPSILON_MM = 1e-6


def dice(a: BoolArray, b: BoolArray) -> float:
    """Dice coefficient of two boolean arrays of one shape; 1.0 when both are empty, 0.0 when only one is."""
    if a.shape != b.shape:
        raise ValueError(f"dice: the shapes differ, {a.shape} and {b.shape}")
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 1.0 if total == 0 else 2.0 * int(np.count_nonzero(a & b)) / total


def iou(a: BoolArray, b: BoolArray) -> float:
    """Intersection over union of two boolean arrays of one shape; 1.0 when both are empty."""
    overlap = dice(a, b)
    return overlap / (2 - overlap)


def bounding_box(mask: BoolArray) -> tuple[slice, slice, slice] | None:
    """Smallest box of slices (k, j, i) that holds every true voxel; None for an empty mask."""
    slices = []
    for axis in range(3):
        hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if hits.size == 0:
            return None
        slices.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return slices[0], slices[1], slices[2]


@lru_cache(maxsize=64)
def element_areas(spacing_kji: tuple[float, float, float]) -> NDArray[np.float64]:
    """Area in mm2 of the marching-cubes surface inside each of the 256 in/out patterns of a 2x2x2 neighbourhood.

    Bit b of a pattern is the corner at (k, j, i) = (b >> 2 & 1, b >> 1 & 1, b & 1). A pattern and its complement
    have one surface; the ambiguous ones may be triangulated in two ways, so both get the mean and the figure does
    not depend on what is called inside.
    """
    from skimage import measure

    untyped: Any = measure
    areas = np.zeros(256)
    corner = np.arange(8)
    for code in range(1, 255):
        cube = ((code >> corner) & 1).astype(np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = untyped.marching_cubes(cube, level=0.5, spacing=spacing_kji, allow_degenerate=False)
        areas[code] = untyped.mesh_surface_area(vertices, faces)
    return (areas + areas[255 - np.arange(256)]) / 2


class Surface:
    """The surface elements of one mask: their places in mm along the array axes (n, 3) and their areas in mm2."""

    def __init__(self, mask: BoolArray, spacing_kji: Sequence[float]) -> None:
        """Take a boolean array (k, j, i) and the spacing in mm along the same axes. The array's border is outside."""
        spacing = (float(spacing_kji[0]), float(spacing_kji[1]), float(spacing_kji[2]))
        box = bounding_box(mask)
        if box is None:
            self.points = np.empty((0, 3))
            self.areas = np.empty(0)
            return
        padded = np.pad(mask[box], 1).astype(np.uint8)
        codes = np.zeros(tuple(size - 1 for size in padded.shape), np.uint8)
        for bit in range(8):
            k, j, i = bit >> 2 & 1, bit >> 1 & 1, bit & 1
            codes |= padded[k : k + codes.shape[0], j : j + codes.shape[1], i : i + codes.shape[2]] << bit
        places = np.argwhere((codes != 0) & (codes != 255))
        self.areas = element_areas(spacing)[codes[tuple(places.T)]]
        origin = np.array([part.start for part in box]) - 0.5  # the centre of the first padded neighbourhood
        self.points = (places + origin) * np.asarray(spacing)

    def __len__(self) -> int:
        return len(self.points)


class SurfaceScore:
    """NSD against one reference; the reference's surface and its search tree are made once."""

    def __init__(self, reference: BoolArray, spacing_kji: Sequence[float], tolerance_mm: float = 2.0) -> None:
        self._spacing = tuple(float(value) for value in spacing_kji)
        self._shape = reference.shape
        self._tolerance = float(tolerance_mm)
        self._surface = Surface(reference, self._spacing)
        self._tree = cKDTree(self._surface.points) if len(self._surface) else None

    def __call__(self, prediction: BoolArray) -> float:
        """NSD in [0, 1] of a boolean array on the reference's grid; 1.0 when both are empty, 0.0 when only one is."""
        if prediction.shape != self._shape:
            raise ValueError(f"nsd: the shapes differ, {self._shape} and {prediction.shape}")
        mine, other = self._surface, Surface(prediction, self._spacing)
        if self._tree is None or not len(other):
            return 1.0 if self._tree is None and not len(other) else 0.0
        other_near = other.areas[self._within(self._tree, other.points)].sum()
        # Only what lies near the reference can be the nearest element of it: a leak need not enter the tree.
        low, high = mine.points.min(axis=0), mine.points.max(axis=0)
        margin = self._tolerance + _EPSILON_MM
        kept = other.points[np.all((other.points >= low - margin) & (other.points <= high + margin), axis=1)]
        mine_near = mine.areas[self._within(cKDTree(kept), mine.points)].sum() if len(kept) else 0.0
        return float((mine_near + other_near) / (mine.areas.sum() + other.areas.sum()))

    def _within(self, tree: Any, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        limit = self._tolerance + _EPSILON_MM
        distances, _ = tree.query(points, distance_upper_bound=limit * (1 + 1e-9))
        return np.asarray(distances <= limit)


def nsd(a: BoolArray, b: BoolArray, spacing_kji: Sequence[float], tolerance_mm: float = 2.0) -> float:
    """Normalised surface Dice of two boolean arrays (k, j, i); spacing in mm along the same axes."""
    return SurfaceScore(a, spacing_kji, tolerance_mm)(b)
