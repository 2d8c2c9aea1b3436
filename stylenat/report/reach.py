"""How far heads look, level by level and view by view, beside equal weights."""

import pandas as pd
from matplotlib.figure import Figure

from stylenat.neighbourhood import FAR
from stylenat.report.style import BLUE, GREY, PAGE, new_figure

PANELS = (
    ("distance", "mean distance (pixels)", "uniform_distance"),
    ("entropy", "entropy / that of equal weights", None),
    ("beyond", f"share of weights beyond {FAR} pixels", "uniform_beyond"),
)


def draw_reach(frame: pd.DataFrame) -> Figure:
    """A panel for each quantity, a line for each view; hollow: what equal weights would give."""
    figure = new_figure(PAGE, 0.8 + 0.2 * len(frame))
    axes = figure.subplots(1, len(PANELS), sharey=True)
    places = range(len(frame))[::-1]
    for ax, (key, label, uniform) in zip(axes, PANELS, strict=True):
        if uniform:
            ax.plot(frame[uniform], places, "o", color=GREY, fillstyle="none", markersize=5)
        ax.plot(frame[key], places, "o", color=BLUE, markersize=4)
        ax.set(xlabel=label, ylim=(-0.6, len(frame) - 0.4))
        ax.set_xlim(left=0)
    axes[1].axvline(1, color=GREY, linewidth=0.8)
    names = [f"{row.level}²: {row.view}" for row in frame.itertuples()]
    axes[0].set_yticks(list(places), names)
    return figure
