# SPDX-License-Identifier: Apache-2.0
"""Masks of slices as one solid: what hangs together with the prompts, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from ..cues import inside_box
from .layout import Layout
from .plane import bounds_of
from .protocol import BoolArray
from .spread import SliceState

Corner = tuple[int, int, int]
# Of a prompted slice, the pieces that are at least this share of its mask count as meant.
_PIECE = 0.1
_AROUND = 8  # pixels beyond masks and prompts that count as looked at


def joined(states: Mapping[int, SliceState], layout: Layout, anchors: Iterable[int]) -> tuple[Corner, BoolArray] | None:
    """The solid (slices, rows, columns) around all masks and its corner; None without a filled slice.

    Kept are the components (neighbours share an edge or a face) that a positive point touches, or, where a slice was
    prompted without one, those that hold a piece of its mask; all of them, if prompts touch none.
    """
    import cc3d

    masks = {number: state.mask for number, state in states.items() if state.filled}
    if not masks:
        return None
    rects = np.array([bounds_of(mask) for mask in masks.values()]).astype(int)
    (top, left), (bottom, right) = rects[:, :2].min(0).tolist(), rects[:, 2:].max(0).tolist()
    first, last = min(masks), max(masks)
    block = np.zeros((last - first + 1, bottom - top + 1, right - left + 1), bool)
    for number, mask in masks.items():
        block[number - first] = mask[top : bottom + 1, left : right + 1]
    corner = (first, top, left)
    labels = cc3d.connected_components(block.astype(np.uint8), connectivity=18)
    kept = _touched(labels, corner, layout)
    for number in anchors:
        prompts = layout.slices.get(number)
        if number in masks and (prompts is None or not (prompts.labels == 1).any()):
            counts = np.bincount(labels[number - first].ravel())
            counts[0] = 0
            kept |= set(np.flatnonzero(counts > _PIECE * counts.sum()).tolist())
    return corner, np.isin(labels, sorted(kept)) if kept else block


def _touched(labels: npt.NDArray[np.generic], corner: Corner, layout: Layout) -> set[int]:
    """The components that a positive point meets, or misses by no more than a voxel."""
    found: set[int] = set()
    numbers, pixels = layout.plane.locate(layout.positives)
    places = np.rint(np.column_stack([numbers, pixels])).astype(int) - corner
    for place in places:
        low, high = np.maximum(place - 1, 0), np.maximum(place + 2, 0)
        found |= set(np.unique(labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]).tolist())
    return found - {0}


def without(block: BoolArray, corner: Corner, layout: Layout) -> BoolArray:
    """The block less what negative boxes exclude."""
    if not layout.exclusions:
        return block
    plane = layout.plane
    rows, columns = (axis for axis in range(3) if axis != plane.axis)
    height, width = plane.geometry.shape
    index = np.empty((*block.shape, 3))
    index[..., plane.axis] = (corner[0] + np.arange(block.shape[0]))[:, None, None]
    index[..., rows] = (height - 1 - corner[1] - np.arange(block.shape[1]))[None, :, None]
    index[..., columns] = (width - 1 - corner[2] - np.arange(block.shape[2]))[None, None, :]
    positions = index * np.array(plane.frame.spacing)
    for exclusion in layout.exclusions:
        block = block & ~inside_box(exclusion, positions)
    return block


def looked_at(states: Mapping[int, SliceState], layout: Layout) -> tuple[Corner, Corner]:
    """Corner and size (slices, rows, columns) of what the model looked at: around masks and prompts."""
    height, width = layout.plane.geometry.shape
    rects = [rect for state in states.values() if (rect := bounds_of(state.mask)) is not None]
    for prompts in layout.slices.values():
        rects += [(row, column, row, column) for row, column in prompts.points.tolist()]
        rects += [prompts.box] if prompts.box is not None else []
    numbers = [*states, *layout.slices]
    if not rects:
        return (0, 0, 0), (0, 0, 0)
    array = np.array(rects)
    low = np.clip(np.floor(array[:, :2].min(0)).astype(int) - _AROUND, 0, [height - 1, width - 1])
    high = np.clip(np.ceil(array[:, 2:].max(0)).astype(int) + _AROUND, 0, [height - 1, width - 1])
    (top, left), (rows, columns) = low.tolist(), (high - low + 1).tolist()
    return (min(numbers), top, left), (max(numbers) - min(numbers) + 1, rows, columns)
