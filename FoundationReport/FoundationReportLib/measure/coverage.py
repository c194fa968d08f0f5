# SPDX-License-Identifier: Apache-2.0
"""What of the body is in the image: per organ assessed, partly in view, in view but not assessed, or outside.

An organ with a segment is assessed; one whose segment touches the image's edge is partly in view. Where organs without
a segment lie is estimated from those with one: each tells at which vertebral level it lies, which gives the height of
all others within an error that is allowed for. Without any segmented organ the body part that the header names tells
only what is far away. What cannot be told is not stated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from FoundationSegLib.volume import Volume

from ..model import Kind, Side
from .anatomy import Organ, anatomy
from .builder import Builder
from .counts import organ_subject
from .header import ImageHeader
from .region import Region, directions_mm

_SEXED = {"prostate": "M", "seminal vesicle": "M", "testis": "M", "uterus": "F", "ovary": "F"}
# Error of a height that a vertebra, or an organ, gives away, mm.
_VERTEBRA_ERROR_MM, _ORGAN_ERROR_MM = 20.0, 45.0
_REGIONS = ("head", "neck", "chest", "abdomen", "pelvis", "leg")
_BODY_PARTS = {
    "head": ("head", "brain", "skull", "sinus", "orbit", "face"),
    "neck": ("neck", "cspine", "larynx"),
    "chest": ("chest", "thorax", "lung", "heart", "breast", "mediastinum"),
    "abdomen": ("abdomen", "abd", "liver", "kidney", "pancreas", "spleen"),
    "pelvis": ("pelvis", "prostate", "uterus", "bladder", "hip", "rectum"),
    "leg": ("leg", "knee", "thigh", "femur", "foot", "ankle", "extremity"),
}
_LONGEST_SINGLE_MM = 500.0


class _Frame(NamedTuple):
    """Heights: S in mm = zero - depth below the top of C1; `error` is how far that may be off."""

    zero: float
    error: float
    method: str


def add_coverage(
    builder: Builder,
    volume: Volume,
    regions: Mapping[str, Region],
    parts: Collection[str],
    vertebrae: Mapping[str, str],
    header: ImageHeader | None,
) -> None:
    """Adds a coverage fact for each segmented organ and each listed one about which something can be said."""
    for name, region in regions.items():
        subject = builder.subjects[name]
        if subject.kind == Kind.ORGAN:
            value = "partly_in_view" if any(region.cut) else "assessed"
            builder.add(
                name, "coverage", value, "the segment touches the edge of the image" if any(region.cut) else "segment"
            )
        elif any(region.cut) and subject.finding:
            builder.warn(
                f'"{subject.name}" touches the edge of the image, so its sizes are those of the visible part; they '
                "may be too small."
            )
    frame = _frame(builder, regions, parts, vertebrae)
    sex = header.sex if header is not None and header.sex else _sex_of_organs(builder, regions)
    low, high = float(volume.bounds_ras[0, 2]), float(volume.bounds_ras[1, 2])
    for organ, side in _unsegmented(builder, regions, parts):
        if frame is not None:
            state = _state(organ, frame, low, high)
            method = f"height estimated from {frame.method}"
        else:
            state = _by_body_part(organ, header, high - low)
            method = "body part that the header names"
        if state is None or (state != "outside_view" and sex and _SEXED.get(organ.name, sex) != sex):
            continue
        builder.add(organ_subject(builder, organ.name, side), "coverage", state, method)


def _sex_of_organs(builder: Builder, regions: Mapping[str, Region]) -> str:
    """ "M" or "F" if organs of one sex alone were drawn; only used to leave out organs that cannot be there."""
    found = {_SEXED[organ] for name in regions if (organ := builder.subjects[name].organ) in _SEXED}
    return found.pop() if len(found) == 1 else ""


def depth_mm(level: float) -> float:
    """How far below the top of C1 a vertebral level lies in an average adult, mm (levels as in `anatomy.json`)."""
    mm = anatomy().vertebra_mm
    spans = ((1.0, 8.0, mm["cervical"]), (8.0, 20.0, mm["thoracic"]), (20.0, 25.0, mm["lumbar"]))
    if level <= 1:
        return (level - 1) * mm["head"]
    total = sum(max(min(level, end) - start, 0.0) * height for start, end, height in spans)
    return total + max(level - 25.0, 0.0) * mm["sacral"]


def _frame(
    builder: Builder, regions: Mapping[str, Region], parts: Collection[str], vertebrae: Mapping[str, str]
) -> _Frame | None:
    known = anatomy()
    from_vertebrae = [
        regions[name].centroid_ras[2] + depth_mm(known.vertebrae[level] + 0.5)
        for name, level in vertebrae.items()
        if not regions[name].cut[_craniocaudal(regions[name].volume)]
    ]
    if from_vertebrae:
        return _Frame(float(np.median(from_vertebrae)), _VERTEBRA_ERROR_MM, "the segmented vertebrae")
    zeros, spreads = [], []
    for name, region in regions.items():
        organ = known.organs.get(builder.subjects[name].organ)
        whole = builder.subjects[name].kind == Kind.ORGAN and name not in parts and not any(region.cut)
        if organ is None or organ.levels is None or not whole:
            continue
        top, bottom = depth_mm(organ.levels[0]), depth_mm(organ.levels[1])
        zeros.append(region.centroid_ras[2] + (top + bottom) / 2)
        spreads.append(bottom - top)
    if not zeros:
        return None
    # The shorter an organ's usual range, the better it tells the height.
    zero = float(np.average(zeros, weights=1 / np.square(spreads)))
    return _Frame(zero, max(_ORGAN_ERROR_MM, min(spreads) / 4), "the segmented organs")


def _craniocaudal(volume: Volume) -> int:
    """The array axis (0: k, 1: j, 2: i) that lies nearest to S."""
    return int(np.argmax(np.abs(directions_mm(volume)[:, 2])))


def _unsegmented(
    builder: Builder, regions: Mapping[str, Region], parts: Collection[str]
) -> Iterator[tuple[Organ, Side]]:
    """Listed organs, each side of the paired ones, of which nothing was segmented."""
    drawn = {
        (builder.subjects[name].organ, builder.subjects[name].side)
        for name in regions
        if builder.subjects[name].kind == Kind.ORGAN
    }
    for organ in anatomy().organs.values():
        if not organ.listed or organ.levels is None:
            continue
        for side in (Side.LEFT, Side.RIGHT) if organ.paired else (Side.NONE,):
            if not {(organ.name, side), (organ.name, Side.BOTH), (organ.name, Side.NONE)} & drawn:
                yield organ, side


def _state(organ: Organ, frame: _Frame, low: float, high: float) -> str | None:
    assert organ.levels is not None
    top, bottom = (frame.zero - depth_mm(level) for level in organ.levels)
    if bottom - frame.error > high or top + frame.error < low:
        return "outside_view"
    if top + frame.error <= high and bottom - frame.error >= low:
        return "in_view_not_assessed"
    # Whether the rest is cut cannot be told from where organs usually lie.
    shown = min(top, high) - max(bottom, low)
    return "in_view_not_assessed" if shown >= 0.8 * (top - bottom) else None


def _by_body_part(organ: Organ, header: ImageHeader | None, length_mm: float) -> str | None:
    """ "outside_view" for what is two regions of the body or more from those that the header names."""
    named = header.body_part if header is not None else ""
    shown = [n for n, region in enumerate(_REGIONS) if any(word in named for word in _BODY_PARTS[region])]
    if not shown or organ.region not in _REGIONS or length_mm > _LONGEST_SINGLE_MM:
        return None
    own = _REGIONS.index(organ.region)
    return "outside_view" if min(abs(own - n) for n in shown) >= 2 else None
