# SPDX-License-Identifier: Apache-2.0
"""A shaded 3-D view of masks in plain numpy: rays that step through a smoothed mask until they meet its surface.

Parallel projection, no VTK, no display: for pictures on a command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .volume import Volume

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Color = tuple[float, float, float]

_FIELD_POINTS = 160  # along the longest edge of the field that the rays step through
_MARGIN = 3  # points of empty field around the mask
_LIGHT = (-0.45, 0.55, 0.75)  # from the left, above and behind the viewer: (right, up, toward the viewer)


@dataclass(frozen=True)
class Camera:
    """Looks from the patient's front, `azimuth` degrees from the patient's left and `elevation` degrees from above."""

    azimuth: float = 30.0
    elevation: float = 18.0

    @property
    def rows(self) -> FloatArray:
        """The picture's right and up, and the direction towards the viewer: (3, 3), unit vectors in RAS."""
        a, e = np.radians([self.azimuth, self.elevation])
        toward = np.array([-np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)])
        right = np.array([-np.cos(a), -np.sin(a), 0.0])
        return np.stack([right, np.cross(toward, right), toward])


@dataclass(frozen=True)
class _Field:
    """A mask as a smooth function of space: `values` on a regular RAS grid, above `level` inside."""

    values: Image  # (r, a, s)
    origin: FloatArray
    pitch: float
    level: float

    @property
    def bounds(self) -> FloatArray:
        """(2, 3) RAS mm."""
        return np.stack([self.origin, self.origin + (np.array(self.values.shape) - 1) * self.pitch])

    def at(self, ras: FloatArray) -> Image:
        return interpolate(self.values, (ras - self.origin) / self.pitch)


def render(
    volume: Volume, masks: Sequence[BoolArray], colors: Sequence[Color], size: int = 640, camera: Camera | None = None
) -> Image:
    """(size, size, 4) float32 in [0, 1], first row at the top, transparent where nothing is; empty masks are left out.

    `masks`: bool (k, j, i) of the volume's shape.
    """
    rows = (camera or Camera()).rows
    shown = [(_field(volume, mask), color) for mask, color in zip(masks, colors, strict=True) if mask.any()]
    picture = np.zeros((size, size, 4), np.float32)
    if not shown:
        return picture
    low = np.min([field.bounds[0] for field, _ in shown], axis=0)
    high = np.max([field.bounds[1] for field, _ in shown], axis=0)
    centre = (low + high) / 2
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(8, 3)
    half = float(np.abs((corners - centre) @ rows[:2].T).max())
    ticks = (np.arange(size) + 0.5) / size * 2 - 1
    across, up = np.meshgrid(ticks * half, -ticks * half)
    screen = centre + across[..., None] * rows[0] + up[..., None] * rows[1]
    nearest = np.full((size, size), -np.inf)
    for field, color in shown:
        depth, coverage = _march(field, screen.reshape(-1, 3), rows[2])
        depth, coverage = depth.reshape(size, size), coverage.reshape(size, size)
        rgb = _shade(field, screen, depth, rows, color, half)
        front = (coverage > 0) & (depth > nearest)
        alpha = np.where(front, coverage, 0)[..., None].astype(np.float32)
        picture[..., :3] = picture[..., :3] * (1 - alpha) + rgb * alpha
        picture[..., 3:] = np.maximum(picture[..., 3:], alpha)
        nearest = np.where(front & (coverage > 0.5), depth, nearest)
    # The colour of a half covered pixel was mixed with black; transparency is said once, by the fourth channel.
    picture[..., :3] /= np.maximum(picture[..., 3:], 1e-3)
    return np.clip(picture, 0, 1)


def interpolate(array: npt.NDArray[np.generic], index: FloatArray, outside: float = 0.0) -> Image:
    """Linear interpolation of a 3-D array at continuous indices (n, 3); `outside` beyond its outermost points."""
    last = np.array(array.shape) - 1
    inside = ((index >= 0) & (index <= last)).all(axis=1)
    chosen = index[inside]
    low = np.minimum(chosen.astype(np.intp), np.maximum(last - 1, 0))
    t = (chosen - low).astype(np.float32)
    flat = array.reshape(-1)
    steps = np.array([array.shape[1] * array.shape[2], array.shape[2], 1])
    base = low @ steps
    x, y, z = np.where(last > 0, steps, 0).tolist()

    def along_z(start: npt.NDArray[np.intp]) -> Image:
        near = flat[start].astype(np.float32, copy=False)
        return near + (flat[start + z] - near) * t[:, 2]

    def along_y(start: npt.NDArray[np.intp]) -> Image:
        near = along_z(start)
        return near + (along_z(start + y) - near) * t[:, 1]

    near = along_y(base)
    total = near + (along_y(base + x) - near) * t[:, 0]
    result = np.full(len(index), outside, np.float32)
    result[inside] = total
    return result


def _field(volume: Volume, mask: BoolArray) -> _Field:
    kji = np.argwhere(mask)
    low, high = np.maximum(kji.min(axis=0) - 2, 0), kji.max(axis=0) + 3
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    soft = np.pad(mask[box].astype(np.float32), 2)
    for axis in range(3):
        soft = _smooth(soft, axis, np.array([0.25, 0.5, 0.25], np.float32))
    ras = volume.kji_to_ras(kji)
    least, greatest = ras.min(axis=0), ras.max(axis=0)
    spacing = volume.spacing_mm
    pitch = max(float((greatest - least).max()) / _FIELD_POINTS, 0.4 * min(spacing), 1e-3)
    margin = max(spacing) + _MARGIN * pitch
    counts = np.ceil((greatest - least + 2 * margin) / pitch).astype(int) + 1
    origin = least - margin
    values = np.empty(counts, np.float32)
    # Slab by slab: the positions of all points at once would take several times the memory of the field.
    plane = np.stack(np.meshgrid([0.0], *(np.arange(n) * pitch for n in counts[1:]), indexing="ij"), axis=-1)
    index = volume.ras_to_kji(origin + plane.reshape(-1, 3)) - low + 2
    step = volume.ras_to_kji(origin + np.array([pitch, 0, 0])) - volume.ras_to_kji(origin)
    for n in range(counts[0]):
        values[n] = interpolate(soft, index + n * step).reshape(counts[1:])
    # Rounds off the steps between thick slices, but never by more than a small part of the whole.
    sigma = min(0.45 * max(spacing), 0.03 * float((greatest - least).max())) / pitch
    if sigma > 0.3:
        taps = np.arange(-int(np.ceil(2.5 * sigma)), int(np.ceil(2.5 * sigma)) + 1)
        kernel = np.exp(-0.5 * (taps / sigma) ** 2)
        for axis in range(3):
            values = _smooth(values, axis, (kernel / kernel.sum()).astype(np.float32))
    # The level that encloses the mask's own volume: thin structures, which smoothing pales, stay whole.
    wanted = int(len(kji) * volume.voxel_volume_ml * 1000 / pitch**3)
    ordered = np.sort(values[values > 0.05])
    level = float(ordered[-min(max(wanted, 1), len(ordered))]) if len(ordered) else 0.5
    return _Field(values, origin, pitch, float(np.clip(level, 0.12, 0.5)))


def _smooth(values: Image, axis: int, kernel: Image) -> Image:
    """Convolution along one axis, zero beyond the ends."""
    reach = len(kernel) // 2
    padded = np.pad(values, [(reach, reach) if a == axis else (0, 0) for a in range(3)])
    length = values.shape[axis]
    out = np.zeros_like(values)
    for n, weight in enumerate(kernel):
        out += weight * padded[tuple(slice(n, n + length) if a == axis else slice(None) for a in range(3))]
    return out


def _march(field: _Field, screen: FloatArray, toward: FloatArray) -> tuple[FloatArray, Image]:
    """Of each ray, (n,): depth of its first surface point in mm towards the viewer; share of the pixel it covers."""
    low, high = field.bounds
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (low - screen) / toward, (high - screen) / toward
    start, stop = np.maximum(a, b).min(axis=1), np.minimum(a, b).max(axis=1)
    depth = np.full(len(screen), -np.inf)
    peak = np.zeros(len(screen), np.float32)
    free = _free_steps(field.values >= 0.5 * field.level)
    last = np.array(free.shape) - 1
    active = np.flatnonzero(start > stop)
    t, before, step = start[active], np.zeros(len(active), np.float32), np.zeros(len(active))
    while len(active):
        index = (screen[active] + t[:, None] * toward - field.origin) / field.pitch
        now = interpolate(field.values, index)
        hit = now >= field.level
        higher = now > peak[active]
        depth[active[higher]] = t[higher]
        peak[active[higher]] = now[higher]
        back = (now - field.level)[hit] / np.maximum((now - before)[hit], 1e-6)
        depth[active[hit]] = t[hit] + np.clip(back, 0, 1) * step[hit]
        i, j, k = np.clip(np.rint(index).astype(np.intp), 0, last).T
        step = np.maximum(free[i, j, k] - 1.5, 0.8) * field.pitch
        t = t - step
        going = ~hit & (t > stop[active])
        active, t, before, step = active[going], t[going], now[going], step[going]
    # A ray that just misses passes through the fringe of the field: that makes a soft outline instead of stairs.
    fringe = 0.25 * field.level
    return depth, np.clip((peak - field.level) / fringe + 1, 0, 1).astype(np.float32)


def _free_steps(occupied: BoolArray, most: int = 24) -> npt.NDArray[np.uint8]:
    """For each point the grid steps, diagonal ones too, to the nearest occupied point; `most` stands for more."""
    steps = np.zeros(occupied.shape, np.uint8)
    grown = occupied
    for _ in range(most):
        if grown.all():
            break
        steps += ~grown
        for axis in range(3):
            ahead = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
            behind = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
            wider = grown.copy()
            wider[ahead] |= grown[behind]
            wider[behind] |= grown[ahead]
            grown = wider
    return steps


def _shade(field: _Field, screen: FloatArray, depth: FloatArray, rows: FloatArray, color: Color, half: float) -> Image:
    seen = np.isfinite(depth)
    points = screen[seen] + depth[seen][:, None] * rows[2]
    h = 1.2 * field.pitch
    gradient = np.stack([field.at(points - h * axis) - field.at(points + h * axis) for axis in rows], axis=1)
    normal = gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)
    light = np.array(_LIGHT) / np.linalg.norm(_LIGHT)
    halfway = light + np.array([0, 0, 1])
    diffuse = np.clip(normal @ light, 0, 1)
    shine = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1) ** 24
    facing = np.clip(normal[:, 2], 0, 1)
    brightness = 0.22 + 0.72 * diffuse + 0.12 * facing
    brightness *= _openness(depth, seen, half)[seen]
    rgb = np.zeros((*depth.shape, 3), np.float32)
    rgb[seen] = brightness[:, None] * np.array(color) + 0.18 * shine[:, None]
    return rgb


def _openness(depth: FloatArray, seen: BoolArray, half: float) -> FloatArray:
    """Below 1 where the surface lies deeper than its surroundings, as in a groove, which little light reaches."""
    filled = np.where(seen, depth, depth[seen].min() if seen.any() else 0.0)
    weight = seen.astype(np.float64)
    reach = max(2, depth.shape[0] // 40)
    around = _box_mean(_box_mean(filled * weight, reach), reach)
    around /= np.maximum(_box_mean(_box_mean(weight, reach), reach), 1e-6)
    result: FloatArray = 1 - 0.55 * np.clip((around - filled) / (0.12 * half), 0, 1)
    return result


def _box_mean(image: FloatArray, reach: int) -> FloatArray:
    for axis in range(2):
        padded = np.pad(image, [(reach + 1, reach) if a == axis else (0, 0) for a in range(2)], mode="edge")
        total = np.cumsum(padded, axis=axis)
        n = image.shape[axis]
        upper, lower = np.arange(n) + 2 * reach + 1, np.arange(n)
        image = (np.take(total, upper, axis) - np.take(total, lower, axis)) / (2 * reach + 1)
    return image
