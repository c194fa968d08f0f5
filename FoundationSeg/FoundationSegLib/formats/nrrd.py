# SPDX-License-Identifier: Apache-2.0
"""Reading NRRD (.nrrd, .nhdr): the header here, since ITK repairs some of what it should refuse, the voxels by ITK."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import VolumeError
from ..volume import (
    FloatArray,
    check_spacing,
    checked_matrix,
    components_error,
    dimension_error,
    lps_matrix_to_ras,
)
from .raw import RawVolume, modality_from_metadata
from .sitk_files import read_image

_MAX_HEADER_LINE = 1 << 20
# Sign of each axis of a NRRD space in LPS.
_SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_VALUE_KINDS = {"list", "vector", "point", "normal", "complex", "quaternion"}


def read_nrrd(path: Path) -> RawVolume:
    """A NRRD file's voxels and geometry; VolumeError if it is damaged or does not hold one scalar 3-D image."""
    fields, keys = nrrd_header(path)
    _check_axes(fields)
    matrix, warnings = _geometry(fields)
    import SimpleITK as sitk

    array = sitk.GetArrayFromImage(read_image(path, "NrrdImageIO"))
    return RawVolume(array, matrix, modality_from_metadata(keys), warnings)


def nrrd_header(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """A NRRD header's fields ("field: value", names in lower case) and its free keys ("key:=value")."""
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    with path.open("rb") as file:
        file.readline()
        while line := file.readline(_MAX_HEADER_LINE).decode("utf-8", "replace").rstrip("\r\n"):
            if line.startswith("#"):
                continue
            name, colon, value = line.partition(":")
            if not colon:
                raise VolumeError("The NRRD header is damaged; copy or export the file again.")
            if value.startswith("="):
                keys[name] = value[1:]
            else:
                fields[name.strip().lower()] = value.strip()
    return fields, keys


def _check_axes(fields: dict[str, str]) -> None:
    kinds = fields.get("kinds", "").lower().split()
    if any(kind in _VALUE_KINDS or kind.endswith(("-color", "-vector", "-matrix")) for kind in kinds):
        raise components_error()
    dimension = fields.get("dimension", "")
    if dimension != "3":
        raise dimension_error(int(dimension) if dimension.isdigit() else 0)


def _geometry(fields: dict[str, str]) -> tuple[FloatArray, tuple[str, ...]]:
    """IJK to RAS mm, and what was doubtful about it."""
    space = fields.get("space", "").lower()
    try:
        if "space directions" in fields:
            directions = np.array(
                [_vector(text) for text in re.findall(r"\([^)]*\)|none", fields["space directions"])]
            ).T
            origin = np.array(_vector(fields.get("space origin", "(0, 0, 0)")))
        else:
            spacings = np.array([float(number) for number in fields.get("spacings", "1 1 1").split()])
            check_spacing(spacings)
            directions, origin = np.diag(spacings), np.zeros(3)
        signs = np.array(_SPACES.get(space, (1, 1, 1)))
        matrix = checked_matrix(lps_matrix_to_ras(directions * signs[:, np.newaxis], origin * signs))
    except ValueError as error:
        raise VolumeError(
            "The NRRD header does not give three directions and an origin of three numbers each; correct the header."
        ) from error
    if space in _SPACES:
        return matrix, ()
    return matrix, (
        "The NRRD file does not say how the image lies in the patient: LPS is assumed, left and right may be swapped.",
    )


def _vector(text: str) -> list[float]:
    """Three numbers from "(a,b,c)"; ValueError for anything else, "none" included."""
    numbers = [float(number) for number in text.strip("()").split(",")]
    if len(numbers) != 3:
        raise ValueError(text)
    return numbers
