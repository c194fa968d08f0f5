# SPDX-License-Identifier: Apache-2.0
"""Facts about the image: modality, geometry of acquisition, contrast, technique. Never "found" by a model."""

from __future__ import annotations

import numpy as np
from FoundationSegLib.volume import Volume

from .builder import Builder
from .header import ImageHeader
from .quantities import EXTENT_AXES
from .region import directions_mm, plane_distance_mm, plane_name, slice_axis
from .subjects import IMAGE_ID

_THICK_MM = 5.0


def add_technique(builder: Builder, volume: Volume, modality: str, header: ImageHeader | None) -> None:
    """Facts of the subject "image"."""
    axis = slice_axis(volume)
    spacing = np.delete(np.linalg.norm(directions_mm(volume), axis=1), axis)
    geometry = "geometry of the image"

    def add(quantity: str, value: float | int | str | bool, of: str = "") -> None:
        builder.add(IMAGE_ID, quantity, value, geometry, of=of, by="header")

    if modality:
        builder.add(IMAGE_ID, "modality", modality, "header", by="header")
    add("plane", plane_name(volume, axis))
    add("slice_spacing", plane_distance_mm(volume, axis))
    add("pixel_spacing", float(spacing.max()))
    add("slices", volume.shape[axis])
    for name, length in zip(EXTENT_AXES, (volume.bounds_ras[1] - volume.bounds_ras[0]).tolist(), strict=True):
        add("field_of_view", length, name)
    if header is not None:
        _add_header(builder, header)
    thickness = header.slice_thickness_mm if header is not None else None
    if thickness is None:
        # Where no header states it, the distance of the slices is all that is known, and is what limits small findings.
        thickness = plane_distance_mm(volume, axis)
        builder.add(
            IMAGE_ID, "slice_thickness", thickness, "distance between the slices; no header states it", by="header"
        )
    if thickness > _THICK_MM:
        builder.warn(
            f"Slices are {thickness:.1f} mm thick; RECIST 1.1 asks for lesions of at least twice that thickness, and "
            "smaller ones may be missed or mismeasured."
        )


def _add_header(builder: Builder, header: ImageHeader) -> None:
    stated = {
        "slice_thickness": header.slice_thickness_mm,
        "contrast": header.contrast,
        "phase": header.phase,
        "body_part": header.body_part,
        "sequence": header.sequence,
        "kernel": header.kernel,
        "tube_voltage": header.tube_voltage_kv,
        "field_strength": header.field_strength_t,
    }
    for quantity, value in stated.items():
        if value:
            by = "human" if quantity in header.stated else header.by
            builder.add(IMAGE_ID, quantity, value, "header" if by == "header" else "stated", by=by)
