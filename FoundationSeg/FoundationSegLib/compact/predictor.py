# SPDX-License-Identifier: Apache-2.0
"""The embedded model behind the Predictor protocol: no torch, no download."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..predictor import Array, Decoded, Embedding, GridPrompts, ModelIdentity
from ..region import CanonicalFrame, Region, sample
from ..volume import Volume
from .inputs import box_map, normalise
from .runtime import choose_device, load_graph, runtime_versions

WEIGHTS = "compact.safetensors"
ENCODER = "compact_encoder.onnx"
DECODER = "compact_decoder.onnx"
FEATURES = ("f2", "f4", "f8", "f16")
# The logits of a round before enter as they did in training.
_LOGIT_LIMIT = 8.0


class CompactPredictor:
    """Encoder and decoder of the compact model on ONNX Runtime or OpenVINO."""

    def __init__(
        self, folder: Path, revision: str, grid_size: int, device: str = "auto", sha256: str | None = None
    ) -> None:
        """Loads both graphs from `folder`; they were exported for regions of `grid_size`³ points.

        Raises ModelError where a file is missing, the weights have another checksum, or the device is absent.
        """
        missing = [name for name in (WEIGHTS, ENCODER, DECODER) if not (folder / name).is_file()]
        if missing:
            raise ModelError(f"The embedded model lacks {', '.join(missing)}; install the extension again.")
        found = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        if sha256 is not None and found != sha256:
            raise ModelError("The embedded model's weights are damaged (wrong checksum); install the extension again.")
        self.grid_size = grid_size
        self.device = choose_device(device)
        self._encoder = load_graph(folder / ENCODER, self.device)
        self._decoder = load_graph(folder / DECODER, self.device)
        self._identity = ModelIdentity(
            "compact", revision, found, self.device, "float32", runtime_versions(self.device)
        )

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    def prepare(self, volume: Volume, frame: CanonicalFrame, region: Region) -> Array:
        """(2, size, size, size) float32: the region's intensities, linear and equalised."""
        return normalise(sample(volume, frame, region))

    def encode(self, prepared: Array) -> Embedding:
        image = prepared[None]
        return Embedding({"image": image, **self._encoder.run({"image": image})})

    def decode(self, embedding: Embedding, prompts: GridPrompts, previous_logits: Array | None) -> Decoded:
        n = self.grid_size
        coords, labels = prompts.point_coords, prompts.point_labels
        if len(coords) == 0:  # the graph wants at least one slot; -1 switches it off
            coords, labels = np.zeros((1, 3), np.float32), np.array([-1])
        box = np.zeros((1, n // 2, n // 2, n // 2), np.float32)
        if prompts.boxes:
            box = np.max([box_map(b.centre, b.directions, b.half, n // 2) for b in prompts.boxes], axis=0)
        mask = np.zeros((1, n, n, n), np.float32)
        if previous_logits is not None:
            mask = np.clip(previous_logits, -_LOGIT_LIMIT, _LOGIT_LIMIT)[None].astype(np.float32)
        out = self._decoder.run(
            {
                **embedding.tensors,
                "point_coords": coords[None].astype(np.float32),
                "point_labels": labels[None].astype(np.int64),
                "box": box[None],
                "mask_input": mask[None],
            }
        )
        return Decoded(out["logits"][0, 0], float(out["iou"][0]))
