"""What the centre pixel of each level can see, from kernels and dilations alone."""

import math

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stylenat.blocks import BLOCKS
from stylenat.blocks.base import View
from stylenat.config import ModelConfig
from stylenat.report.board import LINE, WIDTH, Board, blank
from stylenat.report.style import BLACK, BLUE, GREEN, PURPLE, VERMILLION

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE)  # of head groups, in order
GROUND, SHADE = "#f3f3f3", "#c9c9c9"  # of pixels out of reach and within that of two blocks
SMALLEST = 0.035  # inches that a key is drawn with where its pixel is smaller
COLUMNS = 4  # panels side by side
GUTTER = 0.1  # inches between them
KEY = 0.08  # inches of the colours beside their names


def views_of(config: ModelConfig, level: int) -> list[View]:
    """The kinds of heads at one level."""
    return BLOCKS[config.block[level]].views(config, level)


def reach(heads: list[View], blocks: int) -> np.ndarray:
    """The pixels (side, side) that the centre pixel depends on after some blocks, bool.

    Every block mixes its heads, so each step of a path may take another one's window.
    """
    side = len(heads[0].windows)
    # What a path reaches is the product of what it reaches along one axis with itself.
    paths = {frozenset([side // 2])}
    for _ in range(blocks):
        paths = {
            frozenset(key for pixel in path for key in kind.windows[pixel])
            for path in paths
            for kind in heads
        }
    field = np.zeros((side, side), bool)
    for path in paths:
        field[np.ix_(list(path), list(path))] = True
    return field


def draw_receptive_fields(config: ModelConfig) -> Figure:
    """A panel per level: the keys of every kind of head, shaded what two blocks reach together."""
    levels = [views_of(config, level) for level in range(len(config.resolutions))]
    columns = min(COLUMNS, len(levels))
    notes = max(map(len, levels)) + 1
    pitch_x = (WIDTH + GUTTER) / COLUMNS
    cell = pitch_x - GUTTER
    pitch_y = LINE + cell + notes * LINE + GUTTER
    rows = math.ceil(len(levels) / columns)
    board = blank(columns * pitch_x - GUTTER, rows * pitch_y - GUTTER)
    for number, heads in enumerate(levels):
        row, column = divmod(number, columns)
        _draw_level(board, heads, column * pitch_x, row * pitch_y, cell)
    return board.figure


def _draw_level(board: Board, heads: list[View], x: float, y: float, cell: float) -> None:
    side = len(heads[0].windows)
    board.write(x, y + LINE / 2, f"{side}²", "left", weight="bold")
    y += LINE
    field = reach(heads, blocks=2)
    board.picture(field, x, y, cell, cmap=ListedColormap([GROUND, SHADE]), vmin=0, vmax=1)
    windows = [kind.windows[side // 2] for kind in heads]
    spans = [(window[-1] - window[0] + 1) / side for window in windows]
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(heads))]
    # Wide neighbourhoods first, or they would hide the narrow ones.
    order = np.argsort(spans)[::-1]
    layers = [(reach([heads[number]], blocks=1), colours[number]) for number in order]
    pixel = cell / side
    for keys, colour in [*layers, (reach(heads, blocks=0), BLACK)]:
        edge = max(0.8 * pixel, SMALLEST)
        options = {"facecolors": colour, "edgecolors": "none"}
        board.squares(np.argwhere(keys), x, y, pixel, edge, **options)
    notes = [f"{kind.name}: {_percent(span)}" for kind, span in zip(heads, spans, strict=True)]
    notes.append(f"two blocks: {_percent(field.mean())} of pixels")
    for number, (note, colour) in enumerate(zip(notes, [*colours, SHADE], strict=True)):
        below = y + cell + (number + 0.6) * LINE
        board.axes.add_patch(Rectangle((x, below - KEY / 2), KEY, KEY, color=colour))
        board.write(x + 1.6 * KEY, below, note, "left")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
