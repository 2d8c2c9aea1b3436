"""Pictures in labelled rows and columns, pixel for pixel."""

from collections.abc import Collection, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stylenat.pictures import fit
from stylenat.report.board import FONT, LINE, blank
from stylenat.report.style import DPI, PAGE, VERMILLION, text_width

GAP = 0.02  # inches between pictures
APART = 0.08  # inches more between sources and what is made of them


def draw_mosaic(
    pictures: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    notes: Sequence[Sequence[str]] | None = None,
    framed: Collection[tuple[int, int]] = (),
    sources: tuple[int, int] = (0, 0),
    footer: str = "",
) -> Figure:
    """uint8 (rows, columns, S, S, 3) with a label left of every row and above every column.

    ``notes`` go under the pictures; a picture whose (row, column) is in ``framed`` gets a frame;
    the first ``sources`` rows and columns stand apart; ``footer`` is text below all. One pixel of
    :func:`stylenat.pictures.fit` is one of the figure, which is no wider than a page.
    """
    pictures = fit(pictures)
    side = pictures.shape[2]
    left = 3 * GAP + max((text_width(row, FONT) for row in rows), default=0)
    available = PAGE - left - len(columns) * GAP - APART
    dpi = max(DPI, np.ceil(len(columns) * side / available))
    cell = side / dpi
    xs = _positions(left, cell + GAP, len(columns), sources[1])
    top = GAP + (LINE if any(columns) else 0)
    ys = _positions(top, cell + GAP + (LINE if notes else 0), len(rows), sources[0])
    width, below = xs.pop(), ys.pop()
    lines = wrap(footer, int(width / text_width("n", FONT)))
    height = below + len(lines) * LINE
    board = blank(width, height, pad=0, dpi=dpi)
    pixels = int(board.figure.bbox.height)
    for number, line in enumerate(lines):
        board.write(GAP, below + (number + 0.5) * LINE, line, "left")
    for x, name in zip(xs, columns, strict=True):
        board.write(x + cell / 2, LINE / 2, name)
    for y, name in zip(ys, rows, strict=True):
        board.write(left - 2 * GAP, y + cell / 2, name, "right")
    for row, column in np.ndindex(pictures.shape[:2]):
        x, y = xs[column], ys[row]
        bottom = pixels - round(y * dpi) - side
        # Below the board, which has the frames.
        board.figure.figimage(pictures[row, column], round(x * dpi), bottom, zorder=-1)
        if notes:
            board.write(x + cell / 2, y + cell + LINE / 2, notes[row][column])
        if (row, column) in framed:
            frame = Rectangle((x, y), cell, cell, fill=False, edgecolor=VERMILLION, linewidth=2)
            board.axes.add_patch(frame)
    return board.figure


def _positions(start: float, step: float, count: int, sources: int) -> list[float]:
    """Where each of ``count`` begins, and where the last one ends."""
    return [start + i * step + (APART if sources and i >= sources else 0) for i in range(count + 1)]
