"""The literature's numbers (``config/published.csv``), each with its source."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stylenat.errors import UserError

# dataset_name is the data set's key in config.yaml, by which our measurements find their rows;
# fid_below is the bound that a source itself states for its number.
NUMBERS = ("resolution", "fid", "params_m", "throughput_img_s", "fid_below")
# ablation is the variant, named as in config.yaml, that a row is about; empty for a method's result.
TEXTS = ("dataset", "method", "hardware", "trust", "source", "dataset_name", "ablation")

# Precision and reliability of a row, best first; the same method often has several.
TRUST = ("primary", "primary (read off a figure)", "secondary", "low")


@dataclass(frozen=True)
class Reference:
    """What the authors of a model report for one data set at one resolution."""

    fid: float
    below: float | None  # their own bound ("always < …"), where they give one


def read_published(path: str | Path) -> pd.DataFrame:
    """One row per published number; texts are ``""`` and numbers NaN where nothing is known."""
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=True)
        frame = frame.astype(dict.fromkeys(NUMBERS, float))
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a table of published results ({error}); "
            f"it needs the columns {', '.join(TEXTS + NUMBERS)}, with numbers in the last "
            f"{len(NUMBERS)}."
        ) from error
    unknown = sorted(set(frame["trust"].fillna("")) - set(TRUST))
    if unknown:
        raise UserError(f"{path}: trust is {unknown[0]!r}; use one of {', '.join(TRUST)}.")
    frame[list(TEXTS)] = frame[list(TEXTS)].fillna("")
    return frame.astype({"resolution": int})


def published_rows(
    published: pd.DataFrame, dataset: str, resolution: int, quantity: str
) -> pd.DataFrame:
    """Rows that hold ``quantity`` for our data set ``dataset`` at ``resolution``."""
    chosen = (published["dataset_name"] == dataset) & (published["resolution"] == resolution)
    chosen &= published["trust"] != "low"
    return published[chosen & published[quantity].notna()]


def reference(
    published: pd.DataFrame, dataset: str, resolution: int, method: str = "StyleNAT"
) -> Reference | None:
    """The FID published by the authors of ``method``, or None where they give none."""
    rows = published_rows(published, dataset, resolution, "fid")
    rows = rows[(rows["method"] == method) & (rows["trust"] == "primary")]
    if rows.empty:
        return None
    row = rows.iloc[0]
    return Reference(row["fid"], None if pd.isna(row["fid_below"]) else row["fid_below"])
