"""What a protocol gives for real images alone: two draws of one distribution, of the sizes at which
samples are measured."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stylenat.errors import UserError
from stylenat.metrics.base import Measurement, Metric, features_of
from stylenat.metrics.moments import Statistics
from stylenat.metrics.subsets import SPLITS, content_order, halves
from stylenat.metrics.summary import standard_error

DRAWS = 10  # of halves; or, at most, of held-out reals


@dataclass(frozen=True)
class Floor:
    """The measurements of every draw, the uncertainty of all being that of their mean, and how many
    images each compared with how many."""

    draws: list[list[Measurement]]
    of: str  # "held-out" or "halves"
    n_generated: int
    n_real: int


def floor(
    metric: Metric, reference: Statistics, held_out: Statistics | None, samples: int
) -> Floor:
    """Of ``metric``, for ``samples`` images against the reference.

    Held-out reals are cut into disjoint sets of so many. Where there are fewer, all of them are
    measured; without any, the reference is split into halves ten times, at random. A metric that
    between two draws of one distribution goes like 1/n + 1/m is then scaled to the sizes asked for.
    What is drawn depends on the images alone, not on their order.
    """
    wanted = 1 / samples + 1 / reference.moments.count
    if held_out is not None:
        order = _drawn(held_out, [0])[0]
        size = min(samples, len(order))
        sets = [order[i * size : (i + 1) * size] for i in range(min(DRAWS, len(order) // size))]
        measure = metric.measure(reference)
        draws = [measure(held_out.take(indices)) for indices in sets]
        of, n, m = "held-out", size, reference.moments.count
    else:
        drawn = [np.array_split(order, 2) for order in _drawn(reference, range(DRAWS))]
        n, m = (len(half) for half in drawn[0])
        if min(n, m) < 2:
            raise UserError(f"{n + m} reals cannot be split for a floor; use more images.")
        split = replace(reference, halves=halves(features_of(reference), SPLITS)[::2].T)
        draws = [metric.measure(split.take(other))(split.take(one)) for one, other in drawn]
        of = "halves"
    errors = [_error(metric, same, of) for same in zip(*draws, strict=True)]
    draws = [
        [
            replace(one, uncertainty=error, of_reals=None)
            for one, error in zip(draw, errors, strict=True)
        ]
        for draw in draws
    ]
    factor = wanted / (1 / n + 1 / m) if metric.falls_with_images else 1.0
    if factor == 1:
        return Floor(draws, of, n, m)
    note = f"measured between {n:,} and {m:,} images, and scaled"
    scaled = [[_scaled(one, factor, note) for one in draw] for draw in draws]
    return Floor(scaled, of, samples, reference.moments.count)


def _error(metric: Metric, draws: Sequence[Measurement], of: str) -> float | None:
    """Standard error of the mean over the draws.

    Draws of halves share the images of one set, so that their values are not independent. Where every
    draw is measured on two halves of that set, too, the means over the draws are independent between
    these, and differ by twice the standard error of what the whole set gives.
    """
    errors = [one.uncertainty for one in draws if one.uncertainty is not None]
    if of == "held-out" or len(errors) < len(draws):
        return standard_error(draws)
    if draws[0].of_halves:
        of_halves = np.mean([one.of_halves for one in draws], axis=0)
        return float(np.sqrt(np.mean(np.square(of_halves))) / 2)
    total = float(np.mean(np.square(errors)))
    if metric.by_split:
        return float(np.sqrt(total / len(draws)))
    # The rest of a draw's variance is that of the images, which all splits have in common.
    of_splits = float(np.var([one.value for one in draws], ddof=1))
    return float(np.sqrt(of_splits / len(draws) + max(total - of_splits, 0.0)))


def _drawn(statistics: Statistics, seeds: Iterable[int]) -> list[np.ndarray]:
    """The images' indices, for every seed in a random order that their contents decide."""
    if statistics.features is None:
        raise UserError(
            f"the statistics of {statistics.record.dataset.name} hold no features, which a "
            "floor needs; compute them again with --features."
        )
    order = content_order(statistics.features)
    return [order[np.random.default_rng(seed).permutation(len(order))] for seed in seeds]


def _scaled(one: Measurement, factor: float, note: str) -> Measurement:
    error = None if one.uncertainty is None else one.uncertainty * factor
    return replace(one, value=one.value * factor, uncertainty=error, note=note)
