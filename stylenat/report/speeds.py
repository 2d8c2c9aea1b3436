"""Throughput records joined with the literature: one table, of one experiment or of several that
were measured side by side."""

import pandas as pd

from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.report.published import published_rows
from stylenat.report.rows import (
    Record,
    frame_of,
    identity,
    model_name,
    published_row,
    require_experiment,
    require_keys,
)

# fmt: off
COLUMNS = [
    "experiment", "dataset", "resolution", "method", "kind", "step", "protocol", "timed",
    "batch_size", "images_per_second", "images_per_second_q25", "images_per_second_q75", "params_m",
    "gflops", "memory_mb", "comparable", "device", "threads", "dtype", "backend", "execution",
    "warmup", "rounds", "rounds_intended", "versions", "commit", "source",
]
KEYS = [
    "experiment", "protocol", "timed", "batch_size", "images_per_second", "parameters", "flops",
    "device", "dtype", "backend", "execution",
]
# fmt: on
PRECISIONS = {"FP32": "float32", "TF32": "tf32", "FP16": "float16", "BF16": "bf16"}
WHOLE = "z to image"  # what published numbers time


def throughput_table(
    records: list[Record], experiments: list[ExperimentConfig], published: pd.DataFrame
) -> pd.DataFrame:
    """Our measurements as recorded, then published rows; each says what it compares with, or why
    with nothing.

    A measured and a published number are comparable when device, dtype and batch size are stated
    and equal and both time the whole network; measured ones of several experiments are, because
    they come from one run.
    """
    by_name = {experiment.name: experiment for experiment in experiments}
    for number, record in enumerate(records):
        require_keys(f"throughput record {number}", record, KEYS)
        require_experiment(f"throughput record {number}", record, experiments)
    # One experiment for each data set and size.
    owners = {(it.dataset, it.model.image_size): it for it in reversed(experiments)}
    literature = [
        (row, owner)
        for key, owner in owners.items()
        for row in published_rows(published, *key, "throughput_img_s").to_dict("records")
    ]
    together = ["with the other experiments: one run"] if len(experiments) > 1 else []
    rows = []
    for record in records:
        experiment = by_name[record["experiment"]]
        own = identity(experiment)
        known = [row for row, owner in literature if _same_images(own, identity(owner))]
        rows.append(
            {
                **record,
                **own,
                "method": f"{model_name(experiment.model)} (ours)",
                "kind": "measured",
                "params_m": record["parameters"] / 1e6,
                "gflops": record["flops"] / 1e9,
                "comparable": "; ".join([*together, _with_published(record, known)]),
                "source": "measured here",
            }
        )
    for row, owner in literature:
        rows.append(
            {
                **published_row(row, owner),
                **({"experiment": None} if len(experiments) > 1 else {}),
                **_stated_setting(row["hardware"]),
                "protocol": "as published",
                "images_per_second": row["throughput_img_s"],
                "comparable": _with_measured(row["hardware"], records),
            }
        )
    return frame_of(rows, COLUMNS)


def _same_images(one: Record, other: Record) -> bool:
    return all(one[key] == other[key] for key in ("dataset", "resolution"))


def _with_published(record: Record, literature: list[Record]) -> str:
    """Published rows that a record compares with, or what keeps it from the nearest."""
    if not literature:
        return "no published value for this data set and resolution"
    obstacles = {row["method"]: _obstacles(row["hardware"], record) for row in literature}
    matches = [method for method, reasons in obstacles.items() if not reasons]
    if matches:
        return f"with {', '.join(matches)}"
    nearest = min((row["hardware"] for row in literature), key=lambda h: _distance(h, record))
    return f"no published row: the nearest {', '.join(_obstacles(nearest, record))}"


def _distance(hardware: str, record: Record) -> tuple[bool, int]:
    return not hardware, len(_obstacles(hardware, record))


def _obstacles(hardware: str, record: Record) -> list[str]:
    """Why a published number on this hardware must not be held against a record."""
    stated = _stated_setting(hardware)
    if not stated:
        return ["does not state its hardware"]
    reasons = []
    if record["timed"] != WHOLE:
        reasons.append(f"times {WHOLE}")
    if stated["device"] not in record["device"]:
        reasons.append(f"is on {stated['device']}")
    if stated["dtype"] != record["dtype"]:
        reasons.append(f"is in {stated['dtype']}")
    if stated["batch_size"] != record["batch_size"]:
        reasons.append(f"has batch size {stated['batch_size']}")
    return reasons


def _with_measured(hardware: str, records: list[Record]) -> str:
    if not hardware:
        return "no: hardware not stated"
    if any(not _obstacles(hardware, record) for record in records):
        return "yes: same device, dtype and batch size"
    return f"no: measured on {hardware}"


def _stated_setting(hardware: str) -> Record:
    """``A100, FP32, batch 64`` → device, dtype, batch_size; nothing where nothing is stated."""
    if not hardware:
        return {}
    try:
        device, precision, batch = hardware.split(", ")
        return {
            "device": device,
            "dtype": PRECISIONS[precision],
            "batch_size": int(batch.removeprefix("batch ")),
        }
    except (ValueError, KeyError):
        raise UserError(
            f"published hardware {hardware!r} cannot be read; "
            "write it like 'A100, FP32, batch 64', or leave it empty if it is not stated."
        ) from None
