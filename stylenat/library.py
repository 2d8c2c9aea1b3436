"""What the package offers beside its classes: images from weights, metrics of feature arrays."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stylenat.metrics.fid import frechet_distance
from stylenat.metrics.kid import kernel_distances, random_subsets, subset_size
from stylenat.metrics.moments import Moments
from stylenat.metrics.prdc import Manifold, manifold_scores
from stylenat.metrics.subsets import content_order
from stylenat.models import load_generator
from stylenat.models.latents import generate as images_of


def generate(
    weights: str | Path,
    seeds: Iterable[int],
    truncation: float | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """The image of each seed, uint8 (n, S, S, 3): the pixels that ``stylenat sample`` writes.

    ``weights`` is whatever :func:`stylenat.load_generator` takes; ``truncation`` moves w towards its
    mean by this factor (StyleGAN's ψ). Raises :class:`stylenat.errors.UserError` for a file that is missing,
    truncated or something else.
    """
    return np.stack(list(images_of(load_generator(weights, device), list(seeds), truncation)))


def fid(real: np.ndarray, generated: np.ndarray) -> float:
    """Fréchet distance (Heusel et al. 2017) of features (n, d) and (m, d): FID if the features are
    those of :class:`stylenat.Inception`. It is meaningful where n and m are well above d."""
    x, y = Moments.of(real), Moments.of(generated)
    return frechet_distance(x.mean, x.covariance, y.mean, y.covariance)


def kid(real: np.ndarray, generated: np.ndarray) -> float:
    """Kernel distance (Bińkowski et al. 2018) of features (n, d) and (m, d): the mean over 100
    random subsets of 1,000 vectors, or of half the smaller set where that is less."""
    size = subset_size(len(real), len(generated))
    draws = random_subsets(content_order(generated), content_order(real), size=size)
    return float(kernel_distances(generated, real, draws).mean())


def prdc(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """Precision and recall (Kynkäänniemi et al. 2019, k = 3), density and coverage (Naeem et al.
    2020, k = 5) of features (n, d) and (m, d), by name."""
    scores = manifold_scores(Manifold.of(real), Manifold.of(generated))
    return {name: score.value for name, score in scores.items()}
