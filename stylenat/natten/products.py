"""The two halves of neighbourhood attention as operators of their own, for any device and dtype.

They and the gradients of both are three views of one sum over queries p and places n of their
windows, Σ a[p, n] x[p] · y[key(p, n)]: its derivatives for a, x and y. So the gradients of each are
the other two, and no more than its inputs is kept for them; all can be differentiated any number of
times. A place of the window is computed at a time, for all queries at once.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from stylenat.neighbourhood import axis_windows
from stylenat.torch_types import Function

Geometry = tuple[int, int]  # kernel size, dilation


def dot_products(x: Tensor, y: Tensor, geometry: Geometry) -> Tensor:
    """x[p] · y[key(p, n)]: two (batch, heads, height, width, head_dim) →
    (batch, heads, height, width, kernel_size²), in x's dtype."""
    return _DotProducts.apply(x, y, geometry)


def weighted_sums(weights: Tensor, y: Tensor, geometry: Geometry) -> Tensor:
    """Σ over n of weights[p, n] y[key(p, n)]: shapes as in `dot_products`, in y's dtype."""
    return _WeightedSums.apply(weights, y, geometry)


def bias_of_places(rpb: Tensor, height: int, width: int, geometry: Geometry) -> Tensor:
    """The relative position bias of every query and place of its window:
    (heads, 2 * kernel_size - 1, 2 * kernel_size - 1) → (heads, height, width, kernel_size²)."""
    kernel_size = geometry[0]
    _, rows = _windows(height, *geometry, rpb.device)
    _, columns = _windows(width, *geometry, rpb.device)
    table = rpb.index_select(1, rows.flatten()).index_select(2, columns.flatten())
    table = table.unflatten(2, (kernel_size, width)).unflatten(1, (kernel_size, height))
    places: Tensor = table.permute(0, 2, 4, 1, 3).flatten(3)
    return places


class _DotProducts(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.geometry = geometry
        out = x.new_empty(*x.shape[:4], geometry[0] ** 2)
        x = _exact(x)
        for places, rows in _rows(_exact(y), geometry):
            for place, keys in places:
                out[..., place] = (x * rows.index_select(3, keys)).sum(-1)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        needs_x, needs_y, _ = ctx.needs_input_grad
        dx = _WeightedSums.apply(grad, y, ctx.geometry) if needs_x else None
        dy = _Spread.apply(grad, x, ctx.geometry) if needs_y else None
        return dx, dy, None


class _WeightedSums(Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, y: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(weights, y)
        ctx.geometry = geometry
        out = torch.zeros_like(_exact(y), memory_format=torch.contiguous_format)
        exact = _exact(weights)
        for places, rows in _rows(_exact(y), geometry):
            for place, keys in places:
                out.addcmul_(exact[..., place, None], rows.index_select(3, keys))
        return out.to(y.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, y = ctx.saved_tensors
        needs_weights, needs_y, _ = ctx.needs_input_grad
        dweights = _DotProducts.apply(grad, y, ctx.geometry) if needs_weights else None
        dy = _Spread.apply(weights, grad, ctx.geometry) if needs_y else None
        return dweights, dy, None


class _Spread(Function):
    """Every key's Σ of weights[p, n] x[p] over the queries p that have it at a place n."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(weights, x)
        ctx.geometry = geometry
        kernel_size = geometry[0]
        height, width = x.shape[2:4]
        rows, _ = _windows(height, *geometry, x.device)
        columns, _ = _windows(width, *geometry, x.device)
        exact, exact_weights = _exact(x), _exact(weights)
        out = torch.zeros_like(exact, memory_format=torch.contiguous_format)
        for i in range(kernel_size):
            row = torch.zeros_like(out)
            for j in range(kernel_size):
                weight = exact_weights[..., i * kernel_size + j, None]
                row.index_add_(3, columns[j], weight * exact)
            out.index_add_(2, rows[i], row)
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, x = ctx.saved_tensors
        needs_weights, needs_x, _ = ctx.needs_input_grad
        dweights = _DotProducts.apply(x, grad, ctx.geometry) if needs_weights else None
        dx = _WeightedSums.apply(weights, grad, ctx.geometry) if needs_x else None
        return dweights, dx, None


def _rows(y: Tensor, geometry: Geometry) -> Iterator[tuple[Iterator[tuple[int, Tensor]], Tensor]]:
    """For every row of places: these, each with the columns of its keys, and y's rows of its keys."""
    kernel_size = geometry[0]
    rows, _ = _windows(y.shape[2], *geometry, y.device)
    columns, _ = _windows(y.shape[3], *geometry, y.device)
    for i, row in enumerate(rows):
        yield enumerate(columns, i * kernel_size), y.index_select(2, row)


def _exact(x: Tensor) -> Tensor:
    """In float32 at least, which is what sums are taken in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@lru_cache(maxsize=64)
def _windows(
    length: int, kernel_size: int, dilation: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of every place in the windows of an axis and every pixel (kernel_size, length): the key, and
    the index of its bias."""
    with torch.inference_mode(False):  # else they could not be used in a backward pass later
        pixels, offsets = axis_windows(length, kernel_size, dilation)
        places = torch.tensor([pixels, offsets], device=device).mT.contiguous()
        return places[0], places[1] + kernel_size - 1
