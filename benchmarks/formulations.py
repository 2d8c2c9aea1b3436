"""Other ways to compute neighbourhood attention, to compare with.

All take (q, k, v, rpb, kernel_size, dilation), shapes as in
:func:`stylenat.models.attention.neighborhood_attention`, and differ in nothing but time and memory.
"""

from collections.abc import Callable
from functools import cache, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from stylenat.neighbourhood import axis_windows


def gather(q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int) -> Tensor:
    """Unfused, as upstream computes it: q·k of every neighbour, softmax, sum of the values."""
    batch, heads, height, width, channels = q.shape
    pixels, offsets = _pairs(height, width, kernel_size, dilation, q.device)
    shape = (batch, heads, *pixels.shape, channels)
    keys, values = (x.flatten(2, 3).index_select(2, pixels.flatten()).view(shape) for x in (k, v))
    queries = (q * channels**-0.5).reshape(batch, heads, -1, channels, 1)
    logits = (keys @ queries).squeeze(-1)
    bias = rpb.flatten(1).index_select(1, offsets.flatten()).view(heads, *offsets.shape)
    weights = (logits + bias.to(logits.dtype)).softmax(-1)
    return (weights.unsqueeze(-2) @ values).view(q.shape)


def dense(q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int) -> Tensor:
    """Fused attention of every pixel to all others, masked."""
    index = _dense_index(*q.shape[2:4], kernel_size, dilation, q.device)
    table = F.pad(rpb.flatten(1).to(q.dtype), (0, 1), value=float("-inf"))
    mask = table.index_select(1, index.flatten()).view(1, -1, *index.shape)
    y = F.scaled_dot_product_attention(*(x.flatten(2, 3) for x in (q, k, v)), attn_mask=mask)
    return y.view(q.shape)


def flex(q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int) -> Tensor:
    """FlexAttention, compiled; no gradients on a CPU."""
    width = q.shape[3]
    last = 2 * kernel_size - 2

    def add_bias(score, batch, head, query, key):
        # Pairs outside the mask are computed, too, so their offsets must stay within the table.
        dy = key // width // dilation - query // width // dilation + kernel_size - 1
        dx = key % width // dilation - query % width // dilation + kernel_size - 1
        return score + rpb[head, dy.clamp(0, last), dx.clamp(0, last)]

    y = _compiled_flex()(
        *(x.flatten(2, 3).contiguous() for x in (q, k, v)),
        score_mod=add_bias,
        block_mask=_flex_mask(*q.shape[2:4], kernel_size, dilation, q.device),
    )
    return y.view(q.shape)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # cached, also for use with gradients
def _pairs(
    height: int, width: int, kernel_size: int, dilation: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(pixels, kernel_size²): the pixels that each attends to, and the place of their offsets in a
    flattened rpb."""
    rows, dy = torch.tensor(axis_windows(height, kernel_size, dilation), device=device)
    columns, dx = torch.tensor(axis_windows(width, kernel_size, dilation), device=device)
    centre, side = kernel_size - 1, 2 * kernel_size - 1
    pixels = rows[:, None, :, None] * width + columns[None, :, None, :]
    offsets = (dy[:, None, :, None] + centre) * side + dx[None, :, None, :] + centre
    shape = (height * width, kernel_size**2)
    return pixels.reshape(shape), offsets.reshape(shape)


@lru_cache(maxsize=2)
@torch.inference_mode(False)  # cached, also for use with gradients
def _dense_index(
    height: int, width: int, kernel_size: int, dilation: int, device: torch.device
) -> Tensor:
    """(pixels, pixels): place in a flattened rpb, or one past its end where not attended."""
    pixels, offsets = _pairs(height, width, kernel_size, dilation, device)
    outside = (2 * kernel_size - 1) ** 2
    index = pixels.new_full((height * width,) * 2, outside)
    return index.scatter_(1, pixels, offsets)


@lru_cache(maxsize=8)
def _flex_mask(height: int, width: int, kernel_size: int, dilation: int, device: torch.device):
    from torch.nn.attention.flex_attention import create_block_mask

    first_y, first_x = (
        torch.tensor([pixels[0] for pixels in axis_windows(length, kernel_size, dilation)[0]]).to(
            device
        )
        for length in (height, width)
    )
    span = kernel_size * dilation

    def attended(batch, head, query, key):
        dy = key // width - first_y[query // width]
        dx = key % width - first_x[query % width]
        inside = (dy >= 0) & (dy < span) & (dx >= 0) & (dx < span)
        return inside & (dy % dilation == 0) & (dx % dilation == 0)

    return create_block_mask(attended, None, None, *(height * width,) * 2, device=device.type)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)
