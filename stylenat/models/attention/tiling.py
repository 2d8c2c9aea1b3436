"""How a map is cut into tiles: integers and index tables, no features.

Pixels whose coordinates are congruent modulo the dilation form a class, and attention never
leaves a class. Within one, neighbouring queries share most of their keys, so a class is cut into
tiles whose queries attend, by ordinary masked attention, to the union of their windows. Mask and
relative position bias are one table per kind of tile, and a class has at most nine kinds: first,
inner and last along each axis. Nothing is padded, whatever the side: classes of unequal length are
separate parts, and every kind of tile has its own size.
"""

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

# What decides the tile size, forward and backward together, in units of one (query, key) pair of
# one head (8 ns on one core at 32 channels): copying one key and value to a tile and adding their
# gradients back; the tensor operations of one more kind of tile. The optimum is flat, so these
# need not be exact.
KEY_COST = 16
KIND_COST = 20_000


class Classes(NamedTuple):
    """Equally long dilation classes along one axis: first, first + 1, …, first + number - 1."""

    first: int
    number: int
    members: int


class Windows(NamedTuple):
    """`number` stretches of `size` positions, `step` apart."""

    first: int
    size: int
    step: int
    number: int

    @property
    def total(self) -> int:
        return self.size * self.number


class Run(NamedTuple):
    """Equal tiles in a row along one axis of a class: the positions of their queries and keys."""

    queries: Windows
    keys: Windows


class Kind(NamedTuple):
    """Tiles that share one table, which is `entries` of the tiling's."""

    rows: Run
    columns: Run
    entries: slice


class Part(NamedTuple):
    """Classes of one shape, and the kinds of tile that cover each of them."""

    rows: Classes
    columns: Classes
    kinds: tuple[Kind, ...]


class Tiling(NamedTuple):
    """All of a map. `table` holds, kind after kind, for every query and key of a tile the index of
    their offset in a flattened rpb, or the rpb's size where the query does not attend to the key.
    """

    parts: tuple[Part, ...]
    table: Tensor


def classes(length: int, dilation: int) -> list[Classes]:
    """The dilation classes of an axis, grouped by their number of members."""
    members, longer = divmod(length, dilation)
    groups = [Classes(0, longer, members + 1), Classes(longer, dilation - longer, members)]
    return [group for group in groups if group.number]


def runs(members: int, kernel_size: int, starts: int) -> list[Run]:
    """Cut an axis of a class into tiles whose queries have at most `starts` different windows.

    Windows start at 0 … members - kernel_size. As all queries near a border share its window, the
    first and last tile hold kernel_size // 2 queries more than the others for as many keys.
    """
    tiles = -(-(members - kernel_size + 1) // starts)
    if tiles == 1:
        return [Run(Windows(0, members, 1, 1), Windows(0, members, 1, 1))]
    radius = kernel_size // 2
    keys = starts + kernel_size - 1
    end = (tiles - 1) * starts
    first = Run(Windows(0, starts + radius, 1, 1), Windows(0, keys, 1, 1))
    inner = Run(
        Windows(starts + radius, starts, starts, tiles - 2),
        Windows(starts, keys, starts, tiles - 2),
    )
    last = Run(
        Windows(end + radius, members - end - radius, 1, 1), Windows(end, members - end, 1, 1)
    )
    return [first, inner, last] if tiles > 2 else [first, last]


def cost(rows: list[Run], columns: list[Run], maps: int) -> int:
    """Estimated cost of `maps` classes cut into these tiles, in (query, key) pairs."""
    pairs = keys = 0
    for row, column in product(rows, columns):
        keys += row.keys.total * column.keys.total
        pairs += row.queries.size * row.keys.total * column.queries.size * column.keys.total
    kinds = len(rows) * len(columns)
    return maps * (pairs + KEY_COST * keys) + KIND_COST * kinds


def cut(
    rows: Classes, columns: Classes, kernel_size: int, maps: int
) -> tuple[list[Run], list[Run]]:
    """The cheapest tiles for `maps` maps of a class of rows and one of columns.

    Besides whole maps only even numbers of windows are considered: matrix products and softmax
    over rows whose length is a multiple of four run measurably faster.
    """
    most = max(rows.members, columns.members) - kernel_size + 1
    choices = (
        (runs(rows.members, kernel_size, starts), runs(columns.members, kernel_size, starts))
        for starts in (*range(2, most, 2), most)
    )
    return min(choices, key=lambda choice: cost(choice[0], choice[1], maps))


def offsets(run: Run, members: int, kernel_size: int) -> Tensor:
    """(queries, keys) of a tile: key - query + kernel_size - 1, or -1 where not attended."""
    query = torch.arange(run.queries.size)[:, None] + run.queries.first
    key = torch.arange(run.keys.size) + run.keys.first
    start = (query - kernel_size // 2).clamp(0, members - kernel_size)
    attended = (start <= key) & (key < start + kernel_size)
    return torch.where(attended, key - query + kernel_size - 1, -1)


@lru_cache(maxsize=256)
def tiling(
    maps: int, height: int, width: int, kernel_size: int, dilation: int, device: torch.device
) -> Tiling:
    """Cut `maps` maps of one head (batch times heads)."""
    side = 2 * kernel_size - 1
    parts, tables, end = [], [], 0
    for rows, columns in product(classes(height, dilation), classes(width, dilation)):
        kinds = []
        class_maps = maps * rows.number * columns.number
        for row, column in product(*cut(rows, columns, kernel_size, class_maps)):
            y = offsets(row, rows.members, kernel_size)[:, None, :, None]
            x = offsets(column, columns.members, kernel_size)[None, :, None, :]
            tables.append(torch.where((y < 0) | (x < 0), side * side, y * side + x).flatten())
            begin, end = end, end + tables[-1].numel()
            kinds.append(Kind(row, column, slice(begin, end)))
        parts.append(Part(rows, columns, tuple(kinds)))
    return Tiling(tuple(parts), torch.cat(tables).to(device))
