"""Metric records joined with the literature: one table per experiment and kind."""

import math
from statistics import stdev

import pandas as pd

from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.metrics.fid import distance_name
from stylenat.records import MetricRecord
from stylenat.report.published import PublishedResult, Reference, of_images, reference
from stylenat.report.rows import (
    MetricRow,
    margin,
    model_name,
    require_experiment,
    versions_text,
)

# The paper's protocol: as many generated as real images.
PUBLISHED_IMAGES = 50_000
PUBLISHED_FILTER = "lanczos"

# Two measurements that differ in one of these do not belong under one heading (the weights: of one
# feature network).
SHARED = ("dataset", "resolution", "filter", "dataset_sha256", "weights_sha256")

Key = tuple[str, str, str, int | None]  # what makes a measurement one of its kind


def metric_table(
    records: dict[str, MetricRecord],
    table: str,
    experiment: ExperimentConfig,
    published: list[PublishedResult],
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
        _row(record, table, known, name, selections.get(_key(record)))
        for record in _ordered(list(records.values()), table)
    ]
    if table == "fid":
        literature = [
            (row.fid, row)
            for row in of_images(published, dataset, resolution)
            if row.fid is not None
        ]
        rows += [
            _published_row(fid, row, experiment)
            for fid, row in sorted(literature, key=lambda pair: pair[0])
        ]
    return MetricRow.frame(rows)


def _ordered(records: list[MetricRecord], table: str) -> list[MetricRecord]:
    """Stable, so that the metrics of one protocol stay in the order they were measured in."""
    if table == "metrics":
        metrics = list(dict.fromkeys(record.metric for record in records))
        return sorted(records, key=lambda r: (metrics.index(r.metric), r.kind == "floor"))
    return sorted(records, key=lambda r: (r.kind == "floor", r.protocol, r.step or 0))


def _key(record: MetricRecord) -> Key:
    return record.kind, record.protocol, record.metric, record.step


def _selections(records: list[MetricRecord]) -> dict[Key, str]:
    """How the snapshots that a reader might pick were picked, by measurement."""
    groups: dict[tuple[str, str], list[MetricRecord]] = {}
    for record in records:
        if record.kind == "snapshot":
            groups.setdefault((record.protocol, record.metric), []).append(record)
    found = {}
    for group in groups.values():
        last = max(group, key=lambda record: record.step or 0)
        if last.checkpoint:
            found[_key(last)] = "by its authors"
            continue
        found[_key(last)] = "last"
        # By the first sampling set, the only one that all snapshots have.
        sign = 1 if last.better == "lower" else -1
        best = min(group, key=lambda record: sign * record.values[0])
        if len(group) > 1:
            choice = f"best of {len(group)}"
            found[_key(best)] = (
                f"last, and the {choice}" if best is last else f"{choice}, selected by this metric"
            )
    return found


def _row(
    record: MetricRecord, table: str, known: Reference | None, name: str, selection: str | None
) -> MetricRow:
    values, held_out = record.values, record.held_out_values or []
    obstacles = _obstacles(record, known, name)
    compared = None if obstacles else known
    return MetricRow.like(
        record,
        table=table,
        selection=selection,
        method=_method(record, name),
        std=stdev(values) if len(values) > 1 else None,
        held_out_std=stdev(held_out) if len(held_out) > 1 else None,
        minimum=min(values),
        sets=len(values),
        seeds="; ".join(seeds for seeds in record.seeds if seeds) or None,
        published=compared and compared.fid,
        # Rounded only to hide what subtracting two decimal numbers adds in binary.
        difference=compared and round(record.value - compared.fid, 9),
        verdict=_verdict(record, compared) if compared else obstacles,
        params_m=None if record.parameters is None else record.parameters / 1e6,
        versions=versions_text(record.versions),
        source=f"measured here, weights from {record.checkpoint}"
        if record.checkpoint
        else "measured here",
    )


def _published_row(fid: float, row: PublishedResult, experiment: ExperimentConfig) -> MetricRow:
    return MetricRow(
        experiment=experiment.name,
        dataset=experiment.dataset,
        resolution=experiment.model.image_size,
        table="fid",
        method=row.method,
        kind="published",
        protocol="as published",
        metric="fid",
        better="lower",
        value=fid,
        sets=None,
        n_generated=None,
        n_real=None,
        verdict=f"as reported, {row.trust}",
        params_m=row.params_m,
        generator_sha256=None,
        source=row.source,
    )


def _method(record: MetricRecord, name: str) -> str:
    if record.kind == "floor":
        of_held_out = record.floor_of == "held-out"
        return "held-out reals against the reference" if of_held_out else "halves of the reals"
    return f"{name} ({'published weights' if record.checkpoint else 'ours'})"


def _obstacles(record: MetricRecord, known: Reference | None, name: str) -> str:
    """Why a value must not be held against the published one; empty if it may be."""
    if record.kind == "floor":
        held_out = "held-out " if record.floor_of == "held-out" else ""
        return (
            f"floor: {record.n_generated:,} {held_out}reals against {record.n_real:,} reals, "
            "what this protocol gives for real images alone"
        )
    if record.metric != "fid":
        return f"{record.metric} is not FID: no published value"
    if known is None:
        return f"no published {name} value for this data set and resolution"
    differing = [
        f"{count:,} {name} images, published with {PUBLISHED_IMAGES:,}"
        for count, name in ((record.n_generated, "generated"), (record.n_real, "real"))
        if count != PUBLISHED_IMAGES
    ]
    if record.extractor != "inception":
        differing.append(f"in the features of {record.extractor}")
    if record.filter != PUBLISHED_FILTER:
        differing.append(f"reals filtered by {record.filter}, not {PUBLISHED_FILTER}")
    return f"not comparable: {'; '.join(differing)}" if differing else ""


def _verdict(record: MetricRecord, known: Reference) -> str:
    """The authors' own rule, for their own weights; a model trained here is just comparable.

    The bound has to be two standard errors away, or two standard deviations over sampling sets where
    that is all that is known.
    """
    if not record.checkpoint or known.below is None:
        return "comparable"
    claim = f"upstream's claim (< {known.below:.2f})"
    spread = stdev(record.values) if len(record.values) > 1 else None
    reach = margin(record.uncertainty, spread) or 0.0
    if abs(record.value - known.below) < reach:
        return f"not told apart from the bound of {claim}"
    side = "within" if record.value < known.below else "outside"
    return f"{side} {claim}{'' if reach else ', by one sampling set'}"


def _check_metrics(
    records: dict[str, MetricRecord], table: str, experiment: ExperimentConfig
) -> None:
    seen: dict[Key, str] = {}
    firsts: dict[str, str] = {}  # record by feature network
    for name, record in records.items():
        require_experiment(name, record.experiment, [experiment])
        expected = {
            **({} if table == "metrics" else {"metric": table}),
            "dataset": experiment.dataset,
            "resolution": experiment.model.image_size,
        }
        for key, value in expected.items():
            if getattr(record, key) != value:
                raise UserError(
                    f"{name}: {key} is {getattr(record, key)!r}, but table {table} of experiment "
                    f"{experiment.name} needs {value!r}; delete the record and measure again."
                )
        if table not in ("metrics", distance_name(record.extractor)):
            raise UserError(
                f"{name}: extractor is {record.extractor!r}, whose distances are in the table "
                f"{distance_name(record.extractor)}, not {table}; measure again."
            )
        same_network = firsts.setdefault(record.extractor, name)
        for key in SHARED:
            first = same_network if key == "weights_sha256" else next(iter(records))
            own, other = getattr(record, key), getattr(records[first], key)
            if own != other:
                raise UserError(
                    f"{key} is {other!r} in {first} but {own!r} in {name}; "
                    "such values do not belong in one table: measure both the same way."
                )
        if not math.isfinite(record.value):
            raise UserError(f"{name}: value is {record.value}; measure this snapshot again.")
        if _key(record) in seen:
            raise UserError(f"{name} and {seen[_key(record)]} are the same measurement; keep one.")
        seen[_key(record)] = name
