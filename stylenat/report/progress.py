"""How the distance to the real images fell during training, for all experiments together."""

from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from stylenat.errors import UserError
from stylenat.report.measured import Measured
from stylenat.report.published import PublishedResult, reference
from stylenat.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    SKY,
    VERMILLION,
    Look,
    panels,
    set_range,
)

COLUMNS = 2  # panels side by side
LEGEND_LINE = 0.16  # inches
# Told apart by their shape, too.
LOOKS = (
    (BLUE, "o"), (VERMILLION, "s"), (GREEN, "^"), (BLACK, "D"), (PURPLE, "v"), (SKY, "P"),
)  # fmt: skip


def draw_progress(measured: list[Measured], published: list[PublishedResult]) -> Figure:
    """A line per experiment against images seen; a panel per protocol, data set and resolution.

    Only values that may be compared share a panel. Weights that were not trained here are a level
    line, as are the floor and, where the protocol is the published one, StyleNAT's published FID.
    """
    members: dict[tuple[str, str, str, int], list[Measured]] = {}
    for ours in measured:
        key = (ours.table, ours.protocol, ours.dataset, ours.resolution)
        members.setdefault(key, []).append(ours)
    if not members:
        raise UserError("no table holds a snapshot; run the step metrics, then tables.")
    entries = 2 + max(map(len, members.values()))
    figure, axes = panels(len(members), COLUMNS, 2.4 + entries * LEGEND_LINE)
    for ax, several in zip(axes, members.values(), strict=True):
        _draw_panel(ax, several, published)
    return figure


def _draw_panel(ax: Axes, members: list[Measured], published: list[PublishedResult]) -> None:
    first = members[0]
    warning = "" if first.table == "fid" else ", not FID"
    ax.set(
        title=f"{first.dataset} ({first.resolution}²)",
        xlabel="images seen",
        ylabel=f"{first.protocol}{warning}, lower is better",
    )
    values = [value for ours in members for value in ours.values]
    for ours, (color, marker) in zip(members, cycle(LOOKS), strict=False):
        look: Look = {"color": color, "label": ours.experiment}
        images = [seen for seen in ours.images if seen is not None]
        if len(images) < len(ours.values):
            ax.axhline(ours.values[-1], linestyle="-.", **look)
        else:
            ax.plot(images, ours.values, marker=marker, markersize=4, **look)
    floors = {ours.floor.value: ours.floor.of for ours in members if ours.floor is not None}
    named: set[str] = set()
    for floor, of in floors.items():
        ax.axhline(floor, color=GREY, linestyle="--", label=None if of in named else f"floor: {of}")
        named.add(of)
    values += floors
    if first.comparable and (known := reference(published, first.dataset, first.resolution)):
        ax.axhline(known.fid, color=BLACK, linestyle=":", label=f"StyleNAT, published: {known.fid}")
        values.append(known.fid)
    set_range(ax, "y", values)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    # Below, where no line can run through it.
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.22), borderaxespad=0, handlelength=3)
