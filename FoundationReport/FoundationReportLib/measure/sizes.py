# SPDX-License-Identifier: Apache-2.0
"""Facts about one region: volume, diameters, extents, intensity, uptake."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..model import Kind
from .axes import axes_of
from .builder import Builder
from .extents import diameter_3d, extents_ras
from .header import ImageHeader
from .intensity import FAT_HU, share_between, statistics
from .quantities import BQ_ML, EXTENT_AXES, HU, ONE
from .region import Region, region_at
from .suv import SuvScale, uptake

# A second part of this share of the largest one makes the diameters of a segment questionable.
_NOTABLE_PART = 0.1


def add_sizes(builder: Builder, subject: str, region: Region) -> None:
    """Volume, extents and diameters. Nobody reports axial diameters of a liver, or of an effusion."""
    kind, name = builder.subjects[subject].kind, builder.subjects[subject].name
    diffuse = kind == Kind.OTHER and bool(builder.subjects[subject].finding)
    builder.add(
        subject, "volume", region.volume_ml, "number of voxels times their volume", points=[region.centroid_ras]
    )
    for axis, length in zip(EXTENT_AXES, extents_ras(region), strict=True):
        builder.add(subject, "extent", length, "box around the voxels along the body's axes", of=axis)
    whole = diameter_3d(region)
    builder.add(
        subject, "max_diameter_3d", whole.length, "largest distance of the half-voxel surface", points=whole.ends
    )
    if kind == Kind.ORGAN or diffuse:
        return
    sizes = part_sizes(region)
    scattered = len(sizes) > 1 and sizes[1] >= _NOTABLE_PART * sizes[0]
    # From one part to another would be no diameter of anything.
    axes = axes_of(split_parts(region, region.volume_ml)[0] if scattered else region)
    method = f"{axes.method}, of the largest of {len(sizes)} separate parts" if scattered else axes.method
    if axes.plane != "axial":
        builder.warn(
            f"The image was acquired in {axes.plane} planes, so the diameters of lesions were measured in these and "
            "not in axial ones."
        )
    long = builder.add(subject, "long_axis", axes.long_mm, method, slice_k=axes.slice_k, points=axes.long_ends)
    short = builder.add(
        subject,
        "short_axis",
        axes.short_mm,
        f"{method}, at right angles to the longest diameter",
        slice_k=axes.slice_k,
        points=axes.short_ends,
        because=[long],
    )
    both = (long, short)
    mean = (axes.long_mm + axes.short_mm) / 2
    builder.add(subject, "mean_diameter", mean, "mean of the two axial diameters", because=both)
    product = axes.long_mm * axes.short_mm
    builder.add(subject, "bidimensional_product", product, "product of the two axial diameters", because=both)
    builder.add(subject, "parts", len(sizes), "voxels that touch at faces, edges or corners")
    if scattered:
        builder.warn(
            f'Segment "{name}" consists of {len(sizes)} separate parts: its volume is of all of them, its diameters '
            "are of the largest; if each is a lesion of its own, draw each as a segment or give the segment a name in "
            "the plural."
        )


def add_intensities(builder: Builder, subject: str, region: Region, modality: str, header: ImageHeader | None) -> None:
    """Statistics of the voxels' values, in HU for CT, Bq/mL for PET that says so, else in arbitrary units."""
    values = region.values(region.volume.array)
    found = statistics(values)
    unit = HU if modality == "CT" else ONE
    if modality == "PT" and header is not None and header.pet is not None and header.pet.units == "BQML":
        unit = BQ_ML
    for quantity, value in found._asdict().items():
        builder.add(subject, quantity, float(value), "intensities of the segment's voxels", unit=unit)
    if modality == "CT" and builder.subjects[subject].kind == Kind.LESION:
        low, high = FAT_HU
        share = share_between(values, low, high)
        builder.add(subject, "fat_percent", share, f"share of voxels from {low:g} to {high:g} HU")


def add_uptake(builder: Builder, subject: str, region: Region, scale: SuvScale) -> None:
    """SUV and what is derived from it."""
    found = uptake(region, scale)
    builder.add(subject, "suv_max", found.max, scale.method, points=[found.max_at])
    builder.add(subject, "suv_mean", found.mean, scale.method)
    if found.peak is not None:
        share = f", {100 * found.peak_outside:.0f}% of it outside the segment" if found.peak_outside >= 0.005 else ""
        builder.add(subject, "suv_peak", found.peak, f"largest mean in a sphere of 1 cm3{share}; {scale.method}")
        if found.peak > found.max:
            builder.warn(
                f'SUVpeak of "{builder.subjects[subject].name}" is above its SUVmax: the sphere of 1 cm3 reaches '
                "beyond the segment to higher uptake; see whether it was drawn too small."
            )
    if builder.subjects[subject].kind != Kind.ORGAN:
        mtv = builder.add(subject, "mtv", found.mtv_ml, f"voxels from 41% of SUVmax on; {scale.method}")
        builder.add(subject, "tlg", found.tlg_g, "metabolic volume times its mean SUV", because=[mtv])


def part_labels(region: Region) -> npt.NDArray[np.uint32]:
    """The region's connected parts, (k, j, i) of its box: 1 for the largest, 2 for the next, ...; 0 elsewhere."""
    import SimpleITK as sitk

    found = sitk.ConnectedComponent(sitk.GetImageFromArray(region.mask.astype(np.uint8)), True)
    labels: npt.NDArray[np.uint32] = sitk.GetArrayFromImage(sitk.RelabelComponent(found, sortByObjectSize=True))
    return labels


def part_sizes(region: Region) -> list[int]:
    """Numbers of voxels of the region's connected parts, the largest first."""
    return [int(n) for n in np.bincount(part_labels(region).ravel())[1:]]


def split_parts(region: Region, least_ml: float) -> list[Region]:
    """One region for each connected part of at least that volume, the largest first; always at least one."""
    labels = part_labels(region)
    regions = []
    for number, size in enumerate(np.bincount(labels.ravel())[1:].tolist(), start=1):
        if number > 1 and size * region.volume.voxel_volume_ml < least_ml:
            break
        part = region_at(region.volume, labels == number, tuple(part.start for part in region.box))
        assert part is not None
        regions.append(part)
    return regions
