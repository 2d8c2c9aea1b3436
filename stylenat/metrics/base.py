"""What every metric has in common: how it is measured, and what steps and tables ask of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stylenat.errors import UserError
from stylenat.metrics.moments import Statistics

# Share of a value of an attribute among the reals, and among samples.
Shares = dict[str, tuple[float, float]]

ERROR_OF = "standard error over both sets of images"


@dataclass(frozen=True)
class Measurement:
    """One number, which way is better, and how uncertain one set of images leaves it."""

    metric: str
    value: float
    better: str  # "lower" or "higher"
    uncertainty: float | None = None  # a standard error
    uncertainty_of: str | None = None  # what it is over, in words
    note: str | None = None  # what else a reader should know
    attribute: str | None = None  # whose values …
    shares: Shares | None = None  # … have these shares among reals and samples
    of_reals: float | None = None  # the reals' part of the uncertainty, where it is known
    # For every split of both sets: the value of their first halves minus that of their second halves.
    of_halves: tuple[float, ...] = ()


def over_both(errors: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """What a measurement says of its standard errors over samples and over reals."""
    total = float(np.hypot(*errors))
    return {"uncertainty": total, "uncertainty_of": ERROR_OF, "of_reals": float(errors[1])}


# Of one generated set against the reals that the measure was made for.
Measure = Callable[[Statistics], list[Measurement]]


def _general_table(extractor: str) -> str:
    return "metrics"


@dataclass(frozen=True)
class Metric:
    """One way to compare images, in the features of any network."""

    measure: Callable[[Statistics], Measure]  # from the reals to a measure of generated sets
    needs_features: bool = True  # of every image; else the moments are enough
    # Between two draws of one distribution it goes like 1/n + 1/m.
    falls_with_images: bool = False
    # Between halves of one set it varies by how they are split, hardly by what images the set has.
    by_split: bool = False
    held_out: bool = True  # compares with reals that were not trained on, too
    # Of the last snapshot; a distance that is followed over all snapshots has a table of its own.
    table: Callable[[str], str] = _general_table  # from the feature network
    shows_nearest: bool = False  # has a figure of samples beside the nearest training images


def extractor_of(statistics: Statistics) -> str:
    """The feature network."""
    return statistics.record.extractor


def features_of(statistics: Statistics) -> np.ndarray:
    """The features (n, d); a :class:`UserError` where the statistics hold moments alone."""
    if statistics.features is None:
        raise UserError(
            f"the statistics of {statistics.record.dataset.name} hold no features, which "
            "this metric needs; compute them again with --features."
        )
    return statistics.features
