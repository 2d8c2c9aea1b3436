"""Neighbourhood attention as it is defined: the yardstick of every other backend.

Float64 inside, kernel_size² times the memory of its input, differentiable any number of times.
Everything that makes a fast backend hard to read (tiles, masks, strides) is absent on purpose.
"""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def axis_windows(
    length: int, kernel_size: int, dilation: int
) -> tuple[list[list[int]], list[list[int]]]:
    """What each pixel of one axis attends to.

    Returns, per pixel, the kernel_size pixels of its window, and for each of them the offset
    key - query in steps of the dilation, from -(kernel_size - 1) to kernel_size - 1.
    """
    pixels, offsets = [], []
    for pixel in range(length):
        members = list(range(pixel % dilation, length, dilation))
        rank = members.index(pixel)
        centred = rank - kernel_size // 2
        first = min(max(centred, 0), len(members) - kernel_size)
        window = range(first, first + kernel_size)
        pixels.append([members[key] for key in window])
        offsets.append([key - rank for key in window])
    return pixels, offsets


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rpb: Tensor | None,
    kernel_size: int,
    dilation: int,
    scale: float,
) -> Tensor:
    """Shapes and meaning as in `neighborhood_attention`, which checks them."""
    height, width = q.shape[2:4]
    rows, row_offsets = torch.tensor(axis_windows(height, kernel_size, dilation), device=q.device)
    columns, column_offsets = torch.tensor(
        axis_windows(width, kernel_size, dilation), device=q.device
    )
    # Every index below has the axes y, x (the query) and i, j (the place in its window).
    rows, row_offsets = rows[:, None, :, None], row_offsets[:, None, :, None]
    columns, column_offsets = columns[None, :, None, :], column_offsets[None, :, None, :]

    keys = k.double()[:, :, rows, columns]
    values = v.double()[:, :, rows, columns]
    logits = scale * torch.einsum("bhyxd,bhyxijd->bhyxij", q.double(), keys)
    if rpb is not None:
        centre = kernel_size - 1
        logits = logits + rpb.double()[:, row_offsets + centre, column_offsets + centre]
    weights = logits.flatten(-2).softmax(-1).view_as(logits)
    return torch.einsum("bhyxij,bhyxijd->bhyxd", weights, values).to(q.dtype)
