"""Neighbourhood attention on small maps: all tiles of a map in one batch of matrix products.

Every dilation class is cut into equal rectangles of queries, each with an equal rectangle of keys
that holds their windows. One gather copies them all, whatever their class, and the gradients of a
key that several tiles share are added by index, so an operation is launched once for a map instead
of once for every kind of tile. A mask belongs to a single tile, and the attention weights are kept
for the backward pass: such memory is what only small maps can be given.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from stylenat.models.attention.tiling import KEY_COST, Run, Windows, offsets
from stylenat.torch_types import Function

# Queries, keys, values and weights of all tiles of a group of heads.
MOST_BYTES = 64 << 20


class Span(NamedTuple):
    """How many queries and keys a tile has along one axis."""

    queries: int
    keys: int


class Cut(NamedTuple):
    """A group of heads and the tiles of its maps."""

    heads: range
    kernel_size: int
    dilation: int
    rows: Span
    columns: Span

    @property
    def queries(self) -> int:
        return self.rows.queries * self.columns.queries

    @property
    def keys(self) -> int:
        return self.rows.keys * self.columns.keys


class Indices(NamedTuple):
    """Where the rows (head_dim numbers each) of a group's tiles come from and go to.

    The rows of an image are ordered (pixel; q, k, v; head) in qkv, (pixel; head) in the group's
    output, and (head; tile; position) in its tiles.
    """

    queries: Tensor  # row in qkv of every row of the tiles of queries
    keys: Tensor  # … of keys
    values: Tensor  # … of values
    outputs: Tensor  # row in the output of every row of the tiles of queries
    places: Tensor  # the inverse of `outputs`
    shares: (
        Tensor  # rows of the tiles of keys of all images, sorted by the key they are copies of …
    )
    starts: Tensor  # … and where the copies of each key begin
    table: Tensor  # (tile * query * key,): place in a flattened rpb, or its size if not attended


def cut(
    shape: Sequence[int], itemsize: int, heads: range, kernel_size: int, dilation: int
) -> Cut | None:
    """The cheapest tiles for some heads of qkv (3, batch, heads, height, width, head_dim); None
    where classes differ in length or where all tiles together are too large."""
    _, batch, _, height, width, channels = shape
    if height % dilation or width % dilation:
        return None
    spans = (_spans(side // dilation, kernel_size) for side in (height, width))
    choices = [Cut(heads, kernel_size, dilation, *pair) for pair in product(*spans)]
    # In (query, key) pairs for a query, like `tiling.cost`.
    best = min(choices, key=lambda choice: choice.keys * (1 + KEY_COST / choice.queries))
    numbers = best.keys + channels + 2 * channels * best.keys / best.queries
    size = batch * len(heads) * height * width * numbers * itemsize
    return best if size <= MOST_BYTES else None


def attend_groups(
    qkv: Tensor, rpbs: Sequence[Tensor | None], cuts: Sequence[Cut], scale: float
) -> Tensor:
    """As `tiles.attend_groups`, with the `cut` of each group."""
    return _SmallMaps.apply(qkv, tuple(cuts), scale, *rpbs)


class _SmallMaps(Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cuts: tuple[Cut, ...], scale: float, *rpbs: Tensor | None
    ) -> Tensor:
        _, batch, _, height, width, channels = qkv.shape
        # At least float32, like `tiles`.
        dtype = torch.promote_types(qkv.dtype, torch.float32)
        rows = qkv.permute(1, 3, 4, 0, 2, 5).reshape(batch, -1, channels).to(dtype)
        outputs: list[Tensor] = []
        saved: list[Tensor] = []
        for cut, rpb in zip(cuts, rpbs, strict=True):
            index = _indices(qkv.shape, cut, qkv.device)
            queries = rows.index_select(1, index.queries).view(-1, cut.queries, channels) * scale
            keys = rows.index_select(1, index.keys).view(-1, cut.keys, channels)
            values = rows.index_select(1, index.values).view(-1, cut.keys, channels)
            logits = queries @ keys.mT
            by_head = logits.view(batch, len(cut.heads), -1)
            by_head += _bias(rpb, index.table, cut.kernel_size, by_head)
            weights = logits.softmax(-1)
            out = (weights @ values).view(batch, -1, channels).index_select(1, index.places)
            outputs.append(out.view(batch, height, width, -1, channels))
            saved += queries, keys, values, weights
        ctx.save_for_backward(*rpbs, *saved)
        ctx.arguments = qkv.shape, cuts, scale
        out = outputs[0] if len(cuts) == 1 else torch.cat(outputs, 3)
        return out.to(qkv.dtype).permute(0, 3, 1, 2, 4)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        shape, cuts, scale = ctx.arguments
        _, batch, _, height, width, channels = shape
        tensors = ctx.saved_tensors  # once: when they are computed again, they can be had once
        rpbs, saved = tensors[: len(cuts)], iter(tensors[len(cuts) :])
        grad_by_pixel = grad.permute(0, 2, 3, 1, 4)
        dqkv = grad.new_empty(batch, height, width, 3, shape[2], channels)
        drpbs = []
        for number, (cut, rpb) in enumerate(zip(cuts, rpbs, strict=True)):
            index = _indices(shape, cut, grad.device)
            part = slice(cut.heads.start, cut.heads.stop)
            queries, keys, values, weights = (next(saved) for _ in range(4))
            dout = grad_by_pixel[:, :, :, part].reshape(batch, -1, channels).to(weights.dtype)
            dout = dout.index_select(1, index.outputs).view_as(queries)
            # What softmax's own derivative calls: one pass instead of three.
            dlogits = torch._softmax_backward_data(dout @ values.mT, weights, -1, weights.dtype)
            needed = ctx.needs_input_grad[3 + number]
            by_head = dlogits.view(batch, len(cut.heads), -1)
            drpbs.append(_rpb_gradient(by_head.sum(0), index.table, rpb) if needed else None)
            dkv = weights.new_empty(2, *keys.shape)
            torch.bmm(dlogits.mT, queries, out=dkv[0])
            torch.bmm(weights.mT, dout, out=dkv[1])
            dkv = F.embedding_bag(index.shares, dkv.view(-1, channels), index.starts, mode="sum")
            dkv = dkv.view(2, batch, height, width, -1, channels)
            dqkv[:, :, :, 1:, part] = dkv.permute(1, 2, 3, 0, 4, 5)
            dq = (dlogits @ keys).mul_(scale).view(batch, -1, channels)
            dqkv[:, :, :, 0, part] = dq.index_select(1, index.places).view(dkv.shape[1:])
        return dqkv.permute(3, 0, 4, 1, 2, 5), None, None, *drpbs


def _bias(rpb: Tensor | None, table: Tensor, kernel_size: int, like: Tensor) -> Tensor:
    """(heads or 1, len(table)): what is added to the logits, -inf where a query does not attend."""
    flat = like.new_zeros(1, (2 * kernel_size - 1) ** 2) if rpb is None else rpb.flatten(1)
    return F.pad(flat.to(like.dtype), (0, 1), value=-torch.inf).index_select(1, table)


def _rpb_gradient(dbias: Tensor, table: Tensor, rpb: Tensor) -> Tensor:
    """Adjoint of `_bias`."""
    entries = rpb[0].numel()
    drpb = dbias.new_zeros(len(dbias), entries + 1)
    drpb.scatter_add_(1, table.expand_as(dbias), dbias)
    return drpb[:, :entries].reshape(rpb.shape).to(rpb.dtype)


def _spans(members: int, kernel_size: int) -> list[Span]:
    """The ways to cut an axis of a class into tiles that all have as many queries."""
    return [
        Span(size, min(size + kernel_size - 1, members))
        for size in range(1, members + 1)
        if members % size == 0
    ]


def _axis(length: int, span: Span, kernel_size: int, dilation: int) -> tuple[Tensor, ...]:
    """Queries (tiles, queries) and keys (tiles, keys) along an axis, in pixels, and the places of
    their offsets in a bias table (tiles, queries, keys), -1 where not attended."""
    members = length // dilation
    queries, keys, places = [], [], []
    for first in range(0, members, span.queries):
        start = min(max(first - kernel_size // 2, 0), members - span.keys)
        run = Run(Windows(first, span.queries, 1, 1), Windows(start, span.keys, 1, 1))
        queries.append(torch.arange(first, first + span.queries))
        keys.append(torch.arange(start, start + span.keys))
        places.append(offsets(run, members, kernel_size))
    classes = torch.arange(dilation)[:, None, None]
    pixels = ((classes + dilation * torch.stack(x)).flatten(0, 1) for x in (queries, keys))
    return *pixels, torch.stack(places).repeat(dilation, 1, 1)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # cached, also for use with gradients
def _indices(shape: torch.Size, cut: Cut, device: torch.device) -> Indices:
    _, batch, heads, height, width, _ = shape
    rows, columns = (
        _axis(side, span, cut.kernel_size, cut.dilation)
        for side, span in ((height, cut.rows), (width, cut.columns))
    )

    def pixels(y: Tensor, x: Tensor) -> Tensor:
        """(tiles, positions) from the positions of the tiles along each axis."""
        return (y[:, None, :, None] * width + x[None, :, None, :]).reshape(len(y) * len(x), -1)

    queries, keys = (pixels(*pair) for pair in zip(rows[:2], columns[:2], strict=True))
    head = torch.arange(len(cut.heads))[:, None, None]
    in_qkv = cut.heads.start + head
    outputs = (queries * len(cut.heads) + head).flatten()
    owners = (keys * len(cut.heads) + head).flatten()
    copies = torch.bincount(owners)
    image = torch.arange(2 * batch)[:, None] * len(owners)  # keys of all images, then values
    y, x = rows[2][:, None, :, None, :, None], columns[2][None, :, None, :, None, :]
    side = 2 * cut.kernel_size - 1
    indices = Indices(
        queries=(queries * 3 * heads + in_qkv).flatten(),
        keys=((keys * 3 + 1) * heads + in_qkv).flatten(),
        values=((keys * 3 + 2) * heads + in_qkv).flatten(),
        outputs=outputs,
        places=outputs.argsort(),
        shares=(owners.argsort(stable=True) + image).flatten(),
        starts=(copies.cumsum(0) - copies + image).flatten(),
        table=torch.where((y < 0) | (x < 0), side * side, y * side + x).flatten(),
    )
    return Indices(*(index.to(device) for index in indices))
