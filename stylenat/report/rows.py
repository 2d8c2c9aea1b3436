"""What all result tables share: rows whose fields are the columns, and what is said in several of them."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from stylenat.blocks import BLOCKS
from stylenat.config import ExperimentConfig, ModelConfig
from stylenat.errors import UserError
from stylenat.fields import dotted, explain

LEVEL = 0.05  # of the tests; 1 − LEVEL of the intervals
LEAST_P = 0.001  # a smaller p-value would claim more than so few resamples or trainings can tell


class Row(BaseModel):
    """A row of a table, whose columns are the fields in their order; None is an empty cell.

    A field without a default is a column that every file with such a table has.
    """

    model_config = ConfigDict(frozen=True)

    @classmethod
    def like(cls, record: BaseModel, **own: object) -> Self:
        """What the record says under names of columns, and the row's ``own`` cells."""
        names = cls.model_fields.keys() & type(record).model_fields.keys()
        return cls(**{name: getattr(record, name) for name in names} | own)

    @classmethod
    def frame(cls, rows: Sequence[Self]) -> pd.DataFrame:
        """The table."""
        frame = pd.DataFrame([row.model_dump() for row in rows], columns=list(cls.model_fields))
        # Nullable integers, or one missing step would turn all of them into 400.0.
        return frame.astype(dict.fromkeys(cls._columns(int), "Int64"))

    @classmethod
    def of(cls, frame: pd.DataFrame, path: str | Path = "this table") -> list[Self]:
        """The rows of a table, which may be another version's; a :class:`UserError` names the column
        and the file at ``path`` where it is none."""
        required = (name for name, field in cls.model_fields.items() if field.is_required())
        missing = next((name for name in required if name not in frame), None)
        if missing is not None:
            raise UserError(
                f"{path} has no column {missing}; give a table that the step tables wrote."
            )
        try:
            return [cls(**cells) for cells in cells_of(frame)]
        except ValidationError as error:
            key, message = explain(error, cls)
            raise UserError(
                f"{path}: a cell of the column {dotted(key)}: {message}; "
                "give a table that the step tables wrote."
            ) from error

    @classmethod
    def texts(cls) -> dict[str, type]:
        """The columns that hold text, as pandas is told: a commit may look like a number."""
        return dict.fromkeys(cls._columns(str), str)

    @classmethod
    def _columns(cls, kind: type) -> list[str]:
        fields = cls.model_fields.items()
        return [name for name, field in fields if field.annotation in (kind, kind | None)]


def cells_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as cells by column, each of its column's type, or None where it is empty."""
    return [
        {str(key): None if pd.isna(cell) else cell for key, cell in row.items()}
        for row in frame.to_dict("records")
    ]


class MetricRow(Row):
    """One metric of one snapshot, of the floor, or as published."""

    experiment: str
    dataset: str
    resolution: int
    table: str | None = None
    method: str | None = None
    kind: str  # "snapshot", "floor" or "published"
    step: int | None = None
    images_seen: int | None = None
    selection: str | None = None
    protocol: str
    metric: str
    better: str  # "lower" or "higher"
    value: float
    held_out: float | None = None
    std: float | None = None
    minimum: float | None = None
    sets: int | None
    uncertainty: float | None = None
    uncertainty_of: str | None = None
    held_out_std: float | None = None
    held_out_uncertainty: float | None = None
    note: str | None = None
    n_generated: int | None
    n_real: int | None
    n_real_held_out: int | None = None
    published: float | None = None
    difference: float | None = None
    verdict: str | None = None
    params_m: float | None = None
    seeds: str | None = None
    extractor: str | None = None
    weights_sha256: str | None = None
    filter: str | None = None
    dataset_sha256: str | None = None
    generator_sha256: str | None
    device: str | None = None
    dtype: str | None = None
    precision: str | None = None
    versions: str | None = None
    commit: str | None = None
    dataset_licence: str | None = None
    dataset_creator: str | None = None
    source: str | None = None


class SpeedRow(Row):
    """One measurement of throughput, or a published one."""

    experiment: str | None
    dataset: str
    resolution: int
    method: str
    kind: str  # "measured" or "published"
    step: int | None = None
    protocol: str
    timed: str | None = None
    batch_size: int | None = None
    images_per_second: float
    images_per_second_q25: float | None = None
    images_per_second_q75: float | None = None
    params_m: float | None = None
    gflops: float | None = None
    memory_mb: float | None = None
    comparable: str
    device: str | None = None
    threads: int | None = None
    dtype: str | None = None
    backend: str | None = None
    execution: str | None = None
    warmup: int | None = None
    rounds: int | None = None
    rounds_intended: int | None = None
    versions: str | None = None
    commit: str | None = None
    source: str


class AblationRow(Row):
    """One variant of an ablation after one snapshot, the floor, or a published value of the variant.

    Counts are ``int | float``: in the file they have decimals as soon as a row has none.
    """

    ablation: str
    variant: str
    step: int | None = None
    kind: str  # "measured", "floor" or "published"
    protocol: str | None = None
    metric: str
    against: str | None = None
    value: float | None = None
    std: float | None = None
    n: int | None = None
    values: str | None = None
    std_of_sets: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: str | None = None
    parameters: int | float | None = None
    size_note: str | None = None
    gflops: float | None = None
    sampling_images_per_second: float | None = None
    training_images_per_second: float | None = None
    published: float | None = None
    trust: str | None = None
    n_generated: int | float | None = None
    n_real: int | float | None = None
    device: str | None = None
    commit: str | None = None
    source: str


def by_step(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """In the order of training; without a step, as converted weights may be, at the end."""
    return sorted(rows, key=lambda row: (row.step is None, row.step or 0))


def last_rows(rows: Iterable[AblationRow]) -> list[AblationRow]:
    """What was measured of every variant after the last iteration."""
    measured = [row for row in rows if row.kind == "measured"]
    last = max(row.step or 0 for row in measured)
    return [row for row in measured if (row.step or 0) == last]


def versions_text(versions: dict[str, str] | None) -> str | None:
    return None if versions is None else ", ".join(f"{k} {x}" for k, x in versions.items())


def model_name(model: ModelConfig) -> str:
    """What the literature calls a generator with these blocks, or else the blocks themselves."""
    kind = BLOCKS[model.block[-1]]
    if kind.model and model.block == (kind.at_4, *model.block[-1:] * (len(model.block) - 1)):
        return kind.model
    runs = groupby(zip(model.block, model.resolutions, strict=True), key=lambda pair: pair[0])
    names = []
    for block, levels in runs:
        sides = [f"{side}²" for _, side in levels]
        names.append(f"{block} {sides[0]}" + (f" to {sides[-1]}" if len(sides) > 1 else ""))
    return ", ".join(names)


def margin(uncertainty: float | None, std: float | None) -> float | None:
    """Of a value: twice its standard error or, where that is not known, twice the standard deviation over
    sampling sets; None where neither is."""
    for spread in (uncertainty, std):
        if spread is not None:
            return 2 * spread
    return None


def p_value(p: float) -> str:
    """``= 0.042``, or ``< 0.001``: of a p-value, what stands behind its p."""
    return f"< {LEAST_P}" if p < LEAST_P else f"= {p:.2g}"


def require_experiment(name: str, own: str | None, experiments: list[ExperimentConfig]) -> None:
    """Raise a :class:`UserError` for the record ``name`` of an experiment that is not one of these."""
    known = [experiment.name for experiment in experiments]
    if own not in known:
        raise UserError(
            f"{name}: experiment is {own!r}, not {' or '.join(map(repr, known))}; "
            "pass the experiments whose records these are."
        )
