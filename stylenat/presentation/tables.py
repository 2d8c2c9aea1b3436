"""Metric and throughput records joined with the literature: one table per experiment and kind."""

import math
from typing import Any

import pandas as pd

from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.presentation.published import Reference, published_rows, reference

Record = dict[str, Any]

# The feature network behind each table: nothing but Inception's distance is called FID.
EXTRACTORS = {"fid": "inception", "fd_lite0": "lite0"}
# The paper's protocol: as many generated as real images.
PUBLISHED_IMAGES = 50_000
PUBLISHED_FILTER = "lanczos"

# fmt: off
METRIC_COLUMNS = [
    "experiment", "dataset", "resolution", "table", "method", "kind", "step", "images_seen",
    "protocol", "value", "n_generated", "n_real", "published", "difference", "verdict", "params_m",
    "extractor", "weights_sha256", "filter", "dataset_sha256", "generator_sha256",
    "device", "dtype", "versions", "commit", "source",
]
THROUGHPUT_COLUMNS = [
    "experiment", "dataset", "resolution", "method", "kind", "step", "protocol", "batch_size",
    "images_per_second", "images_per_second_q25", "images_per_second_q75", "params_m", "comparable",
    "device", "dtype", "backend", "warmup", "rounds", "memory_mb", "versions", "commit", "source",
]
INTEGERS = [
    "resolution", "step", "images_seen", "n_generated", "n_real", "batch_size", "warmup", "rounds",
]

# Two measurements that differ in one of these do not belong under one heading.
SHARED = ("dataset", "resolution", "extractor", "weights_sha256", "filter", "dataset_sha256")
METRIC_KEYS = [
    *SHARED, "experiment", "table", "kind", "protocol", "value", "n_generated", "n_real",
]
THROUGHPUT_KEYS = [
    "experiment", "protocol", "batch_size", "images_per_second", "parameters", "device", "dtype",
    "backend",
]
# fmt: on
PRECISIONS = {"FP32": "float32", "TF32": "tf32", "FP16": "float16", "BF16": "bfloat16"}


def metric_table(
    records: dict[str, Record], table: str, experiment: ExperimentConfig, published: pd.DataFrame
) -> pd.DataFrame:
    """Snapshots by protocol and step, then floors, then (FID only) published rows by value.

    ``records`` maps a file's name to its metric record. A record of another experiment, table,
    data set or feature network is a :class:`UserError` naming the field.
    """
    _check_metrics(records, table, experiment)
    dataset, resolution = experiment.dataset, experiment.model.image_size
    known = reference(published, dataset, resolution) if table == "fid" else None
    ordered = sorted(
        records.values(),
        key=lambda record: (record["kind"] == "floor", record["protocol"], record.get("step") or 0),
    )
    rows = [_metric_row(record, known) for record in ordered]
    if table == "fid":
        literature = published_rows(published, dataset, resolution, "fid")
        for row in literature.sort_values("fid", kind="stable").to_dict("records"):
            rows.append(
                {
                    **_published_row(row, experiment),
                    "table": table,
                    "protocol": "as published",
                    "value": row["fid"],
                }
            )
    return _frame(rows, METRIC_COLUMNS)


def throughput_table(
    records: list[Record], experiment: ExperimentConfig, published: pd.DataFrame
) -> pd.DataFrame:
    """Our measurements as recorded, then published rows; each says what it compares with.

    Two numbers are comparable when device, dtype and batch size are stated and equal.
    """
    for number, record in enumerate(records):
        _require_keys(f"throughput record {number}", record, THROUGHPUT_KEYS)
        _require_experiment(f"throughput record {number}", record, experiment)
    literature = published_rows(
        published, experiment.dataset, experiment.model.image_size, "throughput_img_s"
    ).to_dict("records")
    rows = []
    for record in records:
        matches = [row["method"] for row in literature if _same_setting(row["hardware"], record)]
        rows.append(
            {
                **record,
                **_identity(experiment),
                "method": "StyleNAT (ours)",
                "kind": "measured",
                "params_m": record["parameters"] / 1e6,
                "comparable": "with " + ", ".join(matches)
                if matches
                else "no: no published row has this device, dtype and batch size",
                "source": "measured here",
            }
        )
    for row in literature:
        rows.append(
            {
                **_published_row(row, experiment),
                **_stated_setting(row["hardware"]),
                "protocol": "as published",
                "images_per_second": row["throughput_img_s"],
                "comparable": _comparable(row["hardware"], records),
            }
        )
    return _frame(rows, THROUGHPUT_COLUMNS)


def _metric_row(record: Record, known: Reference | None) -> Record:
    obstacles = _obstacles(record, known)
    checkpoint = record.get("checkpoint")
    parameters = record.get("parameters")
    return {
        **record,
        "method": _method(record),
        "published": None if obstacles else known.fid,
        # Rounded only to hide what subtracting two decimal numbers adds in binary.
        "difference": None if obstacles else round(record["value"] - known.fid, 9),
        "verdict": obstacles or _verdict(record, known),
        "params_m": None if parameters is None else parameters / 1e6,
        "source": f"measured here, weights from {checkpoint}" if checkpoint else "measured here",
    }


def _method(record: Record) -> str:
    if record["kind"] == "floor":
        return "real half against real half"
    return f"StyleNAT ({'published weights' if record.get('checkpoint') else 'ours'})"


def _obstacles(record: Record, known: Reference | None) -> str:
    """Why a value must not be held against the published one; empty if it may be."""
    if record["kind"] == "floor":
        return "floor: what this protocol gives for real images alone"
    if record["table"] != "fid":
        return f"{record['table']} is not FID: no published value"
    if known is None:
        return "no published StyleNAT value for this data set and resolution"
    differing = [
        f"{record[key]:,} {name} images, published with {PUBLISHED_IMAGES:,}"
        for key, name in (("n_generated", "generated"), ("n_real", "real"))
        if record[key] != PUBLISHED_IMAGES
    ]
    if record["filter"] != PUBLISHED_FILTER:
        differing.append(f"reals filtered by {record['filter']}, not {PUBLISHED_FILTER}")
    return f"not comparable: {'; '.join(differing)}" if differing else ""


def _verdict(record: Record, known: Reference) -> str:
    """The authors' own rule, for their own weights; a model trained here is just comparable."""
    if not record.get("checkpoint") or known.below is None:
        return "comparable"
    side = "within" if record["value"] < known.below else "outside"
    return f"{side} upstream's claim (< {known.below:.2f})"


def _published_row(row: Record, experiment: ExperimentConfig) -> Record:
    return {
        **_identity(experiment),
        "method": row["method"],
        "kind": "published",
        "params_m": row["params_m"],
        "verdict": f"as reported, {row['trust']}",
        "source": row["source"],
    }


def _identity(experiment: ExperimentConfig) -> Record:
    return {
        "experiment": experiment.name,
        "dataset": experiment.dataset,
        "resolution": experiment.model.image_size,
    }


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


def _same_setting(hardware: str, record: Record) -> bool:
    stated = _stated_setting(hardware)
    return bool(stated) and (
        stated["device"] in record["device"]
        and stated["dtype"] == record["dtype"]
        and stated["batch_size"] == record["batch_size"]
    )


def _comparable(hardware: str, records: list[Record]) -> str:
    if not hardware:
        return "no: hardware not stated"
    if any(_same_setting(hardware, record) for record in records):
        return "yes: same device, dtype and batch size"
    return f"no: measured on {hardware}"


def _frame(rows: list[Record], columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows).reindex(columns=columns)
    frame["versions"] = frame["versions"].map(
        lambda v: ", ".join(f"{k} {x}" for k, x in v.items()), na_action="ignore"
    )
    # Nullable integers, or one missing step would turn all of them into 400.0.
    return frame.astype({name: "Int64" for name in INTEGERS if name in columns})


def _check_metrics(records: dict[str, Record], table: str, experiment: ExperimentConfig) -> None:
    seen: dict[tuple[Any, ...], str] = {}
    first = next(iter(records), "")
    for name, record in records.items():
        _require_keys(name, record, METRIC_KEYS)
        _require_experiment(name, record, experiment)
        expected = {
            "table": table,
            "extractor": EXTRACTORS[table],
            "dataset": experiment.dataset,
            "resolution": experiment.model.image_size,
        }
        for key, value in expected.items():
            if record[key] != value:
                raise UserError(
                    f"{name}: {key} is {record[key]!r}, but table {table} of experiment "
                    f"{experiment.name} needs {value!r}; delete the record and measure again."
                )
        for key in SHARED:
            if record[key] != records[first][key]:
                raise UserError(
                    f"{key} is {records[first][key]!r} in {first} but {record[key]!r} in {name}; "
                    "such values do not belong in one table: measure both the same way."
                )
        if not math.isfinite(record["value"]):
            raise UserError(f"{name}: value is {record['value']}; measure this snapshot again.")
        measurement = (record["kind"], record["protocol"], record.get("step"))
        if measurement in seen:
            raise UserError(f"{name} and {seen[measurement]} are the same measurement; keep one.")
        seen[measurement] = name


def _require_keys(name: str, record: Record, keys: list[str]) -> None:
    missing = [key for key in keys if key not in record]
    if missing:
        raise UserError(
            f"{name}: no {', '.join(missing)} in this record; delete it and run its step again."
        )


def _require_experiment(name: str, record: Record, experiment: ExperimentConfig) -> None:
    if record["experiment"] != experiment.name:
        raise UserError(
            f"{name}: experiment is {record['experiment']!r}, not {experiment.name!r}; "
            "pass the records of one experiment."
        )
