"""Neighbourhood attention by tiles: plain PyTorch, fast on CPUs, exact for any geometry.

`tiling` says what the tiles are. Here they are cut out of the caller's tensors, whatever their
strides and dtype, and go through matrix products, in float32 at least, in pieces that fit the
cache, so scratch memory does not grow with batch, heads or dilation. The backward pass saves only
its inputs and recomputes the attention weights. Maps small enough go through `small_maps` instead.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from stylenat.models.attention import small_maps
from stylenat.models.attention.tiling import Kind, Part, Tiling, Windows, tiling
from stylenat.torch_types import Function, not_compiled

# Scratch of one piece: at home in a CPU's last cache, yet enough work for every tensor operation to
# outweigh its launch on all cores.
PIECE_BYTES = 16 << 20


# What is written through views of views, a compiler cannot follow.
@not_compiled
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
    shape = (3, *q.shape)
    cut = small_maps.cut(shape, q.element_size(), range(q.shape[1]), kernel_size, dilation)
    if cut is not None:
        return small_maps.attend_groups(torch.stack((q, k, v)), (rpb,), (cut,), scale)
    return _TiledAttention.apply(q, k, v, rpb, kernel_size, dilation, scale)


@not_compiled
def attend_groups(
    qkv: Tensor,
    rpbs: Sequence[Tensor] | Sequence[None],
    heads: Sequence[int],
    kernel_sizes: Sequence[int],
    dilations: Sequence[int],
    scale: float,
    table: Tensor | None = None,
) -> Tensor:
    """All head groups of a level at once: qkv (3, batch, heads, height, width, head_dim), in the
    order of the groups → (batch, heads, height, width, head_dim).

    Each group writes its part of one output, and of one gradient of qkv: nothing is put together.
    """
    ends = accumulate(heads)
    cuts = [
        small_maps.cut(qkv.shape, qkv.element_size(), range(end - count, end), *geometry)
        for count, end, *geometry in zip(heads, ends, kernel_sizes, dilations, strict=True)
    ]
    small = [cut for cut in cuts if cut is not None]
    if len(small) == len(cuts):
        return small_maps.attend_groups(qkv, rpbs, small, scale)
    return _TiledGroups.apply(
        qkv, tuple(heads), tuple(kernel_sizes), tuple(dilations), scale, *rpbs
    )


class _TiledAttention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rpb: Tensor | None,
        kernel_size: int,
        dilation: int,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, rpb)
        ctx.arguments = kernel_size, dilation, scale
        out = _empty_like(q)
        _attend((q, k, v, out), rpb, kernel_size, dilation, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, rpb = ctx.saved_tensors
        gradients = [_empty_like(x) for x in (q, k, v)]
        kernel_size, dilation, scale = ctx.arguments
        needed = ctx.needs_input_grad[3]
        drpb = _differentiate(grad, (q, k, v), gradients, rpb, kernel_size, dilation, scale, needed)
        return *gradients, drpb, None, None, None


class _TiledGroups(Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        heads: tuple[int, ...],
        kernel_sizes: tuple[int, ...],
        dilations: tuple[int, ...],
        scale: float,
        *rpbs: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(qkv, *rpbs)
        ctx.arguments = heads, kernel_sizes, dilations, scale
        out = _empty_like(qkv[0])
        parts = zip(qkv.split(heads, 2), out.split(heads, 1), rpbs, strict=True)
        groups = zip(parts, kernel_sizes, dilations, strict=True)
        for (part, target, rpb), kernel_size, dilation in groups:
            _attend((*part, target), rpb, kernel_size, dilation, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, *rpbs = ctx.saved_tensors
        heads, kernel_sizes, dilations, scale = ctx.arguments
        needed = ctx.needs_input_grad[5:]
        dqkv = _empty_like(qkv)
        parts = zip(grad.split(heads, 1), qkv.split(heads, 2), dqkv.split(heads, 2), strict=True)
        drpbs = [
            _differentiate(dout, part, gradients, rpb, kernel_size, dilation, scale, need)
            for (dout, part, gradients), rpb, kernel_size, dilation, need in zip(
                parts, rpbs, kernel_sizes, dilations, needed, strict=True
            )
        ]
        return dqkv, None, None, None, None, *drpbs


def _attend(
    maps: Sequence[Tensor], rpb: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> None:
    """Write the output of one group: the last of its maps, q, k, v and out."""
    q = maps[0]
    parts, table = _tiling(q, kernel_size, dilation)
    bias = _bias(rpb, table, kernel_size, q)
    for part in parts:
        views = [_by_class(x, part, dilation) for x in maps]
        for piece in _class_pieces(part, views[0]):
            q, k, v, out = (x[piece] for x in views)
            _forward(part.kinds, q, k, v, out, bias[piece[-1]], scale)


def _differentiate(
    grad: Tensor,
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    rpb: Tensor | None,
    kernel_size: int,
    dilation: int,
    scale: float,
    needed: bool,
) -> Tensor | None:
    """Write the gradients of one group's inputs q, k and v, and return drpb if it is `needed`."""
    q = inputs[0]
    parts, table = _tiling(q, kernel_size, dilation)
    bias = _bias(rpb, table, kernel_size, q)
    dbias = torch.zeros_like(bias) if needed else None
    for part in parts:
        views = [_by_class(x, part, dilation) for x in (grad, *inputs, *gradients)]
        for piece in _class_pieces(part, views[0]):
            heads = piece[-1]
            _backward(
                part.kinds,
                [x[piece] for x in views],
                bias[heads],
                None if dbias is None else dbias[heads],
                scale,
            )
    return None if dbias is None or rpb is None else _rpb_gradient(dbias, table, rpb)


def _forward(
    kinds: Sequence[Kind],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    bias: Tensor,
    scale: float,
) -> None:
    """Write `out` for some classes, all (B, row classes, column classes, heads, y, x, D).

    `bias` holds the tables of all kinds, (heads, entries).
    """
    kv = torch.stack((k, v)).to(bias.dtype)
    for kind in kinds:
        q_tiles, out_tiles = (_query_tiles(x, kind) for x in (q, out))
        kv_tiles = _key_tiles(kv, kind)
        mask = _mask(bias, kind)
        for piece in _tile_pieces(kind, q_tiles):
            keys, values = _batch(kv_tiles[:, *piece], 2)
            queries = _batch(q_tiles[piece]).to(kv.dtype)
            result = _attention(queries, keys, values, mask, scale)
            out_piece = out_tiles[piece]
            out_piece.copy_(result.view(out_piece.shape))


def _attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Of tiles (tiles, heads, positions, D)."""
    if not torch.is_inference_mode_enabled():
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)
    # For so few queries a tile, a quarter faster. Training keeps the roundings that the reference's
    # numbers were recorded with: the first steps of Adam, which follow signs, enlarge others.
    logits = queries @ keys.mT
    return torch.add(mask, logits, alpha=scale, out=logits).softmax(-1) @ values


def _backward(
    kinds: Sequence[Kind],
    maps: Sequence[Tensor],
    bias: Tensor,
    dbias: Tensor | None,
    scale: float,
) -> None:
    """Write dq, dk and dv of the maps, grad, q, k, v, dq, dk and dv, and add to dbias, for what
    `_forward` does."""
    grad, q, k, v, dq, dk, dv = maps
    kv = torch.stack((k, v)).to(bias.dtype)
    kv[0] *= scale  # once here instead of once per tile
    whole = len(kinds) == 1
    if not whole:
        dkv = torch.zeros_like(kv)
    for kind in kinds:
        q_tiles, grad_tiles, dq_tiles = (_query_tiles(x, kind) for x in (q, grad, dq))
        kv_tiles = _key_tiles(kv, kind)
        dkv_strips = [] if whole else _key_strips(dkv, kind)
        mask = _mask(bias, kind)
        for piece in _tile_pieces(kind, q_tiles):
            kv_piece = kv_tiles[:, *piece]
            keys, values = _batch(kv_piece, 2)
            queries, dout = (_batch(x[piece]).to(kv.dtype) for x in (q_tiles, grad_tiles))
            weights = (queries @ keys.mT).add_(mask).softmax(-1)
            # What softmax's own derivative calls: one pass instead of three.
            dlogits = torch._softmax_backward_data(dout @ values.mT, weights, -1, weights.dtype)
            if dbias is not None:
                dbias[:, kind.entries] += dlogits.sum(0).flatten(1)
            # Both gradients in one tensor, so that each strip is added at once.
            dkv_piece = kv.new_empty(kv_piece.shape)
            dkeys, dvalues = dkv_piece.view(2, -1, *keys.shape[-2:])
            torch.bmm(dlogits.mT.flatten(0, 1), queries.flatten(0, 1), out=dkeys)
            torch.bmm(weights.mT.flatten(0, 1), dout.flatten(0, 1), out=dvalues)
            if whole:
                dkv = dkv_piece.view(kv.shape)
            for strip, part in dkv_strips:
                strip[:, *piece].add_(dkv_piece[part])
            dq_piece = dq_tiles[piece]
            dq_piece.copy_((dlogits @ keys).view(dq_piece.shape))
    torch.mul(dkv[0], scale, out=dk)
    dv.copy_(dkv[1])


def _tiling(q: Tensor, kernel_size: int, dilation: int) -> Tiling:
    batch, heads, height, width, _ = q.shape
    return tiling(batch * heads, height, width, kernel_size, dilation, q.device)


def _bias(rpb: Tensor | None, table: Tensor, kernel_size: int, q: Tensor) -> Tensor:
    """(heads, len(table)): what is added to the logits, -inf where a query does not attend.

    Its dtype, float32 at least, is what everything is computed in.
    """
    entries = (2 * kernel_size - 1) ** 2
    dtype = torch.promote_types(q.dtype, torch.float32)
    flat = q.new_zeros(1, entries, dtype=dtype) if rpb is None else rpb.flatten(1).to(dtype)
    bias = F.pad(flat, (0, 1), value=float("-inf")).index_select(1, table)
    return bias.expand(q.shape[1], -1)


def _rpb_gradient(dbias: Tensor, table: Tensor, rpb: Tensor) -> Tensor:
    """Adjoint of `_bias`."""
    entries = rpb[0].numel()
    drpb = dbias.new_zeros(len(dbias), entries + 1)
    drpb.scatter_add_(1, table.expand_as(dbias), dbias)
    return drpb[:, :entries].reshape(rpb.shape).to(rpb.dtype)


def _mask(bias: Tensor, kind: Kind) -> Tensor:
    """(1, heads, queries, keys)"""
    return bias[:, kind.entries].view(1, len(bias), *_tile_shape(kind))


def _tile_shape(kind: Kind) -> tuple[int, int]:
    """Queries and keys of one tile."""
    return (
        kind.rows.queries.size * kind.columns.queries.size,
        kind.rows.keys.size * kind.columns.keys.size,
    )


def _empty_like(x: Tensor) -> Tensor:
    """Of the same shape, with heads and channels of a pixel together: as linear layers need it."""
    *parts, batch, heads, height, width, channels = x.shape
    pixels = x.new_empty(batch, height, width, *parts, heads, channels)
    return pixels.movedim((0, 1, 2), (-5, -3, -2))


def _windows(x: Tensor, dim: int, windows: Windows) -> Tensor:
    """View `dim` as windows; the positions within one become the last dimension."""
    first, size, step, count = windows
    return x.narrow(dim, first, (count - 1) * step + size).unfold(dim, size, step)


def _by_class(x: Tensor, part: Part, dilation: int) -> Tensor:
    """View (B, heads, H, W, D) as (B, row classes, column classes, heads, members, members, D)."""
    for dim, (first, count, members) in ((2, part.rows), (3, part.columns)):
        x = _windows(x, dim, Windows(first, count, dilation, members))
    return x.permute(0, 5, 6, 1, 2, 3, 4)


def _tiles(x: Tensor, rows: Windows, columns: Windows) -> Tensor:
    """View (…, heads, y, x, D) as (…, tile rows, tile columns, heads, size, size, D)."""
    x = _windows(_windows(x, -3, rows), -3, columns)
    n = x.dim() - 6
    return x.permute(*range(n), n + 1, n + 2, n, n + 4, n + 5, n + 3)


def _query_tiles(x: Tensor, kind: Kind) -> Tensor:
    return _tiles(x, kind.rows.queries, kind.columns.queries)


def _key_tiles(x: Tensor, kind: Kind) -> Tensor:
    return _tiles(x, kind.rows.keys, kind.columns.keys)


def _key_strips(x: Tensor, kind: Kind) -> list[tuple[Tensor, tuple[Any, ...]]]:
    """Cut `_key_tiles(x, kind)`, where tiles overlap, into views whose tiles do not.

    Returns each view with the index of its part of a tile.
    """
    return [
        (_tiles(x, rows, columns), (..., row_part, column_part, slice(None)))
        for (rows, row_part), (columns, column_part) in product(
            _strips(kind.rows.keys), _strips(kind.columns.keys)
        )
    ]


def _strips(keys: Windows) -> list[tuple[Windows, slice]]:
    first, size, step, count = keys
    width = step if count > 1 else size
    return [
        (Windows(first + start, min(width, size - start), step, count), slice(start, start + width))
        for start in range(0, size, width)
    ]


def _batch(tiles: Tensor, *leading: int) -> Tensor:
    """Copy (*leading, …, heads, y, x, D) to (*leading, tiles, heads, y * x, D)."""
    heads, height, width, channels = tiles.shape[-4:]
    return tiles.reshape(*leading, -1, heads, height * width, channels)


def _class_pieces(part: Part, x: Tensor) -> Iterator[tuple[slice, ...]]:
    """Pieces of (B, row classes, column classes, heads) of a view by class."""
    height, width, channels = x.shape[4:]
    numbers = 2 * height * width * channels  # keys and values
    if len(part.kinds) == 1:
        numbers += _numbers(part.kinds[0], channels)
    return _pieces(x.shape[:4], PIECE_BYTES // (numbers * x.element_size()))


def _tile_pieces(kind: Kind, x: Tensor) -> Iterator[tuple[slice, ...]]:
    """Pieces of (B, row classes, column classes, tile rows, tile columns) of a view by tile."""
    heads, channels = x.shape[5], x.shape[-1]
    numbers = heads * _numbers(kind, channels)
    return _pieces(x.shape[:5], PIECE_BYTES // (numbers * x.element_size()))


def _numbers(kind: Kind, channels: int) -> int:
    """How many numbers the backward pass holds for one tile of one head."""
    queries, keys = _tile_shape(kind)
    return 2 * queries * keys + 4 * (queries + keys) * channels


def _pieces(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array of `shape` into blocks of at most `most` entries, but at least one."""
    if not shape:
        yield ()
        return
    length, *rest = shape
    step = max(1, most // max(1, prod(rest)))
    for start in range(0, length, step):
        for inner in _pieces(tuple(rest), most):
            yield (slice(start, start + step), *inner)
