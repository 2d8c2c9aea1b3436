"""Feature networks by name: uint8 images in, feature vectors out. A new one is a file with its class
and a line here."""

from stylenat.metrics.extractors.base import FeatureNetwork
from stylenat.metrics.extractors.clip import CLIP
from stylenat.metrics.extractors.dinov2 import DINOv2
from stylenat.metrics.extractors.inception import Inception, InceptionTF1
from stylenat.metrics.extractors.lite0 import Lite0, Lite0Early
from stylenat.metrics.extractors.torchscript import TorchScript
from stylenat.metrics.extractors.vgg16 import VGG16

NETWORKS: dict[str, type[FeatureNetwork]] = {
    "inception": Inception,
    "inception_tf1": InceptionTF1,
    "lite0": Lite0,
    "lite0early": Lite0Early,
    "dinov2": DINOv2,
    "vgg16": VGG16,
    "clip": CLIP,
    "torchscript": TorchScript,  # whatever network its file holds
}
