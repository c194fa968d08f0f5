# SPDX-License-Identifier: Apache-2.0
"""SAM and MedSAM as models of single slices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...precision import encoded
from ...predictor import Array, Embedding, ModelIdentity
from ...slicewise.contrast import Contrast, contrast_of
from ...slicewise.protocol import (
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
from ...volume import Volume
from . import pictures
from .network import SamNetwork, TorchPrompts


class SamSlices:
    """SAM: points of both signs, boxes, and its own earlier masks."""

    takes = frozenset({POINT, NEGATIVE_POINT, BOX, MASK})

    def __init__(self, network: SamNetwork, identity: ModelIdentity, device: torch.device) -> None:
        self.network = network.to(device).eval()
        self.identity = identity
        self.device = device
        self.side = network.config.img_size

    def contrast(self, volume: Volume, clicked: FloatArray) -> Contrast:
        return contrast_of(volume, clicked)

    def prepare_slice(self, image: Grey, geometry: SliceGeometry) -> Array:
        return pictures.sam_picture(image, self._size(geometry), self.side)

    def encode_slice(self, prepared: Array, check: Callable[[], None]) -> Embedding:
        image = torch.from_numpy(prepared)[None].to(self.device)
        embedding = encoded(lambda: self.network.encode(image, check), self.identity.precision, self.device)
        return Embedding({"image": embedding.cpu().numpy()})

    def decode_slice(self, embedding: Embedding, geometry: SliceGeometry, prompts: SlicePrompts) -> SliceDecoded:
        # A lone point may mean a part or the whole: the original then asks for three masks and takes the best.
        alone = len(prompts.points) == 1 and prompts.box is None and prompts.mask is None
        logits, iou = self.network.decode(self._embedding(embedding), self._prompts(geometry, prompts), alone)
        best = int(iou[0].argmax())
        return SliceDecoded(logits[0, best].float().cpu().numpy(), float(iou[0, best]))

    def on_pixels(self, logits: Array, geometry: SliceGeometry) -> Array:
        low = torch.from_numpy(logits)[None, None]
        return pictures.sam_scores(low, self._size(geometry), geometry.shape, self.side)[0, 0].numpy()

    def as_logits(self, mask: BoolArray, geometry: SliceGeometry, strength: float) -> Array:
        raster = 4 * self.network.config.grid
        return pictures.mask_raster(mask, self._size(geometry), raster, self.side, strength)

    def _size(self, geometry: SliceGeometry) -> tuple[int, int]:
        """Rows and columns of the slice on the model's picture."""
        return pictures.fitted_size(geometry, self.side)

    def _embedding(self, embedding: Embedding) -> Tensor:
        return torch.from_numpy(embedding.tensors["image"]).to(self.device)

    def _prompts(self, geometry: SliceGeometry, prompts: SlicePrompts) -> TorchPrompts:
        """Pixels (row, column) of the slice to pixels (x, y) of the picture, by the ratio of sizes, as the original."""
        size = self._size(geometry)
        scale = np.array([size[1] / geometry.shape[1], size[0] / geometry.shape[0]])

        def tensor(values: FloatArray | Array) -> Tensor:
            return torch.from_numpy(np.asarray(values, np.float32))[None].to(self.device)

        points = labels = box = mask = None
        if len(prompts.points):
            points = tensor(prompts.points[:, ::-1] * scale)
            labels = torch.from_numpy(prompts.labels)[None].to(self.device)
        if prompts.box is not None:
            corners = np.array(prompts.box).reshape(2, 2)[:, ::-1] * scale
            box = tensor(corners.reshape(4))
        if prompts.mask is not None:
            mask = tensor(prompts.mask)[None]
        return TorchPrompts(points, labels, box, mask)


class MedSamSlices(SamSlices):
    """MedSAM: the same network, trained with boxes alone and on pictures prepared in another way."""

    takes = frozenset({BOX})

    def prepare_slice(self, image: Grey, geometry: SliceGeometry) -> Array:
        return pictures.medsam_picture(image, self.side)

    def decode_slice(self, embedding: Embedding, geometry: SliceGeometry, prompts: SlicePrompts) -> SliceDecoded:
        logits, _ = self.network.decode(self._embedding(embedding), self._prompts(geometry, prompts), False)
        # Its training left the head that estimates the IoU alone; what comes out of it means nothing.
        return SliceDecoded(logits[0, 0].float().cpu().numpy(), None)

    def on_pixels(self, logits: Array, geometry: SliceGeometry) -> Array:
        probabilities = pictures.medsam_probabilities(torch.from_numpy(logits)[None, None], geometry.shape)
        return pictures.as_scores(probabilities)[0, 0].numpy()

    def _size(self, geometry: SliceGeometry) -> tuple[int, int]:
        return self.side, self.side
