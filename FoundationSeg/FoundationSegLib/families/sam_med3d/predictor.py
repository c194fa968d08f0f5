# SPDX-License-Identifier: Apache-2.0
"""SAM-Med3D on a device: a region encoded once, and decoded once per prompt.

The network's axes run (x, y, z), those of regions (z, y, x): images, clicks and logits change over here, nowhere else.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ...precision import encoded
from ...predictor import Array, Decoded, Embedding, GridPrompts, ModelIdentity
from ...region import CanonicalFrame, Region
from ...volume import Volume
from .inputs import network_image
from .network import SamMed3d


class SamMed3dPredictor:
    """See `Predictor`. Beside its `decode`, `refine` keeps to the network's own resolution, as the original does."""

    def __init__(self, network: SamMed3d, device: torch.device, identity: ModelIdentity) -> None:
        self.network = network
        self.device = device
        self._identity = identity
        self.grid_size = network.config.image_size
        self.mask_size = network.config.mask_size

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    def prepare(self, volume: Volume, frame: CanonicalFrame, region: Region) -> Array:
        """(1, size, size, size) float32, axes (x, y, z); see `inputs`."""
        return network_image(volume, frame, region)

    def encode(self, prepared: Array) -> Embedding:
        with torch.inference_mode():
            image = torch.tensor(prepared)[None].to(self.device)
            embedding = encoded(lambda: self.network.encode(image), self.identity.precision, self.device)
            return Embedding({"image": embedding[0].cpu().numpy()})

    def refine(
        self, embedding: Embedding, coords: Array, labels: npt.NDArray[np.int64], previous: Array | None
    ) -> tuple[Array, float]:
        """One step of the original's loop: all clicks so far and the logits of the step before.

        Args:
            coords: (P, 3) clicks as (z, y, x) in grid points; none at all is a step on the mask alone.
            labels: (P,) 1 positive, 0 negative.
            previous: logits (mask_size,) * 3 as (z, y, x); None at the first step, which is given zeros.

        Returns:
            Logits of the same shape and axes, and the predicted IoU, which nothing keeps within [0, 1].
        """
        low = np.zeros((self.mask_size,) * 3, np.float32) if previous is None else previous.transpose(2, 1, 0)
        with torch.inference_mode():
            image = torch.tensor(embedding.tensors["image"])[None].to(self.device)
            mask = torch.tensor(np.ascontiguousarray(low))[None, None].to(self.device)
            points = kinds = None
            if len(coords):
                points = torch.tensor(np.ascontiguousarray(coords[None, :, ::-1], np.float32)).to(self.device)
                kinds = torch.tensor(labels[None], dtype=torch.int64).to(self.device)
            logits, quality = self.network.decode(image, points, kinds, mask)
            out = logits[0, 0].float().cpu().numpy().transpose(2, 1, 0)
            return np.ascontiguousarray(out), float(quality[0, 0])

    def upsample(self, logits: Array) -> Array:
        """Logits of `refine` on the region's grid (size, size, size): trilinear, as the original does."""
        low = torch.tensor(logits)[None, None]
        return F.interpolate(low, size=(self.grid_size,) * 3, mode="trilinear", align_corners=False)[0, 0].numpy()

    def decode(self, embedding: Embedding, prompts: GridPrompts, previous_logits: Array | None) -> Decoded:
        """See `Predictor`. Boxes become clicks on their centres; logits are on the region's grid."""
        coords, labels = clicks(prompts)
        previous = None if previous_logits is None else self._reduced(previous_logits)
        logits, quality = self.refine(embedding, coords, labels, previous)
        return Decoded(self.upsample(logits), min(max(quality, 0.0), 1.0))

    def _reduced(self, logits: Array) -> Array:
        """Undoes `upsample` (least squares per axis: exact for logits that came from it)."""
        out = logits
        for axis in range(3):
            out = np.moveaxis(np.tensordot(self._reduction, out, (1, axis)), 0, axis)
        return np.ascontiguousarray(out, dtype=np.float32)

    @cached_property
    def _reduction(self) -> Array:
        """(mask_size, size): the pseudo-inverse of linear interpolation along one axis."""
        unit = torch.eye(self.mask_size)[:, None]
        up = F.interpolate(unit, size=self.grid_size, mode="linear", align_corners=False)[:, 0].double().numpy().T
        return np.linalg.pinv(up).astype(np.float32)


def clicks(prompts: GridPrompts) -> tuple[Array, npt.NDArray[np.int64]]:
    """All that the network can take of prompts: points, and the centres of boxes as positive points."""
    centres = np.array([box.centre for box in prompts.boxes], np.float32).reshape(-1, 3)
    coords = np.concatenate([prompts.point_coords.astype(np.float32).reshape(-1, 3), centres])
    labels = np.concatenate([prompts.point_labels, np.ones(len(centres), np.int64)]).astype(np.int64)
    return coords, labels
