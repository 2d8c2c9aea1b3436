"""The literature's numbers (``config/published.csv``), each with its source."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from stylenat.errors import UserError
from stylenat.io import brief
from stylenat.report.rows import cells_of

# Precision and reliability of a row, best first; the same method often has several.
TRUST = ("primary", "primary (read off a figure)", "secondary", "low")


@dataclass(frozen=True)
class PublishedResult:
    """A row of the file: its columns; a text is empty and a number None where nothing is known."""

    dataset: str
    resolution: int
    method: str
    fid: float | None
    params_m: float | None
    throughput_img_s: float | None
    hardware: str
    trust: str
    source: str
    dataset_name: (
        str  # the data set's key in config.yaml, by which our measurements find their rows
    )
    fid_below: float | None  # the bound that the source itself states for its number
    ablation: str  # the variant, named as in config.yaml, that the row is about; or empty


@dataclass(frozen=True)
class Reference:
    """What the authors of a model report for one data set at one resolution."""

    fid: float
    below: float | None  # their own bound ("always < …"), where they give one


def read_published(path: str | Path) -> list[PublishedResult]:
    """One result per published number."""
    texts = [field.name for field in fields(PublishedResult) if field.type is str]
    numbers = [field.name for field in fields(PublishedResult) if field.type is not str]
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=True)
        frame = frame.astype(dict.fromkeys(numbers, float)).astype({"resolution": int})
        frame = frame[texts + numbers]
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a table of published results ({brief(error)}); "
            f"it needs the columns {', '.join(texts + numbers)}, with numbers in the last "
            f"{len(numbers)}."
        ) from error
    frame[texts] = frame[texts].fillna("")
    unknown = sorted(set(frame["trust"]) - set(TRUST))
    if unknown:
        raise UserError(f"{path}: trust is {unknown[0]!r}; use one of {', '.join(TRUST)}.")
    return [PublishedResult(**cells) for cells in cells_of(frame)]


def of_images(
    published: Iterable[PublishedResult], dataset: str, resolution: int
) -> list[PublishedResult]:
    """What may be relied on of our data set ``dataset`` at ``resolution``."""
    return [
        row
        for row in published
        if (row.dataset_name, row.resolution) == (dataset, resolution) and row.trust != "low"
    ]


def reference(
    published: Iterable[PublishedResult], dataset: str, resolution: int, method: str = "StyleNAT"
) -> Reference | None:
    """The FID published by the authors of ``method``, or None where they give none."""
    for row in of_images(published, dataset, resolution):
        if row.method == method and row.trust == "primary" and row.fid is not None:
            return Reference(row.fid, row.fid_below)
    return None
