"""Which samples are copies of training images."""

from dataclasses import dataclass

import numpy as np

from stylenat.metrics.base import (
    Measure,
    Measurement,
    Metric,
    extractor_of,
    features_of,
    over_both,
)
from stylenat.metrics.moments import Statistics
from stylenat.metrics.neighbours import nearest
from stylenat.metrics.thumbnails import ASKED, Thumbnails

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
    """The share of samples that are copies of training images, by their features and by their pixels."""
    training = TrainingSet.of(features_of(real))
    searched, note = None, None
    if real.thumbnails is not None:
        searched = Thumbnails.of(real.thumbnails, COPY_QUANTILE)
        shares = (f"{change} {share:.1%}" for change, share in searched.detected().items())
        note = f"found of altered training images: {', '.join(shares)}"

    def flagged(name: str, flags: np.ndarray, asked: int, note: str | None = None) -> Measurement:
        # Of few samples often none is flagged, which does not make the share certain: about the quantile
        # of new images are. The second part is the threshold's: of the training images asked, two are
        # often each other's nearest, so that half as many distances are independent.
        share = max(float(flags.mean()), COPY_QUANTILE)
        variances = (
            share * (1 - share) / (len(flags) - 1),
            2 * COPY_QUANTILE * (1 - COPY_QUANTILE) / asked,
        )
        errors = over_both(np.sqrt(variances))
        return Measurement(f"copies_{name}", float(flags.mean()), "lower", note=note, **errors)

    def measure(generated: Statistics) -> list[Measurement]:
        count = len(training.features)
        found = [flagged(extractor_of(real), training.copies(features_of(generated)), count)]
        if searched is not None and generated.thumbnails is not None:
            found.append(
                flagged("pixels", searched.copies(generated.thumbnails), min(count, ASKED), note)
            )
        return found

    return measure


# Of samples and what was trained on; other reals would make no sense.
METRIC = Metric(_measure, held_out=False, shows_nearest=True)
