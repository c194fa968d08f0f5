# SPDX-License-Identifier: Apache-2.0
"""From a card and its weights to a model for the session."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from ...errors import ModelError
from ...precision import AUTO, FASTEST, FORMATS, choose
from ...predictor import ModelIdentity
from ...slicewise.segmenter import SliceModel, SlicePolicy
from ..torch_device import torch_device, versions
from .config import SamConfig, variant_named
from .network import SamNetwork, tensor_shapes
from .predictor import MedSamSlices, SamSlices
from .quantised import quantise

if TYPE_CHECKING:
    from ...catalogue import ModelCard

_INT8 = "int8"


def config_from(architecture: dict[str, Any]) -> SamConfig:
    """The network that a card's `architecture` describes: a `variant` ("vit_b", ...), of which single sizes differ.

    Raises ModelError for a variant or a size that does not exist.
    """
    config = variant_named(architecture.get("variant", "vit_b"))
    sizes = architecture.get("sizes", {})
    if unknown := sorted(set(sizes) - {field.name for field in fields(SamConfig)}):
        raise ModelError(f"SAM networks have no size named {', '.join(unknown)}; correct the model card.")
    if "global_attn_indexes" in sizes:
        sizes = {**sizes, "global_attn_indexes": tuple(sizes["global_attn_indexes"])}
    return replace(config, **sizes)


def expected(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the card's network."""
    return tensor_shapes(config_from(card.architecture))


def load_model(card: ModelCard, weights: Path, device: str) -> SliceModel:
    """A SAM or a MedSAM, by the card's family. Raises ModelError for a device or precision that is not there.

    `architecture.precision` "int8" rounds the encoder's linear layers to 8 bits, on the CPU: faster, and not exact. For
    its other values see `precision`.
    """
    where = torch_device(device)
    asked = card.architecture.get("precision")
    if asked not in (None, _INT8, AUTO, FASTEST, *FORMATS) or (asked == _INT8 and where.type != "cpu"):
        raise ModelError(
            f"{card.name} cannot run in the precision {asked!r} on {where.type}; use float32, or int8 on the cpu."
        )
    precision = asked if asked == _INT8 else choose(where, asked)
    with torch.device("meta"):
        network = SamNetwork(config_from(card.architecture))
    # Assigned, not copied: weights are in memory once.
    network.load_state_dict(load_file(weights), strict=True, assign=True)
    network.requires_grad_(False)
    if precision == _INT8:
        quantise(network.image_encoder)
    identity = ModelIdentity(card.name, card.revision, card.sha256, str(where), precision, versions())
    family = MedSamSlices if card.family == "medsam" else SamSlices
    return SliceModel(family(network, identity, where), SlicePolicy(card.architecture.get("orientation")))
