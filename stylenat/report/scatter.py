"""FID against parameters and against throughput: the literature and what was measured here."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from statistics import median
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stylenat.errors import UserError
from stylenat.report.labels import Label, place_labels
from stylenat.report.measured import Measured
from stylenat.report.published import TRUST, PublishedResult, of_images
from stylenat.report.style import BLACK, GREY, PAGE, SKY, VERMILLION, Look, new_figure, set_range

AREA = 4.0  # of a bubble, square points per million parameters
EXAMPLE = 50  # million parameters, for the legend
PLAIN = 70.0  # of a marker whose size says nothing
OUTLIER = 4.0  # times a panel's median FID: named at its edge instead of squeezing it flat

DIAMOND: Look = {"marker": "D", "color": BLACK, "markeredgecolor": "white", "markersize": 5}
RING: Look = {"marker": "o", "color": "none", "markeredgecolor": BLACK, "markeredgewidth": 1.4}
TRAIL: Look = {
    "color": GREY, "marker": "D", "markersize": 4, "markerfacecolor": "white", "zorder": 2,
}  # fmt: skip
FLOOR: Look = {"color": GREY, "linestyle": "--", "linewidth": 1}


@dataclass(frozen=True)
class Quantity:
    """What the horizontal axis shows."""

    column: str  # of published.csv, a field of PublishedResult
    label: str
    sized: bool  # bubble area by parameters
    columns: int  # panels side by side


PARAMETERS = Quantity("params_m", "generator parameters (millions)", sized=False, columns=2)
THROUGHPUT = Quantity("throughput_img_s", "throughput (images/s)", sized=True, columns=1)


@dataclass(frozen=True)
class Point:
    """One value of one method; the three kinds look different."""

    label: str
    x: float
    y: float
    area: float  # square points
    kind: str  # "stylenat" and "other" are published, "ours" is measured here
    hardware: str = ""  # of a throughput, where it is known


@dataclass
class Panel:
    """One pair of axes: values that may be compared with each other, and nothing else."""

    title: str
    value: str  # what the vertical axis measures
    points: list[Point] = field(default_factory=list)
    beyond: list[Point] = field(default_factory=list)  # too high for the axis
    trails: list[list[tuple[float, float]]] = field(default_factory=list)  # snapshots, batches
    floors: dict[float, str] = field(default_factory=dict)  # what each compares, in words
    own: bool = False  # only our models, with no published value to stand beside


def draw_fid_scatter(
    quantity: Quantity, published: list[PublishedResult], measured: list[Measured]
) -> Figure:
    """A panel per data set of the literature, then one per data set that only we measured.

    Values that do not follow the published protocol never share an axis with published FID.
    Experiments without the quantity (no throughput record) are left out.
    """
    panels = [*_literature_panels(quantity, published, measured), *_own_panels(quantity, measured)]
    if not panels:
        raise UserError(f"no result, published or ours, has both a FID and {quantity.column}.")
    columns = min(len(panels), quantity.columns)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(columns * PAGE / quantity.columns, 2.7 * rows + 0.7)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for unused in axes[len(panels) :]:
        unused.remove()
    for ax, panel in zip(axes, panels, strict=False):
        _draw_panel(ax, panel, quantity)
    handles = _legend(panels, quantity)
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figure.canvas.draw()  # settles the layout, which the labels are measured in
    figure.set_layout_engine("none")
    for ax, panel in zip(axes, panels, strict=False):
        place_labels(ax, _labels(ax, panel))
    return figure


def _literature_panels(
    quantity: Quantity, published: list[PublishedResult], measured: list[Measured]
) -> Iterator[Panel]:
    names = dict.fromkeys((row.dataset, row.dataset_name, row.resolution) for row in published)
    for name, dataset, resolution in names:
        places = {
            row: point
            for row in of_images(published, dataset, resolution)
            if (point := _published_point(row, quantity)) is not None
        }
        rows = _distinct(places, quantity)
        points = [places[row] for row in rows]
        limit = OUTLIER * median([point.y for point in points] or [math.inf])
        panel = Panel(
            f"{name} {resolution}²",
            "FID",
            points=[point for point in points if point.y <= limit],
            beyond=[point for point in points if point.y > limit],
        )
        for ours in measured:
            if ours.comparable and (ours.dataset, ours.resolution) == (dataset, resolution):
                panel.points += _own_points(ours, quantity)
                panel.trails += _sweep(ours, quantity)
        # Variants of one method alone have nothing to be compared with.
        ours_too = any(point.kind == "ours" for point in panel.points)
        if ours_too or len({_base(row.method) for row in rows}) > 1:
            yield panel


def _distinct(rows: Iterable[PublishedResult], quantity: Quantity) -> list[PublishedResult]:
    """Of several rows on one thing the most reliable; kernels change throughput, not parameters."""
    best: dict[str, PublishedResult] = {}
    for row in sorted(rows, key=lambda row: TRUST.index(row.trust)):
        best.setdefault(row.method if quantity is THROUGHPUT else _base(row.method), row)
    return list(best.values())


def _base(method: str) -> str:
    return method.partition(" (")[0]


def _published_point(row: PublishedResult, quantity: Quantity) -> Point | None:
    """None where the row does not say all that places it."""
    x: float | None = getattr(row, quantity.column)
    if x is None or row.fid is None or row.params_m is None:
        return None
    base, _, variant = row.method.rstrip(")").partition(" (")
    hardware = row.hardware if quantity.sized else ""
    # What the legend says of the hardware need not be said again at every point.
    details = [part for part in variant.split(", ") if part and part not in hardware.split(", ")]
    # … nor what its colour says: variants of StyleNAT go by what sets them apart.
    names = details if details and base == "StyleNAT" else [base, *details]
    return Point(
        label="\n".join(names),
        x=x,
        y=row.fid,
        area=AREA * row.params_m if quantity.sized else PLAIN,
        kind="stylenat" if base == "StyleNAT" else "other",
        hardware=hardware,
    )


def _own_panels(quantity: Quantity, measured: list[Measured]) -> list[Panel]:
    panels: dict[tuple[str, str, int], Panel] = {}
    for ours in measured:
        points = [] if ours.comparable else _own_points(ours, quantity)
        if not points:
            continue
        key = (ours.table, ours.dataset, ours.resolution)
        if key not in panels:
            name, warning = ours.table, "not FID"
            if ours.table == "fid":
                name, warning = "FID", "no published value to compare with"
            title = f"Our models on {ours.dataset} ({ours.resolution}²)\n{name}, {warning}"
            panels[key] = Panel(title, name, own=True)
        panel = panels[key]
        panel.points += points
        if ours.floor is not None:
            panel.floors[ours.floor.value] = ours.floor.of
        panel.trails += _sweep(ours, quantity)
        if quantity is PARAMETERS and ours.params_m is not None:
            panel.trails.append([(ours.params_m, value) for value in ours.values])
    return list(panels.values())


def _own_points(ours: Measured, quantity: Quantity) -> list[Point]:
    """The last snapshot: picking the best one would be another protocol."""
    value = ours.values[-1]
    if quantity is THROUGHPUT:
        if not ours.speeds:
            return []
        best = max(ours.speeds, key=lambda speed: speed.images_per_second)
        label = f"{ours.experiment}\nbatch {best.batch_size}"
        area = AREA * best.params_m
        return [Point(label, best.images_per_second, value, area, "ours", best.setting)]
    if ours.params_m is None:
        return []
    step = "" if ours.steps[-1] is None else f"\nstep {ours.steps[-1]:,}"
    return [Point(ours.experiment + step, ours.params_m, value, PLAIN, "ours")]


def _sweep(ours: Measured, quantity: Quantity) -> list[list[tuple[float, float]]]:
    """The other batch sizes that were measured, along one level line."""
    if quantity is not THROUGHPUT or not ours.speeds:
        return []
    return [[(speed.images_per_second, ours.values[-1]) for speed in ours.speeds]]


def _draw_panel(ax: Axes, panel: Panel, quantity: Quantity) -> None:
    ax.set_title(panel.title)
    ax.set_xlabel(quantity.label)
    ax.set_ylabel(f"{panel.value}, lower is better")
    if panel.own:
        ax.set_facecolor("#f6f6f6")
    trailing = [place for trail in panel.trails for place in trail]
    values = [point.y for point in panel.points] + [*panel.floors] + [y for _, y in trailing]
    known = [point.x for point in panel.points + panel.beyond] + [x for x, _ in trailing]
    set_range(ax, "x", known)
    set_range(ax, "y", values)
    for trail in panel.trails:
        x, y = zip(*trail, strict=True)
        ax.plot(x, y, **TRAIL)
    for floor in panel.floors:
        ax.axhline(floor, **FLOOR)
    for point in panel.points:
        _draw_point(ax, point, sized=quantity.sized)
    for point in _at_the_edge(ax, panel.beyond):
        ax.plot(point.x, point.y, marker="^", markersize=7, color=SKY)


def _draw_point(ax: Axes, point: Point, sized: bool) -> None:
    size = math.sqrt(point.area)
    if point.kind == "ours":
        # A ring for the size, so that a value equal to a published one does not hide it.
        if sized:
            ax.plot(point.x, point.y, **RING, markersize=size, zorder=4)
        ax.plot(point.x, point.y, **DIAMOND, zorder=4)
        return
    ax.plot(
        point.x,
        point.y,
        marker="o",
        markersize=size,
        color=VERMILLION if point.kind == "stylenat" else SKY,
        markeredgecolor=BLACK if point.hardware else "white",
        alpha=0.8,
        zorder=3,
    )


def _at_the_edge(ax: Axes, beyond: list[Point]) -> list[Point]:
    """Points too high for the axis, moved to its upper edge, with their value in the label."""
    low, high = ax.get_ylim()
    edge = high - 0.03 * (high - low)
    return [replace(point, label=f"{point.label}\nFID {point.y:g}", y=edge) for point in beyond]


def _labels(ax: Axes, panel: Panel) -> list[Label]:
    return [
        Label(
            point.label,
            point.x,
            point.y,
            radius=max(math.sqrt(point.area), DIAMOND["markersize"]) / 2 + 0.5,
            weight="normal" if point.kind == "other" else "bold",
        )
        for point in panel.points + _at_the_edge(ax, panel.beyond)
    ]


def _legend(panels: list[Panel], quantity: Quantity) -> list[Line2D]:
    """Only what occurs in some panel."""
    points = [point for panel in panels for point in panel.points]
    kinds = {point.kind for point in points}
    published: Look = {
        "marker": "o",
        "linestyle": "",
        "markersize": 7.5,
        "markeredgecolor": "white",
    }
    handles = []
    if "stylenat" in kinds:
        handles.append(Line2D([], [], **published, color=VERMILLION, label="StyleNAT, published"))
    if "other" in kinds:
        handles.append(Line2D([], [], **published, color=SKY, label="other methods, published"))
    if stated := {p.hardware for p in points if p.hardware and p.kind != "ours"}:
        handles.append(
            Line2D([], [], **{**published, "markeredgecolor": BLACK}, color="white",
                   label=fill(f"outlined: {_only(stated)}; else hardware not stated", 40))
        )  # fmt: skip
    if "ours" in kinds:
        settings = {p.hardware for p in points if p.hardware and p.kind == "ours"}
        label = "measured here, last snapshot" + (f", {_only(settings)}" if settings else "")
        handles.append(Line2D([], [], **DIAMOND, linestyle="", label=fill(label, 40)))
    if quantity.sized:
        ring = {**RING, "markeredgecolor": GREY, "markeredgewidth": 0.8, "linestyle": ""}
        size = math.sqrt(AREA * EXAMPLE)
        label = f"area of a bubble: {EXAMPLE} M parameters"
        handles.append(Line2D([], [], **ring, markersize=size, label=label))
    if any(len(trail) > 1 for panel in panels for trail in panel.trails):
        label = "smaller or larger batches" if quantity.sized else "earlier snapshots"
        handles.append(Line2D([], [], **TRAIL, label=label))
    if floors := dict.fromkeys(of for panel in panels for of in panel.floors.values()):
        label = fill(f"floor: {', or '.join(floors)}", 40)
        handles.append(Line2D([], [], **FLOOR, label=label))
    return handles


def _only(settings: set[str]) -> str:
    return next(iter(settings)) if len(settings) == 1 else "hardware as in the tables"
