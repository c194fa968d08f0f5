# SPDX-License-Identifier: Apache-2.0
"""SAM-Med3D as published (uni-medical/SAM-Med3D, registry entry `vit_b_ori`), written anew; names match the files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import ModelError
from .config import SamMed3dConfig
from .image_encoder import ImageEncoder
from .mask_decoder import MaskDecoder
from .prompt_encoder import PromptEncoder


class SamMed3d(nn.Module):
    """Image encoder (once per region), prompt encoder and mask decoder (once per prompt).

    Axes of images are those of the original: (x, y, z) running to R, A and S.
    """

    def __init__(self, config: SamMed3dConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.prompt_encoder = PromptEncoder(config)
        self.mask_decoder = MaskDecoder(config)

    def encode(self, image: Tensor) -> Tensor:
        """Normalised (B, 1, S, S, S) to (B, channels, grid, grid, grid)."""
        return self.image_encoder(image)

    def decode(
        self,
        embedding: Tensor,
        coords: Tensor | None,
        labels: Tensor | None,
        mask: Tensor | None,
        alternatives: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, M, mask_size^3) and predicted IoUs (B, M); see `PromptEncoder` and `MaskDecoder`."""
        sparse, dense = self.prompt_encoder(coords, labels, mask)
        return self.mask_decoder(embedding, self.prompt_encoder.dense_positions(), sparse, dense, alternatives)


def empty_network(config: SamMed3dConfig) -> SamMed3d:
    """The network with shapes but without values: takes no memory, and no time for random numbers."""
    with torch.device("meta"):
        return SamMed3d(config)


def load_network(config: SamMed3dConfig, weights: Path, device: str) -> SamMed3d:
    """The network with the tensors of a safetensors file, ready for inference. Raises ModelError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(weights, device=device)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The weights {weights.name} cannot be read ({error}); download them again.") from error
    network = empty_network(config)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if wrong := sorted(
        name
        for name in expected.keys() | tensors.keys()
        if name not in tensors or expected.get(name) != tensors[name].shape
    ):
        raise ModelError(
            f"The weights {weights.name} are not those of this SAM-Med3D network: {len(wrong)} tensors are missing, "
            f"left over or of another shape, the first is {wrong[0]!r}; choose the model that they belong to."
        )
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return network.eval().requires_grad_(False)
