# SPDX-License-Identifier: Apache-2.0
"""The embedded model behind the Predictor protocol: no torch, no download."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..predictor import Array, Decoded, Embedding, GridPrompts, ModelIdentity
from ..region import CanonicalFrame, Region, sample
from ..region_segmenter import RegionPolicy
from ..volume import Volume
from .inputs import box_map, normalise
from .quality import CALIBRATION, QualityMap
from .runtime import choose_device, load_graph, runtime_versions

WEIGHTS = "compact.safetensors"
# The same weights as graphs for two grids: masks are made on the fine one, the scale of a lone click is sought on the
# coarse one, which costs less than half.
GRID_SIZES = (64, 48)
FEATURES = ("f2", "f4", "f8", "f16")
# The logits of a round before enter as they did in training.
_LOGIT_LIMIT = 8.0


def graph_names(grid_size: int) -> tuple[str, str]:
    """The files of the encoder and the decoder for one grid."""
    return f"compact_encoder_{grid_size}.onnx", f"compact_decoder_{grid_size}.onnx"


class CompactPredictor:
    """Encoder and decoder of the compact model on ONNX Runtime or OpenVINO; regions of any of `GRID_SIZES`."""

    grid_size = GRID_SIZES[0]
    policy = RegionPolicy(search_size=GRID_SIZES[1], scale_blend=2.0, walker_share=0.5)

    def __init__(self, folder: Path, revision: str, device: str = "auto", sha256: str | None = None) -> None:
        """Loads the graphs from `folder`.

        Raises ModelError where a file is missing, the weights have another checksum, or the device is absent.
        """
        names = [name for size in GRID_SIZES for name in graph_names(size)]
        missing = [name for name in (WEIGHTS, *names) if not (folder / name).is_file()]
        if missing:
            raise ModelError(f"The embedded model lacks {', '.join(missing)}; install the extension again.")
        found = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        if sha256 is not None and found != sha256:
            raise ModelError("The embedded model's weights are damaged (wrong checksum); install the extension again.")
        self.device = choose_device(device)
        self._graphs = {
            size: tuple(load_graph(folder / name, self.device) for name in graph_names(size)) for size in GRID_SIZES
        }
        self.quality = QualityMap.read(folder / CALIBRATION, found)
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
        encoder, _ = self._graphs[prepared.shape[-1]]
        image = prepared[None]
        return Embedding({"image": image, **encoder.run({"image": image})})

    def decode(self, embedding: Embedding, prompts: GridPrompts, previous_logits: Array | None) -> Decoded:
        n = embedding.tensors["image"].shape[-1]
        _, decoder = self._graphs[n]
        coords, labels = prompts.point_coords, prompts.point_labels
        if len(coords) == 0:  # the graph wants at least one slot; -1 switches it off
            coords, labels = np.zeros((1, 3), np.float32), np.array([-1])
        box = np.zeros((1, n // 2, n // 2, n // 2), np.float32)
        if prompts.boxes:
            box = np.max([box_map(b.centre, b.directions, b.half, n // 2) for b in prompts.boxes], axis=0)
        mask = np.zeros((1, n, n, n), np.float32)
        if previous_logits is not None:
            mask = np.clip(previous_logits, -_LOGIT_LIMIT, _LOGIT_LIMIT)[None].astype(np.float32)
        out = decoder.run(
            {
                **embedding.tensors,
                "point_coords": coords[None].astype(np.float32),
                "point_labels": labels[None].astype(np.int64),
                "box": box[None],
                "mask_input": mask[None],
            }
        )
        return Decoded(out["logits"][0, 0], float(out["iou"][0]))
