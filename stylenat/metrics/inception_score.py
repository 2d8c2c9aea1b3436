"""The Inception Score (Salimans et al. 2016): of generated images alone."""

from collections.abc import Iterator

import numpy as np

from stylenat.errors import UserError
from stylenat.metrics.base import Measure, Measurement, Metric, extractor_of, features_of
from stylenat.metrics.moments import Statistics
from stylenat.metrics.subsets import content_order

SPLITS = 10
BLOCK = 4096  # images whose class probabilities are in memory at once


def inception_scores(
    features: np.ndarray, head: np.ndarray, splits: int = SPLITS
) -> tuple[np.ndarray, np.ndarray]:
    """exp E KL(p(y|x) ‖ p(y)) of every split, and its standard error, (splits,) and (splits,), from
    features (n, d) in their order.

    ``head`` (classes, d) makes logits of features, without a bias, as the original code does. Only
    the sums of p are kept, so any number of images fits.
    """
    if len(features) < splits:
        raise UserError(f"{len(features)} images cannot be split into {splits}; use more images.")
    values, errors = zip(
        *(_score(part, head) for part in np.array_split(features, splits)), strict=True
    )
    return np.array(values), np.array(errors)


def _score(features: np.ndarray, head: np.ndarray) -> tuple[float, float]:
    total = sum(np.exp(log_p).sum(0) for log_p in _log_probabilities(features, head))
    present = total > 0
    log_marginal = np.log(total[present] / len(features))
    divergences = np.concatenate(
        [
            (np.exp(log_p) * log_p).sum(1) - np.exp(log_p[:, present]) @ log_marginal
            for log_p in _log_probabilities(features, head)
        ]
    )
    score = np.exp(divergences.mean())
    # First order: a divergence is what its image contributes, through p(y) as well.
    return float(score), float(score * divergences.std() / np.sqrt(len(features)))


def _log_probabilities(features: np.ndarray, head: np.ndarray) -> Iterator[np.ndarray]:
    """log p(y|x), some images at a time."""
    for start in range(0, len(features), BLOCK):
        logits = (features[start : start + BLOCK] @ head.T).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        yield logits - np.log(np.exp(logits).sum(1, keepdims=True))


def _measure(real: Statistics) -> Measure:
    """Inception Score, of the generated images alone, split at random by their contents: in the order
    of files, a split might be a single class."""

    def measure(generated: Statistics) -> list[Measurement]:
        features = features_of(generated)
        if generated.head is None:
            raise UserError(
                f"{extractor_of(generated)} has no class logits; inception_score needs inception."
            )
        values, errors = inception_scores(features[content_order(features)], generated.head)
        return [
            Measurement(
                "inception_score",
                float(values.mean()),
                "higher",
                float(np.sqrt(np.square(errors).sum()) / SPLITS),
                f"standard error over the images; std over {SPLITS} splits of "
                f"{len(features) // SPLITS:,}: {values.std():.4g}",
                of_reals=0.0,
            )
        ]

    return measure


# Of the samples alone.
METRIC = Metric(_measure, held_out=False)
