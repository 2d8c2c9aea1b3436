"""What heads attend to, drawn per level, block and head group."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stylenat.report.board import FONT, GAP, LINE, SIDE, WIDTH, Board, blank
from stylenat.report.style import BLACK, SKY, VERMILLION, text_width

COLOURS = "viridis"
LARGEST = 1.1  # inches of a map's side, at most
SMALLEST = 0.03  # inches that a key is drawn with where its pixel is smaller
CLOSE_UP = 1 / 8  # of the map: a smaller neighbourhood is shown enlarged, too
EXPLANATION = (
    "+ query",
    "opacity of a key:",
    "its weight / largest",
    "≤ largest weight",
    "(1 = uniform)",
)
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # BT.709


@dataclass(frozen=True)
class GroupMaps:
    """Maps of one head group in one block."""

    level: int
    block: int
    kernel_size: int
    dilation: int
    maps: np.ndarray  # (heads, side, side)

    @property
    def side(self) -> int:
        return self.maps.shape[1]

    @property
    def name(self) -> str:
        return f"{self.kernel_size}×{self.kernel_size}, d = {self.dilation}"


def draw_mean_query(picture: np.ndarray, seed: int, groups: list[GroupMaps]) -> Figure:
    """Every head's map, each in its own range of colours, beside uint8 (S, S, 3).

    A line of maps per block, a bracket over the heads of a group.
    """
    levels = _by_level(groups)
    first_blocks = [[g for g in level if g.block == level[0].block] for level in levels]
    heads = max(sum(len(g.maps) for g in block) for block in first_blocks)
    left = SIDE + 3 * GAP + text_width(_block_name(groups[-1]), FONT)
    cell = min(LARGEST, (WIDTH - left) / heads - GAP)
    lines = [len({g.block for g in level}) for level in levels]
    height = sum(LINE + GAP + count * (cell + GAP) for count in lines)
    board = blank(left + heads * (cell + GAP), max(height, SIDE + 4 * LINE + GAP))
    y = _draw_sample(board, picture, seed, LINE + GAP)
    board.colour_scale(COLOURS, 0, y + LINE, "low", "high")
    board.write(0, y + 2 * LINE, "logit, range of each map", "left")
    y = 0.0
    for level, first in zip(levels, first_blocks, strict=True):
        x = left
        for group in first:
            width = len(group.maps) * (cell + GAP) - GAP
            fits = text_width(group.name, FONT) < width
            name = group.name if fits else f"d = {group.dilation}"
            board.write(x + width / 2, y + LINE / 2, name)
            board.axes.plot((x, x + width), (y + LINE + GAP / 2,) * 2, color=BLACK, linewidth=0.8)
            x += width + GAP
        y += LINE + GAP
        for block in sorted({g.block for g in level}):
            members = [g for g in level if g.block == block]
            board.write(left - GAP, y + cell / 2, _block_name(members[0]), "right")
            for head, values in enumerate(np.concatenate([g.maps for g in members])):
                board.picture(values, left + head * (cell + GAP), y, cell, cmap=COLOURS)
            y += cell + GAP
    return board.figure


def draw_neighbourhoods(
    picture: np.ndarray, seed: int, place: tuple[int, int], groups: list[GroupMaps]
) -> Figure:
    """Weights of the query at pixel ``place`` (y, x) of uint8 (S, S, 3), mean over each group.

    A line of panels per level: the groups of its first block, then those of its second.
    """
    levels = _by_level(groups)
    blocks = 1 + max(group.block for group in groups)
    panels = max(len(level) // blocks for level in levels)  # of a block
    left = SIDE + 3 * GAP + text_width(f"{groups[-1].side}²", FONT)
    cell = min(1.4, (WIDTH - left) / (blocks * panels) - GAP)
    pitch = cell + LINE + GAP
    height = LINE + len(levels) * pitch
    board = blank(left + blocks * panels * (cell + GAP), max(height, SIDE + 7 * LINE))
    y = _draw_sample(board, picture, seed, LINE)
    size = len(picture)
    row, column = (LINE + (place[0] + 0.5) / size * SIDE, (place[1] + 0.5) / size * SIDE)
    board.axes.plot(column, row, marker="+", markersize=8, color=SKY, markeredgewidth=1.5)
    for number, line in enumerate(EXPLANATION):
        board.write(0, y + (number + 1) * LINE, line, "left")
    grey = 0.25 + 0.6 * (picture @ LUMINANCE / 255)  # neither hides the keys nor the frames
    for block in range(blocks):
        x = left + block * panels * (cell + GAP)
        board.write(x, LINE / 2, f"block {block + 1}", "left", weight="bold")
    for number, level in enumerate(levels):
        y = LINE + number * pitch
        board.write(left - GAP, y + cell / 2, f"{level[0].side}²", "right")
        for index, group in enumerate(level):
            block, within = divmod(index, len(level) // blocks)
            x = left + (block * panels + within) * (cell + GAP)
            weights = group.maps.mean(0)
            query = tuple(p * group.side // size for p in place)
            _draw_panel(board, grey, weights, query, x, y, cell)
            largest = weights.max() * group.kernel_size**2
            board.write(x + cell / 2, y + cell + LINE / 2, f"{group.name}, ≤ {largest:.1f}")
    return board.figure


def _draw_sample(board: Board, picture: np.ndarray, seed: int, y: float) -> float:
    """The picture on the left, and below it its seed; returns where that ends."""
    board.picture(picture, 0, y, SIDE)
    board.write(SIDE / 2, y + SIDE + LINE / 2, f"seed {seed}")
    return y + SIDE + LINE


def _draw_panel(
    board: Board,
    grey: np.ndarray,
    weights: np.ndarray,
    query: tuple[int, int],
    x: float,
    y: float,
    side: float,
) -> None:
    """The whole map; a neighbourhood too small to see also enlarged, in the corner away from it."""
    keys = np.argwhere(weights > 0)
    span = int(np.ptp(keys, axis=0).max()) + 1
    length = len(weights)
    _draw_keys(board, grey, weights, query, (0, 0, length), x, y, side)
    if span > CLOSE_UP * length:
        return
    window = (*np.clip(keys.min(0) - 1, 0, length - span - 2).tolist(), span + 2)
    part = 0.6 * side
    shift = side - part
    corner_x = x if query[1] >= length / 2 else x + shift
    corner_y = y if query[0] >= length / 2 else y + shift
    _draw_keys(board, grey, weights, query, window, corner_x, corner_y, part)
    frame = Rectangle((corner_x, corner_y), part, part, fill=False, edgecolor="white")
    board.axes.add_patch(frame)


def _draw_keys(
    board: Board,
    grey: np.ndarray,
    weights: np.ndarray,
    query: tuple[int, int],
    window: tuple[int, int, int],
    x: float,
    y: float,
    side: float,
) -> None:
    """The ``window`` (row, column, length) of the map on its part of the image: a square per key,
    the more opaque the larger its weight, and a frame round the query."""
    top, left, length = window
    scale = len(grey) // len(weights)
    rows, columns = (slice(p * scale, (p + length) * scale) for p in (top, left))
    board.picture(grey[rows, columns], x, y, side, cmap="gray", vmin=0, vmax=1)
    keys = np.argwhere(weights > 0)
    pixel = side / length
    edge = max(pixel, SMALLEST)

    def square(row: int, column: int) -> Rectangle:
        inset = (pixel - edge) / 2
        corner = (x + (column - left) * pixel + inset, y + (row - top) * pixel + inset)
        return Rectangle(corner, edge, edge)

    values = weights[weights > 0]
    colours = np.tile(to_rgba(VERMILLION), (len(keys), 1))
    colours[:, 3] = values / values.max()
    squares = [square(*key) for key in keys]
    board.axes.add_collection(
        PatchCollection(squares, facecolors=colours, edgecolors="white", linewidths=0.3),
        autolim=False,
    )
    board.axes.add_patch(square(*query)).set(fill=False, edgecolor=SKY, linewidth=1.5)


def _block_name(group: GroupMaps) -> str:
    return f"{group.side}² block {group.block + 1}"


def _by_level(groups: list[GroupMaps]) -> list[list[GroupMaps]]:
    return [list(level) for _, level in groupby(groups, lambda group: group.level)]
