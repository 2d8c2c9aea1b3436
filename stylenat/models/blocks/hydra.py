"""The layer of Hydra neighbourhood attention."""

from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn

from stylenat.blocks.hydra import HeadGroup, head_groups
from stylenat.config import ModelConfig
from stylenat.models.attention import hydra_attention
from stylenat.models.attention.tables import head_table
from stylenat.models.blocks.base import AttentionLayer
from stylenat.models.cpu import PixelLinear


class HydraAttention(AttentionLayer):
    """Neighbourhood attention whose groups of heads see different neighbourhoods
    (paper, section 3.2): kernel and dilation belong to the group, one bias table per head.
    Without ``bias`` the tables are None."""

    table: Tensor

    def __init__(self, channels: int, groups: tuple[HeadGroup, ...], bias: bool):
        super().__init__()
        self.groups = groups
        self.qkv = PixelLinear(channels, 3 * channels)
        tables = [
            torch.empty(group.heads, 2 * group.kernel_size - 1, 2 * group.kernel_size - 1)
            for group in groups
        ]
        self.rpb = nn.ParameterList(tables) if bias else (None,) * len(groups)
        self.proj = PixelLinear(channels, channels)
        # A buffer, not made when it is first needed: that may be while a CUDA graph is recorded.
        parts = [(group.heads, group.kernel_size, group.dilation) for group in groups]
        table = head_table(*zip(*parts, strict=True))
        self.register_buffer("table", table, persistent=False)

    @classmethod
    def of(cls, config: ModelConfig, level: int) -> Self:
        width = config.width(config.resolutions[level])
        return cls(width, head_groups(config, level), config.relative_position_bias)

    def bias_tables(self) -> Iterable[Tensor]:
        return (table for table in self.rpb if table is not None)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(hydra_attention(self.qkv(x), self.rpb, self.groups, table=self.table))
