"""Self-attention over all pixels of a level."""

from collections.abc import Iterable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenat.config import ModelConfig
from stylenat.models.blocks.base import AttentionLayer, relative_position_index
from stylenat.models.cpu import PixelLinear

HELD_SIDE = 4  # the one level whose index table checkpoints of the reference hold


class FullAttention(AttentionLayer):
    """Self-attention over all pixels of a level, always of the 4² one, with relative position
    bias."""

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, side: int):
        super().__init__()
        self.heads = heads
        span = 2 * side - 1
        self.rpb = nn.Parameter(torch.empty(heads, span, span))
        # Checkpoints of the reference hold that of the 4² level, the only one they have.
        index, held = relative_position_index(side), side == HELD_SIDE
        self.register_buffer("relative_position_index", index, persistent=held)
        self.qkv = PixelLinear(channels, 3 * channels)
        self.proj = PixelLinear(channels, channels)

    @classmethod
    def of(cls, config: ModelConfig, level: int) -> Self:
        side = config.resolutions[level]
        return cls(config.width(side), config.heads(side), side)

    def bias_tables(self) -> Iterable[Tensor]:
        return (self.rpb,)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv
        bias = self.rpb.flatten(1)[:, self.relative_position_index].to(qkv.dtype)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        return self.proj(y.transpose(1, 2).reshape(x.shape))
