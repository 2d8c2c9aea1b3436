"""Feature networks by name: uint8 images in, feature vectors out. A new one is a file with its class
and a line here."""

from stylenat.metrics.extractors.base import FeatureNetwork
from stylenat.metrics.extractors.dinov2 import DINOv2
from stylenat.metrics.extractors.inception import Inception
from stylenat.metrics.extractors.lite0 import Lite0, Lite0Early

NETWORKS: dict[str, type[FeatureNetwork]] = {
    "inception": Inception,
    "lite0": Lite0,
    "lite0early": Lite0Early,
    "dinov2": DINOv2,
}
