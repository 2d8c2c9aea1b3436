"""Whether one set of images is nearer to the reals than another."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.stats import t

from stylenat.metrics.base import Measurement, Metric, features_of
from stylenat.metrics.moments import Statistics
from stylenat.metrics.subsets import SPLITS, halves


@dataclass(frozen=True)
class Difference:
    """A metric of two sets, the second minus the first, its standard error over draws of all three
    sets of images, its 95 % interval, and the p-value of there being no difference."""

    metric: str
    better: str
    a: float
    b: float
    difference: float
    error: float
    low: float
    high: float
    p: float


def compare(
    metric: Metric, reference: Statistics, a: Statistics, b: Statistics
) -> list[Difference]:
    """Of both sets against the same reals.

    The error comes from differences between halves of all sets: those of two disjoint halves are
    independent, and have twice the variance. Where both sets come from the same seeds, a half has
    the same seeds of both. A bias that falls with the number of images is the same for both sets,
    if these are of one size.
    """
    parts_a = halves(features_of(a), SPLITS)
    paired = a.record.seeds is not None and a.record.seeds == b.record.seeds
    parts_b = parts_a if paired else halves(features_of(b), SPLITS)
    parts = zip(halves(features_of(reference), SPLITS), parts_a, parts_b, strict=True)
    of_halves = np.array(
        [
            [
                two.value - one.value
                for one, two in _both(metric, *map(partial(_part, metric), (reference, a, b), half))
            ]
            for half in parts
        ]
    )
    errors = np.sqrt(np.mean((of_halves[::2] - of_halves[1::2]) ** 2, axis=0)) / 2
    both = _both(metric, reference, a, b)
    return [_tested(*pair, float(error)) for pair, error in zip(both, errors, strict=True)]


def _both(
    metric: Metric, reference: Statistics, a: Statistics, b: Statistics
) -> list[tuple[Measurement, Measurement]]:
    """What is measured of both sets."""
    measure = metric.measure(reference)
    return list(zip(measure(a), measure(b), strict=True))


def _part(metric: Metric, statistics: Statistics, half: np.ndarray) -> Statistics:
    part = statistics.take(np.flatnonzero(half))
    # Where moments are enough, features would be for an uncertainty that nobody asks for here.
    return part if metric.needs_features else replace(part, features=None)


def _tested(a: Measurement, b: Measurement, error: float) -> Difference:
    difference = b.value - a.value
    # The error itself is known from so many splits only.
    reach = t.ppf(0.975, SPLITS) * error
    p = 2 * t.sf(abs(difference) / error, SPLITS) if error > 0 else float(difference == 0)
    return Difference(
        a.metric,
        a.better,
        a.value,
        b.value,
        difference,
        error,
        difference - reach,
        difference + reach,
        float(p),
    )
