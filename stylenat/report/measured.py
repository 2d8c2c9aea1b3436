"""What our own result tables say about each experiment: the input of the figures."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stylenat.errors import UserError
from stylenat.io import brief, described


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
    frames = {path: read_table(path) for path in paths}
    speeds = {
        frame["experiment"].iloc[0]: _speeds(frame)
        for frame in frames.values()
        if "images_per_second" in frame
    }
    return [
        _measured(frame, speeds)
        for frame in frames.values()
        if "value" in frame
        and (frame["table"] != "metrics").all()
        and (frame["kind"] == "snapshot").any()
    ]


def read_table(path: str | Path) -> pd.DataFrame:
    """A table of ours (CSV); anything else is a :class:`UserError`."""
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise UserError(
            f"{path} cannot be read ({described(path)}; {brief(error)}); delete it and run the step "
            "tables again."
        ) from error
    if not {"experiment", "kind"} <= set(frame) or not {"value", "images_per_second"} & set(frame):
        raise UserError(f"{path} is not a result table of ours; make it with the step tables.")
    return frame


def _speeds(frame: pd.DataFrame) -> tuple[Speed, ...]:
    """The batch sweep of the whole network; its parts, and upstream's protocol, which repeats a
    batch size, are for the table."""
    whole = (frame["protocol"] == "median") & (frame["timed"] == "z to image")
    sweep = frame[(frame["kind"] == "measured") & whole]
    return tuple(
        Speed(
            int(row["batch_size"]),
            row["images_per_second"],
            row["params_m"],
            f"{row['device']}, {row['dtype']}",
        )
        for row in sweep.to_dict("records")
    )


def _measured(frame: pd.DataFrame, speeds: dict[str, tuple[Speed, ...]]) -> Measured:
    snapshots = frame[frame["kind"] == "snapshot"]
    comparable = snapshots["published"].notna()
    # One protocol to a figure: the one that may be held against the literature, else the first.
    protocol = (snapshots[comparable] if comparable.any() else snapshots)["protocol"].iloc[0]
    snapshots = snapshots[snapshots["protocol"] == protocol].sort_values("step")
    floors = frame[(frame["kind"] == "floor") & (frame["protocol"] == protocol)]
    first = snapshots.iloc[0]
    own_speeds = speeds.get(first["experiment"], ())
    counted = snapshots["params_m"].dropna().tolist() + [speed.params_m for speed in own_speeds]
    return Measured(
        experiment=first["experiment"],
        dataset=first["dataset"],
        resolution=int(first["resolution"]),
        table=first["table"],
        protocol=protocol,
        comparable=bool(comparable.any()),
        steps=_integers(snapshots["step"]),
        images=_integers(snapshots["images_seen"]),
        values=tuple(snapshots["value"]),
        floor=None if floors.empty else Floor(floors["value"].iloc[0], floors["method"].iloc[0]),
        params_m=counted[0] if counted else None,
        speeds=own_speeds,
    )


def _integers(column: pd.Series) -> tuple[int | None, ...]:
    return tuple(None if pd.isna(value) else int(value) for value in column)
