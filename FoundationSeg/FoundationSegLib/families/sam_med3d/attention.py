# SPDX-License-Identifier: Apache-2.0
"""Self-attention of the image encoder: as published, and the same numbers without the work on padding.

Tokens lie on a grid (d, h, w). A window of K^3 tokens that sticks out of the grid is filled up with zeros *after* the
norm, so every padded token has the biases for query, key and value. They take part in the softmax: leaving them out
changes the result. In the published model 8^3 tokens sit in one window of 14^3, so 2232 of 2744 tokens are padding.

**Relative positions.** With Q the unscaled query and R_x the tables, x in {d, h, w},

    rel_x[d, h, w, k] = Q[d, h, w] . R_x[x - k + K - 1]

is added to the attention of query (qd, qh, qw) to key (kd, kh, kw) as

    rel_d[qd, qh, qw, kw] + rel_h[qd, qh, kd, kw] + rel_w[qd, qh, kh, kw]

and not as one would write it down: the third index of rel_h and rel_w is the *key's* kd and kh. The published weights
were trained with exactly this, so it stays.

**Padding collapsed.** All padded keys of a window share one key b_k and one value b_v and differ by the relative
position only. Together they act on a query as one virtual key b_k with value b_v and bias log(sum of exp(rel)) over
the padding. rel is a sum of A[qw, kw], B[kd, kw] and C[kh, kw], so the sum over the padding takes one pass over each
axis. It is put together from disjoint parts (kw beyond the grid; kw inside and kh beyond; both inside and kd beyond)
rather than as "all minus the real ones", which would cancel where there is little padding. Padded queries are thrown
away afterwards and are not computed at all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..onednn import linear


def relative_table(table: Tensor, queries: int, keys: int) -> Tensor:
    """Rows R[q - k + K - 1] of a table (2K - 1, C) for q < `queries`, k < `keys` = K: (queries, keys, C)."""
    q = torch.arange(queries, device=table.device)[:, None]
    k = torch.arange(keys, device=table.device)[None, :]
    return table[q - k + keys - 1]


def position_terms(
    q: Tensor, row: Tensor, tables: tuple[Tensor, Tensor, Tensor], keys: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of the relative position over a whole window of `keys`^3.

    Args:
        q: unscaled queries (N, D, H, W, C), of the real part of each window.
        row: the same, filled up along w to the whole window: (N, D, H, keys, C).
        tables: rel_pos_d, rel_pos_h, rel_pos_w, each (2 keys - 1, C).
        keys: tokens per edge of the window.

    Returns:
        A (N, D, H, W, kw), B (N, D, H, kd, kw), C (N, D, H, kh, kw).
    """
    _, d, h, _, _ = q.shape
    rel_d, rel_h, rel_w = tables
    a = torch.matmul(q.flatten(2, 3), relative_table(rel_d, d, keys).transpose(1, 2)).unflatten(2, q.shape[2:4])
    b = torch.matmul(row, relative_table(rel_h, h, keys).transpose(1, 2))
    c = torch.einsum("ndhkc,kjc->ndhkj", row, relative_table(rel_w, keys, keys))
    return a, b, c


def position_bias(q: Tensor, tables: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The whole relative-position term of full windows: queries (N, K, K, K, C) to (N, K^3, K^3)."""
    keys = q.shape[3]
    a, b, c = position_terms(q, q, tables, keys)
    bias = a[:, :, :, :, None, None, :] + b[:, :, :, None, :, None, :] + c[:, :, :, None, None, :, :]
    return bias.reshape(q.shape[0], keys**3, keys**3)


def _padding_mass(a: Tensor, b: Tensor, c: Tensor, d: int, h: int, w: int) -> Tensor:
    """log of the sum of exp(A + B + C) over the padded keys of a window with d x h x w real ones: (N, D, H, W)."""
    real_b, padded_b = b[..., :d, :].logsumexp(3), b[..., d:, :].logsumexp(3)  # (N, D, H, kw)
    real_c, padded_c = c[..., :h, :].logsumexp(3), c[..., h:, :].logsumexp(3)
    all_b, all_c = torch.logaddexp(real_b, padded_b), torch.logaddexp(real_c, padded_c)
    inside = torch.logaddexp(all_b + padded_c, padded_b + real_c)[..., :w]
    rest = torch.cat([inside, (all_b + all_c)[..., w:]], dim=-1)
    return (a + rest[:, :, :, None, :]).logsumexp(-1)


class Attention(nn.Module):
    """Multi-head attention with relative positions, over cubes of tokens."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        """`window` is the number of tokens per edge of the cube that the tables are for."""
        super().__init__()
        self.heads, self.window = heads, window
        channels = width // heads
        self.scale = channels**-0.5
        for axis in "dhw":
            setattr(self, f"rel_pos_{axis}", nn.Parameter(torch.zeros(2 * window - 1, channels)))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    @property
    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.rel_pos_d, self.rel_pos_h, self.rel_pos_w

    def forward(self, x: Tensor) -> Tensor:
        """The plain computation: (B, K, K, K, width) to the same shape, padding included."""
        batch, k = x.shape[0], x.shape[1]
        q, key, value = (
            self.qkv(x).reshape(batch, k**3, 3, self.heads, -1).permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)
        )
        scores = (q * self.scale) @ key.transpose(-2, -1)
        # The terms are added one after the other and out of place, as the original does: this is what speed and
        # memory are compared with.
        a, b, c = position_terms(q.unflatten(1, (k, k, k)), q.unflatten(1, (k, k, k)), self.tables, k)
        scores = scores.view(-1, k, k, k, k, k, k)
        scores = scores + a[:, :, :, :, None, None, :] + b[:, :, :, None, :, None, :] + c[:, :, :, None, None, :, :]
        weights = scores.view(-1, k**3, k**3).softmax(dim=-1)
        out = (weights @ value).view(batch, self.heads, k, k, k, -1).permute(0, 2, 3, 4, 1, 5)
        return self.proj(out.flatten(4))

    def on_grid(self, x: Tensor) -> Tensor:
        """The same for all windows of a grid at once, without its padding: (B, D, H, W, width) to the same shape."""
        qkv = linear(self.qkv, x)
        out = torch.empty_like(x)
        parts = [_segments(size, self.window) for size in x.shape[1:4]]
        for d in parts[0]:
            for h in parts[1]:
                for w in parts[2]:
                    where = (slice(None), d[0], h[0], w[0])
                    counts = (d[1], h[1], w[1])
                    cubes = self._attend(_split(qkv[where], counts))
                    out[where] = _join(cubes, counts)
        return linear(self.proj, out)

    def _attend(self, qkv: Tensor) -> Tensor:
        """Windows with as many real tokens each: (B, d, h, w, 3 width) to (B, d, h, w, width)."""
        batch, d, h, w, _ = qkv.shape
        tokens, keys = d * h * w, self.window
        q, key, value = (
            qkv.reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        )  # (B, heads, tokens, C)
        cubes = q.reshape(batch * self.heads, d, h, w, -1).float()
        padded = tokens < keys**3
        bias_q, bias_k, bias_v = self.qkv.bias.view(3, self.heads, 1, -1)
        row = cubes
        if w < keys:
            filler = bias_q.float().repeat(batch, 1, 1)[:, None, None].expand(-1, d, h, keys - w, -1)
            row = torch.cat([cubes, filler], dim=3)
        a, b, c = position_terms(cubes, row, tuple(table.float() for table in self.tables), keys)
        bias = a.new_empty(batch * self.heads, tokens, tokens + padded)
        near = b[:, :, :, None, :d, None, :w] + c[:, :, :, None, None, :h, :w]
        torch.add(
            a[:, :, :, :, None, None, :w], near, out=bias[..., :tokens].view(batch * self.heads, d, h, w, d, h, w)
        )
        if padded:
            bias[..., tokens] = _padding_mass(a, b, c, d, h, w).flatten(1)
            key = torch.cat([key, bias_k.to(key.dtype).expand(batch, -1, -1, -1)], dim=2)
            value = torch.cat([value, bias_v.to(value.dtype).expand(batch, -1, -1, -1)], dim=2)
        bias = bias.to(q.dtype).view(batch, self.heads, tokens, -1)
        out = F.scaled_dot_product_attention(q, key, value, attn_mask=bias, scale=self.scale)
        return out.transpose(1, 2).reshape(batch, d, h, w, -1)


def _segments(size: int, window: int) -> list[tuple[slice, int]]:
    """An axis as (whole windows, how many) and, where they do not fill it, (the rest, 1)."""
    whole = size // window
    parts = [(slice(0, whole * window), whole), (slice(whole * window, size), 1)]
    return [(part, count) for part, count in parts if part.stop > part.start]


def _split(x: Tensor, counts: tuple[int, int, int]) -> Tensor:
    """(B, D, H, W, C) cut into counts[a] equal pieces per axis: (B * pieces, d, h, w, C)."""
    (cd, ch, cw), (batch, d, h, w, channels) = counts, x.shape
    cubes = x.reshape(batch, cd, d // cd, ch, h // ch, cw, w // cw, channels).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return cubes.reshape(-1, d // cd, h // ch, w // cw, channels)


def _join(cubes: Tensor, counts: tuple[int, int, int]) -> Tensor:
    """The inverse of `_split`."""
    (cd, ch, cw), (_, d, h, w, channels) = counts, cubes.shape
    x = cubes.view(-1, cd, ch, cw, d, h, w, channels).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(-1, cd * d, ch * h, cw * w, channels)
