"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

A set's manifold is the union of balls around its feature vectors, each reaching to the k-th
nearest other vector: k = 3 for precision and recall, 5 for density and coverage, as in the papers.
A vector on the very edge of a ball is inside for precision and recall (their equation 1), and
outside for density and coverage (as their authors compute them), so that identical sets have a
density of 1. The features are those that the metric's name says; Kynkäänniemi et al. used VGG-16's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from stylenat.metrics.base import ERROR_OF, Measure, Measurement, Metric, extractor_of, features_of
from stylenat.metrics.moments import Statistics
from stylenat.metrics.neighbours import exact_distances, nearest, positions, squared_distances
from stylenat.metrics.subsets import halves

K_PRECISION_RECALL = 3
K_DENSITY_COVERAGE = 5
SPLITS = 50  # of each set into two halves, whose scores tell the standard error
# Neighbours of every vector; 5 or more of them are in its half but once in 100,000 times.
KNOWN = 32


@dataclass(frozen=True)
class Manifold:
    """Feature vectors (n, d), the distances of each to its nearest others, and the radii of the balls
    of several parts of the set: first all vectors, then one half after another."""

    features: np.ndarray
    distances: np.ndarray  # (n, KNOWN or n - 1), ascending
    parts: np.ndarray  # (1 + 2 SPLITS, n) bool
    narrow: np.ndarray  # (1 + 2 SPLITS, n), to the 3rd neighbour in the part; -1 outside it
    wide: np.ndarray  # the same to the 5th

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """The manifold of features (n, d)."""
        known = max(min(KNOWN, len(features) - 1), K_DENSITY_COVERAGE)
        indices, distances = nearest(features, features, known, same=True)
        parts = np.concatenate([np.ones((1, len(features)), bool), halves(features, SPLITS)])
        narrow, wide = (
            np.stack([_radii(distances, indices, part, k) for part in parts])
            for k in (K_PRECISION_RECALL, K_DENSITY_COVERAGE)
        )
        return cls(features, distances, parts, narrow, wide)


def _radii(distances: np.ndarray, indices: np.ndarray, part: np.ndarray, k: int) -> np.ndarray:
    """Distances (n,) to the k-th neighbour in a part (n,), and -1 around what isn't in it."""
    order = part[indices].cumsum(1)
    # Where too few of the known ones are in it, the last of them is near enough.
    position = np.where(order[:, -1] >= k, (order >= k).argmax(1), indices.shape[1] - 1)
    return np.where(part, np.take_along_axis(distances, position[:, None], 1)[:, 0], -1)


@dataclass(frozen=True)
class Score:
    """A metric, and its standard error over draws of both sets."""

    value: float
    error: float


def manifold_scores(real: Manifold, generated: Manifold) -> dict[str, Score]:
    """Each metric by its name.

    precision: the share of generated images that lie in a ball of the real manifold; recall: of real
    images in a ball of the generated one; density: the number of real balls that a generated image
    lies in, over k; coverage: the share of real images with a generated one in their ball.

    The error comes from scores of halves of both sets: those of two disjoint halves are independent,
    and have twice the variance. What is left out is left out of the balls, too, so leaving out a few
    images at a time (a jackknife) would count what neighbours do together several times.
    """
    precise = np.zeros(generated.parts.shape, bool)
    balls = np.zeros(generated.parts.shape, np.int64)
    recalled = np.zeros(real.parts.shape, bool)
    covered = np.zeros(real.parts.shape, bool)
    for i, j, distances in _close_pairs(real, generated):
        for part in range(len(real.parts)):
            both = real.parts[part, i] & generated.parts[part, j]
            precise[part, j[both & (distances <= real.narrow[part, i])]] = True
            recalled[part, i[both & (distances <= generated.narrow[part, j])]] = True
            inside = both & (distances < real.wide[part, i])
            balls[part] += np.bincount(j[inside], minlength=len(balls[part]))
            covered[part, i[inside]] = True
    return {
        "precision": _score(precise, generated.parts),
        "recall": _score(recalled, real.parts),
        "density": _score(balls, generated.parts, K_DENSITY_COVERAGE),
        "coverage": _score(covered, real.parts),
    }


def _score(values: np.ndarray, parts: np.ndarray, over: int = 1) -> Score:
    """From what every vector contributes in every part (1 + 2 SPLITS, n), and what it is over."""
    whole, *of_halves = values.sum(1) / parts.sum(1) / over
    differences = np.subtract(of_halves[::2], of_halves[1::2])
    return Score(float(whole), float(np.sqrt(np.mean(differences**2)) / 2))


def _close_pairs(
    real: Manifold, generated: Manifold
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The pairs of a real and a generated vector that lie in one of each other's balls: indices
    (p,) and (p,) and distances (p,), which are on the right side of every known distance."""
    of_real, of_generated = real.wide.max(0) ** 2, generated.narrow.max(0) ** 2
    known_real, known_generated = real.distances**2, generated.distances**2
    for block in squared_distances(real.features, generated.features):
        near = block.least <= of_real[block.rows, None]
        near |= block.least <= of_generated
        i, j = positions(near)
        least = np.maximum(block.least[i, j], 0).astype(np.float64)
        most = block.least[i, j] + block.slack_x[i].astype(np.float64) + block.slack_y[j]
        i = i + block.rows.start
        distances = np.sqrt(least)
        unclear = _between(known_real[i], least, most) | _between(known_generated[j], least, most)
        distances[unclear] = exact_distances(
            real.features, generated.features, i[unclear], j[unclear]
        )
        yield i, j, distances


def _between(known: np.ndarray, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Which rows of ``known`` (p, k) have a value from ``least`` (p,) to ``most`` (p,)."""
    found: np.ndarray = np.any((known >= least[:, None]) & (known <= most[:, None]), axis=1)
    return found


def _measure(real: Statistics) -> Measure:
    """Precision, recall, density and coverage."""
    reals = Manifold.of(features_of(real))

    def measure(generated: Statistics) -> list[Measurement]:
        scores = manifold_scores(reals, Manifold.of(features_of(generated)))
        return [
            Measurement(
                f"{name}_{extractor_of(real)}",
                score.value,
                "higher",
                score.error,
                ERROR_OF,
            )
            for name, score in scores.items()
        ]

    return measure


METRIC = Metric(_measure)
