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

from stylenat.metrics.base import (
    Measure,
    Measurement,
    Metric,
    extractor_of,
    features_of,
    over_both,
)
from stylenat.metrics.moments import Statistics
from stylenat.metrics.neighbours import exact_distances, nearest, positions, squared_distances
from stylenat.metrics.subsets import SPLITS, halves

K_PRECISION_RECALL = 3
K_DENSITY_COVERAGE = 5
# The parts of the reals and of the generated set that are scored together: all of both, then each half
# of a split of the one with each of the other.
PAIRED = np.array(
    [(0, 0), *((i, j) for s in range(1, 2 * SPLITS, 2) for i in (s, s + 1) for j in (s, s + 1))]
)
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
    def of(cls, features: np.ndarray, first: np.ndarray | None = None) -> Self:
        """The manifold of features (n, d); the halves are ``first`` (n, SPLITS) and what it leaves, or
        random ones of the same size."""
        known = max(min(KNOWN, len(features) - 1), K_DENSITY_COVERAGE)
        indices, distances = nearest(features, features, known, same=True)
        parts = np.concatenate([np.ones((1, len(features)), bool), _both(features, first)])
        narrow, wide = (
            np.stack([_radii(distances, indices, part, k) for part in parts])
            for k in (K_PRECISION_RECALL, K_DENSITY_COVERAGE)
        )
        return cls(features, distances, parts, narrow, wide)


def _both(features: np.ndarray, first: np.ndarray | None) -> np.ndarray:
    """Both halves of every split, one after the other: bool (2 SPLITS, n)."""
    if first is None:
        return halves(features, SPLITS)
    return np.stack([first.T, ~first.T], 1).reshape(2 * SPLITS, len(features))


def _radii(distances: np.ndarray, indices: np.ndarray, part: np.ndarray, k: int) -> np.ndarray:
    """Distances (n,) to the k-th neighbour in a part (n,), and -1 around what isn't in it."""
    order = part[indices].cumsum(1)
    # Where too few of the known ones are in it, the last of them is near enough.
    position = np.where(order[:, -1] >= k, (order >= k).argmax(1), indices.shape[1] - 1)
    return np.where(part, np.take_along_axis(distances, position[:, None], 1)[:, 0], -1)


@dataclass(frozen=True)
class Score:
    """A metric, its standard errors over draws of the generated set and of the reals, and for every split
    the value of the first halves of both minus that of the second halves."""

    value: float
    errors: tuple[float, float]
    of_halves: tuple[float, ...]


def manifold_scores(real: Manifold, generated: Manifold) -> dict[str, Score]:
    """Each metric by its name.

    precision: the share of generated images that lie in a ball of the real manifold; recall: of real
    images in a ball of the generated one; density: the number of real balls that a generated image
    lies in, over k; coverage: the share of real images with a generated one in their ball.

    The errors come from scores of halves of both sets: those of two disjoint halves are independent,
    and have twice the variance; with the halves of one set exchanged, what is due to that set changes
    its sign. What is left out is left out of the balls, too, so leaving out a few images at a time (a
    jackknife) would count what neighbours do together several times.
    """
    count = len(PAIRED)
    precise = np.zeros((count, len(generated.features)), bool)
    balls = np.zeros(precise.shape, np.int64)
    recalled = np.zeros((count, len(real.features)), bool)
    covered = np.zeros(recalled.shape, bool)
    for i, j, distances in _close_pairs(real, generated):
        for row, (part, other) in enumerate(PAIRED):
            both = real.parts[part, i] & generated.parts[other, j]
            precise[row, j[both & (distances <= real.narrow[part, i])]] = True
            recalled[row, i[both & (distances <= generated.narrow[other, j])]] = True
            inside = both & (distances < real.wide[part, i])
            balls[row] += np.bincount(j[inside], minlength=len(balls[row]))
            covered[row, i[inside]] = True
    # Of a handful of images, a half may have none.
    of_real, of_generated = (
        np.maximum(s.parts.sum(1), 1)[PAIRED[:, k]] for k, s in enumerate((real, generated))
    )
    return {
        "precision": _score(precise.sum(1) / of_generated),
        "recall": _score(recalled.sum(1) / of_real),
        "density": _score(balls.sum(1) / of_generated / K_DENSITY_COVERAGE),
        "coverage": _score(covered.sum(1) / of_real),
    }


def _score(values: np.ndarray) -> Score:
    """From the values of all pairs of parts."""
    of_halves = values[1:].reshape(SPLITS, 2, 2)
    straight = of_halves[:, 0, 0] - of_halves[:, 1, 1]
    crossed = of_halves[:, 0, 1] - of_halves[:, 1, 0]
    # Sum and difference hold what is due to one set twice.
    of_generated, of_real = (
        float(np.sqrt(np.mean(np.square(twice))) / 4)
        for twice in (straight - crossed, straight + crossed)
    )
    return Score(float(values[0]), (of_generated, of_real), tuple(straight.tolist()))


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
    reals = Manifold.of(features_of(real), real.halves)

    def measure(generated: Statistics) -> list[Measurement]:
        scores = manifold_scores(reals, Manifold.of(features_of(generated), generated.halves))
        return [
            Measurement(
                f"{name}_{extractor_of(real)}",
                score.value,
                "higher",
                of_halves=score.of_halves,
                **over_both(score.errors),
            )
            for name, score in scores.items()
        ]

    return measure


METRIC = Metric(_measure)
