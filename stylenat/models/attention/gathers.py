"""Neighbourhood attention by gathers along one axis at a time: the formulation that exports.

Every dilation class of an axis is cut into equally many runs of equally many queries, each with
equally many keys that hold their windows; a tile is the product of a run of rows and one of columns.
Where a class has no pixel for a place of a run, its last one stands there: as a query it is computed
twice, as a key it is masked. So a whole map is a few operations with constant indices, none longer
than an axis, and no shape depends on the batch. The price is memory: the logits of all tiles exist at
once.
"""

from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stylenat.models.attention.tiling import KEY_COST
from stylenat.neighbourhood import axis_windows


class Axis(NamedTuple):
    """The runs of an axis, class after class."""

    queries: Tensor  # (runs, queries): pixels
    keys: Tensor  # (runs, keys): pixels
    lines: Tensor  # (kinds, queries, keys): places in a line of the padded bias table
    kinds: Tensor  # (runs,)
    places: Tensor  # (length,): of every pixel among the queries of all runs


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
    height, width = map(int, q.shape[2:4])  # numbers, also where a network is traced
    rows, columns = axes(height, width, kernel_size, dilation, q.device)
    dtype = torch.promote_types(q.dtype, torch.float32)
    queries = _tiles(q.to(dtype) * scale, rows.queries, columns.queries)
    keys, values = (_tiles(x.to(dtype), rows.keys, columns.keys) for x in (k, v))
    bias = _bias(rpb, rows, columns, kernel_size, queries)
    out = (queries @ keys.transpose(-1, -2) + bias).softmax(-1) @ values
    # (B, heads, row runs, column runs, places, D) → (B, heads, H, W, D)
    out = out.unflatten(4, (rows.queries.shape[1], columns.queries.shape[1]))
    pixels: Tensor = out.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return pixels.index_select(2, rows.places).index_select(3, columns.places).to(q.dtype)


# Cached not for its time alone: what exists before a network is traced becomes a constant.
@lru_cache(maxsize=64)
@torch.inference_mode(False)  # cached, also for use with gradients
def axes(
    height: int, width: int, kernel_size: int, dilation: int, device: torch.device
) -> tuple[Axis, Axis]:
    """The cheapest runs of both axes, in (query, key) pairs, like `tiling.cost`."""

    def cost(choice: tuple[tuple[int, int, int], ...]) -> int:
        vertical, horizontal = choice
        runs, queries, keys = (a * b for a, b in zip(vertical, horizontal, strict=True))
        return runs * keys * (queries + KEY_COST)

    choices = (_sizes(length, kernel_size, dilation) for length in (height, width))
    best = min(product(*choices), key=cost)
    rows, columns = (
        Axis(
            *(
                torch.tensor(table).to(device)
                for table in _axis(length, kernel_size, dilation, queries, keys)
            )
        )
        for length, (_, queries, keys) in zip((height, width), best, strict=True)
    )
    return rows, columns


def _sizes(length: int, kernel_size: int, dilation: int) -> list[tuple[int, int, int]]:
    """How many runs an axis can have, and of how many queries and keys."""
    longest = -(-length // dilation)
    return [
        (dilation * -(-longest // size), size, min(size + kernel_size - 1, longest))
        for size in range(1, longest + 1)
    ]


def _axis(
    length: int, kernel_size: int, dilation: int, size: int, span: int
) -> tuple[list[Any], ...]:
    """The fields of an :class:`Axis` with runs of ``size`` queries and ``span`` keys."""
    windows, offsets = axis_windows(length, kernel_size, dilation)
    longest = -(-length // dilation)
    queries, keys, kinds = [], [], []
    found: dict[tuple[tuple[int, ...], ...], int] = {}
    for members in (range(first, length, dilation) for first in range(dilation)):
        last = len(members) - 1
        for start in range(0, longest, size):
            run = [members[min(place, last)] for place in range(start, start + size)]
            begin = max(0, min(members.index(windows[run[0]][0]), len(members) - span))
            places = range(begin, begin + span)
            lines = []
            for query in run:
                offset: dict[int | None, int]
                offset = dict(zip(windows[query], offsets[query], strict=True))
                seen = (members[place] if place <= last else None for place in places)
                # The padded place, after the largest offset, is that of keys not attended to.
                lines.append(tuple(offset.get(key, kernel_size) + kernel_size - 1 for key in seen))
            queries.append(run)
            keys.append([members[min(place, last)] for place in places])
            kinds.append(found.setdefault(tuple(lines), len(found)))
    place_of = {pixel: place for place, pixel in enumerate(p for run in queries for p in run)}
    return queries, keys, list(found), kinds, [place_of[pixel] for pixel in range(length)]


def _bias(rpb: Tensor | None, rows: Axis, columns: Axis, kernel_size: int, like: Tensor) -> Tensor:
    """(heads or 1, row runs, column runs, queries, keys): what is added to the logits, -inf where a
    query does not attend."""
    side = 2 * kernel_size - 1
    table = like.new_zeros(1, side, side) if rpb is None else rpb.to(like.dtype)
    table = F.pad(table, (0, 1, 0, 1), value=float("-inf"))
    for dim, axis in ((1, rows), (4, columns)):
        table = table.index_select(dim, axis.lines.flatten()).unflatten(dim, axis.lines.shape)
    # (heads, row kinds, queries, keys, column kinds, queries, keys)
    table = table.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
    return table.index_select(1, rows.kinds).index_select(2, columns.kinds)


def _tiles(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, heads, H, W, D) → (B, heads, row runs, column runs, places, D)."""
    for dim, runs in ((2, rows), (4, columns)):
        x = x.index_select(dim, runs.flatten()).unflatten(dim, runs.shape)
    return x.transpose(3, 4).flatten(4, 5)
