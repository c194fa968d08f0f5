# SPDX-License-Identifier: Apache-2.0
"""Where a PyTorch family runs."""

from __future__ import annotations

import torch

from ..errors import ModelError


def torch_device(device: str) -> torch.device:
    """The device of a name: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda", "cuda:1".

    Raises ModelError if it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        return torch.device("cpu")
    if device.partition(":")[0] == "cuda" and torch.cuda.is_available():
        number = device.partition(":")[2] or "0"
        if number.isdigit() and int(number) < torch.cuda.device_count():
            return torch.device(device)
    raise ModelError(f"The device {device!r} is not available to PyTorch here; use auto or cpu.")


def versions() -> dict[str, str]:
    """For provenance."""
    return {"torch": torch.__version__}
