"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

A set's manifold is the union of balls around its feature vectors, each reaching to the k-th
nearest other vector: k = 3 for precision and recall, 5 for density and coverage, as in the papers.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from stylenat.metrics.base import Measure, Measurement, Metric, extractor_of, features_of
from stylenat.metrics.moments import Statistics
from stylenat.metrics.neighbours import nearest, squared_distances

K_PRECISION_RECALL = 3
K_DENSITY_COVERAGE = 5

# Where both sets hold the same vectors, a k-th neighbour lies on the very edge of a ball, and
# float32 would decide by its rounding errors. The edge is outside (as in Naeem et al.).
EDGE = 1 - 1e-5


@dataclass(frozen=True)
class Manifold:
    """Feature vectors (n, d) and the squared radii (n,) of the balls around them, by k."""

    features: np.ndarray
    narrow: np.ndarray  # k = 3
    wide: np.ndarray  # k = 5

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """The manifold of features (n, d)."""
        _, distances = nearest(features, features, K_DENSITY_COVERAGE, same=True)
        squared = (EDGE * distances**2).astype(np.float32)
        return cls(features, squared[:, K_PRECISION_RECALL - 1], squared[:, -1])


def manifold_scores(real: Manifold, generated: Manifold) -> dict[str, np.ndarray]:
    """What every image contributes to each metric; the metric is the mean over the images.

    precision, per generated image: it lies in a ball of the real manifold; recall, per real image:
    it lies in a ball of the generated one; density, per generated image: real balls it lies in,
    over k; coverage, per real image: a generated image lies in its ball.
    """
    precise = np.zeros(len(generated.features), bool)
    balls = np.zeros(len(generated.features), np.int64)
    recalled = np.zeros(len(real.features), bool)
    covered = np.zeros(len(real.features), bool)
    for rows, distances in squared_distances(real.features, generated.features):
        precise |= (distances <= real.narrow[rows, None]).any(0)
        balls += (distances <= real.wide[rows, None]).sum(0)
        recalled[rows] = (distances <= generated.narrow).any(1)
        covered[rows] = distances.min(1) <= real.wide[rows]
    return {
        "precision": precise,
        "recall": recalled,
        "density": balls / K_DENSITY_COVERAGE,
        "coverage": covered,
    }


def _measure(real: Statistics) -> Measure:
    """Precision, recall, density and coverage."""
    reals = Manifold.of(features_of(real))

    def measure(generated: Statistics) -> list[Measurement]:
        scores = manifold_scores(reals, Manifold.of(features_of(generated)))
        return [
            Measurement(
                f"{name}_{extractor_of(real)}",
                float(values.mean()),
                "higher",
                float(values.std(ddof=1) / np.sqrt(len(values))),
                f"standard error over {len(values):,} images, the balls being given",
            )
            for name, values in scores.items()
        ]

    return measure


METRIC = Metric(_measure)
