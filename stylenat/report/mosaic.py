"""Pictures in labelled rows and columns, pixel for pixel."""

from collections.abc import Collection, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stylenat.pictures import fit
from stylenat.report.style import BLACK, PAGE, VERMILLION, new_figure, text_width

DPI = 200  # so that a picture of 128 pixels is 16 mm wide on paper
GAP = 0.02  # inches between pictures
APART = 0.08  # inches more between sources and what is made of them
LINE = 0.15  # inches that a line of text takes
FONT = 7.5  # points


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
    figure = new_figure(width, height, layout=None, dpi=dpi)
    pixels = int(figure.bbox.height)

    def write(x: float, y: float, text: str, **style) -> None:
        """At inches from the upper left corner."""
        figure.text(x / width, 1 - y / height, text, fontsize=FONT, color=BLACK, **style)

    for number, line in enumerate(lines):
        write(GAP, below + (number + 0.5) * LINE, line, va="center")
    for x, name in zip(xs, columns, strict=True):
        write(x + cell / 2, LINE / 2, name, ha="center", va="center")
    for y, name in zip(ys, rows, strict=True):
        write(left - 2 * GAP, y + cell / 2, name, ha="right", va="center")
    for row, column in np.ndindex(pictures.shape[:2]):
        x, y = xs[column], ys[row]
        bottom = pixels - round(y * dpi) - side
        figure.figimage(pictures[row, column], round(x * dpi), bottom)
        if notes:
            middle = y + cell + LINE / 2
            write(x + cell / 2, middle, notes[row][column], ha="center", va="center")
        if (row, column) in framed:
            frame = Rectangle((x / width, 1 - (y + cell) / height), cell / width, cell / height)
            frame.set(transform=figure.transFigure, fill=False, edgecolor=VERMILLION, linewidth=2)
            figure.add_artist(frame)
    return figure


def _positions(start: float, step: float, count: int, sources: int) -> list[float]:
    """Where each of ``count`` begins, and where the last one ends."""
    return [start + i * step + (APART if sources and i >= sources else 0) for i in range(count + 1)]
