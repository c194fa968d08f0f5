# SPDX-License-Identifier: Apache-2.0
"""The compact network in PyTorch: training and the safetensors twin. Inference runs the exported ONNX graphs.

The split is SAM's (Kirillov et al., "Segment Anything", ICCV 2023): `ImageEncoder` runs once per region,
`PromptDecoder` once per prompt. Unlike SAM the network is volumetric and convolutional, and clicks do not enter as
learned tokens only: the decoder looks up the image features *at* the clicks and compares every voxel with them
(appearance, learned features, and a minimal-path distance), so that little training is needed before a click steers
the mask.

Tensors are (batch, channel, k, j, i) on a cubic grid of N voxels per side, N a multiple of 16. Point coordinates are
(k, j, i) in voxels of that grid.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class CompactConfig:
    """Widths of the network; stored in the model card, so that a checkpoint can be rebuilt."""

    image_channels: int = 2
    widths: tuple[int, int, int, int] = (32, 64, 96, 128)  # encoder features at strides 2, 4, 8, 16
    decoder_widths: tuple[int, int, int] = (32, 48, 64)  # decoder features at strides 2, 4, 8
    lookup_channels: int = 16  # learned embedding in which voxels are compared with the clicks
    path_steps: int = 16  # steps of the minimal-path propagation at stride 2

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(max(1, channels // 8), channels)


class ResidualBlock(nn.Module):
    """Two 3×3×3 convolutions with group normalisation and an identity path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1, bias=False),
            _norm(channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels, channels, 3, padding=1, bias=False),
            _norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=kernel // 2 if stride == 1 else 0, bias=False),
        _norm(outputs),
        nn.ReLU(inplace=True),
    )


def space_to_depth(x: Tensor) -> Tensor:
    """(B, C, N, N, N) to (B, 8C, N/2, N/2, N/2): halves the grid without losing a voxel."""
    b, c, n = x.shape[0], x.shape[1], x.shape[2]
    h = n // 2
    return x.reshape(b, c, h, 2, h, 2, h, 2).permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, 8 * c, h, h, h)


def depth_to_space(x: Tensor) -> Tensor:
    """The inverse of `space_to_depth`."""
    b, c, h = x.shape[0], x.shape[1] // 8, x.shape[2]
    return x.reshape(b, c, 2, 2, 2, h, h, h).permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c, 2 * h, 2 * h, 2 * h)


class ImageEncoder(nn.Module):
    """Image region (B, image_channels, N, N, N) to features at strides 2, 4, 8 and 16."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        w = config.widths
        self.stem = _convolution(8 * config.image_channels, w[0])
        self.stage2 = nn.Sequential(ResidualBlock(w[0]), ResidualBlock(w[0]))
        self.down4 = _convolution(w[0], w[1], kernel=2, stride=2)
        self.stage4 = nn.Sequential(ResidualBlock(w[1]), ResidualBlock(w[1]))
        self.down8 = _convolution(w[1], w[2], kernel=2, stride=2)
        self.stage8 = nn.Sequential(ResidualBlock(w[2]), ResidualBlock(w[2]))
        self.down16 = _convolution(w[2], w[3], kernel=2, stride=2)
        self.stage16 = ResidualBlock(w[3])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        f2 = self.stage2(self.stem(space_to_depth(image)))
        f4 = self.stage4(self.down4(f2))
        f8 = self.stage8(self.down8(f4))
        f16 = self.stage16(self.down16(f8))
        return f2, f4, f8, f16


def point_heat(points: Tensor, weights: Tensor, size: int, sigma: float) -> Tensor:
    """Sum of Gaussians (B, 1, size, size, size) at `points` (B, P, 3), at most 1; `weights` (B, P) switch them off."""
    axis = torch.arange(size, dtype=points.dtype, device=points.device)
    g = torch.exp(-((axis[None, None, None, :] - points[..., None]) ** 2) / (2 * sigma**2))  # (B, P, 3, size)
    plane = (g[:, :, 1, :, None] * g[:, :, 2, None, :]).flatten(2)  # (B, P, size²)
    heat = torch.matmul((g[:, :, 0] * weights[..., None]).transpose(1, 2), plane)  # (B, size, size²)
    return heat.reshape(-1, 1, size, size, size).clamp(max=1.0)


def nearest_distance(points: Tensor, weights: Tensor, size: int) -> Tensor:
    """Distance in voxels (B, 1, size, size, size) to the nearest switched-on point; 1e3 where there is none."""
    axis = torch.arange(size, dtype=points.dtype, device=points.device)
    d2 = (axis[None, None, None, :] - points[..., None]) ** 2  # (B, P, 3, size)
    full = d2[:, :, 0, :, None, None] + d2[:, :, 1, None, :, None] + d2[:, :, 2, None, None, :]
    full = full + (1 - weights)[:, :, None, None, None] * 1e6
    return full.amin(dim=1, keepdim=True).clamp(max=1e6).sqrt()


def lookup(features: Tensor, points: Tensor) -> Tensor:
    """Features (B, P, C) at the voxels nearest to `points` (B, P, 3), clamped to the grid."""
    n = features.shape[2]
    index = points.round().clamp(0, n - 1).long()
    flat = (index[..., 0] * n + index[..., 1]) * n + index[..., 2]  # (B, P)
    c = features.shape[1]
    return torch.gather(features.flatten(2), 2, flat[:, None, :].expand(-1, c, -1)).transpose(1, 2)


def dilate(x: Tensor) -> Tensor:
    """Largest value in the 3×3×3 neighbourhood; what max_pool3d computes, faster in training."""
    if torch.onnx.is_in_onnx_export():
        return F.max_pool3d(x, 3, stride=1, padding=1)
    for axis in (2, 3, 4):
        n = x.shape[axis]
        inner = torch.maximum(x.narrow(axis, 0, n - 1), x.narrow(axis, 1, n - 1))
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, n - 1, 1)
        x = torch.maximum(torch.cat([first, inner], axis), torch.cat([inner, last], axis))
    return x


def double(x: Tensor, times: int = 2) -> Tensor:
    """Nearest-neighbour upsampling; what F.interpolate does, in operations that run fast on ONNX Runtime too."""
    b, c, n = x.shape[0], x.shape[1], x.shape[2]
    spread = x.reshape(b, c, n, 1, n, 1, n, 1).expand(b, c, n, times, n, times, n, times)
    return spread.reshape(b, c, n * times, n * times, n * times)


def smooth(x: Tensor) -> Tensor:
    return F.avg_pool3d(x, 3, stride=1, padding=1, count_include_pad=False)


class PromptDecoder(nn.Module):
    """Features and prompts to mask logits (B, 1, N, N, N) and a predicted IoU (B,).

    `point_labels` follow SAM: 1 positive, 0 negative, -1 unused. `box` is a map at stride 2, +1 deep inside and -1 far
    outside of the box, all zero without one. `mask_input` holds the logits of the round before, all zero at first.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        w, d, c = config.widths, config.decoder_widths, config.lookup_channels
        self.embed = nn.Conv3d(w[0], c, 1)
        self.embed_deep = nn.Conv3d(w[2], c, 1)
        guidance = 27  # the maps that `forward` stacks
        self.fuse2 = _convolution(w[0] + guidance, d[0])
        self.block2 = ResidualBlock(d[0])
        self.down4 = _convolution(d[0], d[1], kernel=2, stride=2)
        self.fuse4 = _convolution(d[1] + w[1], d[1])
        self.block4 = ResidualBlock(d[1])
        self.down8 = _convolution(d[1], d[2], kernel=2, stride=2)
        self.fuse8 = _convolution(d[2] + w[2] + w[3], d[2])
        self.block8 = nn.Sequential(ResidualBlock(d[2]), ResidualBlock(d[2]))
        self.up4 = nn.Conv3d(d[2], d[1], 1)
        self.merge4 = ResidualBlock(d[1])
        self.up2 = nn.Conv3d(d[1], d[0], 1)
        self.merge2 = ResidualBlock(d[0])
        # Sub-voxel logits at stride 2: a 3×3×3 convolution at full resolution would cost as much as all the rest.
        self.head = nn.Conv3d(d[0], 8, 3, padding=1)
        self.quality = nn.Sequential(nn.Linear(2 * d[0] + d[2] + 2, 64), nn.ReLU(inplace=True), nn.Linear(64, 1))

    def _similarity(self, features: Tensor, points: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Largest cosine similarity of each voxel to any positive and to any negative click: (B, 2, n, n, n)."""
        f = F.normalize(features, dim=1)
        n = f.shape[2]
        at_points = F.normalize(lookup(features, points), dim=2)
        cosine = torch.matmul(at_points, f.flatten(2))  # (B, P, n³)
        maps = [(cosine - 4.0 * (1 - on)[..., None]).amax(dim=1).clamp(min=-1.0) for on in (positive, negative)]
        return torch.stack(maps, dim=1).reshape(-1, 2, n, n, n)

    def _prototype(self, features: Tensor, weight: Tensor) -> Tensor:
        """Cosine similarity (B, 1, n, n, n) to the mean feature under `weight` (B, 1, n, n, n)."""
        w = weight.flatten(2)
        mean = torch.matmul(features.flatten(2), w.transpose(1, 2)) / (w.sum(dim=2, keepdim=True) + 1e-3)  # (B, C, 1)
        n = features.shape[2]
        cosine = torch.matmul(F.normalize(mean, dim=1).transpose(1, 2), F.normalize(features, dim=1).flatten(2))
        return cosine.reshape(-1, 1, n, n, n)

    @staticmethod
    def _difference(image: Tensor, points: Tensor, on: Tensor) -> Tensor:
        """Smallest absolute intensity difference (B, C, n, n, n) of each voxel to a click; 2 without one."""
        at_points = lookup(image, points)  # (B, P, C)
        delta = (image[:, None] - at_points[..., None, None, None]).abs()
        return (delta + 8.0 * (1 - on)[:, :, None, None, None, None]).amin(dim=1).clamp(max=2.0)

    def _paths(self, cost: Tensor, seeds: Tensor) -> Tensor:
        """Minimal-path arrival (both B, 2, n, n, n) from the seeds through the cost, as exp(-T/4).

        A Bellman-Ford sweep over the 26-neighbourhood: a differentiable, exportable form of the geodesic maps of
        DeepIGeoS (Wang et al., TPAMI 2019).
        """
        arrival = (1 - seeds) * 1e3
        for _ in range(self.config.path_steps):
            arrival = torch.minimum(arrival, cost - dilate(-arrival))
        return torch.exp(-arrival / 4)

    def forward(
        self,
        image: Tensor,
        f2: Tensor,
        f4: Tensor,
        f8: Tensor,
        f16: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        box: Tensor,
        mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        n = f2.shape[2]
        positive, negative = (point_labels == 1).to(f2.dtype), (point_labels == 0).to(f2.dtype)
        half = (point_coords - 0.5) / 2  # in voxels of the stride-2 grid
        heat = torch.cat([point_heat(half, on, n, 1.0) for on in (positive, negative)], dim=1)
        far = torch.cat([torch.exp(-nearest_distance(half, on, n) / 6) for on in (positive, negative)], dim=1)
        coarse = smooth(F.avg_pool3d(image, 2))
        near = self._difference(coarse, half, positive)
        off = self._difference(coarse, half, negative)
        seeds = (heat > 0.6).to(f2.dtype)
        cost = torch.cat([near.amax(dim=1, keepdim=True), off.amax(dim=1, keepdim=True)], dim=1) * 4 + 0.1
        paths = self._paths(cost, seeds)
        previous = torch.sigmoid(mask_input) * (mask_input != 0).to(f2.dtype)
        inside_before = F.avg_pool3d(previous, 2)
        has_mask = (mask_input.abs().amax(dim=(1, 2, 3, 4), keepdim=True) > 0).to(f2.dtype).expand(-1, -1, n, n, n)
        has_box = (box.abs().amax(dim=(1, 2, 3, 4), keepdim=True) > 0).to(f2.dtype).expand(-1, -1, n, n, n)
        embedded = self.embed(f2)
        similar = [
            self._similarity(embedded, half, positive, negative),
            self._prototype(embedded, inside_before),
            self._prototype(embedded, box.clamp(min=0)),
        ]
        deep = self._similarity(self.embed_deep(f8), (point_coords - 3.5) / 8, positive, negative)
        guidance = [heat, far, torch.tanh(2 * near), torch.tanh(2 * off), paths, box, has_box, has_mask]
        guidance += [space_to_depth(previous), *similar, double(deep, 4)]
        x2 = self.block2(self.fuse2(torch.cat([f2, *guidance], dim=1)))
        x4 = self.block4(self.fuse4(torch.cat([self.down4(x2), f4], dim=1)))
        up16 = double(f16)
        x8 = self.block8(self.fuse8(torch.cat([self.down8(x4), f8, up16], dim=1)))
        x4 = self.merge4(x4 + double(self.up4(x8)))
        x2 = self.merge2(x2 + double(self.up2(x4)))
        logits = depth_to_space(self.head(x2))
        return logits, self._quality(logits, x2, x8)

    def _quality(self, logits: Tensor, x2: Tensor, x8: Tensor) -> Tensor:
        probability = torch.sigmoid(logits.detach())
        inside = F.avg_pool3d(probability, 2)
        edge = F.avg_pool3d(4 * probability * (1 - probability), 2)
        pooled = [(x2 * m).sum(dim=(2, 3, 4)) / (m.sum(dim=(2, 3, 4)) + 1.0) for m in (inside, edge)]
        size = torch.log1p(probability.sum(dim=(2, 3, 4))) / 10
        doubt = (4 * probability * (1 - probability)).sum(dim=(2, 3, 4)) / (probability.sum(dim=(2, 3, 4)) + 1.0)
        return torch.sigmoid(self.quality(torch.cat([*pooled, x8.mean(dim=(2, 3, 4)), size, doubt], dim=1)))[:, 0]


class CompactNetwork(nn.Module):
    """Encoder and decoder together, as they are trained and stored."""

    def __init__(self, config: CompactConfig | None = None) -> None:
        super().__init__()
        self.config = config or CompactConfig()
        self.encoder = ImageEncoder(self.config)
        self.decoder = PromptDecoder(self.config)


def load_network(weights: Path) -> CompactNetwork:
    """The torch twin of the shipped model (a safetensors file), in single precision and evaluation mode."""
    from safetensors.torch import load_file

    net = CompactNetwork(CompactConfig())
    net.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    return net.eval()
