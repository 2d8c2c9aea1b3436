"""What heads attend to, drawn per level, block and head group."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stylenat.blocks.hydra import HeadGroup
from stylenat.report.board import FONT, GAP, LINE, SIDE, WIDTH, Board, blank
from stylenat.report.style import BLACK, SKY, VERMILLION, Look, text_width

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
    heads: HeadGroup
    maps: np.ndarray  # (heads, side, side)

    @property
    def side(self) -> int:
        return int(self.maps.shape[1])


def draw_mean_query(picture: np.ndarray, seed: int, groups: list[GroupMaps]) -> Figure:
    """Every head's map, each in its own range of colours, beside uint8 (S, S, 3).

    A line of maps per block, a bracket over the heads of a group.
    """
    blocks = [list(block) for _, block in groupby(groups, lambda group: (group.level, group.block))]
    brackets = len({group.level for group in groups})
    heads = max(sum(len(group.maps) for group in block) for block in blocks)
    left = SIDE + 3 * GAP + text_width(_block_name(groups[-1]), FONT)
    cell = min(LARGEST, (WIDTH - left) / heads - GAP)
    height = brackets * (LINE + GAP) + len(blocks) * (cell + GAP)
    board = blank(left + heads * (cell + GAP), max(height, SIDE + 4 * LINE + GAP))
    y = _draw_sample(board, picture, seed, LINE + GAP)
    board.colour_scale(COLOURS, 0, y + LINE, "low", "high")
    board.write(0, y + 2 * LINE, "logit, range of each map", "left")
    y, level = 0.0, None
    for block in blocks:
        if block[0].level != level:
            level, x = block[0].level, left
            for group in block:
                width = len(group.maps) * (cell + GAP) - GAP
                fits = text_width(group.heads.name, FONT) < width
                name = group.heads.name if fits else f"d = {group.heads.dilation}"
                board.write(x + width / 2, y + LINE / 2, name)
                below = (y + LINE + GAP / 2,) * 2
                board.axes.plot((x, x + width), below, color=BLACK, linewidth=0.8)
                x += width + GAP
            y += LINE + GAP
        board.write(left - GAP, y + cell / 2, _block_name(block[0]), "right")
        for head, values in enumerate(np.concatenate([group.maps for group in block])):
            board.picture(values, left + head * (cell + GAP), y, cell, cmap=COLOURS)
        y += cell + GAP
    return board.figure


def draw_neighbourhoods(
    picture: np.ndarray, seed: int, place: tuple[int, int], groups: list[GroupMaps]
) -> Figure:
    """Weights of the query at pixel ``place`` (y, x) of uint8 (S, S, 3), mean over each group.

    A line of panels per level: the groups of its first block, then those of its second.
    """
    levels = [list(level) for _, level in groupby(groups, lambda group: group.level)]
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
            query = place[0] * group.side // size, place[1] * group.side // size
            _draw_panel(board, grey, weights, query, (x, y), cell)
            largest = weights.max() * group.heads.kernel_size**2
            board.write(x + cell / 2, y + cell + LINE / 2, f"{group.heads.name}, ≤ {largest:.1f}")
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
    corner: tuple[float, float],
    side: float,
) -> None:
    """The whole map; a neighbourhood too small to see also enlarged, in the corner away from it.

    A square for each key, the more opaque the larger its weight, and a frame round the query.
    """
    keys = np.argwhere(weights > 0)
    values = weights[weights > 0]
    colours = np.tile(to_rgba(VERMILLION), (len(keys), 1))
    colours[:, 3] = values / values.max()
    shown: Look = {"facecolors": colours, "edgecolors": "white", "linewidths": 0.3}
    framed: Look = {"facecolors": "none", "edgecolors": SKY, "linewidths": 1.5}
    framed["joinstyle"] = "miter"

    def draw(top: int, left: int, length: int, x: float, y: float, side: float) -> None:
        """A square window of the map on its part of the image."""
        scale = len(grey) // len(weights)
        rows, columns = (slice(p * scale, (p + length) * scale) for p in (top, left))
        board.picture(grey[rows, columns], x, y, side, cmap="gray", vmin=0, vmax=1)
        pixel = side / length
        edge = max(pixel, SMALLEST)
        board.squares(keys - (top, left), x, y, pixel, edge, **shown)
        board.squares(np.array([query]) - (top, left), x, y, pixel, edge, **framed)

    length, span = len(weights), int(np.ptp(keys, axis=0).max()) + 1
    x, y = corner
    draw(0, 0, length, x, y, side)
    if span <= CLOSE_UP * length:
        top, left = np.clip(keys.min(0) - 1, 0, length - span - 2).tolist()
        part = 0.6 * side
        x += 0 if query[1] >= length / 2 else side - part
        y += 0 if query[0] >= length / 2 else side - part
        draw(top, left, span + 2, x, y, part)
        board.axes.add_patch(Rectangle((x, y), part, part, fill=False, edgecolor="white"))


def _block_name(group: GroupMaps) -> str:
    return f"{group.side}² block {group.block + 1}"
