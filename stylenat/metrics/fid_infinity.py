"""The Fréchet distance for infinitely many samples (Chong & Forsyth 2020).

From n samples it comes out too large by about a constant over n, so a line through values at
several n, against 1/n, meets the axis at the value without that bias.
"""

from dataclasses import dataclass

import numpy as np

from stylenat.errors import UserError
from stylenat.metrics.base import (
    Measure,
    Measurement,
    Metric,
    extractor_of,
    features_of,
    over_both,
)
from stylenat.metrics.fid import distance_name, frechet_distance, standard_errors
from stylenat.metrics.moments import Moments, Statistics
from stylenat.metrics.subsets import content_order

LEAST = 12  # images for each feature
PARTS = (5, 2, 1)  # that the samples are cut into: of 50,000 a fifth, a half and all of them


@dataclass(frozen=True)
class Extrapolation:
    """Mean distances at so many samples, and where their line meets 1/n = 0."""

    counts: tuple[int, ...]
    distances: tuple[float, ...]
    value: float
    slope: float  # n times the bias of n samples


def extrapolate(features: np.ndarray, reference: Moments) -> Extrapolation:
    """From generated features (n, d), in any order.

    At every n the distance is the mean over all disjoint draws of n samples, which steadies it.
    Fewer images than :data:`LEAST` for each feature are a :class:`UserError`: the bias is no
    straight line there.
    """
    least = LEAST * features.shape[1]
    if len(features) < least:
        raise UserError(
            f"{len(features):,} images of {features.shape[1]:,} features are too few to extrapolate "
            f"a Fréchet distance from; raise the protocol's samples to {least:,} or more."
        )
    counts = tuple(len(features) // parts for parts in PARTS)
    features = features[content_order(features)]
    distances = tuple(
        float(np.mean([_distance(features[i * n : (i + 1) * n], reference) for i in range(parts)]))
        for parts, n in zip(PARTS, counts, strict=True)
    )
    inverse = 1 / np.array(counts)
    slope, value = np.polyfit(inverse, distances, 1)
    return Extrapolation(counts, distances, float(value), float(slope))


def _distance(features: np.ndarray, reference: Moments) -> float:
    moments = Moments.of(features)
    return frechet_distance(moments.mean, moments.covariance, reference.mean, reference.covariance)


def _measure(real: Statistics) -> Measure:
    """Fréchet distance extrapolated to infinitely many generated images."""

    def measure(generated: Statistics) -> list[Measurement]:
        features, reals = features_of(generated), features_of(real)
        fit = extrapolate(features, real.moments)
        counts = ", ".join(f"{count:,}" for count in fit.counts)
        note = (
            f"from values at {counts} samples; the bias of {len(reals):,} reals, some "
            f"{fit.slope / len(reals):.2g}, is still in it"
        )
        name = f"{distance_name(extractor_of(real))}_infinity"
        errors = over_both(standard_errors(features, reals, generated.moments, real.moments))
        return [Measurement(name, fit.value, "lower", note=note, **errors)]

    return measure


METRIC = Metric(_measure, by_split=True)
