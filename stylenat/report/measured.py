"""What our own result tables say about each experiment: the input of the figures."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stylenat.errors import UserError
from stylenat.io import brief, described
from stylenat.report.rows import MetricRow, SpeedRow, by_step


@dataclass(frozen=True)
class Speed:
    """One throughput measurement of an experiment's generator."""

    batch_size: int
    images_per_second: float
    params_m: float
    setting: str  # device and dtype in words


@dataclass(frozen=True)
class Floor:
    """What real images alone get."""

    value: float
    of: str  # what was compared with what, in words


@dataclass(frozen=True)
class Measured:
    """An experiment's values under one protocol, oldest snapshot first."""

    experiment: str
    dataset: str
    resolution: int
    table: str
    protocol: str
    comparable: bool  # may stand on an axis with published FID
    steps: tuple[int | None, ...]
    images: tuple[int | None, ...]  # seen in training until then
    values: tuple[float, ...]
    floor: Floor | None
    params_m: float | None
    speeds: tuple[Speed, ...]


def read_measured(paths: Iterable[str | Path]) -> list[Measured]:
    """Join every metric table with the throughput table of its experiment, where there is one."""
    metrics, speeds = [], {}
    for path in paths:
        frame = read_table(path)
        if "images_per_second" in frame:
            timed = SpeedRow.of(frame, path)
            speeds[timed[0].experiment] = _speeds(timed)
        else:
            metrics.append(MetricRow.of(frame, path))
    return [
        _measured(rows, speeds)
        for rows in metrics
        if all(row.table != "metrics" for row in rows)
        and any(row.kind == "snapshot" for row in rows)
    ]


def read_table(path: str | Path) -> pd.DataFrame:
    """A table of ours (CSV), not empty; anything else is a :class:`UserError`."""
    try:
        frame = pd.read_csv(path, dtype=SpeedRow.texts() | MetricRow.texts())
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise UserError(
            f"{path} cannot be read ({described(path)}; {brief(error)}); delete it and run the step "
            "tables again."
        ) from error
    ours = {"experiment", "kind"} <= set(frame) and {"value", "images_per_second"} & set(frame)
    if not ours or frame.empty:
        raise UserError(f"{path} is not a result table of ours; make it with the step tables.")
    return frame


def _speeds(rows: list[SpeedRow]) -> tuple[Speed, ...]:
    """The batch sweep of the whole network; its parts, and upstream's protocol, which repeats a
    batch size, are for the table."""
    return tuple(
        Speed(
            row.batch_size,
            row.images_per_second,
            row.params_m,
            f"{row.device}, {row.dtype}",
        )
        for row in rows
        if (row.kind, row.protocol, row.timed) == ("measured", "median", "z to image")
        and row.batch_size is not None
        and row.params_m is not None
    )


def _measured(rows: list[MetricRow], speeds: dict[str | None, tuple[Speed, ...]]) -> Measured:
    snapshots = [row for row in rows if row.kind == "snapshot"]
    comparable = [row for row in snapshots if row.published is not None]
    # One protocol to a figure: the one that may be held against the literature, else the first.
    protocol = (comparable or snapshots)[0].protocol
    snapshots = by_step(row for row in snapshots if row.protocol == protocol)
    floors = [row for row in rows if row.kind == "floor" and row.protocol == protocol]
    first = snapshots[0]
    own_speeds = speeds.get(first.experiment, ())
    counted = [row.params_m for row in snapshots if row.params_m is not None]
    counted += [speed.params_m for speed in own_speeds]
    return Measured(
        experiment=first.experiment,
        dataset=first.dataset,
        resolution=first.resolution,
        table=first.table or "",
        protocol=protocol,
        comparable=bool(comparable),
        steps=tuple(row.step for row in snapshots),
        images=tuple(row.images_seen for row in snapshots),
        values=tuple(row.value for row in snapshots),
        floor=Floor(floors[0].value, floors[0].method or "") if floors else None,
        params_m=counted[0] if counted else None,
        speeds=own_speeds,
    )
