"""The Fréchet distance between two Gaussians (Dowson & Landau 1982; FID: Heusel et al. 2017)."""

import numpy as np

from stylenat.errors import UserError
from stylenat.metrics.base import Measure, Measurement, Metric, extractor_of
from stylenat.metrics.moments import Statistics


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
    return vectors[:, kept] * np.sqrt(values[kept])


def distance_name(extractor: str) -> str:
    """``fid`` in the features of Inception, else ``fd_`` and the feature network: FID is the Fréchet
    distance in Inception's features alone."""
    return "fid" if extractor == "inception" else f"fd_{extractor}"


def _measure(real: Statistics) -> Measure:
    """Fréchet distance: needs the moments alone."""

    def measure(generated: Statistics) -> list[Measurement]:
        a, b = generated.moments, real.moments
        value = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
        return [Measurement(distance_name(extractor_of(real)), value, "lower")]

    return measure


METRIC = Metric(_measure, needs_features=False, table=distance_name)
