# SPDX-License-Identifier: Apache-2.0
"""Linear layers by oneDNN. PyTorch takes MKL, which is half as fast on AMD processors; on Intel both are alike.

The rule depends on the build and the device only, never on a measurement, so that the same machine gives the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _operator() -> object | None:
    """PyTorch's own call into oneDNN (its compiler uses it); None in builds without."""
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


_OPERATOR = _operator()


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """`layer(x)`, without gradients; the sum's order differs, so the last bits may."""
    if torch.is_autocast_enabled("cpu"):  # what was chosen there rules
        return layer(x)
    if not callable(_OPERATOR) or x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_grad_enabled():
        return layer(x)
    rows = x.reshape(-1, x.shape[-1])
    return _OPERATOR(rows, layer.weight, layer.bias, "none", [], "").view(*x.shape[:-1], -1)
