"""Metric records joined with the literature: one table per experiment and kind."""

import math
from statistics import stdev
from typing import Any

import pandas as pd

from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.metrics.fid import distance_name
from stylenat.report.published import Reference, published_rows, reference
from stylenat.report.rows import (
    Record,
    frame_of,
    margin,
    model_name,
    published_row,
    require_experiment,
    require_keys,
)

# The paper's protocol: as many generated as real images.
PUBLISHED_IMAGES = 50_000
PUBLISHED_FILTER = "lanczos"

# fmt: off
METRIC_COLUMNS = [
    "experiment", "dataset", "resolution", "table", "method", "kind", "step", "images_seen",
    "selection", "protocol", "metric", "better", "value", "held_out", "std", "minimum", "sets",
    "uncertainty", "uncertainty_of", "held_out_std", "held_out_uncertainty", "note", "n_generated", "n_real", "n_real_held_out", "published",
    "difference", "verdict",
    "params_m", "seeds", "extractor", "weights_sha256", "filter", "dataset_sha256", "generator_sha256",
    "device", "dtype", "precision", "versions", "commit", "dataset_licence", "dataset_creator", "source",
]

# Two measurements that differ in one of these do not belong under one heading (the weights: of one
# feature network).
SHARED = ("dataset", "resolution", "filter", "dataset_sha256", "weights_sha256")
METRIC_KEYS = [
    *SHARED, "extractor", "experiment", "kind", "protocol", "metric", "better", "value", "values",
    "n_generated", "n_real",
]
# fmt: on


def metric_table(
    records: dict[str, Record], table: str, experiment: ExperimentConfig, published: pd.DataFrame
) -> pd.DataFrame:
    """Snapshots by protocol and step, then floors, then (FID only) published rows by value; in the
    table ``metrics`` each metric's floor is below it.

    ``value`` is the mean over ``sets`` sampling sets, ``std`` (n − 1) and ``minimum`` are theirs;
    ``uncertainty`` is the mean's standard error; ``held_out…`` are the same of the sets compared with
    held-out reals, where there are any;
    ``selection`` says whether a snapshot is the last, or was picked for its value. ``records`` maps
    a record's name to the record. One of another experiment, data set, metric or feature network
    is a :class:`UserError` naming the field.
    """
    _check_metrics(records, table, experiment)
    dataset, resolution = experiment.dataset, experiment.model.image_size
    name = model_name(experiment.model)
    known = reference(published, dataset, resolution, name)
    selections = _selections(list(records.values()))
    rows = [
        {
            **_metric_row(record, known, name),
            "table": table,
            "selection": selections.get(_key(record)),
        }
        for record in _ordered(list(records.values()), table)
    ]
    if table == "fid":
        literature = published_rows(published, dataset, resolution, "fid")
        for row in literature.sort_values("fid", kind="stable").to_dict("records"):
            rows.append(
                {
                    **published_row(row, experiment),
                    "table": table,
                    "protocol": "as published",
                    "metric": "fid",
                    "better": "lower",
                    "value": row["fid"],
                }
            )
    return frame_of(rows, METRIC_COLUMNS)


def _ordered(records: list[Record], table: str) -> list[Record]:
    """Stable, so that the metrics of one protocol stay in the order they were measured in."""
    if table == "metrics":
        metrics = list(dict.fromkeys(record["metric"] for record in records))
        return sorted(records, key=lambda r: (metrics.index(r["metric"]), r["kind"] == "floor"))
    return sorted(records, key=lambda r: (r["kind"] == "floor", r["protocol"], r.get("step") or 0))


def _key(record: Record) -> tuple[Any, ...]:
    """What makes a measurement one of its kind."""
    return record["kind"], record["protocol"], record["metric"], record.get("step")


def _selections(records: list[Record]) -> dict[tuple[Any, ...], str]:
    """How the snapshots that a reader might pick were picked, by measurement."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record["kind"] == "snapshot":
            groups.setdefault((record["protocol"], record["metric"]), []).append(record)
    found = {}
    for group in groups.values():
        last = max(group, key=lambda record: record.get("step") or 0)
        if last.get("checkpoint"):
            found[_key(last)] = "by its authors"
            continue
        found[_key(last)] = "last"
        # By the first sampling set, the only one that all snapshots have.
        sign = 1 if last["better"] == "lower" else -1
        best = min(group, key=lambda record: sign * record["values"][0])
        if len(group) > 1:
            choice = f"best of {len(group)}"
            found[_key(best)] = (
                f"last, and the {choice}" if best is last else f"{choice}, selected by this metric"
            )
    return found


def _metric_row(record: Record, known: Reference | None, name: str) -> Record:
    values, held_out = record["values"], record.get("held_out_values") or []
    obstacles = _obstacles(record, known, name)
    checkpoint = record.get("checkpoint")
    parameters = record.get("parameters")
    return {
        **record,
        "method": _method(record, name),
        "std": stdev(values) if len(values) > 1 else None,
        "held_out_std": stdev(held_out) if len(held_out) > 1 else None,
        "minimum": min(values),
        "sets": len(values),
        "seeds": "; ".join(seeds for seeds in record.get("seeds", []) if seeds) or None,
        "published": None if obstacles else known.fid,
        # Rounded only to hide what subtracting two decimal numbers adds in binary.
        "difference": None if obstacles else round(record["value"] - known.fid, 9),
        "verdict": obstacles or _verdict(record, known),
        "params_m": None if parameters is None else parameters / 1e6,
        "source": f"measured here, weights from {checkpoint}" if checkpoint else "measured here",
    }


def _method(record: Record, name: str) -> str:
    if record["kind"] == "floor":
        of_held_out = record.get("floor_of") == "held-out"
        return "held-out reals against the reference" if of_held_out else "halves of the reals"
    return f"{name} ({'published weights' if record.get('checkpoint') else 'ours'})"


def _obstacles(record: Record, known: Reference | None, name: str) -> str:
    """Why a value must not be held against the published one; empty if it may be."""
    if record["kind"] == "floor":
        held_out = "held-out " if record.get("floor_of") == "held-out" else ""
        return (
            f"floor: {record['n_generated']:,} {held_out}reals against {record['n_real']:,} reals, "
            "what this protocol gives for real images alone"
        )
    if record["metric"] != "fid":
        return f"{record['metric']} is not FID: no published value"
    if known is None:
        return f"no published {name} value for this data set and resolution"
    differing = [
        f"{record[key]:,} {name} images, published with {PUBLISHED_IMAGES:,}"
        for key, name in (("n_generated", "generated"), ("n_real", "real"))
        if record[key] != PUBLISHED_IMAGES
    ]
    if record["extractor"] != "inception":
        differing.append(f"in the features of {record['extractor']}")
    if record["filter"] != PUBLISHED_FILTER:
        differing.append(f"reals filtered by {record['filter']}, not {PUBLISHED_FILTER}")
    return f"not comparable: {'; '.join(differing)}" if differing else ""


def _verdict(record: Record, known: Reference) -> str:
    """The authors' own rule, for their own weights; a model trained here is just comparable.

    The bound has to be two standard errors away, or two standard deviations over sampling sets where
    that is all that is known.
    """
    if not record.get("checkpoint") or known.below is None:
        return "comparable"
    claim = f"upstream's claim (< {known.below:.2f})"
    values = record["values"]
    spread = stdev(values) if len(values) > 1 else None
    reach = margin(record.get("uncertainty"), spread) or 0.0
    if abs(record["value"] - known.below) < reach:
        return f"not told apart from the bound of {claim}"
    side = "within" if record["value"] < known.below else "outside"
    return f"{side} {claim}{'' if reach else ', by one sampling set'}"


def _check_metrics(records: dict[str, Record], table: str, experiment: ExperimentConfig) -> None:
    seen: dict[tuple[Any, ...], str] = {}
    firsts: dict[str, str] = {}  # record by feature network
    for name, record in records.items():
        require_keys(name, record, METRIC_KEYS)
        require_experiment(name, record, [experiment])
        expected = {
            **({} if table == "metrics" else {"metric": table}),
            "dataset": experiment.dataset,
            "resolution": experiment.model.image_size,
        }
        for key, value in expected.items():
            if record[key] != value:
                raise UserError(
                    f"{name}: {key} is {record[key]!r}, but table {table} of experiment "
                    f"{experiment.name} needs {value!r}; delete the record and measure again."
                )
        if table not in ("metrics", distance_name(record["extractor"])):
            raise UserError(
                f"{name}: extractor is {record['extractor']!r}, whose distances are in the table "
                f"{distance_name(record['extractor'])}, not {table}; measure again."
            )
        same_network = firsts.setdefault(record["extractor"], name)
        for key in SHARED:
            first = same_network if key == "weights_sha256" else next(iter(records))
            if record[key] != records[first][key]:
                raise UserError(
                    f"{key} is {records[first][key]!r} in {first} but {record[key]!r} in {name}; "
                    "such values do not belong in one table: measure both the same way."
                )
        if not math.isfinite(record["value"]):
            raise UserError(f"{name}: value is {record['value']}; measure this snapshot again.")
        if _key(record) in seen:
            raise UserError(f"{name} and {seen[_key(record)]} are the same measurement; keep one.")
        seen[_key(record)] = name
