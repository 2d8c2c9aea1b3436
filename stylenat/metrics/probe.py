"""A linear probe that reads an attribute off features, and shares estimated with it."""

from dataclasses import dataclass
from typing import Self

import numpy as np

PENALTY = 1e-3  # weight of the squared weights
DAMPING = 1.0  # in units of the variance of a standardised feature
ITERATIONS = 200  # of the optimiser; it needs about 40
STEPS = 500  # of expectation maximisation


@dataclass(frozen=True)
class Whitening:
    """x ↦ (x − mean) @ matrix, which has uncorrelated columns on its own images: of variance 1 where
    they vary much, and less in directions in which standardised features hardly vary, so that a
    probe need not rely on details that generated images may not have."""

    mean: np.ndarray  # (d,)
    matrix: np.ndarray  # (d, rank)

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Of features (n, d); directions in which they do not vary are left out."""
        mean = features.mean(0, dtype=np.float64)
        scale = features.std(0, dtype=np.float64)
        scale[scale <= 1e-6 * np.abs(mean)] = np.inf  # constant, but for rounding
        standard = ((features - mean.astype(np.float32)) / scale).astype(np.float32)
        values, vectors = np.linalg.eigh((standard.T @ standard).astype(np.float64) / len(features))
        kept = values > values.max(initial=0) * 1e-6
        return cls(mean, vectors[:, kept] / scale[:, None] / np.sqrt(values[kept] + DAMPING))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(n, d) → float32 (n, rank + 1), with a column of ones."""
        white = (features - self.mean.astype(np.float32)) @ self.matrix.astype(np.float32)
        return np.hstack([white, np.ones((len(white), 1), np.float32)])


@dataclass(frozen=True)
class Probe:
    """Multinomial logistic regression from whitened features (n, r) to k values."""

    weights: np.ndarray  # (r, k)
    shares: np.ndarray  # (k,) of the values among the images it was trained on

    @classmethod
    def fit(cls, inputs: np.ndarray, codes: np.ndarray, count: int) -> Self:
        """From inputs (n, r), the last of which is 1, with codes (n,) in 0 … count − 1."""
        # Here, so that those who only ask for the metrics' names need not wait for SciPy.
        from scipy.optimize import minimize

        n, r = inputs.shape
        rows = np.arange(n)

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(r, count)
            p, log_p = _softmax(inputs @ weights.astype(np.float32))
            penalised = np.vstack([weights[:-1], np.zeros(count)])  # not the intercepts
            value = PENALTY / 2 * (penalised**2).sum() - log_p[rows, codes].mean(dtype=np.float64)
            p[rows, codes] -= 1
            return float(value), (inputs.T @ p / n + PENALTY * penalised).ravel().astype(np.float64)

        options = {"maxiter": ITERATIONS, "gtol": 1e-4}
        found = minimize(loss, np.zeros(r * count), jac=True, method="L-BFGS-B", options=options)
        shares = np.bincount(codes, minlength=count) / n
        return cls(found.x.reshape(r, count).astype(np.float32), shares)

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """(n, r) → (n, k) float64, of images that have the values as often as in training."""
        return _softmax((inputs @ self.weights).astype(np.float64))[0]


def estimate_shares(probabilities: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Most likely shares (k,) of the values in a set, from a probe's probabilities (n, k) and the
    shares (k,) that it was trained with (Saerens, Latinne & Decaestecker 2002).

    Counting the likeliest values instead would spread every confusion of the probe over the
    shares: of a value that no image has, those that are taken for it would remain.
    """
    ratios = probabilities / trained
    shares = trained
    for _ in range(STEPS):
        weighted = ratios * shares
        weighted /= weighted.sum(1, keepdims=True)
        before, shares = shares, weighted.mean(0)
        if np.abs(shares - before).max() < 1e-7:
            break
    return shares


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Half the sum of absolute differences of shares (k,): 0 if they agree, 1 if they exclude each
    other."""
    return float(np.abs(a - b).sum() / 2)


def total_variation_error(
    probabilities: np.ndarray, trained: np.ndarray, shares: np.ndarray
) -> float:
    """Standard error of the total variation between ``trained`` and ``shares``, as estimated from
    ``probabilities`` by :func:`estimate_shares`, the probe being given.

    From the likelihood's curvature J: the covariance of the shares p is (J⁻¹ − p pᵀ) / n, which is
    that of a multinomial if the probe is always certain.
    """
    present = shares > 1e-4
    p = shares[present] / shares[present].sum()
    scores = (probabilities / trained)[:, present]
    scores /= (scores @ p)[:, None]
    n = len(scores)
    covariance = (np.linalg.pinv(scores.T @ scores / n) - np.outer(p, p)) / n
    signs = np.sign(shares - trained)[present] / 2
    return float(np.sqrt(max(signs @ covariance @ signs, 0.0)))


def of_reals(trained: np.ndarray, shares: np.ndarray, count: int) -> float:
    """The reals' part of the same, if ``trained`` are the shares among ``count`` images."""
    signs = np.sign(shares - trained) / 2
    return float(np.sqrt((signs**2 @ trained - (signs @ trained) ** 2) / count))


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every row: probabilities, and their logarithms."""
    shifted = logits - logits.max(1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(1, keepdims=True)
    p /= total
    return p, shifted - np.log(total)
