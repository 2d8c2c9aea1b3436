"""Kernel distance (KID, Bińkowski et al. 2018): squared maximum mean discrepancy."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

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
from stylenat.metrics.moments import Statistics
from stylenat.metrics.subsets import content_order

SUBSETS = 100
SUBSET_SIZE = 1000
MANY = 256  # features, whose products are computed in float32
ROWS = 128  # that are computed with at once


def subset_size(n: int, m: int) -> int:
    """Of subsets of sets of n and m images: smaller sets are halved, or all subsets of them would
    hold nearly the same images; the estimate is unbiased at any size."""
    return min(SUBSET_SIZE, n // 2, m // 2)


Rows = np.ndarray | slice
Draw = tuple[Rows, Rows]


def random_subsets(
    a: np.ndarray, b: np.ndarray, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = 0
) -> list[Draw]:
    """Indices (size,) and (size,) of random subsets of two sets with the content orders a (n,) and b (m,).

    The subsets of one draw share no vector within itself, those of different draws may. The order of
    the vectors makes no difference.
    """
    if size < 2 or size > min(len(a), len(b)):
        raise UserError(
            f"subsets of {size} need at least 2 and as many images, and there are {len(a)} and "
            f"{len(b)}; use more images."
        )
    random = np.random.default_rng(seed)
    return [
        (
            a[random.choice(len(a), size, replace=False)],
            b[random.choice(len(b), size, replace=False)],
        )
        for _ in range(subsets)
    ]


def kernel_distances(x: np.ndarray, y: np.ndarray, draws: list[Draw]) -> np.ndarray:
    """Unbiased estimates (subsets,) from subsets of features x (n, d) and y (m, d).

    KID is their mean; their standard deviation tells how far two subsets of that size agree.
    """
    one, other = Features.both(x, y, draws[0])
    return np.array([_unbiased(one.take(rows), other.take(columns)) for rows, columns in draws])


def standard_errors(
    x: np.ndarray, y: np.ndarray, orders: tuple[np.ndarray, np.ndarray], values: np.ndarray
) -> np.ndarray:
    """(2,) of the mean of ``values``, estimates from random subsets: over draws of x (n, d), and of y (m, d).

    Hoeffding's decomposition of a U-statistic, measured with the first 1,000 images of each set by its
    content order: the variance, over images, of what each contributes to the estimate, and that of what
    only pairs contribute, which is all between equal distributions; and the variance over the subsets.
    """
    a, b = _centred(*(s[order[:SUBSET_SIZE]] for s, order in zip((x, y), orders, strict=True)))
    (_, of_a, in_a), (_, of_b, in_b) = _parts(a, a), _parts(b, b)
    (a_to_b, b_to_a, across) = _parts(a, b)
    n, m = len(x), len(y)
    # A mean over few images scatters by its pairs, too.
    alone = [
        4 * ((own - other).var(ddof=1) - pairs / len(own) - across / len(another)) / count
        for own, other, another, pairs, count in (
            (of_a, a_to_b, of_b, in_a, n),
            (of_b, b_to_a, of_a, in_b, m),
        )
    ]
    # Where little is left, it may come out below 0.
    first = max(sum(alone), 0.0)
    of_y = min(max(alone[1], 0.0), first)
    drawn = values.var(ddof=1) / len(values)
    return np.sqrt(
        [first - of_y + 2 * in_a / n**2 + 4 * across / (n * m) + drawn, of_y + 2 * in_b / m**2]
    )


def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """MMD² of features (n, d) and (m, d) without bias, under the kernel (xᵀy / d + 1)³.

    A vector is not compared with itself, so values below 0 occur between equal distributions.
    """
    return _unbiased(*_centred(x, y))


@dataclass(frozen=True)
class Centred:
    """Vectors x (n, d) about a centre c, x − c, and their shares xᵀc − |c|² / 2 (n,): xᵀy is
    (x − c)ᵀ(y − c) and the shares of both.

    Of many features the vectors are float32. What their products lose is small beside the shares,
    in float64, and averages out over the pairs.
    """

    vectors: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True)
class Features:
    """Vectors x (n, d), a centre c (d,) near them, and their shares (n,)."""

    vectors: np.ndarray
    centre: np.ndarray
    shares: np.ndarray

    @classmethod
    def both(cls, x: np.ndarray, y: np.ndarray, draw: Draw) -> list[Self]:
        """Two sets about the mean of subsets of them, which the order of the vectors does not change."""
        means = (s[rows].mean(0, dtype=np.float64) for s, rows in zip((x, y), draw, strict=True))
        centre = (sum(means) / 2).astype(x.dtype)
        return [cls(s, centre, _shares(s, centre.astype(np.float64))) for s in (x, y)]

    def take(self, rows: Rows) -> Centred:
        """Some of the vectors, about the centre."""
        vectors = self.vectors[rows]
        if len(self.centre) >= MANY:
            return Centred(
                (vectors - self.centre).astype(np.float32, copy=False), self.shares[rows]
            )
        return Centred(vectors.astype(np.float64) - self.centre, self.shares[rows])


def _shares(x: np.ndarray, centre: np.ndarray) -> np.ndarray:
    parts = [x[k : k + ROWS].astype(np.float64) @ centre for k in range(0, len(x), ROWS)]
    shares: np.ndarray = np.concatenate(parts) - centre @ centre / 2
    return shares


def _centred(x: np.ndarray, y: np.ndarray) -> list[Centred]:
    whole = slice(None)
    return [s.take(whole) for s in Features.both(x, y, (whole, whole))]


def _unbiased(x: Centred, y: Centred) -> float:
    return _mean_within(x) + _mean_within(y) - 2 * _mean(x, y)


def _mean(x: Centred, y: Centred) -> float:
    """Of the kernel over all pairs of two sets."""
    total = sum(_sum_of_cubes(roots) for roots in _roots(x, y))
    return total / (len(x.vectors) * len(y.vectors))


def _mean_within(x: Centred) -> float:
    """Of the kernel over all pairs of a set, each computed once; a vector's with itself does not count."""
    total, count = 0.0, len(x.vectors)
    for roots in _roots(x, x, half=True):
        square = roots[:, : len(roots)]  # has its pairs twice
        total += 2 * _sum_of_cubes(roots) - _sum_of_cubes(square)
    return total / (count * (count - 1))


def _sum_of_cubes(roots: np.ndarray) -> float:
    return float(np.vdot(roots * roots, roots))  # many times faster than ** 3


def _parts(x: Centred, y: Centred) -> tuple[np.ndarray, np.ndarray, float]:
    """Means of the kernel of each vector of x with those of y, and the other way round, (n,) and (m,),
    and the mean square of what they leave of it."""
    roots, same = np.concatenate(list(_roots(x, y))), x is y
    kernel = roots * roots * roots
    rows = kernel.sum(1) / (kernel.shape[1] - same)
    columns = kernel.sum(0) / (kernel.shape[0] - same)
    rest = kernel - rows[:, None] - columns + rows.mean()
    if same:
        np.fill_diagonal(rest, 0)
    return rows, columns, float(np.square(rest).mean())


def _roots(x: Centred, y: Centred, half: bool = False) -> Iterator[np.ndarray]:
    """Cube roots of the kernel of vectors of x, some at a time, with all of y, or for a half of the pairs
    of one set with those from the first of some on; 0 for a vector with itself."""
    width = x.vectors.shape[1]
    products = x.vectors @ y.vectors.T
    ones = y.shares / width + 1
    for start in range(0, len(products), ROWS):  # few enough for a cache
        rows, columns = slice(start, start + ROWS), slice(start if half else 0, None)
        roots = np.multiply(products[rows, columns], 1 / width, dtype=np.float64)
        roots += (x.shares[rows] / width)[:, None]
        roots += ones[columns]
        if x is y:
            np.fill_diagonal(roots[:, start - columns.start :], 0)
        yield roots


def _measure(real: Statistics) -> Measure:
    """Kernel distance."""
    reals = features_of(real)
    order = content_order(reals)

    def measure(generated: Statistics) -> list[Measurement]:
        features = features_of(generated)
        size = subset_size(len(reals), len(features))
        orders = content_order(features), order
        values = kernel_distances(features, reals, random_subsets(*orders, SUBSETS, size))
        errors = over_both(standard_errors(features, reals, orders, values))
        errors["uncertainty_of"] += (
            f"; std over {SUBSETS} subsets of {size:,} images: {values.std():.4g}"
        )
        name = f"kid_{extractor_of(real)}"
        return [Measurement(name, float(values.mean()), "lower", **errors)]

    return measure


METRIC = Metric(_measure, by_split=True)
