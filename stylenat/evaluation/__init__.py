"""Feature networks, statistics of their features, distances, timing."""

from stylenat.evaluation.frechet import frechet_distance
from stylenat.evaluation.inception import Inception

__all__ = ["Inception", "frechet_distance"]
