"""Metrics by name: from statistics of real and generated images to named numbers.

Every name says which features it was taken in; FID is the Fréchet distance in Inception's alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stylenat.errors import UserError
from stylenat.metrics.attributes import (
    Probe,
    Shares,
    Whitening,
    estimate_shares,
    recode,
    require_labels,
    total_variation,
    total_variation_error,
)
from stylenat.metrics.fid import frechet_distance
from stylenat.metrics.fid_infinity import extrapolate
from stylenat.metrics.inception_score import SPLITS, inception_scores
from stylenat.metrics.kid import SUBSETS, kernel_distances, subset_size
from stylenat.metrics.moments import Statistics
from stylenat.metrics.neighbours import TrainingSet
from stylenat.metrics.prdc import Manifold, manifold_scores


@dataclass(frozen=True)
class Measurement:
    """One number, which way is better, and how uncertain one set of images leaves it."""

    metric: str
    value: float
    better: str  # "lower" or "higher"
    uncertainty: float | None = None
    uncertainty_of: str | None = None  # what the uncertainty is, in words
    note: str | None = None  # what else a reader should know
    attribute: str | None = None  # whose values …
    shares: Shares | None = None  # … have these shares among reals and samples


# Of one generated set against the reals that the measure was made for.
Measure = Callable[[Statistics], list[Measurement]]


def frechet(real: Statistics) -> Measure:
    """Fréchet distance: needs the moments alone."""

    def measure(generated: Statistics) -> list[Measurement]:
        a, b = generated.moments, real.moments
        value = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
        return [Measurement(frechet_name(real), value, "lower")]

    return measure


def frechet_infinity(real: Statistics) -> Measure:
    """Fréchet distance extrapolated to infinitely many generated images."""

    def measure(generated: Statistics) -> list[Measurement]:
        fit = extrapolate(_features(generated), real.moments)
        counts = ", ".join(f"{count:,}" for count in fit.counts)
        name = f"{frechet_name(real)}_infinity"
        of = f"rms distance of the values at {counts} images from their line"
        return [Measurement(name, fit.value, "lower", fit.residual, of)]

    return measure


def kid(real: Statistics) -> Measure:
    """Kernel distance."""
    reals = _features(real)

    def measure(generated: Statistics) -> list[Measurement]:
        features = _features(generated)
        size = subset_size(len(reals), len(features))
        values = kernel_distances(features, reals, SUBSETS, size)
        return [
            Measurement(
                f"kid_{_extractor(real)}",
                float(values.mean()),
                "lower",
                float(values.std()),
                f"std over {SUBSETS} subsets of {size:,}",
            )
        ]

    return measure


def prdc(real: Statistics) -> Measure:
    """Precision, recall, density and coverage."""
    reals = Manifold.of(_features(real))

    def measure(generated: Statistics) -> list[Measurement]:
        scores = manifold_scores(reals, Manifold.of(_features(generated)))
        return [
            Measurement(
                f"{name}_{_extractor(real)}",
                float(values.mean()),
                "higher",
                float(values.std(ddof=1) / np.sqrt(len(values))),
                f"standard error over {len(values):,} images, the balls being given",
            )
            for name, values in scores.items()
        ]

    return measure


def inception_score(real: Statistics) -> Measure:
    """Inception Score, of the generated images alone."""

    def measure(generated: Statistics) -> list[Measurement]:
        features = _features(generated)
        if generated.head is None:
            raise UserError(
                f"{_extractor(generated)} has no class logits; inception_score needs inception."
            )
        values = inception_scores(features, generated.head)
        return [
            Measurement(
                "inception_score",
                float(values.mean()),
                "higher",
                float(values.std()),
                f"std over {SPLITS} splits of {len(features) // SPLITS:,}",
            )
        ]

    return measure


def copies(real: Statistics) -> Measure:
    """The share of samples that are copies of training images."""
    training = TrainingSet.of(_features(real))

    def measure(generated: Statistics) -> list[Measurement]:
        flags = training.copies(_features(generated))
        error = float(flags.std(ddof=1) / np.sqrt(len(flags)))
        of = f"standard error over {len(flags):,} images"
        name = f"copies_{_extractor(real)}"
        return [Measurement(name, float(flags.mean()), "lower", error, of)]

    return measure


def attributes(real: Statistics) -> Measure:
    """How often samples have which hair, skin, … colour, against the reals' labels; and, of images
    whose labels are known, how well a probe trained on the reals reads them."""
    features = _features(real)
    labels = require_labels(real.record["dataset"]["name"], real.labels)
    values = real.record["attributes"]
    whiten = Whitening.of(features)
    inputs = whiten(features)
    probes = {
        name: Probe.fit(inputs, codes, len(values[name]))
        for name, codes in zip(values, labels.T, strict=True)
        if name.endswith("Color")  # what a probe can read off small pictures, and a person sees
    }

    def measure(generated: Statistics) -> list[Measurement]:
        inputs = whiten(_features(generated))
        found = {name: probe.probabilities(inputs) for name, probe in probes.items()}
        variations = [
            _variation(name, probes[name], values[name], probabilities, _extractor(real))
            for name, probabilities in found.items()
        ]
        if generated.labels is None:
            return variations
        columns = dict(zip(generated.record["attributes"], generated.labels.T, strict=True))
        accuracies = []
        for name, probabilities in found.items():
            if name in columns:
                own = generated.record["attributes"][name]
                codes = recode(columns[name], own, values[name])
                accuracies.append(_accuracy(name, probes[name], codes, probabilities, real))
        return variations + accuracies

    return measure


def _variation(
    name: str, probe: Probe, values: list[str], probabilities: np.ndarray, extractor: str
) -> Measurement:
    shares = estimate_shares(probabilities, probe.shares)
    return Measurement(
        f"attribute_tv_{name}_{extractor}",
        total_variation(probe.shares, shares),
        "lower",
        total_variation_error(probabilities, probe.shares, shares),
        f"standard error over {len(probabilities):,} images, the probe being given",
        attribute=name,
        shares=dict(
            zip(values, zip(probe.shares.tolist(), shares.tolist(), strict=True), strict=True)
        ),
    )


def _accuracy(
    name: str, probe: Probe, codes: np.ndarray, probabilities: np.ndarray, real: Statistics
) -> Measurement:
    right = probabilities.argmax(1) == codes
    always = float((codes == probe.shares.argmax()).mean())
    return Measurement(
        f"attribute_accuracy_{name}_{_extractor(real)}",
        float(right.mean()),
        "higher",
        float(right.std(ddof=1) / np.sqrt(len(right))),
        f"standard error over {len(right):,} images",
        f"of a probe; always the most frequent value would be right for {100 * always:.1f} %",
    )


METRICS: dict[str, Callable[[Statistics], Measure]] = {
    function.__name__: function
    for function in (
        frechet,
        frechet_infinity,
        kid,
        prdc,
        inception_score,
        copies,
        attributes,
    )
}

# Measures of samples alone, or of samples and what was trained on; no other reals make sense there.
NEVER_HELD_OUT = ("inception_score", "copies")


def frechet_name(statistics: Statistics) -> str:
    """``fid`` in the features of Inception, else ``fd_`` and the extractor."""
    extractor = _extractor(statistics)
    return "fid" if extractor == "inception" else f"fd_{extractor}"


def _extractor(statistics: Statistics) -> str:
    return statistics.record["extractor"]


def _features(statistics: Statistics) -> np.ndarray:
    if statistics.features is None:
        raise UserError(
            f"the statistics of {statistics.record['dataset']['name']} hold no features, which "
            "this metric needs; compute them again with --features."
        )
    return statistics.features
