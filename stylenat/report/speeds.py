"""Throughput records joined with the literature: one table, of one experiment or of several that
were measured side by side."""

from typing import NamedTuple

import pandas as pd

from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.records import Throughput
from stylenat.report.published import PublishedResult, of_images
from stylenat.report.rows import SpeedRow, model_name, require_experiment, versions_text

PRECISIONS = {"FP32": "float32", "TF32": "tf32", "FP16": "float16", "BF16": "bf16"}
WHOLE = "z to image"  # what published numbers time


class Setting(NamedTuple):
    """What a published throughput was measured with."""

    device: str
    dtype: str
    batch_size: int


def throughput_table(
    records: dict[str, Throughput],
    experiments: list[ExperimentConfig],
    published: list[PublishedResult],
) -> pd.DataFrame:
    """Our measurements as recorded, then published rows; each says what it compares with, or why
    with nothing.

    ``records`` maps a record's name to the record. A measured and a published number are comparable
    when device, dtype and batch size are stated and equal and both time the whole network; measured
    ones of several experiments are, because they come from one run.
    """
    by_name: dict[str | None, ExperimentConfig] = {it.name: it for it in experiments}
    for name, record in records.items():
        require_experiment(name, record.experiment, experiments)
    # One experiment for each data set and size.
    owners = {_images(experiment): experiment for experiment in reversed(experiments)}
    literature = {
        images: [row for row in of_images(published, *images) if row.throughput_img_s is not None]
        for images in owners
    }
    together = ["with the other experiments: one run"] if len(experiments) > 1 else []
    rows = []
    for record in records.values():
        experiment = by_name[record.experiment]
        known = literature[_images(experiment)]
        rows.append(
            SpeedRow.like(
                record,
                dataset=experiment.dataset,
                resolution=experiment.model.image_size,
                method=f"{model_name(experiment.model)} (ours)",
                kind="measured",
                params_m=record.parameters / 1e6,
                gflops=record.flops / 1e9,
                comparable="; ".join([*together, _with_published(record, known)]),
                versions=versions_text(record.versions),
                source="measured here",
            )
        )
    for images, owner in owners.items():
        for row in literature[images]:
            assert row.throughput_img_s is not None  # as chosen above
            setting = _stated_setting(row.hardware)
            rows.append(
                SpeedRow(
                    experiment=owner.name if len(experiments) == 1 else None,
                    dataset=owner.dataset,
                    resolution=owner.model.image_size,
                    method=row.method,
                    kind="published",
                    protocol="as published",
                    batch_size=setting and setting.batch_size,
                    images_per_second=row.throughput_img_s,
                    params_m=row.params_m,
                    comparable=_with_measured(row.hardware, list(records.values())),
                    device=setting and setting.device,
                    dtype=setting and setting.dtype,
                    source=row.source,
                )
            )
    return SpeedRow.frame(rows)


def _images(experiment: ExperimentConfig) -> tuple[str, int]:
    """Data set and side of the images that it generates."""
    return experiment.dataset, experiment.model.image_size


def _with_published(record: Throughput, literature: list[PublishedResult]) -> str:
    """Published rows that a record compares with, or what keeps it from the nearest."""
    if not literature:
        return "no published value for this data set and resolution"
    obstacles = {row.method: _obstacles(row.hardware, record) for row in literature}
    matches = [method for method, reasons in obstacles.items() if not reasons]
    if matches:
        return f"with {', '.join(matches)}"
    nearest = min((row.hardware for row in literature), key=lambda h: _distance(h, record))
    return f"no published row: the nearest {', '.join(_obstacles(nearest, record))}"


def _distance(hardware: str, record: Throughput) -> tuple[bool, int]:
    return not hardware, len(_obstacles(hardware, record))


def _obstacles(hardware: str, record: Throughput) -> list[str]:
    """Why a published number on this hardware must not be held against a record."""
    stated = _stated_setting(hardware)
    if stated is None:
        return ["does not state its hardware"]
    reasons = []
    if record.timed != WHOLE:
        reasons.append(f"times {WHOLE}")
    if stated.device not in record.device:
        reasons.append(f"is on {stated.device}")
    if stated.dtype != record.dtype:
        reasons.append(f"is in {stated.dtype}")
    if stated.batch_size != record.batch_size:
        reasons.append(f"has batch size {stated.batch_size}")
    return reasons


def _with_measured(hardware: str, records: list[Throughput]) -> str:
    if not hardware:
        return "no: hardware not stated"
    if any(not _obstacles(hardware, record) for record in records):
        return "yes: same device, dtype and batch size"
    return f"no: measured on {hardware}"


def _stated_setting(hardware: str) -> Setting | None:
    """``A100, FP32, batch 64`` in its parts; None where nothing is stated."""
    if not hardware:
        return None
    try:
        device, precision, batch = hardware.split(", ")
        return Setting(device, PRECISIONS[precision], int(batch.removeprefix("batch ")))
    except (ValueError, KeyError):
        raise UserError(
            f"published hardware {hardware!r} cannot be read; "
            "write it like 'A100, FP32, batch 64', or leave it empty if it is not stated."
        ) from None
