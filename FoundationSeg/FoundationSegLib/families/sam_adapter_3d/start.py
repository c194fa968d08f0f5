# SPDX-License-Identifier: Apache-2.0
"""An untrained 3DSAM-adapter on SAM's weights: what is taken over, what begins anew, what is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import ModelError
from .layers import AdapterConfig
from .network import SamAdapter3d

_PREFIX = "image_encoder."
# Parts of SAM's encoder that the adapter has no place for.
_LEFT_OUT = ("neck.",)
# Parts of the adapter's encoder that SAM does not have.
_NEW = ("depth_embed", "slice_embed.", "neck_3d.", ".adapter.", ".attn.lr", ".rel_pos_d")


def read_sam(path: Path) -> dict[str, Tensor]:
    """SAM's tensors by their original names, from safetensors or the published .pth. Raises ModelError."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers of both formats raise what they like
        raise ModelError(f"SAM's weights {path} cannot be read; give the published file or its safetensors.") from error
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def from_sam(state: dict[str, Tensor], config: AdapterConfig | None = None, seed: int = 0) -> SamAdapter3d:
    """A network whose encoder sees what SAM's saw; the rest is random, repeatable by `seed`.

    Tables of relative positions along the slices begin as the mean of those along rows and columns. Raises ModelError
    if the tensors are not those of SAM's ViT-B (or of `config`'s sizes).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SamAdapter3d(config)
    given = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    given = {name: value for name, value in given.items() if not name.startswith(_LEFT_OUT)}
    own = network.encoder.state_dict()
    wanted = [name for name in own if not any(part in name for part in _NEW)]
    wrong = [name for name in wanted if name not in given or given[name].shape != own[name].shape]
    if wrong or set(given) - set(wanted):
        odd = (wrong or sorted(set(given) - set(wanted)))[0]
        raise ModelError(
            f"These are not the weights of SAM ViT-B that the adapter builds on ({_PREFIX}{odd} does not fit); give "
            "sam_vit_b_01ec64.pth, its safetensors, or MedSAM's."
        )
    network.encoder.load_state_dict({**own, **{name: given[name].float() for name in wanted}})
    with torch.no_grad():
        for block in network.encoder.blocks:
            block.attn.rel_pos_d.copy_(0.5 * (block.attn.rel_pos_h + block.attn.rel_pos_w))
    freeze(network)
    return network


def freeze(network: SamAdapter3d) -> None:
    """Only what the publication trains keeps its gradient: of the encoder the adapters, the norms of the blocks, the
    embeddings along the slices, their relative positions and the necks; the prompt encoder and the decoder in full."""
    encoder = network.encoder
    encoder.requires_grad_(False)
    encoder.depth_embed.requires_grad_(True)
    encoder.slice_embed.requires_grad_(True)
    encoder.neck_3d.requires_grad_(True)
    for block in encoder.blocks:
        for part in (block.norm1, block.norm2, block.adapter):
            part.requires_grad_(True)
        block.attn.rel_pos_d.requires_grad_(True)


def trained(network: SamAdapter3d) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def parts(network: SamAdapter3d) -> Iterator[list[nn.Parameter]]:
    """The same by part, each of which has its gradient clipped for itself."""
    for part in (network.encoder, network.prompt_encoder, network.mask_decoder):
        yield [parameter for parameter in part.parameters() if parameter.requires_grad]
