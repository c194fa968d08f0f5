# SPDX-License-Identifier: Apache-2.0
"""UniverSeg: a U-Net that learns a task from labelled examples at the time of use (Butoi et al., ICCV 2023).

Every level mixes the target image with each example of the support set by one convolution, without activation, and the
target goes on with the mean over the examples. Images are (B, C, H, W), support sets (B, S, C, H, W). Names of
parameters are those of the published state dict.

`forward` does what the original does. `remember` and `answer` give the same logits for one target with about a sixth
of the arithmetic, because a convolution is linear: what the examples contribute to the first level does not depend on
the target, the mean over the examples can be taken before the last convolution, and the target's half of a cross
convolution is the same for all examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ModelError

PUBLISHED = (64, 64, 64, 64)
_SLOPE = 0.01  # of the leaky ReLU


class _CrossConv(nn.Module):
    """Convolves the target beside each example: (B, Ct, H, W) and (B, S, Cs, H, W) to (B, S, out, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.cross_conv = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, target: Tensor, support: Tensor) -> Tensor:
        mine, theirs = self.halves(target, support)
        return mine[:, None] + theirs

    def halves(self, target: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
        """What the target (B, out, H, W) and the examples (B, S, out, H, W) contribute; the bias is with the former."""
        weight, split = self.cross_conv.weight, target.shape[1]
        mine = F.conv2d(target, weight[:, :split], self.cross_conv.bias, padding=1)
        theirs = F.conv2d(support.flatten(0, 1), weight[:, split:], padding=1)
        return mine, theirs.unflatten(0, support.shape[:2])


class _Conv(nn.Module):
    def __init__(self, channels: int, out: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Mapped(nn.Module):
    """One convolution for every image of a set; exists for the names of its parameters."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.vmapped = _Conv(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.vmapped(x)


class _CrossBlock(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.cross = _CrossConv(channels, out)
        self.target = _Mapped(out, out)
        self.support = _Mapped(out, out)

    def forward(self, target: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
        mixed = self.cross(target, support)
        new_target = _activate(self.target(mixed.mean(1)))
        new_support = _activate(self.support(mixed.flatten(0, 1)))
        return new_target, new_support.unflatten(0, support.shape[:2])

    def target_only(self, target: Tensor, mean_support: Tensor) -> Tensor:
        """The new target from the mean of the support (B, C, H, W): all that the last level needs."""
        mine, theirs = self.cross.halves(target, mean_support[:, None])
        return _activate(self.target(mine + theirs[:, 0]))


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE)


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2)


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _each(function: object, support: Tensor) -> Tensor:
    """Applies a function of images to each example of (B, S, C, H, W)."""
    return function(support.flatten(0, 1)).unflatten(0, support.shape[:2])  # type: ignore[operator]


@dataclass(frozen=True)
class Memory:
    """What the first level makes of the support set, independent of the target; for a batch of one."""

    mixed_mean: Tensor  # (1, C, H, W): the examples' mean share in the target's first mixture
    lifted: Tensor  # (1, S, C, H, W): their share in the support's first activation
    examples: int


class UniverSeg(nn.Module):
    """The network with `widths` features per level; the published one has four levels of 64."""

    def __init__(self, widths: Sequence[int] = PUBLISHED) -> None:
        super().__init__()
        self.enc_blocks, self.dec_blocks = nn.ModuleList(), nn.ModuleList()
        target, support = 1, 2  # channels: an image; an image with its label
        for width in widths:
            self.enc_blocks.append(_CrossBlock(target + support, width))
            target = support = width
        for width in reversed(list(widths)[:-1]):
            # Half of what enters comes from below, half from the encoder's level of the same size.
            self.dec_blocks.append(_CrossBlock(2 * (target + width), width))
            target = width
        self.out_conv = _Conv(target, 1, kernel=1)

    def forward(self, target: Tensor, support_images: Tensor, support_labels: Tensor) -> Tensor:
        """Logits (B, 1, H, W) for targets of that shape, in [0, 1], and support sets (B, S, 1, H, W) with labels."""
        support = torch.cat([support_images, support_labels], dim=2)
        kept: list[tuple[Tensor, Tensor]] = []
        for level, block in enumerate(self.enc_blocks):
            target, support = block(target, support)
            if level + 1 < len(self.enc_blocks):
                kept.append((target, support))
                target, support = _pool(target), _each(_pool, support)
        for block in self.dec_blocks:
            target_beside, support_beside = kept.pop()
            target = torch.cat([_up(target), target_beside], dim=1)
            support = torch.cat([_each(_up, support), support_beside], dim=2)
            target, support = block(target, support)
        return self.out_conv(target)

    def remember(self, support_images: Tensor, support_labels: Tensor) -> Memory:
        """The examples' part of the first level, for any number of targets; sets are (1, S, 1, H, W)."""
        support = torch.cat([support_images, support_labels], dim=2)
        first = self.enc_blocks[0]
        nothing = support.new_zeros((1, 1, *support.shape[-2:]))
        _, theirs = first.cross.halves(nothing, support)
        lift = first.support.vmapped.conv
        lifted = F.conv2d(theirs[0], lift.weight, padding=1)[None]
        return Memory(theirs.mean(1), lifted, support.shape[1])

    def answer(self, target: Tensor, memory: Memory) -> Tensor:
        """Logits (1, 1, H, W) of one target, the same as `forward`'s up to rounding."""
        first = self.enc_blocks[0]
        mine = first.cross.cross_conv
        mine = F.conv2d(target, mine.weight[:, : target.shape[1]], mine.bias, padding=1)
        lift = first.support.vmapped.conv
        support = _activate(memory.lifted + F.conv2d(mine, lift.weight, lift.bias, padding=1)[:, None])
        target = _activate(first.target(mine + memory.mixed_mean))
        kept = [(target, support)]
        target, support = _pool(target), _each(_pool, support)
        for level, block in enumerate(self.enc_blocks[1:], start=1):
            target, support = block(target, support)
            if level + 1 < len(self.enc_blocks):
                kept.append((target, support))
                target, support = _pool(target), _each(_pool, support)
        for block in self.dec_blocks:
            target_beside, support_beside = kept.pop()
            target = torch.cat([_up(target), target_beside], dim=1)
            if kept:
                support = torch.cat([_each(_up, support), support_beside], dim=2)
                target, support = block(target, support)
            else:  # nothing after the last level looks at the examples, and before it their mean is enough
                mean = torch.cat([_up(support.mean(1)), support_beside.mean(1)], dim=1)
                target = block.target_only(target, mean)
        return self.out_conv(target)


def empty_network(architecture: Mapping[str, Any]) -> UniverSeg:
    """The network that a card's `architecture` asks for, on the meta device: names and shapes without memory."""
    widths = architecture.get("widths", PUBLISHED)
    if not isinstance(widths, list | tuple) or not all(isinstance(width, int) and width > 0 for width in widths):
        raise ModelError(f"The model card's widths are {widths!r}; they must be numbers of features, one per level.")
    with torch.device("meta"):
        return UniverSeg(widths)
