# SPDX-License-Identifier: Apache-2.0
"""VISTA3D's network: MONAI's own `vista3d132`, with the tensor names of the published weights for MONAI 1.4 and later.

The weights published for MONAI 1.3 (`model_monai1.3.pt`) use other names and are of no use here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ...errors import ModelError


@dataclass(frozen=True)
class Settings:
    """What scales the network; the defaults are the published one, smaller ones serve tests."""

    width: int = 48  # channels of the finest level
    window: int = 128  # grid points per side of what the network sees at once
    overlap: float = 0.3  # of windows that slide through a volume, as in the published bundle

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Settings:
        """The settings of a card's `architecture`. Raises ModelError for settings that this family does not have."""
        try:
            return cls(**data)
        except TypeError as error:
            raise ModelError(
                f"The card describes a network that VISTA3D cannot be ({error}); correct the card."
            ) from error


def build(settings: Settings) -> torch.nn.Module:
    """The network with weights that the library draws, in eval mode, on torch's default device."""
    with without_transformers():
        from monai.networks.nets.vista3d import vista3d132

    model: torch.nn.Module = vista3d132(encoder_embed_dim=settings.width, in_channels=1)
    return model.eval()


def load_network(settings: Settings, weights: Path, device: torch.device) -> torch.nn.Module:
    """The network with the weights of a safetensors file. Raises ModelError."""
    model = build(settings)
    try:
        model.load_state_dict(load_file(weights), strict=True)
    except RuntimeError as error:
        raise ModelError(
            f"The file {weights.name} does not hold the tensors of VISTA3D ({error}); "
            "choose a checkpoint of this family."
        ) from error
    return model.to(device).requires_grad_(False)


@contextmanager
def without_transformers() -> Iterator[None]:
    """Keeps the first `import monai` from importing transformers, which one of its networks can use and ours does not.

    That network alone is without it then. Where transformers is imported already nothing is to be saved. An import of
    it by another thread in these seconds would fail; the families are loaded one after the other.
    """
    if "transformers" in sys.modules or "monai.networks.nets" in sys.modules:
        yield
        return
    sys.modules["transformers"] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
    try:
        yield
    finally:
        del sys.modules["transformers"]
