"""Feature networks, statistics of their features, distances, timing."""

from stylenat.metrics.extractors.inception import Inception
from stylenat.metrics.fid import frechet_distance

__all__ = ["Inception", "frechet_distance"]
