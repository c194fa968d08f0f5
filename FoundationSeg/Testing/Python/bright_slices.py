# SPDX-License-Identifier: Apache-2.0
"""A 2-D model that is simple enough to reason about, and really looks at the picture."""

from __future__ import annotations

from collections.abc import Callable

import cc3d
import numpy as np
from FoundationSegLib.predictor import Array, Embedding, ModelIdentity
from FoundationSegLib.slicewise.contrast import Contrast
from FoundationSegLib.slicewise.protocol import (
    BOX,
    MASK,
    NEGATIVE_POINT,
    POINT,
    BoolArray,
    FloatArray,
    Grey,
    SliceDecoded,
    SliceGeometry,
    SlicePrompts,
)
from FoundationSegLib.volume import Volume

TOLERANCE = 30  # grey values


class BrightSlices:
    """What has the grey value of the points, or else what is bright in the box, in one piece, nearer to a positive
    point than to a negative one. `blind` slices, told by a mark in their first pixel, give the whole box instead."""

    takes = frozenset({POINT, NEGATIVE_POINT, BOX, MASK})
    identity = ModelIdentity("bright", "test", "0" * 64, "cpu", "float32")

    def __init__(self) -> None:
        self.decoded = 0

    def contrast(self, volume: Volume, clicked: FloatArray) -> Contrast:
        return Contrast(0.0, 255.0)

    def prepare_slice(self, image: Grey, geometry: SliceGeometry) -> Array:
        assert image.shape == geometry.shape and image.dtype == np.uint8
        return image.astype(np.float32)

    def encode_slice(self, prepared: Array, check: Callable[[], None]) -> Embedding:
        check()
        return Embedding({"image": prepared})

    def decode_slice(self, embedding: Embedding, geometry: SliceGeometry, prompts: SlicePrompts) -> SliceDecoded:
        self.decoded += 1
        image = embedding.tensors["image"]
        row, column = np.mgrid[: image.shape[0], : image.shape[1]]
        r0, c0, r1, c1 = prompts.box or (-1.0, -1.0, float(image.shape[0]), float(image.shape[1]))
        inside = (row >= r0) & (row <= r1) & (column >= c0) & (column <= c1)
        if image[0, 0] == 255:  # a slice that the model cannot read
            return SliceDecoded(np.where(inside, np.float32(4), np.float32(-4)), 0.9)
        points = prompts.points[prompts.labels == 1]
        at = tuple(np.clip(np.rint(points), 0, np.array(image.shape) - 1).astype(int).T)
        if prompts.mask is not None and not len(points):
            known = image[(prompts.mask > 0) & inside]
            level = float(np.median(known)) if len(known) else 200.0
            mask = inside & (np.abs(image - level) < TOLERANCE)
        elif len(points):
            mask = inside & (np.abs(image - image[at].mean()) < TOLERANCE)
        else:
            mask = inside & (image > 100)
        if len(prompts.points):
            distance = np.hypot(row[..., None] - prompts.points[:, 0], column[..., None] - prompts.points[:, 1])
            mask &= (prompts.labels == 1)[distance.argmin(-1)] | (not len(points)) & (distance.min(-1) > 4)
        labels = cc3d.connected_components(mask[None].astype(np.uint8), connectivity=18)[0]
        if len(points):
            mask = np.isin(labels, np.setdiff1d(labels[at], [0]))
        elif mask.any():
            mask = labels == np.bincount(labels[labels > 0]).argmax()
        return SliceDecoded(np.where(mask, np.float32(4), np.float32(-4)), 0.9 if mask.any() else 0.1)

    def on_pixels(self, logits: Array, geometry: SliceGeometry) -> Array:
        return logits

    def as_logits(self, mask: BoolArray, geometry: SliceGeometry, strength: float) -> Array:
        return np.where(mask, np.float32(strength), np.float32(-strength))


class BoxSlices(BrightSlices):
    """Like MedSAM: boxes alone, no masks, no estimate."""

    takes = frozenset({BOX})
    identity = ModelIdentity("boxes-only", "test", "0" * 64, "cpu", "float32")

    def decode_slice(self, embedding: Embedding, geometry: SliceGeometry, prompts: SlicePrompts) -> SliceDecoded:
        assert prompts.mask is None and len(prompts.points) == 0
        return SliceDecoded(super().decode_slice(embedding, geometry, prompts).logits, None)
