# SPDX-License-Identifier: Apache-2.0
"""On which side of the patient something lies: from RAS geometry against the midline, never from a model's text.

The midline is that of structures which lie in it, else the middle between the two of a pair, else that of the body in
the image. Where none of these is in the image, no side is derived: a scanner's zero need not be the patient's middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from FoundationSegLib.volume import Volume

from ..model import Kind, Side, Subject
from .anatomy import anatomy
from .builder import Builder
from .region import Region, directions_mm
from .subjects import VERTEBRA

_IN_MIDLINE = frozenset({VERTEBRA, "spinal cord", "brain", "brainstem", "skull", "trachea", "cerebellum"})
# How far from the midline the centre has to be for a side that contradicts a name, or that is stated of a lesion.
_SURE_MM, _BESIDE_MM = 15.0, 3.0
_BODY_HU = -300.0
_NARROWEST_BODY_MM = 120.0
_SAMPLES = 48  # per axis


class Midline(NamedTuple):
    """R coordinate in mm, and where it is from."""

    r: float
    method: str


def midline(builder: Builder, volume: Volume, regions: Mapping[str, Region]) -> Midline | None:
    """The patient's midline; None where nothing in the image tells."""
    subjects = builder.subjects
    central = [
        region.centroid_ras[0]
        for name, region in regions.items()
        if subjects[name].organ in _IN_MIDLINE and subjects[name].kind == Kind.ORGAN and not subjects[name].side
    ]
    if central:
        return Midline(float(np.mean(central)), "midline of segmented central structures")
    pairs: dict[str, dict[Side, list[float]]] = {}
    for name, region in regions.items():
        subject = subjects[name]
        if subject.kind == Kind.ORGAN and subject.side in (Side.LEFT, Side.RIGHT) and _is_paired(subject):
            key = f"{subject.organ} {subject.region}"
            pairs.setdefault(key, {}).setdefault(subject.side, []).append(region.centroid_ras[0])
    middles = [
        (np.mean(sides[Side.LEFT]) + np.mean(sides[Side.RIGHT])) / 2 for sides in pairs.values() if len(sides) == 2
    ]
    if middles:
        return Midline(float(np.mean(middles)), "middle between paired organs")
    return _of_body(volume)


def add_sides(builder: Builder, middle: Midline | None, regions: Mapping[str, Region], kinds: tuple[Kind, ...]) -> None:
    """Sets the side of subjects of these kinds that have one, adds the fact, and warns where a name says otherwise."""
    for name, region in regions.items():
        subject = builder.subjects[name]
        if subject.kind not in kinds or not _can_have_side(subject):
            continue
        found = _side(region, middle) if middle is not None else None
        if found is None or middle is None:
            if subject.side:
                builder.add(name, "side", subject.side.value, "name or coded term of the segment")
            continue
        distance = abs(region.centroid_ras[0] - middle.r)
        named = subject.side
        if named in (Side.LEFT, Side.RIGHT) and found in (Side.LEFT, Side.RIGHT) and found != named:
            if distance < _SURE_MM:
                found = named
            else:
                builder.warn(
                    f'"{subject.name}" lies {distance:.0f} mm to the patient\'s {found.value} of the midline although '
                    f"it is called {named.value}; its position was used, so correct the name or check the image's "
                    "orientation."
                )
        elif named == Side.BOTH:
            found = named
        if subject.kind != Kind.ORGAN and not found and named:
            found = named
        builder.update(name, side=found)
        word = found.value or "midline"
        builder.add(name, "side", word, f"position in RAS against the {middle.method}", points=[region.centroid_ras])


def _can_have_side(subject: Subject) -> bool:
    """Paired organs, and findings in these, in the head or in no known organ; not a lesion of the liver."""
    if subject.kind == Kind.ORGAN:
        return _is_paired(subject)
    listed = anatomy().organs.get(subject.organ)
    if subject.kind == Kind.OTHER and not subject.finding:
        return False
    return subject.kind == Kind.NODE or listed is None or listed.paired or listed.region == "head"


def _is_paired(subject: Subject) -> bool:
    listed = anatomy().organs.get(subject.organ)
    return listed.paired if listed is not None else bool(subject.side)


def _side(region: Region, middle: Midline) -> Side:
    """LEFT or RIGHT; BOTH for an organ that lies on both sides alike, NONE for a finding in the midline."""
    offset = region.centroid_ras[0] - middle.r
    across = region.volume.kji_to_ras(region.ends + region.start)[:, 0] - middle.r
    straddles = across.min() < -_BESIDE_MM and across.max() > _BESIDE_MM
    # In the midline: the centre is, or it reaches to both sides about equally.
    reach = max(float(-across.min()), float(across.max()))
    if abs(offset) <= _BESIDE_MM or (straddles and abs(offset) < 0.2 * reach):
        return Side.BOTH if reach > 4 * _SURE_MM else Side.NONE
    return Side.RIGHT if offset > 0 else Side.LEFT


def _of_body(volume: Volume) -> Midline | None:
    """The middle of what is not air, if the body's whole width is in the image."""
    strides = [max(1, n // _SAMPLES) for n in volume.shape]
    sample = volume.array[tuple(slice(stride // 2, None, stride) for stride in strides)]
    threshold = _BODY_HU if volume.modality == "CT" else float(sample.mean())
    body = np.argwhere(sample > threshold)
    across = int(np.argmax(np.abs(directions_mm(volume)[:, 0])))
    if len(body) < _SAMPLES:
        return None
    ends = body[:, across]
    cut = np.count_nonzero(ends == 0) + np.count_nonzero(ends == sample.shape[across] - 1)
    kji = body * strides + [stride // 2 for stride in strides]
    r = volume.kji_to_ras(kji)[:, 0]
    if cut > 0.02 * len(body) or np.ptp(r) < _NARROWEST_BODY_MM:
        return None
    return Midline(float(r.mean()), "middle of the body in the image")
