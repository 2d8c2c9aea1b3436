"""What the GPU kernels look up of every head."""

from collections.abc import Sequence

import torch
from torch import Tensor


def head_table(
    heads: Sequence[int], kernel_sizes: Sequence[int], dilations: Sequence[int]
) -> Tensor:
    """For every head of these groups its kernel size, its dilation and where its bias table begins
    if all of them lie one after the other: int32 (heads, 3)."""
    lines, entry = [], 0
    for count, kernel_size, dilation in zip(heads, kernel_sizes, dilations, strict=True):
        for _ in range(count):
            lines.append((kernel_size, dilation, entry))
            entry += (2 * kernel_size - 1) ** 2
    return torch.tensor(lines, dtype=torch.int32)
