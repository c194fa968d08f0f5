# SPDX-License-Identifier: Apache-2.0
"""8-bit linear layers for processors, opt-in: faster, and not the same numbers any more.

Weights are rounded once, each output channel with a scale of its own; activations at run time, each token with a scale
of its own. The products are summed exactly in 32 bits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .encoder import ImageEncoder

_LARGEST = 127.0
_TINY = 1e-12
# Tokens at a time: what lies between rounding and result stays in the caches.
_TOKENS = 1024


class Int8Linear(nn.Module):
    """What `linear` computes, from rounded weights and rounded inputs (N, C)."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = weight.abs().amax(dim=1).clamp(min=_TINY) / _LARGEST
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8).t().contiguous())
        self.register_buffer("bias", linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_empty(len(x), len(self.scale))
        for part, into in zip(x.split(_TOKENS), out.split(_TOKENS), strict=True):
            largest = part.abs().amax(dim=1, keepdim=True).clamp_(min=_TINY)
            rounded = (part * (_LARGEST / largest)).round_().to(torch.int8)
            into.copy_(torch._int_mm(rounded, self.weight)).mul_(largest.div_(_LARGEST))
            torch.addcmul(self.bias, into, self.scale, out=into)
        return out


def quantise(encoder: ImageEncoder) -> ImageEncoder:
    """Replaces the linear layers of the encoder's blocks, in place."""
    for block in encoder.blocks:
        for owner, names in ((block.attn, ("qkv", "proj")), (block.mlp, ("lin1", "lin2"))):
            for name in names:
                setattr(owner, name, Int8Linear(getattr(owner, name)))
    return encoder
