# SPDX-License-Identifier: Apache-2.0
"""From prompts in space to prompts on slices: which plane, which slices, which pixels, and how far to follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...cues import Cues
from ...predictor import GridBox
from ...region import CanonicalFrame
from .frames import Stack
from .memory import Prompted

FloatArray = npt.NDArray[np.float64]
_MASK_SLICES = 7  # of a given mask that are remembered; the network attends to seven memories


def choose_axis(cues: Cues, masks: Sequence[npt.NDArray[np.bool_]], frame: CanonicalFrame) -> int:
    """The canonical axis across which slices are taken: 0 axial, 1 coronal, 2 sagittal.

    Prompts that lie in one slice (a flat box, an outline, clicks on one picture, a mask of one slice) choose its plane.
    Otherwise the slices are those that were acquired, where they are at least twice as thick as their pixels, and else
    axial.
    """
    extents = [2 * _reach(box) / frame.spacing for box in cues.boxes]
    if not extents and len(cues.positions) > 1:
        extents = [np.ptp(cues.positions, axis=0) / frame.spacing]
    for mask in masks:
        filled = np.argwhere(frame.canonical_view(mask))
        extents.append(np.ptp(filled, axis=0).astype(np.float64))
    if extents:
        extent = np.max(extents, axis=0)
        flat = np.flatnonzero(extent < 1.001)  # the box of one slice is one slice deep
        if len(flat) == 1:
            return int(flat[0])
    spacing = np.array(frame.spacing)
    thickest = int(np.argmax(spacing))
    return thickest if spacing[thickest] >= 2 * np.median(spacing) else 0


@dataclass(frozen=True)
class SlicePrompts:
    """Prompts by slice, and the slices (first, behind the last) that are followed at most."""

    by_slice: dict[int, Prompted]
    starts: frozenset[int]  # slices on which the structure itself is marked, not only what it is not
    first: int
    stop: int


def slice_prompts(cues: Cues, masks: Sequence[npt.NDArray[np.bool_]], stack: Stack, size: int) -> SlicePrompts:
    """All cues on the slices of a stack, in pixels of a `size` x `size` picture.

    A box becomes a rectangle on its middle slice, given by the first and the last pixel inside as in the original, and
    its depth limits how far the structure is followed; a box of one slice does not. Clicks lie on the nearest slice. A
    mask is given whole on at most seven of its slices, evenly spread.
    """
    rows, columns = stack.size
    scale = np.array([size / columns, size / rows])
    rectangles: dict[int, FloatArray] = {}
    spans: list[tuple[int, int]] = []
    for box in cues.boxes:
        key, span, rectangle = _on_slice(box, stack)
        spans += [span] if span is not None else []
        known = rectangles.get(key, rectangle)
        rectangles[key] = np.stack([np.minimum(known[0], rectangle[0]), np.maximum(known[1], rectangle[1])])
    at, pixels = stack.place(cues.positions)
    indices = np.clip(np.rint(at), 0, stack.count - 1).astype(int)
    starts = set(rectangles) | set(indices[cues.labels == 1].tolist())
    by_slice: dict[int, Prompted] = {}
    for index in sorted({*rectangles, *indices.tolist()}):
        here = indices == index
        corners = rectangles.get(index, np.zeros((0, 2)))
        coords = np.concatenate([corners, pixels[here]]) * scale
        labels = np.concatenate([np.array([2, 3][: len(corners)]), cues.labels[here]])
        by_slice[index] = Prompted(coords.astype(np.float32), labels.astype(np.int32))
    for index, picture in _mask_slices(masks, stack, size).items():
        starts.add(index)
        points = by_slice.get(index, Prompted(np.zeros((0, 2), np.float32), np.zeros(0, np.int32)))
        by_slice[index] = replace(points, mask=picture)
    first, stop = 0, stack.count
    if spans and len(spans) == len(cues.boxes) and not masks:
        first = min([*by_slice, *(span[0] for span in spans)])
        stop = max([*by_slice, *(span[1] for span in spans)]) + 1
    return SlicePrompts(by_slice, frozenset(starts), first, stop)


def _reach(box: GridBox) -> FloatArray:
    """Half the extent (3,) along the canonical axes."""
    return np.abs(np.linalg.inv(box.directions)) @ box.half


def _on_slice(box: GridBox, stack: Stack) -> tuple[int, tuple[int, int] | None, FloatArray]:
    """Key slice, first and last slice inside (None for a flat box), rectangle (2, 2) of (column, row) pixels."""
    at, pixels = stack.place(np.stack([box.centre - _reach(box), box.centre + _reach(box)]))
    first, last = int(np.ceil(at[0] - 1e-6)), int(np.floor(at[1] + 1e-6))
    middle = int(np.clip(np.rint(at.mean()), 0, stack.count - 1))
    first, last = max(first, 0), min(last, stack.count - 1)
    if last > first:
        middle = int(np.clip(middle, first, last))
    low, high = np.ceil(pixels.min(axis=0) - 1e-6), np.floor(pixels.max(axis=0) + 1e-6)
    centre = np.rint(pixels.mean(axis=0))
    low, high = np.where(low > high, centre, low), np.where(low > high, centre, high)
    bounds = np.array(stack.size[::-1]) - 1
    rectangle = np.clip(np.stack([low, high]), 0, bounds)
    return middle, (first, last) if last > first else None, rectangle


def _mask_slices(masks: Sequence[npt.NDArray[np.bool_]], stack: Stack, size: int) -> dict[int, npt.NDArray[np.float32]]:
    from PIL import Image

    if not masks:
        return {}
    slices = stack.slices(np.logical_or.reduce(masks))
    filled = np.flatnonzero(slices.any(axis=(1, 2)))
    chosen = filled[np.unique(np.rint(np.linspace(0, len(filled) - 1, _MASK_SLICES)).astype(int))]
    result = {}
    for index in chosen.tolist():
        # Averages over the pixels that are joined, so that thin parts are judged by their share.
        picture = Image.fromarray(slices[index].astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
        share = np.asarray(picture)
        result[index] = (share >= min(0.5, float(share.max()))).astype(np.float32)
    return result
