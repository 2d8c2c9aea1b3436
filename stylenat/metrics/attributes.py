"""What images show, by attribute: a linear probe, trained on labelled reals, reads it off features.

The shares of an attribute's values among samples, against those among reals, say in plain words
which modes a generator has dropped.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize

from stylenat.errors import UserError
from stylenat.metrics.colours import colour_name, is_colour

MOST_VALUES = 32  # an attribute with more is not one of categories
ABSENT = "none"  # the value of an image that has not got the attribute

PENALTY = 1e-3  # weight of the squared weights
DAMPING = 1.0  # in units of the variance of a standardised feature
ITERATIONS = 200  # of the optimiser; it needs about 40
STEPS = 500  # of expectation maximisation

MISSING = 0.1  # of its share among the reals: a value with less is missing …
EXPECTED = 20  # … if so many samples should have had it

# Share of a value among the reals, and among samples.
Shares = dict[str, tuple[float, float]]


def encode(
    attributes: Sequence[dict[str, str] | None],
) -> tuple[np.ndarray, dict[str, list[str]]] | None:
    """The attributes of n images as codes (n, a) int8, and each one's values in the order of the
    codes. Those with a single value, or more than 32, say nothing of categories and are left out;
    None if none remains."""
    names = sorted({name for image in attributes if image for name in image})
    columns, values = [], {}
    for name in names:
        texts = [(image or {}).get(name, ABSENT) for image in attributes]
        found = sorted(set(texts))
        if 2 <= len(found) <= MOST_VALUES:
            values[name] = found
            code = {text: number for number, text in enumerate(found)}
            columns.append([code[text] for text in texts])
    return (np.array(columns, np.int8).T, values) if values else None


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


def missing_values(shares: Shares, count: int) -> list[str]:
    """The values that less than a tenth as many of ``count`` samples have as should have, of those
    that 20 or more should have."""
    return [
        value
        for value, (reals, samples) in shares.items()
        if count * reals >= EXPECTED and samples < MISSING * reals
    ]


def describe_missing(attribute: str, value: str, shares: Shares, count: int) -> str:
    """In plain words, as in "no samples with hair colour white (#e8e1e1; 3.2 % of the reals)"."""
    reals, samples = shares[value]
    how_many = "no" if count * samples < 0.5 else "almost no"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", attribute).lower().replace("color", "colour")
    name = f"{colour_name(value)} ({value}; " if is_colour(value) else f"{value} ("
    return f"{how_many} samples with {words} {name}{100 * reals:.1f} % of the reals)"


def recode(codes: np.ndarray, values: list[str], known: list[str]) -> np.ndarray:
    """Codes (n,) of ``values`` as codes of ``known``, −1 for what is not known there."""
    table = np.array([known.index(value) if value in known else -1 for value in values])
    return table[codes]


def require_labels(name: str, labels: np.ndarray | None) -> np.ndarray:
    """The labels; a :class:`UserError` about the data set ``name`` where there are none."""
    if labels is None:
        raise UserError(
            f"the statistics of {name} hold no attributes, which this metric needs; compute them "
            "again with --features, from a data set whose source knows attributes (avatars)."
        )
    return labels


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every row: probabilities, and their logarithms."""
    shifted = logits - logits.max(1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(1, keepdims=True)
    p /= total
    return p, shifted - np.log(total)
