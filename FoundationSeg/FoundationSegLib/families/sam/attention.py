# SPDX-License-Identifier: Apache-2.0
"""Attention over a grid of image tokens with decomposed relative positions, exact, in little memory.

The formula is that of SAM's encoder: softmax(s q·k + q·R_h[row] + q·R_w[column]) v with s = head_dim ** -0.5 and tables
R indexed by the distance between query and key. Two things differ from computing it literally, and neither changes the
result beyond rounding:

* Global blocks go through the queries in chunks, so that the scores of all pairs never exist at once.
* Windowed blocks leave out the padding. A window that reaches beyond the grid is filled with zero tokens after the
  norm; their keys and values are the biases b_k and b_v, all alike, so that together they act as *one* key with the
  logit s q·b_k + log Σ_pads exp(q·R_h + q·R_w) and the value b_v. The sum over the pads factorises by rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

# Scores in work at once. On a processor 50 MB: few enough, and enough to give each thread a long stretch of work, since
# threads that meet often wait for each other, most of all on a busy machine. On a GPU, enough to keep it busy.
_SCORES_CPU = 12 * 2**20
_SCORES_GPU = 2**27


class RelativeAttention(nn.Module):
    """Multi-head attention with the parameter names of SAM's; `grid` is the side of what rel_pos spans."""

    def __init__(self, dim: int, num_heads: int, span: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.scale = self.head_dim**-0.5
        self.window = window  # 0: global
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * span - 1, self.head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * span - 1, self.head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(H, W, C) tokens to (H, W, C)."""
        height, width, dim = x.shape
        qkv = self.qkv(x.reshape(height * width, dim)).view(height, width, 3, self.num_heads, self.head_dim)
        out = torch.empty(height, width, self.num_heads, self.head_dim, dtype=qkv.dtype, device=qkv.device)
        if self.window == 0:
            self._global(qkv, out)
        else:
            for rows, columns in _windows(height, width, self.window):
                self._windowed(qkv[rows, columns], out[rows, columns])
        result: Tensor = self.proj(out.view(height * width, dim)).view(height, width, dim)
        return result

    def _global(self, qkv: Tensor, out: Tensor) -> None:
        """Fills `out` (H, W, heads, c), some rows of all heads at a time."""
        height, width = qkv.shape[:2]
        tokens, heads = height * width, self.num_heads
        table_h, table_w = self._table(self.rel_pos_h, height, height), self._table(self.rel_pos_w, width, width)
        budget = _SCORES_GPU if qkv.is_cuda else _SCORES_CPU
        rows = max(1, min(height, budget // (heads * tokens * width)))
        room = qkv.new_empty(heads, rows, width, height, width)
        q, k, v = qkv.permute(2, 3, 0, 1, 4).contiguous()  # each (heads, H, W, c)
        keys, values = k.view(heads, tokens, -1).transpose(1, 2), v.view(heads, tokens, -1)
        rel_h = q @ table_h.transpose(1, 2)  # (heads, H, W, H)
        rel_w = torch.einsum("nhwc,wkc->nhwk", q, table_w)
        for start in range(0, height, rows):
            part = slice(start, min(start + rows, height))
            scores = room if part.stop - start == rows else room[:, : part.stop - start].contiguous()
            torch.add(rel_h[:, part, :, :, None], rel_w[:, part, :, None, :], out=scores)
            scores = scores.view(heads, -1, tokens)
            scores.baddbmm_(q[:, part].reshape(heads, -1, self.head_dim), keys, alpha=self.scale)
            torch.softmax(scores, dim=-1, out=scores)
            done = (scores @ values).view(heads, -1, width, self.head_dim)
            out[part] = done.permute(1, 2, 0, 3)

    def _windowed(self, qkv: Tensor, out: Tensor) -> None:
        """Fills `out` (a*h, b*w, heads, c): a*b windows, all of the same real extent h x w."""
        window, heads = self.window, self.num_heads
        h, w = min(window, qkv.shape[0]), min(window, qkv.shape[1])
        down, across = qkv.shape[0] // h, qkv.shape[1] // w
        windows = down * across
        table_h, table_w = self._table(self.rel_pos_h, h, window), self._table(self.rel_pos_w, w, window)
        bias_k, bias_v = self.qkv_bias[1], self.qkv_bias[2]
        block = qkv.view(down, h, across, w, 3, heads, self.head_dim).permute(4, 0, 2, 5, 1, 3, 6).contiguous()
        q, k, v = block.view(3, windows * heads, h, w, self.head_dim)
        rel_h = torch.einsum("nhwc,hkc->nhwk", q, table_h)  # over the window's rows, pads included
        rel_w = torch.einsum("nhwc,wkc->nhwk", q, table_w)
        scores = _outer_sum(rel_h[..., :h], rel_w[..., :w]).view(windows * heads, h * w, h * w)
        q, k, v = (part.view(windows * heads, h * w, self.head_dim) for part in (q, k, v))
        scores.baddbmm_(q, k.transpose(1, 2), alpha=self.scale)
        if (h, w) != (window, window):
            pads = _log_sum_of_pads(rel_h, rel_w, h, w).view(windows * heads, h * w, 1)
            own = (q.view(windows, heads, h * w, -1) @ bias_k[:, :, None]).view(windows * heads, h * w, 1)
            scores = torch.cat([scores, pads + self.scale * own], dim=2)
            extra = bias_v[None, :, None].expand(windows, heads, 1, self.head_dim)
            v = torch.cat([v, extra.reshape(windows * heads, 1, self.head_dim)], dim=1)
        torch.softmax(scores, dim=-1, out=scores)
        done = (scores @ v).view(down, across, heads, h, w, self.head_dim)
        out.view(down, h, across, w, heads, self.head_dim).copy_(done.permute(0, 3, 1, 4, 2, 5))

    @property
    def qkv_bias(self) -> Tensor:
        """(3, heads, c): what a token of zeros becomes."""
        return self.qkv.bias.view(3, self.num_heads, self.head_dim)

    def _table(self, rel_pos: Tensor, queries: int, keys: int) -> Tensor:
        """(queries, keys, c): the row of the table for each distance between a query and a key."""
        span = (rel_pos.shape[0] + 1) // 2
        distance = torch.arange(queries)[:, None] - torch.arange(keys)[None, :] + span - 1
        return rel_pos[distance.to(rel_pos.device)]


def _windows(height: int, width: int, window: int) -> Iterator[tuple[slice, slice]]:
    """The grid in up to four parts, in each of which all windows have the same real extent."""
    for rows in _parts(height, window):
        for columns in _parts(width, window):
            yield rows, columns


def _parts(length: int, window: int) -> list[slice]:
    whole = length // window * window
    return [part for part in (slice(0, whole), slice(whole, length)) if part.stop > part.start]


def _outer_sum(rows: Tensor, columns: Tensor) -> Tensor:
    """(..., a) and (..., b) to (..., a, b), contiguous whatever the strides of the two."""
    out = rows.new_empty(*rows.shape, columns.shape[-1])
    return torch.add(rows[..., :, None], columns[..., None, :], out=out)


def _log_sum_of_pads(rel_h: Tensor, rel_w: Tensor, h: int, w: int) -> Tensor:
    """log Σ exp(rel_h + rel_w) over the keys of a window that lie beyond its real h x w part: (n, h, w).

    The pads are two rectangles: all columns of the rows below, and the columns to the right of the real rows. Summing
    these, instead of taking the real keys from all of them, loses no digits where the pads weigh little.
    """
    parts = []
    if rel_h.shape[-1] > h:
        parts.append(rel_h[..., h:].logsumexp(-1) + rel_w.logsumexp(-1))
    if rel_w.shape[-1] > w:
        parts.append(rel_h[..., :h].logsumexp(-1) + rel_w[..., w:].logsumexp(-1))
    return parts[0] if len(parts) == 1 else torch.logaddexp(parts[0], parts[1])
