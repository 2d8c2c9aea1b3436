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


def subset_size(n: int, m: int) -> int:
    """Of subsets of sets of n and m images: smaller sets are halved, or all subsets of them would
    hold nearly the same images; the estimate is unbiased at any size."""
    return min(SUBSET_SIZE, n // 2, m // 2)


def kernel_distances(
    x: np.ndarray, y: np.ndarray, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = 0
) -> np.ndarray:
    """Unbiased estimates (subsets,) from random subsets of features x (n, d) and y (m, d).

    KID is their mean; their standard deviation tells how far two subsets of that size agree. The
    subsets of one draw share no vector within itself, those of different draws may. The order of
    the vectors makes no difference.
    """
    x, y = (s[content_order(s)] for s in (x, y))
    if size < 2 or size > min(len(x), len(y)):
        raise UserError(
            f"subsets of {size} need at least 2 and as many images, and there are {len(x)} and "
            f"{len(y)}; use more images."
        )
    random = np.random.default_rng(seed)
    draws = ((random.choice(len(s), size, replace=False) for s in (x, y)) for _ in range(subsets))
    return np.array([unbiased_mmd(x[rows], y[columns]) for rows, columns in draws])


def standard_error(x: np.ndarray, y: np.ndarray, values: np.ndarray, size: int) -> float:
    """Of the mean of ``values``, estimates from subsets of ``size``, over draws of x (n, d) and y (m, d).

    First order: the variance, over images, of what each contributes to the estimate (Hoeffding's
    projection of a U-statistic), measured in one subset of each set; and that of the subsets.
    """
    random = np.random.default_rng(0)
    a, b = (
        Centred.of(s[content_order(s)[random.choice(len(s), size, replace=False)]], y.mean(0))
        for s in (x, y)
    )
    within_a, within_b, across = _kernel(a, a), _kernel(b, b), _kernel(a, b)
    # An image's kernel with itself is no part of the estimate.
    own_a = (within_a.sum(1) - np.diag(within_a)) / (size - 1) - across.mean(1)
    own_b = (within_b.sum(1) - np.diag(within_b)) / (size - 1) - across.mean(0)
    projected = 4 * (own_a.var(ddof=1) / len(x) + own_b.var(ddof=1) / len(y))
    return float(np.sqrt(projected + values.var(ddof=1) / len(values)))


def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """MMD² of features (n, d) and (m, d) without bias, under the kernel (xᵀy / d + 1)³.

    A vector is not compared with itself, so values below 0 occur between equal distributions.
    """
    centre = (x.mean(0, dtype=np.float64) + y.mean(0, dtype=np.float64)) / 2
    one, other = Centred.of(x, centre), Centred.of(y, centre)
    return _mean_of_pairs(one) + _mean_of_pairs(other) - 2 * float(_kernel(one, other).mean())


@dataclass(frozen=True)
class Centred:
    """Vectors x (n, d) about a centre c: x − c, and xᵀc − |c|² / 2 (n,), of which xᵀy can be put together.

    Of many features the former are float32. What their products lose is small beside what is left
    in float64, and averages out over the pairs.
    """

    vectors: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, centre: np.ndarray) -> Self:
        x = x.astype(np.float64)
        kind = np.float32 if len(centre) >= MANY else np.float64
        return cls((x - centre).astype(kind), x @ centre - centre @ centre / 2)


def _mean_of_pairs(x: Centred) -> float:
    kernel, count = _kernel(x, x), len(x.vectors)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))


def _kernel(x: Centred, y: Centred) -> np.ndarray:
    base = (x.vectors @ y.vectors.T).astype(np.float64, copy=False)
    base += x.shares[:, None]
    base += y.shares
    base /= x.vectors.shape[1]
    base += 1
    return base * base * base  # many times faster than ** 3


def _measure(real: Statistics) -> Measure:
    """Kernel distance."""
    reals = features_of(real)

    def measure(generated: Statistics) -> list[Measurement]:
        features = features_of(generated)
        size = subset_size(len(reals), len(features))
        values = kernel_distances(features, reals, SUBSETS, size)
        return [
            Measurement(
                f"kid_{extractor_of(real)}",
                float(values.mean()),
                "lower",
                standard_error(features, reals, values, size),
                f"standard error over both sets; std over {SUBSETS} subsets of {size:,} images: "
                f"{values.std():.4g}",
            )
        ]

    return measure


METRIC = Metric(_measure)
