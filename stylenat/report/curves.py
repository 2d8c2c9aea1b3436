"""What happened during one training: its records and its snapshots, against images seen."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from stylenat.errors import UserError
from stylenat.io import described
from stylenat.records import MetricRecord
from stylenat.report.style import BLACK, BLUE, GREEN, GREY, VERMILLION, panels, set_range

COLORS = (BLUE, VERMILLION, GREEN, BLACK)
COLUMNS = 2  # panels side by side
SMOOTHING = 0.03  # of the run: the window of the running median


@dataclass(frozen=True)
class Panel:
    """Quantities that share an axis: key of the training record → name in the figure."""

    title: str
    lines: dict[str, str]
    log: bool = False


PANELS = (
    Panel("Losses", {"loss_d": "discriminator", "loss_g": "generator"}),
    Panel("Discriminator's logits", {"d_real": "real", "d_fake": "generated"}),
    Panel("Penalties, unweighted", {"r1": "R1", "bcr": "bCR"}, log=True),
    Panel("ADA's probability", {"augment_p": ""}),
    Panel("Gradient norm", {"grad_norm_d": "discriminator", "grad_norm_g": "generator"}, log=True),
    Panel("Training speed (images/s)", {"images_per_second": ""}),
)


def read_training(paths: Iterable[str | Path]) -> pd.DataFrame:
    """The JSON lines of all segments, one row per record, by step."""
    records = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path} does not exist; train this segment first.")
        lines = path.read_text(errors="replace").splitlines()
        if not lines:
            raise UserError(
                f"{path} holds no training record ({described(path)}); delete it, which trains this "
                "segment again."
            )
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                record = None
            if not isinstance(record, dict) or "images_seen" not in record:
                raise UserError(
                    f"{path}, line {number}: not a training record; train this segment again."
                )
            records.append(record)
    return pd.DataFrame(records).sort_values("images_seen", kind="stable")


def draw_training(training: pd.DataFrame, metrics: list[MetricRecord]) -> Figure:
    """Losses, logits, penalties, gradient norms, speed, and the distance of every snapshot.

    Quantities that no record holds get no panel; faint lines are the records, strong ones their
    running median.
    """
    kinds = [panel for panel in PANELS if set(panel.lines) & set(training)]
    names = dict.fromkeys((r.protocol, r.metric) for r in metrics if r.kind == "snapshot")
    figure, axes = panels(len(kinds) + len(names), COLUMNS, 2.0, sharex=True)
    for ax, name in zip(axes, names, strict=False):
        _draw_distance(ax, [r for r in metrics if (r.protocol, r.metric) == name])
    for ax, panel in zip(axes[len(names) :], kinds, strict=True):
        _draw_lines(ax, panel, training)
    for ax in axes[-COLUMNS:]:
        ax.set_xlabel("images seen")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.xaxis.set_tick_params(labelbottom=True)
    return figure


def _draw_lines(ax: Axes, panel: Panel, training: pd.DataFrame) -> None:
    ax.set_title(panel.title)
    for (key, name), color in zip(panel.lines.items(), COLORS, strict=False):
        if key not in training:
            continue
        known = training[["images_seen", key]].dropna()
        window = max(1, round(SMOOTHING * len(known)))
        smooth = known[key].rolling(window, center=True, min_periods=1).median()
        if window > 1:
            ax.plot(known["images_seen"], known[key], color=color, alpha=0.25, linewidth=0.8)
        ax.plot(known["images_seen"], smooth, color=color, label=name)
    values = training.filter(items=list(panel.lines)).to_numpy().ravel()
    values = values[(values > 0) & np.isfinite(values)]
    if panel.log and values.size:
        set_range(ax, "y", values.tolist())
    if any(panel.lines.values()):
        _legend_beside_title(ax)


def _legend_beside_title(ax: Axes) -> None:
    """Where no line can run through it."""
    ax.legend(
        loc="lower right", bbox_to_anchor=(1.02, 1), borderaxespad=0, ncols=2, handlelength=1.2,
        columnspacing=1,
    )  # fmt: skip


def _draw_distance(ax: Axes, records: list[MetricRecord]) -> None:
    """One protocol's value at every snapshot, above the floor that real images reach."""
    snapshots = sorted((r for r in records if r.kind == "snapshot"), key=lambda r: r.step or 0)
    protocol, metric = snapshots[0].protocol, snapshots[0].metric
    values = [record.value for record in snapshots]
    # The names of most protocols begin with their metric's.
    ax.set_title(f"{protocol if metric in protocol else f'{metric} ({protocol})'} of snapshots")
    ax.plot(
        [math.nan if it.images_seen is None else it.images_seen for it in snapshots],
        values,
        color=BLACK,
        marker="D",
        markersize=4,
    )
    for floor in (record.value for record in records if record.kind == "floor"):
        ax.axhline(floor, color=GREY, linestyle="--", label="floor")
        _legend_beside_title(ax)
        values.append(floor)
    set_range(ax, "y", values)
