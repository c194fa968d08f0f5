# SPDX-License-Identifier: Apache-2.0
"""Where a finding lies: in which organ and part of it, what it touches, how far it is from what, at which level."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..model import Kind, Subject
from .anatomy import anatomy, is_paired
from .builder import Builder
from .inputs import part_of
from .region import BoolArray, Box3, IntArray, Region, directions_mm, line_ends

REACH_MM = 25.0
"""Distances up to this are measured; what is farther away is not said to be near anything."""

_INSIDE = 0.5
_SHELL_VOXELS = 2
_ORTHOGONAL = 1e-3
_TOUCHING = 0.5  # of the smallest voxel edge


class _Surroundings(NamedTuple):
    """A finding in a box that reaches REACH_MM beyond it.

    Attributes:
        box: slices (k, j, i) of the volume.
        mask: the finding in the box.
        distance: mm from each voxel centre to the nearest one of the finding.
        shell: voxels around the finding, as many layers as _SHELL_VOXELS.
    """

    box: Box3
    mask: BoolArray
    distance: npt.NDArray[np.float32]
    shell: BoolArray


def add_locations(
    builder: Builder, regions: Mapping[str, Region], parts: Collection[str], vertebrae: Mapping[str, str]
) -> None:
    """Adds the facts, and sets organ, side and region of findings whose names do not say them.

    Args:
        regions: of every measured subject, by id.
        parts: subjects that are parts of organs (lobes).
        vertebrae: subjects that are vertebrae, with their names ("L2").
    """
    organs = {name: region for name, region in regions.items() if builder.subjects[name].kind == Kind.ORGAN}
    for name, region in regions.items():
        subject = builder.subjects[name]
        if subject.kind == Kind.ORGAN or not subject.finding:
            continue
        _add_level(builder, name, region, regions, vertebrae)
        if not organs or not _is_orthogonal(region):
            continue
        around = _surroundings(region)
        near = {organ: part_of(other, around.box) for organ, other in organs.items()}
        near = {organ: mask for organ, mask in near.items() if mask.any()}
        containing = {organ for organ, mask in near.items() if _contains(mask, around)}
        host = _host(builder, subject, containing - set(parts), organs)
        _name_place(builder, name, host, containing & set(parts))
        _add_relations(builder, name, region, around, near, containing, parts)
        if host is not None:
            _add_depth(builder, name, region, around, near, host, parts)


def _is_orthogonal(region: Region) -> bool:
    steps = directions_mm(region.volume)
    unit = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    return bool(np.abs(unit @ unit.T - np.eye(3)).max() < _ORTHOGONAL)


def _surroundings(region: Region) -> _Surroundings:
    import SimpleITK as sitk

    spacing = np.linalg.norm(directions_mm(region.volume), axis=1)
    margin = np.maximum(np.ceil(REACH_MM / spacing), _SHELL_VOXELS + 1).astype(int)
    k, j, i = (
        slice(max(part.start - int(m), 0), min(part.stop + int(m), n))
        for part, m, n in zip(region.box, margin, region.volume.shape, strict=True)
    )
    box = (k, j, i)
    mask = part_of(region, box)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing[::-1].tolist())
    found = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    shell = sitk.BinaryDilate(image, [_SHELL_VOXELS] * 3, sitk.sitkBall)
    outside = sitk.GetArrayFromImage(shell).astype(bool) & ~mask
    return _Surroundings(box, mask, sitk.GetArrayFromImage(found), outside)


def _contains(organ: BoolArray, around: _Surroundings) -> bool:
    """Whether most of the finding, or of what surrounds it, is the organ.

    The second is for organs out of which their lesions are cut.
    """
    inside = np.count_nonzero(organ & around.mask) >= _INSIDE * np.count_nonzero(around.mask)
    shell = np.count_nonzero(around.shell)
    return bool(inside or (shell and np.count_nonzero(organ & around.shell) >= _INSIDE * shell))


def _host(builder: Builder, subject: Subject, containing: Collection[str], organs: Mapping[str, Region]) -> str | None:
    """The organ that a finding lies in: the one that its name says if it is there, else the smallest around it."""
    if not containing:
        return None
    host = min(containing, key=lambda organ: (organs[organ].voxels, organ))
    if not subject.organ:
        return host
    named = [organ for organ in containing if builder.subjects[organ].organ == subject.organ]
    if named:
        return min(named, key=lambda organ: (organs[organ].voxels, organ))
    if subject.kind != Kind.NODE and any(builder.subjects[organ].organ == subject.organ for organ in organs):
        builder.warn(
            f'"{subject.name}" lies in "{builder.subjects[host].name}" although it is called a finding of the '
            f"{subject.organ}; correct the name or the segment."
        )
    return host


def _name_place(builder: Builder, name: str, host: str | None, inside_parts: Collection[str]) -> None:
    subject = builder.subjects[name]
    place = builder.subjects[host] if host is not None else None
    part = min(inside_parts) if inside_parts else None
    lobe = builder.subjects[part] if part is not None else None
    for source in (place, lobe):
        if source is None:
            continue
        if not subject.organ:
            builder.update(name, organ=source.organ)
            subject = builder.subjects[name]
        if subject.organ == source.organ and not subject.side and is_paired(source.organ):
            builder.update(name, side=source.side)
            subject = builder.subjects[name]
    for source in (lobe, place):
        if source is not None and source.region and not subject.region and source.organ == subject.organ:
            builder.update(name, region=source.region)
            break


def _add_relations(
    builder: Builder,
    name: str,
    region: Region,
    around: _Surroundings,
    near: Mapping[str, BoolArray],
    containing: Collection[str],
    parts: Collection[str],
) -> None:
    touching = _TOUCHING * float(np.linalg.norm(directions_mm(region.volume), axis=1).min())
    for organ, mask in near.items():
        if organ in containing:
            builder.add(
                name, "inside", True, "most of its voxels, or of those around it, are the structure's", of=organ
            )
            continue
        gap = _gap(region, around, mask)
        if gap <= touching:
            builder.add(name, "adjacent", True, "no empty voxel between the two", of=organ)
        elif gap <= REACH_MM and organ not in parts:
            builder.add(name, "distance", gap, "least distance between the half-voxel surfaces", of=organ)


def _add_depth(
    builder: Builder,
    name: str,
    region: Region,
    around: _Surroundings,
    near: Mapping[str, BoolArray],
    host: str,
    parts: Collection[str],
) -> None:
    """Distance to the surface of the organ that the finding lies in (capsule, pleura), if it is within reach."""
    tissue = near[host] | around.mask
    for part in parts:
        # Lobes of the same organ may be all that is drawn of it.
        if part in near and builder.subjects[part].organ == builder.subjects[host].organ:
            tissue = tissue | near[part]
    outside = ~tissue
    if outside.any():
        gap = _gap(region, around, outside)
        if gap <= REACH_MM:
            builder.add(name, "depth", gap, "least distance to a voxel outside of the structure", of=host)


def _gap(region: Region, around: _Surroundings, other: BoolArray) -> float:
    """Distance in mm between the half-voxel surfaces of the finding and another mask of the box; 0 if they overlap."""
    masked = np.where(other, around.distance, np.inf)
    there = np.unravel_index(int(masked.argmin()), masked.shape)
    if masked[there] <= 0:
        return 0.0
    steps = directions_mm(region.volume)
    here = _outermost(around.mask)
    difference = (here - np.array(there)) @ steps
    lengths = np.linalg.norm(difference, axis=1)
    nearest = int(lengths.argmin())
    # Along the line between the two, half a voxel belongs to each.
    voxel = float(np.abs(steps @ (difference[nearest] / lengths[nearest])).max())
    return max(float(lengths[nearest]) - voxel, 0.0)


def _outermost(mask: BoolArray) -> IntArray:
    """(n, 3) indices of the outermost voxels of the mask: first and last of every line along each axis."""
    return np.concatenate([ends for axis in range(3) for ends in line_ends(mask, axis)])


def _add_level(
    builder: Builder, name: str, region: Region, regions: Mapping[str, Region], vertebrae: Mapping[str, str]
) -> None:
    """The vertebra at whose height the finding's centre lies; none if it is beyond the outermost by half a vertebra."""
    if not vertebrae:
        return
    heights = {vertebra: regions[vertebra].centroid_ras[2] for vertebra in vertebrae}
    own = region.centroid_ras[2]
    nearest = min(heights, key=lambda vertebra: abs(heights[vertebra] - own))
    if abs(heights[nearest] - own) <= anatomy().vertebra_mm["lumbar"] * 0.75:
        builder.add(name, "level", vertebrae[nearest], "vertebra nearest in height to the centre", of=nearest)
