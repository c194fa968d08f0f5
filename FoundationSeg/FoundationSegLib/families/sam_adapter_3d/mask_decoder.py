# SPDX-License-Identifier: Apache-2.0
"""The 3DSAM-adapter's mask decoder: four feature maps and the image itself to logits of background and structure.

Names of parameters are those of the published `decoder_dict`. The last convolution but one takes 513 channels, of
which a click changes 128; `fixed` computes the share of the others once per region, and `forward` adds the rest.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import AdapterConfig


def _head(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(channels, out, 3, padding=1, bias=False),
        nn.InstanceNorm3d(out),
        nn.ReLU(),
        nn.Conv3d(out, out, 3, padding=1, bias=False),
        nn.InstanceNorm3d(out),
        nn.ReLU(),
    )


class Heads(nn.Module):
    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.head2 = _head(config.feature_channels, config.head_channels)
        self.head3 = _head(config.feature_channels, config.head_channels)
        self.head4 = _head(config.feature_channels, config.head_channels)
        self.head5 = _head(config.feature_channels, config.head_channels)


class MaskDecoder(nn.Module):
    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.size, self.crop, self.channels = config.decoder_size, config.crop, config.head_channels
        self.mlahead = Heads(config)
        self.cls = nn.Sequential(
            nn.Conv3d(4 * config.head_channels + 1, config.head_channels, 3, padding=1, bias=False),
            nn.InstanceNorm3d(config.head_channels),
            nn.ReLU(),
            nn.Conv3d(config.head_channels, 2, 3, padding=1, bias=False),
        )

    def fixed(self, features: list[Tensor], image: Tensor) -> Tensor:
        """(1, C, n, n, n): the share of the first three feature maps and of the image (1, D, H, W)."""
        heads = (self.mlahead.head2, self.mlahead.head3, self.mlahead.head4)
        weight, c = self.cls[0].weight, self.channels
        shrunk = F.interpolate(image.permute(0, 2, 3, 1)[:, None], scale_factor=self.size / self.crop, mode="trilinear")
        total = F.conv3d(shrunk, weight[:, 4 * c :], padding=1)
        for number, (head, feature) in enumerate(zip(heads, features, strict=True)):
            total = total + F.conv3d(self._enlarged(head(feature)), weight[:, number * c : (number + 1) * c], padding=1)
        return total

    def forward(self, fixed: Tensor, prompted: Tensor) -> Tensor:
        """Logits (1, 2, D, H, W) on the crop's voxels, from `fixed` and the prompt encoder's feature map."""
        weight, c = self.cls[0].weight, self.channels
        x = fixed + F.conv3d(self._enlarged(self.mlahead.head5(prompted)), weight[:, 3 * c : 4 * c], padding=1)
        for layer in self.cls[1:]:
            x = layer(x)
        x = F.interpolate(x, scale_factor=self.crop // self.size, mode="trilinear", align_corners=True)
        return x.permute(0, 1, 4, 2, 3)

    def _enlarged(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.size // x.shape[-1], mode="trilinear", align_corners=True)
