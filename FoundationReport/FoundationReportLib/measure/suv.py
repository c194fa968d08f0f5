# SPDX-License-Identifier: Apache-2.0
"""Standardised uptake values of PET by body weight, and what else is told of an uptake: peak, volume, glycolysis.

SUVbw = activity concentration (Bq/mL) x body weight (g) / injected dose (Bq), the dose decayed from the injection to
the time that the image is corrected to (QIBA Profile FDG-PET/CT 1.13, section 3.5.2; DICOM PS3.3 C.8.9.1). SUVpeak is
the largest mean in a sphere of 1 cm3 (Wahl et al., J Nucl Med 2009;50 Suppl 1:122S, PERCIST 1.0) that is centred on a
voxel of the lesion and takes in what lies around it (IBSI reference manual, global intensity peak, 0F91): the fixed
volume is what makes peaks comparable. Of a lesion smaller than the sphere it averages the surroundings too, and beside
higher uptake it can be above SUVmax; the share outside is told with it.
The metabolic volume is that above 41% of SUVmax (Boellaard et al., EANM guideline 2.0, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from .header import PetHeader
from .region import Region, directions_mm

THRESHOLD = 0.41
_PEAK_RADIUS_MM = (3000 / (4 * np.pi)) ** (1 / 3)
_SUBDIVISIONS = 5


@dataclass(frozen=True)
class SuvScale:
    """How a stored value becomes a SUV: times `factor`. `method` says how that was found."""

    factor: float
    method: str


@dataclass(frozen=True)
class Uptake:
    """SUV statistics of a region; `peak` is None where no sphere fits into the volume.

    `peak_outside`: share of the peak's sphere that lies outside the region, 0 to 1.
    """

    max: float
    mean: float
    peak: float | None
    mtv_ml: float
    tlg_g: float
    max_at: tuple[float, float, float]
    peak_outside: float = 0.0


def suv_scale(pet: PetHeader | None) -> SuvScale | str:
    """The scale, or a sentence that says which values the header lacks."""
    if pet is None:
        return "SUV was not computed: the image has no DICOM header; give the DICOM series instead of a converted file."
    if pet.units == "GML":
        return SuvScale(1.0, "SUVbw as stored by the scanner")
    if pet.units == "CNTS" and pet.philips_factor is not None:
        return SuvScale(pet.philips_factor, "SUVbw by the scanner's own factor (7053,1000)")
    if pet.units not in ("BQML", ""):
        return f"SUV was not computed: the image is in units of {pet.units}, not in Bq/mL; export it in Bq/mL."
    needed: dict[str, object] = {
        "units (0054,1001)": pet.units,
        "patient's weight (0010,1030)": pet.weight_kg,
        "injected dose (0018,1074)": pet.dose_bq,
    }
    if pet.decay_correction != "ADMIN":
        needed |= {
            "radionuclide half life (0018,1075)": pet.half_life_s,
            "time of injection (0018,1078 or 0018,1072)": pet.injected,
            "time of the scan (0008,0021 and 0008,0031)": pet.scanned,
            "decay correction (0054,1102)": pet.decay_correction,
        }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        return f"SUV was not computed: the header lacks {', '.join(missing)}; complete it at the scanner or PACS."
    assert pet.weight_kg is not None and pet.dose_bq is not None
    if pet.decay_correction == "NONE":
        return "SUV was not computed: the image is not corrected for decay (0054,1102); reconstruct it corrected."
    dose = pet.dose_bq
    if pet.decay_correction != "ADMIN":
        assert pet.injected is not None and pet.scanned is not None and pet.half_life_s is not None
        seconds = (pet.scanned - pet.injected).total_seconds()
        if seconds < 0:
            return "SUV was not computed: the header puts the injection after the scan; correct its times."
        dose *= 2.0 ** (-seconds / pet.half_life_s)
    return SuvScale(1000.0 * pet.weight_kg / dose, "SUVbw from the header's dose, weight, half life and times")


def uptake(region: Region, scale: SuvScale) -> Uptake:
    """SUV statistics of the region's voxels."""
    values = region.values(region.volume.array).astype(np.float64) * scale.factor
    highest = float(values.max())
    # Noise around zero has no metabolic volume.
    hot = values[values >= THRESHOLD * highest] if highest > 0 else values[:0]
    mtv = len(hot) * region.volume.voxel_volume_ml
    glycolysis = mtv * float(hot.mean()) if len(hot) else 0.0
    where = np.argwhere(region.mask)[int(values.argmax())] + region.start
    r, a, s = region.volume.kji_to_ras(where).tolist()
    peak, outside = _peak(region, scale)
    return Uptake(highest, float(values.mean()), peak, mtv, glycolysis, (r, a, s), outside)


def _peak(region: Region, scale: SuvScale) -> tuple[float | None, float]:
    """Largest mean in a sphere of 1 cm3 centred on a voxel of the region, and the sphere's share outside the region.

    Voxels count by the share that is inside the sphere.
    """
    offsets, weights = _sphere(region)
    reach = np.abs(offsets).max(axis=0)
    low = [part.start - n for part, n in zip(region.box, reach, strict=True)]
    high = [part.stop + n for part, n in zip(region.box, reach, strict=True)]
    grid = [(max(a, 0), min(b, size)) for a, b, size in zip(low, high, region.volume.shape, strict=True)]
    around: npt.NDArray[Any] = region.volume.array[tuple(slice(a, b) for a, b in grid)].astype(np.float64)
    before = [a - wanted for (a, _), wanted in zip(grid, low, strict=True)]
    after = [wanted - b for (_, b), wanted in zip(grid, high, strict=True)]
    around = np.pad(around, list(zip(before, after, strict=True)), constant_values=np.nan)
    own = np.pad(region.mask, [(n, n) for n in reach])
    total, inside = np.zeros(region.mask.shape), np.zeros(region.mask.shape)
    for offset, weight in zip(offsets, weights, strict=True):
        window = tuple(slice(r + o, r + o + n) for r, o, n in zip(reach, offset, region.mask.shape, strict=True))
        total += weight * around[window]
        inside += weight * own[window]
    means = np.where(np.isfinite(total) & region.mask, total, -np.inf)
    best = int(means.argmax())
    if not np.isfinite(means.flat[best]):
        return None, 0.0
    return float(means.flat[best]) * scale.factor, 1.0 - float(inside.flat[best])


def _sphere(region: Region) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Voxel offsets (n, 3) (k, j, i) and the share of each in the sphere of 1 cm3; the shares add up to 1."""
    steps = directions_mm(region.volume)
    normals = np.linalg.inv(steps)
    reach = np.ceil(_PEAK_RADIUS_MM * np.linalg.norm(normals, axis=0)).astype(int) + 1
    offsets = np.array(list(product(*(range(-n, n + 1) for n in reach))))
    ticks = (np.arange(_SUBDIVISIONS) + 0.5) / _SUBDIVISIONS - 0.5
    parts = np.array(list(product(ticks, ticks, ticks)))
    points = (offsets[:, None, :] + parts[None]) @ steps
    shares = (np.linalg.norm(points, axis=2) <= _PEAK_RADIUS_MM).mean(axis=1)
    kept = shares > 0
    return offsets[kept], shares[kept] / shares.sum()
