"""Neighbourhood attention as it is defined: the yardstick of every other backend.

Float64 inside, kernel_size² times the memory of its input, differentiable any number of times.
Everything that makes a fast backend hard to read (tiles, masks, strides) is absent on purpose.
"""

import torch
from torch import Tensor

from stylenat.neighbourhood import axis_windows


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
