"""What every attention layer has: maps (B, H, W, C) in and out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn

from stylenat.config import ModelConfig


class AttentionLayer(nn.Module, ABC):
    """Attention on maps (B, H, W, C) of one level."""

    @classmethod
    @abstractmethod
    def of(cls, config: ModelConfig, level: int) -> Self:
        """The layer of a level."""

    @abstractmethod
    def bias_tables(self) -> Iterable[Tensor]:
        """Parameters that are added to logits, initialised like the linear layers."""


def relative_position_index(side: int) -> Tensor:
    """(side², side²): for every query and key of a square, the place of their offset, key - query,
    in a flattened bias table (2 side - 1, 2 side - 1)."""
    position = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    offset = position[None, :] - position[:, None] + side - 1
    return offset[..., 0] * (2 * side - 1) + offset[..., 1]
