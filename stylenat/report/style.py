"""How figures look: one style, colours the colour-blind can tell apart, files that reproduce."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from stylenat.io import atomic

# Okabe & Ito's palette; in grey, too, these four differ.
VERMILLION, SKY, BLUE, GREEN, BLACK = "#d55e00", "#56b4e9", "#0072b2", "#009e73", "#1a1a1a"
PURPLE, GREY = "#cc79a7", "#6b6b6b"

Look = dict[str, Any]  # matplotlib's keyword arguments, each of a type of its own

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures look the same everywhere
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "stylenat",  # with no date below: the same data give the same bytes
}
DPI = 200  # a picture of 128 pixels is 16 mm wide on paper
PAGE = (
    6.875  # inches: the text of a two-column paper; nothing is wider, so no font shrinks in print
)


def new_figure(
    width: float,
    height: float,
    layout: Literal["constrained"] | None = "constrained",
    dpi: float = DPI,
) -> Figure:
    """An empty figure of that many inches; needs no display. Call it inside :func:`styled`."""
    figure = Figure(figsize=(width, height), layout=layout, dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def panels(
    count: int, columns: int, height: float, extra: float = 0.0, sharex: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` axes, of which ``columns`` are as wide as a page; ``height`` of a row, and
    ``extra`` below all, in inches."""
    across = min(count, columns)
    rows = math.ceil(count / across)
    figure = new_figure(across * PAGE / columns, rows * height + extra)
    axes = figure.subplots(rows, across, squeeze=False, sharex=sharex).flatten()
    for unused in axes[count:]:
        unused.remove()
    return figure, list(axes[:count])


def styled() -> AbstractContextManager[None]:
    """Context in which figures are drawn and saved."""
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **RC})


def text_width(text: str, size: float) -> float:
    """Inches that a line of text takes at ``size`` points."""
    if not text:
        return 0.0
    font = FontProperties(family=RC["font.family"])
    return float(TextPath((0, 0), text, size, prop=font).get_extents().x1) / 72


def set_range(ax: Axes, axis: str, values: list[float]) -> None:
    """Limits with room for labels; logarithmic only for more than an order of magnitude."""
    low, high = min(values), max(values)
    if low > 0 and high / low > 10:
        room = (high / low) ** 0.25
        ax.set(**{f"{axis}scale": "log", f"{axis}lim": (low / room, high * room)})
        ticks = ax.xaxis if axis == "x" else ax.yaxis
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
        ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ticks.set_minor_formatter(NullFormatter())
    else:
        room = 0.25 * (high - low) or 0.5 * high or 1.0
        ax.set(**{f"{axis}lim": (max(low - room, 0), high + room)})


FORMATS = "one file per format (.svg, .png)"  # what an option for figures is told


def save(figure: Figure, paths: Iterable[Path], facts: dict[str, str] | None = None) -> None:
    """Write one file per path, its format taken from its suffix; ``facts`` become the PNG's text."""
    for path in paths:
        kind = path.suffix.removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else facts
        with atomic(path) as temporary:
            figure.savefig(
                temporary, format=kind, dpi="figure", metadata=metadata, facecolor="white"
            )
