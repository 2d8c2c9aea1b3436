"""The Fréchet distance between two Gaussians (Dowson & Landau 1982; FID: Heusel et al. 2017)."""

import numpy as np

from stylenat.errors import UserError
from stylenat.metrics.base import ERROR_OF, Measure, Measurement, Metric, extractor_of
from stylenat.metrics.moments import BLOCK, Moments, Statistics

INCEPTIONS = ("inception", "inception_tf1")  # the same network, images resized in another way


def frechet_distance(
    mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray
) -> float:
    """``|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁^½ Σ₂ Σ₁^½)^½`` for means (d,), covariances (d, d).

    With Σ = R Rᵀ the last trace is the sum of the singular values of R₁ᵀ R₂. Unlike the square roots
    of the eigenvalues of a product, these lose nothing of small variances, and the result is real
    and finite also where a covariance is singular (fewer images than features).
    """
    mu1, sigma1, mu2, sigma2 = (
        np.asarray(array, np.float64) for array in (mu1, sigma1, mu2, sigma2)
    )
    if not all(np.isfinite(array).all() for array in (mu1, sigma1, mu2, sigma2)):
        raise UserError("the statistics hold values that are not finite; compute them again.")
    cross = np.linalg.svd(_root(sigma1).T @ _root(sigma2), compute_uv=False)
    difference = mu1 - mu2
    distance = difference @ difference + np.trace(sigma1) + np.trace(sigma2) - 2 * cross.sum()
    return max(float(distance), 0.0)  # equal statistics may come out at -1e-15


def _root(sigma: np.ndarray) -> np.ndarray:
    """R (d, rank) with R Rᵀ = Σ, positive semi-definite."""
    values, vectors = np.linalg.eigh(sigma)
    # The others are zeros with rounding errors, of which a root would make 1e-8 out of 1e-16.
    largest = values.max(initial=0)
    kept = values > largest * len(values) * np.finfo(np.float64).eps
    root: np.ndarray = vectors[:, kept] * np.sqrt(values[kept])
    return root


def _inverse(root: np.ndarray) -> np.ndarray:
    """The pseudo-inverse (rank, d) of what :func:`_root` makes, whose columns are orthogonal."""
    inverse: np.ndarray = (root / np.einsum("dr,dr->r", root, root)).T
    return inverse


def standard_error(x: np.ndarray, y: np.ndarray, of_x: Moments, of_y: Moments) -> float:
    """Of the Fréchet distance of features (n, d) and (m, d) with these moments, over draws of both sets.

    First order: the variance, over images, of the distance's derivative in the direction of each
    image (infinitesimal jackknife). Too large where the distance is little more than that of two
    draws from one distribution, because there its first order vanishes.
    """
    roots = _root(of_x.covariance), _root(of_y.covariance)
    left, _, right = np.linalg.svd(roots[0].T @ roots[1], full_matrices=False)
    difference = of_x.mean - of_y.mean
    # The derivative of the trace by Σ₁ is half the map that carries the first Gaussian onto the second.
    first = roots[1] @ (right.T @ left.T) @ _inverse(roots[0])
    second = roots[0] @ (left @ right) @ _inverse(roots[1])
    variances = (
        _influences(x, of_x.mean, first, difference).var(ddof=1) / len(x),
        _influences(y, of_y.mean, second, -difference).var(ddof=1) / len(y),
    )
    return float(np.sqrt(sum(variances)))


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
        influences[rows] = np.einsum("nd,nd->n", centred, centred - centred @ carried)
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
        if generated.features is None or real.features is None:
            return [Measurement(name, value, "lower")]
        error = standard_error(generated.features, real.features, a, b)
        return [Measurement(name, value, "lower", error, ERROR_OF)]

    return measure


METRIC = Metric(_measure, needs_features=False, falls_with_images=True, table=distance_name)
