"""A blank sheet measured in inches, for figures that consist of many small pictures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stylenat.report.style import BLACK, DPI, PAGE, Look, new_figure, text_width

FONT = 7.5  # points
LINE = 0.15  # inches that a line of text takes
GAP = 0.05  # inches between things
SIDE = 1.1  # inches of the picture that the others explain
PAD = 0.04  # inches round everything
WIDTH = PAGE - 2 * PAD  # inches to draw on, at most


@dataclass(frozen=True)
class Board:
    """Places are inches from the upper left corner, y pointing down."""

    figure: Figure
    axes: Axes

    def picture(self, pixels: np.ndarray, x: float, y: float, side: float, **options: Any) -> None:
        """A square with its upper left corner at (x, y): colours, or a map and how to show it."""
        self._image(pixels, (x, x + side, y + side, y), **options)

    def write(self, x: float, y: float, text: str, align: str = "center", **options: Any) -> None:
        """Text whose middle is at height y."""
        look: Look = {"fontsize": FONT, "color": BLACK, "va": "center", "ha": align}
        self.axes.text(x, y, text, **look | options)

    def squares(
        self, cells: np.ndarray, x: float, y: float, pixel: float, side: float, **options: Any
    ) -> None:
        """A square of this side in the middle of some (row, column) of a map, whose corner is at (x, y)
        and whose pixels have the side ``pixel``."""
        corners = (cells[:, ::-1] + 0.5) * pixel - side / 2 + (x, y)
        patches = [Rectangle((left, top), side, side) for left, top in corners.tolist()]
        self.axes.add_collection(PatchCollection(patches, **options), autolim=False)

    def colour_scale(self, name: str, x: float, y: float, low: str, high: str) -> None:
        """The colour map from left to right between two words, 1.1 inches in all."""
        ends = [text_width(word, FONT) + GAP for word in (low, high)]
        extent = (x + ends[0], x + SIDE - ends[1], y + LINE / 3, y - LINE / 3)
        self._image(np.linspace(0, 1, 256)[None], extent, cmap=name)
        self.write(x, y, low, "left")
        self.write(x + SIDE, y, high, "right")

    def _image(
        self, values: np.ndarray, extent: tuple[float, float, float, float], **options: Any
    ) -> None:
        limits = self.axes.axis()
        self.axes.imshow(values, extent=extent, aspect="auto", interpolation="nearest", **options)
        self.axes.axis(limits)


def blank(width: float, height: float, pad: float = PAD, dpi: float = DPI) -> Board:
    """A sheet of that many inches, and ``pad`` round it. Call it inside
    :func:`stylenat.report.style.styled`."""
    figure = new_figure(width + 2 * pad, height + 2 * pad, layout=None, dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-pad, width + pad), ylim=(height + pad, -pad))
    axes.set_axis_off()
    return Board(figure, axes)
