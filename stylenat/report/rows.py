"""What all result tables share: whose rows they are, and how they become a frame."""

from itertools import groupby
from typing import Any

import pandas as pd

from stylenat.blocks import BLOCKS
from stylenat.config import ExperimentConfig, ModelConfig
from stylenat.errors import UserError

Record = dict[str, Any]

LEVEL = 0.05  # of the tests; 1 − LEVEL of the intervals
LEAST_P = 0.001  # a smaller p-value would claim more than so few resamples or trainings can tell

# fmt: off
INTEGERS = [
    "resolution", "step", "images_seen", "n_generated", "n_real", "n_real_held_out", "sets", "batch_size", "threads",
    "warmup", "rounds", "rounds_intended",
]
# fmt: on


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
        if spread is not None and pd.notna(spread):
            return 2 * spread
    return None


def p_value(p: float) -> str:
    """``= 0.042``, or ``< 0.001``: of a p-value, what stands behind its p."""
    return f"< {LEAST_P}" if p < LEAST_P else f"= {p:.2g}"


def identity(experiment: ExperimentConfig) -> Record:
    return {
        "experiment": experiment.name,
        "dataset": experiment.dataset,
        "resolution": experiment.model.image_size,
    }


def published_row(row: Record, experiment: ExperimentConfig) -> Record:
    return {
        **identity(experiment),
        "method": row["method"],
        "kind": "published",
        "params_m": row["params_m"],
        "verdict": f"as reported, {row['trust']}",
        "source": row["source"],
    }


def frame_of(rows: list[Record], columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows).reindex(columns=columns)
    frame["versions"] = frame["versions"].map(
        lambda v: ", ".join(f"{k} {x}" for k, x in v.items()), na_action="ignore"
    )
    # Nullable integers, or one missing step would turn all of them into 400.0.
    return frame.astype({name: "Int64" for name in INTEGERS if name in columns})


def require_keys(name: str, record: Record, keys: list[str]) -> None:
    missing = [key for key in keys if key not in record]
    if missing:
        raise UserError(
            f"{name}: no {', '.join(missing)} in this record; delete it and run its step again."
        )


def require_experiment(name: str, record: Record, experiments: list[ExperimentConfig]) -> None:
    known = [experiment.name for experiment in experiments]
    if record["experiment"] not in known:
        raise UserError(
            f"{name}: experiment is {record['experiment']!r}, not {' or '.join(map(repr, known))}; "
            "pass the experiments whose records these are."
        )
