# SPDX-License-Identifier: Apache-2.0
"""A 512 x 512 x 300 int16 CT to time things on: a real chest brought to that grid if there is one, else a drawing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .metrics import BoolArray

SHAPE = (300, 512, 512)
AIR_HU = -1024
REAL_CASE, REAL_STRUCTURE = "ct_lung1_002", "gtv_1"


@dataclass(frozen=True)
class Phantom:
    """int16 HU (k, j, i) of SHAPE, IJK-to-RAS 4x4, one target's mask, and a sentence on where it came from."""

    array: NDArray[np.int16]
    ijk_to_ras: NDArray[np.float64]
    target: BoolArray
    origin: str


def _matrix(spacing_ijk: tuple[float, float, float]) -> NDArray[np.float64]:
    # Axial slices as CT delivers them: i to the patient's left, j to the back, k to the head.
    return np.diag([-spacing_ijk[0], -spacing_ijk[1], spacing_ijk[2], 1.0])


def _fit(values: NDArray[Any], zoom: tuple[float, float, float], order: int, fill: int) -> NDArray[Any]:
    """Resampled by `zoom` per axis, then padded with `fill` or cut around the middle to SHAPE."""
    scaled = ndimage.zoom(values, zoom, order=order, mode="nearest", grid_mode=True)
    for axis, wanted in enumerate(SHAPE):
        spare = wanted - scaled.shape[axis]
        before = abs(spare) // 2
        if spare >= 0:
            pads = [(0, 0)] * 3
            pads[axis] = (before, spare - before)
            scaled = np.pad(scaled, pads, constant_values=fill)
        else:
            scaled = np.take(scaled, np.arange(before, before + wanted), axis=axis)
    return np.ascontiguousarray(scaled)


def from_case(folder: Path) -> Phantom:
    """The real chest CT of a data folder, interpolated to 300 thin slices. Raises DataError when it is not there."""
    from FoundationSegLib.volume import Volume

    from . import cases

    found = [case for case in cases.load_cases(folder) if case.name == REAL_CASE]
    if not found:
        raise cases.DataError(f"{folder} has no case {REAL_CASE}")
    case = found[0]
    structure = next(entry for entry in case.structures if entry.name == REAL_STRUCTURE)
    volume = Volume.read(case.folder / structure.image)
    mask, _ = case.reference(structure)
    zoom = (SHAPE[0] / volume.shape[0], 1.0, 1.0)
    array = _fit(volume.array.astype(np.float32), zoom, 1, AIR_HU).round().astype(np.int16)
    target = _fit(mask.astype(np.uint8), zoom, 0, 0).astype(bool)
    i, j, k = volume.spacing_mm
    return Phantom(array, _matrix((i, j, k / zoom[0])), target, f"{REAL_CASE} interpolated to {SHAPE[0]} slices")


def drawn(seed: int = 0) -> Phantom:
    """A drawn trunk: fat, muscle, lungs, spine, ribs' density, liver with a lesion (the target), noise of 15 HU."""
    rng = np.random.default_rng(seed)
    k, j, i = np.ogrid[tuple(slice(0, size) for size in SHAPE)]

    def ellipsoid(centre: tuple[int, int, int], radii: tuple[float, float, float]) -> BoolArray:
        parts = [((at - c) / r) ** 2 for at, c, r in zip((k, j, i), centre, radii, strict=True)]
        return np.asarray(parts[0] + parts[1] + parts[2] <= 1)

    array = np.full(SHAPE, AIR_HU, np.float32)
    for centre, radii, value in (
        ((150, 256, 256), (1000, 170, 225), -100),  # fat
        ((150, 256, 256), (1000, 150, 205), 45),  # muscle
        ((220, 250, 170), (110, 105, 75), -830),  # lungs
        ((220, 250, 342), (110, 105, 75), -830),
        ((150, 360, 256), (1000, 26, 26), 380),  # spine
        ((200, 230, 280), (55, 55, 60), 140),  # heart
        ((80, 240, 180), (70, 90, 110), 105),  # liver
    ):
        array[ellipsoid(centre, radii)] = value
    target = ellipsoid((80, 250, 190), (28, 32, 34))
    array[target] = 60
    array = ndimage.gaussian_filter(array, 0.8)
    noise = rng.normal(0, 15, SHAPE).astype(np.float32)
    array = np.clip(array + noise, AIR_HU, 3071)
    return Phantom(array.round().astype(np.int16), _matrix((0.8, 0.8, 1.25)), target, f"drawn, seed {seed}")
