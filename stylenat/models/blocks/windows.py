"""Attention in windows: StyleSwin's double attention, the baseline that StyleNAT started from.

Half of the heads attend inside windows that tile the map, the other half inside windows shifted by
half their side (Zhang et al., "StyleSwin", CVPR 2022, section 3.2).
"""

from collections.abc import Iterable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenat.blocks.windows import shift_of, spans, window_side
from stylenat.config import ModelConfig
from stylenat.models.blocks.base import AttentionLayer, relative_position_index
from stylenat.models.cpu import PixelLinear


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, window: int, shift: int
) -> Tensor:
    """Attend from every pixel to all pixels of its window, whose borders lie ``shift`` pixels
    after the multiples of ``window``.

    q, k, v (B, heads, H, W, D) and bias (heads, window, window, window, window), for the y and x
    of a query and of a key → (B, heads, H, W, D).
    """
    batch, heads, height, width, channels = q.shape

    def strip(rows: slice, columns: slice, y: int, x: int) -> Tensor:
        """The pixels of whole windows of y × x pixels."""
        mask = bias[:, :y, :x, :y, :x].reshape(1, heads, y * x, y * x)
        grid = ((rows.stop - rows.start) // y, (columns.stop - columns.start) // x)
        queries, keys, values = (
            part[:, :, rows, columns]
            .reshape(batch, heads, grid[0], y, grid[1], x, channels)
            .permute(0, 2, 4, 1, 3, 5, 6)
            .reshape(-1, heads, y * x, channels)
            for part in (q, k, v)
        )
        result = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        result = result.view(batch, *grid, heads, y, x, channels).permute(0, 3, 1, 4, 2, 5, 6)
        return result.reshape(batch, heads, grid[0] * y, grid[1] * x, channels)

    across = spans(width, window, shift)
    strips = []
    for top, rows, y in spans(height, window, shift):
        part = slice(top, top + rows)
        strips.append(torch.cat([strip(part, slice(a, a + n), y, x) for a, n, x in across], 3))
    return torch.cat(strips, 2)


class WindowAttention(AttentionLayer):
    """Double attention on maps (B, side, side, C), a bias table for every head.

    Where one window covers the map, nothing is shifted and both halves see everything.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, side: int, window: int):
        super().__init__()
        self.window = window
        self.shifts = (0, shift_of(side, window))
        span = 2 * window - 1
        self.qkv = PixelLinear(channels, 3 * channels)
        self.rpb = nn.ParameterList(torch.empty(heads // 2, span, span) for _ in self.shifts)
        self.proj = PixelLinear(channels, channels)
        index = relative_position_index(window)
        self.register_buffer("relative_position_index", index, persistent=False)

    @classmethod
    def of(cls, config: ModelConfig, level: int) -> Self:
        side = config.resolutions[level]
        return cls(config.width(side), config.heads(side), side, window_side(config, level))

    def bias_tables(self) -> Iterable[Tensor]:
        return self.rpb

    def forward(self, x: Tensor) -> Tensor:
        heads = 2 * len(self.rpb[0])
        qkv = self.qkv(x).view(*x.shape[:3], 3, heads, -1).permute(3, 0, 4, 1, 2, 5)
        halves = []
        for half, (rpb, shift) in enumerate(zip(self.rpb, self.shifts, strict=True)):
            q, k, v = qkv[:, :, half * len(rpb) : (half + 1) * len(rpb)]
            bias = self._bias(rpb, qkv.dtype)
            halves.append(window_attention(q, k, v, bias, self.window, shift))
        return self.proj(torch.cat(halves, 1).permute(0, 2, 3, 1, 4).flatten(3))

    def _bias(self, rpb: Tensor, dtype: torch.dtype) -> Tensor:
        sides = (self.window,) * 4
        return rpb.flatten(1)[:, self.relative_position_index].view(len(rpb), *sides).to(dtype)
