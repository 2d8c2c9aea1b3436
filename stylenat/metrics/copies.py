"""Which samples are copies of training images."""

from dataclasses import dataclass

import numpy as np

from stylenat.metrics.base import ERROR_OF, Measure, Measurement, Metric, extractor_of, features_of
from stylenat.metrics.moments import Statistics
from stylenat.metrics.neighbours import nearest

# A sample nearer to a training image than all but this share of the training images are to each
# other counts as a copy. New images from the same distribution are flagged about as often.
COPY_QUANTILE = 0.01


@dataclass(frozen=True)
class TrainingSet:
    """Features (n, d) of the training images, each one's distance (n,) to its nearest other one,
    and the distance up to which a sample counts as a copy."""

    features: np.ndarray
    distances: np.ndarray
    threshold: float

    @classmethod
    def of(cls, features: np.ndarray) -> "TrainingSet":
        """The training set with these features (n, d)."""
        distances = nearest(features, features, 1, same=True)[1][:, 0]
        # Of distinct images: where some are there twice, the quantile would be 0 and flag nothing.
        distinct = distances[distances > 0]
        threshold = np.quantile(distinct, COPY_QUANTILE) if len(distinct) else 0.0
        return cls(features, distances, float(threshold))

    def copies(self, samples: np.ndarray) -> np.ndarray:
        """Which samples (n, d) are copies, as booleans (n,)."""
        return nearest(samples, self.features, 1)[1][:, 0] <= self.threshold


def _measure(real: Statistics) -> Measure:
    """The share of samples that are copies of training images."""
    training = TrainingSet.of(features_of(real))

    def measure(generated: Statistics) -> list[Measurement]:
        flags = training.copies(features_of(generated))
        # The second part is the threshold's: of the training images, two are often each other's
        # nearest, so that half as many distances are independent.
        variance = flags.var(ddof=1) / len(flags)
        variance += 2 * COPY_QUANTILE * (1 - COPY_QUANTILE) / len(training.features)
        name = f"copies_{extractor_of(real)}"
        return [Measurement(name, float(flags.mean()), "lower", float(np.sqrt(variance)), ERROR_OF)]

    return measure


# Of samples and what was trained on; other reals would make no sense.
METRIC = Metric(_measure, held_out=False, shows_nearest=True)
