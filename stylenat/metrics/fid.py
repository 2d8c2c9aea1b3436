"""The Fréchet distance between two Gaussians (Dowson & Landau 1982; FID: Heusel et al. 2017)."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.linalg import lapack

from stylenat.errors import UserError
from stylenat.metrics.base import Measure, Measurement, Metric, extractor_of, over_both
from stylenat.metrics.moments import BLOCK, Moments, Statistics
from stylenat.metrics.subsets import content_order

ASKED = 10_000  # images of each set, at most, whose derivatives tell the standard error
INCEPTIONS = ("inception", "inception_tf1")  # the same network, images resized in another way

Derivative = Callable[[np.ndarray], np.ndarray]  # features (k, d) → (k,)


def frechet_distance(
    mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray
) -> float:
    """``|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁^½ Σ₂ Σ₁^½)^½`` for means (d,), covariances (d, d).

    With Σ = L Lᵀ the last trace is the sum of the singular values of L₁ᵀ L₂. Unlike the square roots
    of the eigenvalues of a product, these lose nothing of small variances, and the result is real
    and finite also where a covariance is singular (fewer images than features).
    """
    mu1, sigma1, mu2, sigma2 = (
        np.asarray(array, np.float64) for array in (mu1, sigma1, mu2, sigma2)
    )
    if not all(np.isfinite(array).all() for array in (mu1, sigma1, mu2, sigma2)):
        raise UserError("the statistics hold values that are not finite; compute them again.")
    cross = np.linalg.svd(_factor(sigma1).T @ _factor(sigma2), compute_uv=False)
    difference = mu1 - mu2
    distance = difference @ difference + np.trace(sigma1) + np.trace(sigma2) - 2 * cross.sum()
    return max(float(distance), 0.0)  # equal statistics may come out at -1e-15


def _factor(sigma: np.ndarray) -> np.ndarray:
    """L (d, rank) with L Lᵀ = Σ, positive semi-definite: Cholesky's with pivots, up to those that are zeros
    with rounding errors. It takes a fifth of the time of :func:`_root`."""
    least = sigma.diagonal().max(initial=0) * len(sigma) * np.finfo(np.float64).eps
    triangle, pivots, rank, _ = lapack.dpstrf(sigma, tol=least, lower=1)
    factor = np.empty((len(sigma), rank))
    factor[pivots - 1] = np.tril(triangle)[:, :rank]
    return factor


def _root(sigma: np.ndarray) -> np.ndarray:
    """R (d, rank) with R Rᵀ = Σ, positive semi-definite, and orthogonal columns."""
    values, vectors = np.linalg.eigh(sigma)
    # The others are zeros with rounding errors, of which a root would make 1e-8 out of 1e-16.
    largest = values.max(initial=0)
    kept = values > largest * len(values) * np.finfo(np.float64).eps
    root: np.ndarray = vectors[:, kept] * np.sqrt(values[kept])
    return root


def standard_errors(x: np.ndarray, y: np.ndarray, of_x: Moments, of_y: Moments) -> np.ndarray:
    """(2,) of the Fréchet distance of features (n, d) and (m, d) with these moments, n and m at least 4:
    over draws of the one set, and of the other.

    The variance, over images, of the distance's derivative in the direction of each image
    (infinitesimal jackknife) counts the second order twice, which is all there is between equal
    distributions. It shows in how much the derivatives from one half of the images differ from those
    from the other half.
    """
    orders = [content_order(s) for s in (x, y)]
    halves = (
        [Moments.of(s[order[start::2]]) for s, order in zip((x, y), orders, strict=True)]
        for start in (0, 1)
    )
    derivatives = [_derivatives(*moments) for moments in ((of_x, of_y), *halves)]
    n, m = len(x), len(y)
    variances, seconds = np.empty(2), np.empty(2)
    for k, s in enumerate((x, y)):
        asked = s[orders[k][:ASKED]]
        of_all, *of_halves = (both[k](asked) for both in derivatives)
        # Of images in a half: rows and columns are the half that the derivatives are from.
        covariances = [np.cov([values[start::2] for values in of_halves]) for start in (0, 1)]
        own = covariances[0][0, 0] + covariances[1][1, 1]
        common = covariances[0][0, 1] + covariances[1][0, 1]
        variance = of_all.var(ddof=1)
        seconds[k] = np.clip((own - common) / 8, 0, variance / 2) / len(s)
        variances[k] = variance / len(s) - seconds[k]
    # What pairs of an image of x and one of y contribute is drawn anew with x.
    moved = seconds[1] * m / (n + m)
    return np.sqrt([variances[0] + moved, variances[1] - moved])


def _derivatives(one: Moments, other: Moments) -> list[Derivative]:
    """Of the distance by images of either set."""
    roots = _root(one.covariance), _root(other.covariance)
    # That of the trace by Σ₁ is half the map T, T Σ₁ T = Σ₂, that carries the first Gaussian onto the
    # second: here by its roots (d, rank).
    cross = roots[0].T @ roots[1]
    squares, vectors = np.linalg.eigh(cross @ cross.T)
    kept = squares > squares.max(initial=0) * len(squares) * np.finfo(np.float64).eps
    left = vectors[:, kept] * squares[kept] ** 0.25
    right = cross.T @ (left / np.sqrt(squares[kept]))
    first, second = (
        root / np.einsum("dr,dr->r", root, root) @ side
        for root, side in zip(roots, (left, right), strict=True)
    )
    difference = one.mean - other.mean
    return [
        partial(_influences, mean=one.mean, carried=first, difference=difference),
        partial(_influences, mean=other.mean, carried=second, difference=-difference),
    ]


def _influences(
    features: np.ndarray, mean: np.ndarray, carried: np.ndarray, difference: np.ndarray
) -> np.ndarray:
    """What each vector (n, d) adds to the distance, up to a constant: (n,). In float32, of which the
    variance loses less than a millionth."""
    carried, difference = carried.astype(np.float32), difference.astype(np.float32)
    influences = np.empty(len(features))
    for start in range(0, len(features), BLOCK):
        rows = slice(start, start + BLOCK)
        centred = (features[rows] - mean).astype(np.float32)
        influences[rows] = np.square(centred).sum(1) - np.square(centred @ carried).sum(1)
        influences[rows] += 2 * centred @ difference
    return influences


def distance_name(extractor: str) -> str:
    """``fid`` in the features of Inception, else ``fd_`` and the feature network: FID is the Fréchet
    distance in Inception's features alone."""
    return "fid" if extractor in INCEPTIONS else f"fd_{extractor}"


def _measure(real: Statistics) -> Measure:
    """Fréchet distance: needs the moments alone, and the features for its uncertainty."""

    def measure(generated: Statistics) -> list[Measurement]:
        a, b = generated.moments, real.moments
        value = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
        name = distance_name(extractor_of(real))
        if generated.features is None or real.features is None or min(a.count, b.count) < 4:
            return [Measurement(name, value, "lower")]
        errors = standard_errors(generated.features, real.features, a, b)
        return [Measurement(name, value, "lower", **over_both(errors))]

    return measure


METRIC = Metric(
    _measure, needs_features=False, falls_with_images=True, by_split=True, table=distance_name
)
