"""Kernel distance (KID, Bińkowski et al. 2018): squared maximum mean discrepancy."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from stylenat.errors import UserError
from stylenat.metrics.base import Measure, Measurement, Metric, extractor_of, features_of
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
    x: np.ndarray, y: np.ndarray, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = 0
) -> list[Draw]:
    """Indices (size,) and (size,) of random subsets of features x (n, d) and y (m, d).

    The subsets of one draw share no vector within itself, those of different draws may. The order of
    the vectors makes no difference.
    """
    if size < 2 or size > min(len(x), len(y)):
        raise UserError(
            f"subsets of {size} need at least 2 and as many images, and there are {len(x)} and "
            f"{len(y)}; use more images."
        )
    random = np.random.default_rng(seed)
    a, b = content_order(x), content_order(y)
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


def standard_error(x: np.ndarray, y: np.ndarray, values: np.ndarray, draw: Draw) -> float:
    """Of the mean of ``values``, estimates from subsets like ``draw``, over draws of x (n, d) and y (m, d).

    First order: the variance, over images, of what each contributes to the estimate (Hoeffding's
    projection of a U-statistic), measured in one subset of each set; and that of the subsets.
    """
    a, b = _centred(x[draw[0]], y[draw[1]])
    (within_a, _), (within_b, _), (of_a, of_b) = (
        _means(*pair) for pair in ((a, a), (b, b), (a, b))
    )
    projected = 4 * (
        (within_a - of_a).var(ddof=1) / len(x) + (within_b - of_b).var(ddof=1) / len(y)
    )
    return float(np.sqrt(projected + values.var(ddof=1) / len(values)))


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
    (within_x, _), (within_y, _), (across, _) = (_means(*pair) for pair in ((x, x), (y, y), (x, y)))
    return float(within_x.mean() + within_y.mean() - 2 * across.mean())


def _means(x: Centred, y: Centred) -> tuple[np.ndarray, np.ndarray]:
    """Of the kernel of each vector of x with those of y, and the other way round, (n,) and (m,);
    a vector's kernel with itself does not count."""
    same, width = x is y, x.vectors.shape[1]
    products = x.vectors @ y.vectors.T
    of_x, of_y = np.empty(len(x.vectors)), np.zeros(len(y.vectors))
    ones = y.shares / width + 1
    for start in range(0, len(of_x), ROWS):  # few enough for a cache
        rows = slice(start, start + ROWS)
        base = np.multiply(products[rows], 1 / width, dtype=np.float64)
        base += (x.shares[rows] / width)[:, None]
        base += ones
        kernel = base * base
        kernel *= base  # many times faster than ** 3
        if same:
            kernel[np.arange(len(base)), np.arange(start, start + len(base))] = 0
        of_x[rows] = kernel.sum(1)
        of_y += kernel.sum(0)
    return of_x / (len(of_y) - same), of_y / (len(of_x) - same)


def _measure(real: Statistics) -> Measure:
    """Kernel distance."""
    reals = features_of(real)

    def measure(generated: Statistics) -> list[Measurement]:
        features = features_of(generated)
        size = subset_size(len(reals), len(features))
        draws = random_subsets(features, reals, SUBSETS, size)
        values = kernel_distances(features, reals, draws)
        return [
            Measurement(
                f"kid_{extractor_of(real)}",
                float(values.mean()),
                "lower",
                standard_error(features, reals, values, draws[0]),
                f"standard error over both sets; std over {SUBSETS} subsets of {size:,} images: "
                f"{values.std():.4g}",
            )
        ]

    return measure


METRIC = Metric(_measure)
