"""The Inception Score (Salimans et al. 2016): of generated images alone."""

import numpy as np

from stylenat.errors import UserError
from stylenat.metrics.base import Measure, Measurement, Metric, extractor_of, features_of
from stylenat.metrics.moments import Statistics
from stylenat.metrics.subsets import content_order

SPLITS = 10
BLOCK = 4096  # images whose class probabilities are in memory at once


def inception_scores(features: np.ndarray, head: np.ndarray, splits: int = SPLITS) -> np.ndarray:
    """exp E KL(p(y|x) ‖ p(y)) of every split (splits,), from features (n, d) in their order.

    ``head`` (classes, d) makes logits of features, without a bias, as the original code does. Only
    the sums of p and of p log p are kept, so any number of images fits.
    """
    if len(features) < splits:
        raise UserError(f"{len(features)} images cannot be split into {splits}; use more images.")
    return np.array([_score(part, head) for part in np.array_split(features, splits)])


def _score(features: np.ndarray, head: np.ndarray) -> float:
    total, negative_entropy = np.zeros(len(head)), 0.0
    for start in range(0, len(features), BLOCK):
        logits = (features[start : start + BLOCK] @ head.T).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        p = np.exp(log_p)
        total += p.sum(0)
        negative_entropy += float((p * log_p).sum())
    marginal = total / len(features)
    present = marginal > 0
    cross = float(marginal[present] @ np.log(marginal[present]))
    return float(np.exp(negative_entropy / len(features) - cross))


def _measure(real: Statistics) -> Measure:
    """Inception Score, of the generated images alone, split at random by their contents: in the order
    of files, a split might be a single class."""

    def measure(generated: Statistics) -> list[Measurement]:
        features = features_of(generated)
        if generated.head is None:
            raise UserError(
                f"{extractor_of(generated)} has no class logits; inception_score needs inception."
            )
        values = inception_scores(features[content_order(features)], generated.head)
        return [
            Measurement(
                "inception_score",
                float(values.mean()),
                "higher",
                float(values.std()),
                f"std over {SPLITS} splits of {len(features) // SPLITS:,}",
            )
        ]

    return measure


# Of the samples alone.
METRIC = Metric(_measure, held_out=False)
