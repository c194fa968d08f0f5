# SPDX-License-Identifier: Apache-2.0
"""A UniverSeg made by hand, simple enough to reason about, and a volume to show it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from FoundationSegLib import LabelledSlice, Volume
from FoundationSegLib.catalogue import ModelCard, model_card
from FoundationSegLib.families.universeg.network import UniverSeg
from safetensors.torch import save_file

HANDMADE = [1, 1]


def bright_network() -> UniverSeg:
    """Takes what is brighter than half of a slice's range: one channel of the target goes straight through."""
    network = UniverSeg(HANDMADE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        first, last = network.enc_blocks[0], network.dec_blocks[0]
        first.cross.cross_conv.weight[0, 0, 1, 1] = 1  # the target
        last.cross.cross_conv.weight[0, 1, 1, 1] = 1  # the target as the first level left it
        for block in (first, last):
            block.target.vmapped.conv.weight[0, 0, 1, 1] = 1
        network.out_conv.conv.weight.fill_(10)
        network.out_conv.conv.bias.fill_(-5)
    return network


def card_for(widths: list[int]) -> ModelCard:
    card = model_card("universeg")
    return replace(card, data={**card.data, "architecture": {"widths": widths}}, sha256="0" * 64)


def saved(network: UniverSeg, path: Path) -> Path:
    save_file(network.state_dict(), path)
    return path


def oblique_volume() -> tuple[Volume, np.ndarray]:
    """(k, j, i) = (16, 40, 30), 3 x 0.8 x 1.1 mm, oblique; and the mask of its only bright thing, an ellipsoid."""
    a, b = np.radians(20), np.radians(-12)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ tilt @ np.diag([1.1, 0.8, 3.0])
    matrix[:3, 3] = (-40, 25, 110)
    k, j, i = np.meshgrid(*map(np.arange, (16, 40, 30)), indexing="ij")
    mask = ((k - 8) * 3 / 11) ** 2 + ((j - 18) * 0.8 / 9) ** 2 + ((i - 13) * 1.1 / 10) ** 2 < 1
    return Volume(np.where(mask, 400, 100).astype(np.int16), matrix), mask


def example(mask: np.ndarray, axis: str, index: int, **changes: Any) -> LabelledSlice:
    """A slice of a true mask as a prompt."""
    return LabelledSlice(axis, index, changes.get("mask", np.take(mask, index, "kji".index(axis))))
