# SPDX-License-Identifier: Apache-2.0
"""From the positions of parallel slices to the order and the matrix of a volume."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from ..volume import FloatArray, checked_matrix, lps_matrix_to_ras

# Two images count as one position when they are nearer than this part of the usual distance.
_SAME_POSITION = 0.01
# A distance above this many usual ones means that images are missing.
_GAP = 1.5
# Deviation from even spacing, as a part of the distance: silent up to the first, refused beyond the second.
_SILENT_UNEVENNESS, _MAX_UNEVENNESS = 0.01, 0.1
# What rounding in headers does to a position (mm) and to the direction of the stack (degrees).
_ROUNDING_MM = 0.01
_ROUNDING_DEGREES = 0.1


class Stack(NamedTuple):
    """How slices make a volume: indices of the slices from k = 0 on, IJK to RAS mm, what was unusual."""

    order: npt.NDArray[np.intp]
    ijk_to_ras: FloatArray
    warnings: tuple[str, ...]


def stack_slices(
    positions: npt.ArrayLike, row: npt.ArrayLike, column: npt.ArrayLike, pixel_spacing: tuple[float, float]
) -> Stack:
    """Order slices along their normal, and place them exactly where they are (a tilted gantry gives a sheared matrix).

    Args:
        positions: (n, 3) LPS mm, centre of each slice's first pixel.
        row: LPS direction in which the column index i grows; column: that in which the row index j grows.
        pixel_spacing: mm between rows, then between columns, as DICOM has it.

    Raises:
        VolumeError: if there are fewer than two slices, two at one position, some missing, or they are unevenly spaced.
    """
    points = np.asarray(positions, dtype=np.float64)
    i_axis, j_axis = _unit(row), _unit(column)
    normal = _unit(np.cross(i_axis, j_axis))
    depths = points @ normal
    order = np.argsort(depths, kind="stable")
    points, depths = points[order], depths[order]
    if len(points) < 2:
        raise VolumeError("There is only one image in the series, which is no volume; choose the whole series.")
    _check_distances(depths)
    step = (points[-1] - points[0]) / (len(points) - 1)
    warnings = [*_unevenness(points, step), *_tilt(step, normal)]
    directions = np.column_stack([i_axis * pixel_spacing[1], j_axis * pixel_spacing[0], step])
    return Stack(order, checked_matrix(lps_matrix_to_ras(directions, points[0])), tuple(warnings))


def _unit(vector: npt.ArrayLike) -> FloatArray:
    array = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(array))
    if not length > 0:
        raise VolumeError("The DICOM images have no valid orientation; export the series again.")
    return array / length


def _check_distances(depths: FloatArray) -> None:
    distances = np.diff(depths)
    usual = float(np.median(distances))
    nearest = int(np.argmin(distances))
    if distances[nearest] <= max(_SAME_POSITION * usual, 1e-6):
        count = int(np.count_nonzero(distances <= max(_SAME_POSITION * usual, 1e-6)))
        raise VolumeError(
            f"{count} of the {len(depths)} DICOM images lie at the position of another one (first at "
            f"{depths[nearest]:.2f} mm along the slice normal), so the series holds several volumes (time points, "
            "echoes, ...); split it and choose one."
        )
    widest = int(np.argmax(distances))
    if distances[widest] > _GAP * usual:
        missing = int(np.sum(np.round(distances / usual) - 1))
        raise VolumeError(
            f"About {missing} DICOM images are missing, the first between {_first_gap(depths, usual)} mm along the "
            f"slice normal (usual distance {usual:.2f} mm); copy the whole series again."
        )


def _first_gap(depths: FloatArray, usual: float) -> str:
    index = int(np.argmax(np.diff(depths) > _GAP * usual))
    return f"{depths[index]:.2f} and {depths[index + 1]:.2f}"


def _unevenness(points: FloatArray, step: FloatArray) -> list[str]:
    deviations = np.linalg.norm(points - (points[0] + np.outer(np.arange(len(points)), step)), axis=1)
    worst = float(deviations.max())
    distance = float(np.linalg.norm(step))
    if worst > max(_MAX_UNEVENNESS * distance, _ROUNDING_MM):
        raise VolumeError(
            f"The DICOM images are unevenly spaced (up to {worst:.2f} mm off a regular distance of {distance:.2f} mm); "
            "choose a series with even spacing."
        )
    if worst > max(_SILENT_UNEVENNESS * distance, _ROUNDING_MM):
        return [f"The DICOM images are up to {worst:.2f} mm off regular distances of {distance:.2f} mm."]
    return []


def _tilt(step: FloatArray, normal: FloatArray) -> list[str]:
    along = float(step @ normal)
    across = float(np.linalg.norm(step - along * normal))
    degrees = float(np.degrees(np.arctan2(across, along)))
    if degrees <= _ROUNDING_DEGREES:
        return []
    return [
        f"The gantry was tilted by {degrees:.1f} degrees; the volume is sheared accordingly, so positions are exact."
    ]
