"""Direct labels beside points, placed so that none covers a marker or another label."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from stylenat.report.style import BLACK, GREY

# Directions in the order a reader expects a label: right of its point, left, above, below, others.
ANGLES = np.radians([0, 180, 90, 270, 45, 135, 315, 225, 20, 160, 340, 200, 70, 110, 250, 290])
DIRECTIONS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
GAPS = np.array([2.0, 8.0, 16.0, 26.0, 38.0, 52.0])  # points between marker and text
LEADER_GAP = 8.0  # from here on a thin line ties the label to its point
LEADER = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0}
PADDING = 1.5  # points kept free round a text
STARTS = 20  # of the descent, seeded: the same figure gets the same labels

# A box is (x0, y0, x1, y1) in pixels; boxes are arrays (..., 4).


@dataclass(frozen=True)
class Label:
    """A text for the marker at (x, y) in data units; ``radius`` of that marker in points."""

    text: str
    x: float
    y: float
    radius: float
    weight: str


@dataclass(frozen=True)
class Places:
    """Where one label could go: every direction at every gap, p places."""

    boxes: np.ndarray  # (p, 4) of the text, padded
    leaders: np.ndarray  # (p, 12, 2) points on the line from the marker to the text
    sides: np.ndarray  # (p,) text stands right (1), left (-1) or centred (0)
    gaps: np.ndarray  # (p,) points
    costs: np.ndarray  # (p,) whatever the other labels do


def place_labels(axes: Axes, labels: list[Label]) -> None:
    """Write every label at a free place near its point, with a leader where that is far.

    The figure's layout must be final, for texts are measured in pixels.
    """
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)  # as new_figure makes it
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    scale = axes.figure.dpi / 72  # pixels per point
    frame = _array(axes.get_window_extent(renderer).padded(-2 * PADDING * scale))
    centres = axes.transData.transform([(label.x, label.y) for label in labels])
    radii = np.array([[label.radius * scale] for label in labels])
    markers = np.hstack([centres - radii, centres + radii])
    texts = [_write(axes, label) for label in labels]
    places = [
        _places(_array(text.get_window_extent(renderer)), index, markers, frame, scale)
        for index, text in enumerate(texts)
    ]
    for label, text, options, best in zip(labels, texts, places, _arrange(places), strict=True):
        box, leader = options.boxes[best], options.leaders[best]
        text.set_position(tuple(((box[:2] + box[2:]) / 2 - leader[0]) / scale))
        text.set(multialignment={1: "left", 0: "center", -1: "right"}[options.sides[best]])
        if options.gaps[best] >= LEADER_GAP:
            _draw_leader(axes, label, (leader[-1] - leader[0]) / scale)


def _write(axes: Axes, label: Label) -> Annotation:
    return axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(0, 0),
        textcoords="offset points",
        horizontalalignment="center",
        verticalalignment="center",
        color=BLACK,
        weight=label.weight,
        fontsize=7.5,
        linespacing=1.1,
        bbox={"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 0.5},
        zorder=2.5,  # over the grid and trails, under the markers
    )


def _places(
    text: np.ndarray, index: int, markers: np.ndarray, frame: np.ndarray, scale: float
) -> Places:
    """Places round one marker; dearer where they hide things, are cut off, confuse or lie far."""
    marker = markers[index]
    centre, radius = (marker[:2] + marker[2:]) / 2, (marker[2] - marker[0]) / 2
    size = text[2:] - text[:2] + 2 * PADDING * scale
    gaps = np.repeat(GAPS, len(DIRECTIONS))
    directions = np.tile(DIRECTIONS, (len(GAPS), 1))
    sides = np.where(np.abs(directions) > 0.3, np.sign(directions), 0)
    ends = centre + directions * (radius + gaps[:, None] * scale)
    low = ends + (sides - 1) * size / 2
    boxes = np.hstack([low, low + size])
    leaders = centre + np.linspace(0, 1, 12)[:, None] * (ends - centre)[:, None]
    # Markers that cover this one are as near as it is, wherever the label goes.
    rivals = markers[~_inside(centre, markers)]
    # Whose label is it? That of the nearest marker, unless a leader says so.
    apart = np.where(gaps < LEADER_GAP, gaps + 2, 4)
    nearer = _distance(boxes[:, None], rivals) < apart[:, None] * scale
    hidden = _overlap(boxes[:, None], markers).sum(1) + size.prod() - _overlap(boxes, frame)
    crossed = _inside(leaders[:, :, None], rivals).sum((1, 2))
    order = np.tile(np.arange(len(DIRECTIONS)), len(GAPS))
    costs = 10 * hidden + 50 * crossed + 300 * nearer.sum(1) + 4 * gaps + 0.1 * order
    return Places(boxes, leaders, sides[:, 0].astype(int), gaps, costs)


def _arrange(places: list[Places]) -> list[int]:
    """The place of each label: coordinate descent on the summed cost, from several starts."""
    count = range(len(places))
    conflicts = {}
    for a, b in combinations(count, 2):
        conflicts[a, b] = _conflicts(places[a], places[b])
        conflicts[b, a] = conflicts[a, b].T
    random = np.random.default_rng(0)

    def costs(index: int, chosen: list[int]) -> np.ndarray:
        others = (conflicts[index, other][:, chosen[other]] for other in count if other != index)
        total: np.ndarray = places[index].costs + sum(others)
        return total

    best, best_cost = [], np.inf
    for start in range(STARTS):
        noise = 0 if start == 0 else 500
        chosen = [int(np.argmin(p.costs + noise * random.random(len(p.costs)))) for p in places]
        for _ in range(5):
            for index in random.permutation(len(places)):
                chosen[index] = int(np.argmin(costs(index, chosen)))
        total = sum(costs(index, chosen)[chosen[index]] for index in count)
        if total < best_cost:
            best, best_cost = chosen, total
    return best


def _conflicts(first: Places, second: Places) -> np.ndarray:
    """(p, q) costs of texts on texts and of leaders through texts."""
    costs: np.ndarray = 10 * _overlap(first.boxes[:, None], second.boxes)
    costs += 50 * _inside(first.leaders[:, :, None], second.boxes).sum(1)
    costs += 50 * _inside(second.leaders[:, :, None], first.boxes).sum(1).T
    return costs


def _array(box: Bbox) -> np.ndarray:
    return np.array(box.extents)


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Common area of boxes."""
    high = np.minimum(first[..., 2:], second[..., 2:])
    low = np.maximum(first[..., :2], second[..., :2])
    area: np.ndarray = np.maximum(high - low, 0).prod(-1)
    return area


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Between boxes, 0 where they overlap."""
    apart = np.maximum(first[..., :2] - second[..., 2:], second[..., :2] - first[..., 2:])
    length: np.ndarray = np.hypot(*np.moveaxis(np.maximum(apart, 0), -1, 0))
    return length


def _inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    x0, y0, x1, y1 = np.moveaxis(boxes, -1, 0)
    found: np.ndarray = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    return found


def _draw_leader(axes: Axes, label: Label, offset: np.ndarray) -> None:
    axes.annotate(
        "",
        (label.x, label.y),
        xytext=tuple(offset),
        textcoords="offset points",
        arrowprops=LEADER | {"shrinkB": label.radius},
        zorder=2.5,
    )
