"""The Fréchet distance against scipy's matrix root, closed forms and a golden value."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from stylenat.errors import UserError
from stylenat.metrics.fid import frechet_distance, standard_errors
from stylenat.metrics.moments import Moments

GOLDEN = Path(__file__).parent / "golden" / "inception.npz"


def gaussian(seed, count, dimension):
    x = np.random.default_rng(seed).normal(size=(count, dimension))
    x *= np.linspace(0.1, 3, dimension)
    return x.mean(0), np.cov(x, rowvar=False)


def test_golden_value():
    with np.load(GOLDEN) as arrays:
        a, b, expected = (arrays[f"frechet.{name}"] for name in ("a", "b", "value"))
    value = frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
    assert value == pytest.approx(float(expected), rel=1e-9)


def test_equals_scipys_root_where_that_is_well_conditioned():
    (mu1, sigma1), (mu2, sigma2) = gaussian(0, 200, 20), gaussian(1, 300, 20)
    root = scipy.linalg.sqrtm(sigma1 @ sigma2).real
    expected = ((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2 - 2 * root)
    assert frechet_distance(mu1, sigma1, mu2, sigma2) == pytest.approx(expected, rel=1e-10)


def test_closed_form_on_diagonal_covariances_with_zeros():
    a, b = np.array([4.0, 1.0, 0.0, 0.0]), np.array([1.0, 9.0, 2.0, 0.0])
    mu = np.array([1.0, 0.0, -2.0, 0.0])
    expected = 5 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(mu, np.diag(a), 0 * mu, np.diag(b)) == pytest.approx(
        expected, rel=1e-14
    )


@pytest.mark.parametrize("count", [2, 10, 60])
def test_closed_form_on_rank_deficient_covariances(count):
    """Σ₂ = 4 Σ₁ gives tr Σ₁, whatever the rank."""
    mu, sigma = gaussian(2, count, 80)
    assert frechet_distance(mu, sigma, mu, 4 * sigma) == pytest.approx(np.trace(sigma), rel=1e-12)
    assert frechet_distance(mu, sigma, mu, sigma) <= 1e-12 * np.trace(sigma)


def test_different_rank_deficient_covariances_by_the_nuclear_norm():
    """tr (Σ₁^½ Σ₂ Σ₁^½)^½ is the sum of the singular values of X₁ X₂ᵀ for Σ = Xᵀ X."""
    rng = np.random.default_rng(3)
    x1, x2 = rng.normal(size=(12, 50)), rng.normal(size=(30, 50))
    nuclear = np.linalg.svd(x1 @ x2.T, compute_uv=False).sum()
    expected = np.trace(x1.T @ x1) + np.trace(x2.T @ x2) - 2 * nuclear
    zero = np.zeros(50)
    assert frechet_distance(zero, x1.T @ x1, zero, x2.T @ x2) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12), st.integers(1, 8))
def test_symmetric_real_and_not_negative(seed, n1, n2, dimension):
    (mu1, sigma1), (mu2, sigma2) = gaussian(seed, n1, dimension), gaussian(seed + 1, n2, dimension)
    sigma1, sigma2 = np.atleast_2d(sigma1), np.atleast_2d(sigma2)
    value = frechet_distance(mu1, sigma1, mu2, sigma2)
    assert isinstance(value, float)
    assert 0 <= value < np.inf
    assert value == pytest.approx(frechet_distance(mu2, sigma2, mu1, sigma1), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "spectrum",
    [np.geomspace(15, 1e-6, 300), np.where(np.arange(300) < 150, np.linspace(15, 1, 300), 4e-6)],
)
def test_small_variances_are_not_lost(spectrum):
    """Σ₂ = 1.1 Σ₁ gives (√1.1 − 1)² tr Σ₁, and many variances are small beside the largest."""
    basis = scipy.linalg.qr(np.random.default_rng(7).normal(size=(300, 300)))[0]
    sigma = (basis * spectrum) @ basis.T
    sigma = (sigma + sigma.T) / 2
    mu = np.zeros(300)
    expected = (math.sqrt(1.1) - 1) ** 2 * spectrum.sum()
    assert frechet_distance(mu, sigma, mu, 1.1 * sigma) == pytest.approx(expected, abs=2e-12)


def test_a_set_without_any_variance():
    mu, sigma = gaussian(4, 50, 6)
    zero = np.zeros((6, 6))
    assert frechet_distance(mu, zero, mu, sigma) == pytest.approx(np.trace(sigma))
    assert frechet_distance(mu, zero, mu, zero) == 0


def test_values_that_are_not_finite_are_refused():
    mu, sigma = gaussian(5, 50, 6)
    with pytest.raises(UserError, match="not finite"):
        frechet_distance(mu * np.nan, sigma, mu, sigma)


def test_the_standard_error_is_the_jackknifes():
    random = np.random.default_rng(4)
    x, y = random.normal(size=(80, 3)), random.normal(size=(60, 3)) * 1.5 + 1

    def distance(x, y):
        return frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))

    def variance(values):
        return np.var(values) * (len(values) - 1)

    expected = variance([distance(np.delete(x, i, 0), y) for i in range(80)])
    expected += variance([distance(x, np.delete(y, i, 0)) for i in range(60)])
    errors = standard_errors(x, y, Moments.of(x), Moments.of(y))
    assert np.hypot(*errors) == pytest.approx(np.sqrt(expected), rel=0.1)
