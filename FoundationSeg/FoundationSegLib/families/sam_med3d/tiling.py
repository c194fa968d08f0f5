# SPDX-License-Identifier: Apache-2.0
"""Regions of one fixed size and spacing that together look at a structure of any size.

All tiles of a volume share one lattice of grid points, counted from the volume's middle (the same place however the
volume is stored), so that their logits add up without interpolation. A tile's `place` is the offset of its centre from
the middle in grid points, (z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...predictor import Array
from ...region import Box3, CanonicalFrame, Region

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Place = tuple[int, int, int]
# What has not been looked at is not part of the structure.
UNSEEN_LOGIT = -8.0


@dataclass(frozen=True)
class TilePolicy:
    """How the tiles follow the structure."""

    spacing_mm: float = 1.5  # between grid points, as in training
    lattice: int = 16  # grid points between places of first tiles: half of it is the most that a click is off-centre
    touch: int = 9  # grid points of the mask on an open face from which the structure is followed beyond it
    most_tiles: int = 12  # per segment; later clicks may add more
    # Logits between the grid points (smooth borders), or the nearest grid point's answer as in the original's tools.
    voxels: Literal["linear", "nearest"] = "linear"


@dataclass(frozen=True)
class Tile:
    """What the model said of one region.

    Attributes:
        logits: as they came out of the network, (mask_size,) * 3, axes (z, y, x): the next step's mask prompt.
        predicted_iou: in [0, 1].
    """

    place: Place
    logits: Array
    predicted_iou: float


@dataclass(frozen=True)
class Lattice:
    """Where tiles of `size`^3 grid points can lie in a volume."""

    frame: CanonicalFrame
    size: int
    policy: TilePolicy

    @property
    def side(self) -> float:
        """Length of a tile's edge in mm."""
        return self.size * self.policy.spacing_mm

    @property
    def middle(self) -> FloatArray:
        return (np.array(self.frame.shape) - 1) / 2 * np.array(self.frame.spacing)

    @property
    def reach(self) -> npt.NDArray[np.int64]:
        """The largest place (3,) that is of use: where the tile reaches the volume's outer face."""
        room = np.maximum((self.frame.extent_mm - self.side) / 2, 0) / self.policy.spacing_mm
        return np.ceil(np.round(room, 6)).astype(np.int64)

    def around(self, position: npt.ArrayLike) -> Place:
        """The place whose centre is next to a canonical position in mm, not beyond the volume where that can be."""
        step = self.policy.lattice
        offset = np.round((np.asarray(position) - self.middle) / (step * self.policy.spacing_mm), 6)
        # Half-way offsets go outwards on both sides, so that a flipped volume has the same tiles.
        return self._clipped(np.sign(offset) * np.floor(np.abs(offset) + 0.5) * step)

    def beside(self, place: Place, axis: int, direction: int) -> Place:
        """The place half a tile further along an axis (`direction` 1 or -1), or as far as the volume goes."""
        moved = np.array(place)
        moved[axis] += direction * (self.size // 2)
        return self._clipped(moved)

    def region(self, place: Place) -> Region:
        z, y, x = (self.middle + np.array(place) * self.policy.spacing_mm).tolist()
        return Region((z, y, x), self.policy.spacing_mm, self.size)

    def covering(self, bounds: FloatArray) -> list[Place]:
        """Places that overlap by half and hold canonical bounds (2, 3) in mm."""
        axes = []
        for low, high in bounds.T:
            inner = 0.375 * self.side
            count = (
                max(1, int(np.ceil((high - low - 2 * inner) / (self.side / 2))) + 1) if high - low > 2 * inner else 1
            )
            axes.append([(low + high) / 2] if count == 1 else np.linspace(low + inner, high - inner, count).tolist())
        centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        return list(dict.fromkeys(self.around(centre) for centre in centres))

    def ends(self, place: Place, axis: int, direction: int) -> bool:
        """Does the volume end with this face of the tile?"""
        return self.beside(place, axis, direction) == place

    def _clipped(self, place: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> Place:
        z, y, x = np.clip(place, -self.reach, self.reach).astype(int).tolist()
        return z, y, x


@dataclass(frozen=True)
class Canvas:
    """The logits of several tiles put together. Element (0, 0, 0) lies where that of a tile at `start` would.

    Attributes:
        logits: (z, y, x); UNSEEN_LOGIT where no tile lies.
        seen: whether a tile lies there.
    """

    lattice: Lattice
    start: Place
    logits: Array
    seen: BoolArray

    @classmethod
    def of(cls, lattice: Lattice, tiles: Mapping[Place, Array]) -> Canvas:
        """From the tiles' logits (size, size, size) by place.

        Where tiles overlap their logits are averaged with weights that fall towards each tile's faces: near a face a
        model sees the least of what is around.
        """
        size = lattice.size
        if len(tiles) == 1:
            ((place, logits),) = tiles.items()
            return cls(lattice, place, logits, np.ones(logits.shape, bool))
        places = np.array(list(tiles))
        low, shape = places.min(0), np.ptp(places, axis=0) + size
        total, weights = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        ramp = np.minimum(np.arange(size) + 0.5, size - 0.5 - np.arange(size)).astype(np.float32)
        weight = ramp[:, None, None] * ramp[:, None] * ramp
        for place, logits in tiles.items():
            where = tuple(slice(a, a + size) for a in np.array(place) - low)
            total[where] += weight * logits
            weights[where] += weight
        seen = weights > 0
        logits = np.where(seen, total / np.where(seen, weights, 1), np.float32(UNSEEN_LOGIT))
        z, y, x = low.tolist()
        return cls(lattice, (z, y, x), logits, seen)

    @property
    def region(self) -> Region:
        """A cube with the same grid points: that of the canvas, continued to its longest edge."""
        first = self.lattice.region(self.start)
        size = max(self.logits.shape)
        z, y, x = (first.origin + (size - 1) / 2 * first.spacing).tolist()
        return Region((z, y, x), first.spacing, size)

    @property
    def bounds(self) -> FloatArray:
        """(2, 3) canonical mm of the outer faces."""
        origin, spacing = self.region.origin, self.lattice.policy.spacing_mm
        return np.stack([origin, origin + np.array(self.logits.shape) * spacing]) - spacing / 2

    def voxel_box(self) -> Box3:
        """The canonical voxels whose centres lie in it."""
        return self.region.voxel_box(self.lattice.frame, self.bounds)

    def on_tile(self, values: npt.NDArray[Any], place: Place, outside: float) -> npt.NDArray[Any]:
        """The part of an array of the canvas's shape that lies in a tile (size, size, size)."""
        size = self.lattice.size
        out = np.full((size,) * 3, outside, values.dtype)
        here, there = [], []
        for axis in range(3):
            shift = place[axis] - self.start[axis]
            first, last = max(0, -shift), min(size, values.shape[axis] - shift)
            if last <= first:
                return out
            here.append(slice(first, last))
            there.append(slice(first + shift, last + shift))
        out[tuple(here)] = values[tuple(there)]
        return out

    def open_faces(self, mask: BoolArray, places: Iterable[Place]) -> list[tuple[int, Place]]:
        """Where a mask of the canvas's shape meets the edge of what was seen although the volume goes on.

        Returns:
            (grid points of the mask there, place of the tile that would show what lies beyond), the largest first.
        """
        found: dict[Place, int] = {}
        size, lattice = self.lattice.size, self.lattice
        for place in places:
            shift = [a - b for a, b in zip(place, self.start, strict=True)]
            for axis in range(3):
                for direction in (-1, 1):
                    if lattice.ends(place, axis, direction):
                        continue
                    plane = shift[axis] + (size - 1 if direction > 0 else 0)
                    face = [slice(a, a + size) for a in shift]
                    face[axis] = slice(plane, plane + 1)
                    touching = mask[tuple(face)]
                    beyond = plane + direction
                    if 0 <= beyond < mask.shape[axis]:
                        face[axis] = slice(beyond, beyond + 1)
                        touching = touching & ~self.seen[tuple(face)]
                    if count := int(np.count_nonzero(touching)):
                        wanted = lattice.beside(place, axis, direction)
                        found[wanted] = max(count, found.get(wanted, 0))
        return sorted(((count, place) for place, count in found.items()), key=lambda item: (-item[0], item[1]))
