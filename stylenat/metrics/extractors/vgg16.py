"""VGG-16 (Simonyan & Zisserman 2014), whose features Kynkäänniemi et al. 2019 used for precision and recall.

Keys are those of torchvision's ``vgg16-397923af.pth``. As in torch-fidelity, images are resized to 224²
as by TensorFlow 1 and normalised by ImageNet's statistics, and the features are those after the
second fully connected layer's ReLU.
"""

from typing import ClassVar

from torch import Tensor, nn

from stylenat.images import from_uint8
from stylenat.metrics.extractors.base import FeatureNetwork, Weights, resize_as_tf1


class VGG16(FeatureNetwork):
    """The 4096 features of the last layer but one ("fc2").

    ``weights`` is a path or a state dict. Called with uint8 (B, 3, H, W) of any size.
    """

    dimension = 4096
    side: ClassVar[int] = 224
    # Output channels of every convolution; each group ends with a pool that halves the map.
    groups: ClassVar[tuple[tuple[int, ...], ...]] = (
        (64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512),
    )  # fmt: skip

    def __init__(self, weights: Weights):
        super().__init__()
        channels, layers = 3, []
        for group in self.groups:
            for outputs in group:
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        # The published key; as an attribute it would be the method of this name.
        self._modules["features"] = nn.Sequential(*layers)
        inputs, width = channels * (self.side // 2 ** len(self.groups)) ** 2, self.dimension
        self.classifier = nn.Sequential(
            nn.Linear(inputs, width),
            nn.ReLU(inplace=True),
            nn.Dropout(),  # for training; it keeps the published numbers of the layers
            nn.Linear(width, width),
            nn.ReLU(inplace=True),
        )
        self.load_weights(weights)

    @staticmethod
    def unused(key: str) -> bool:
        return key.startswith("classifier.6.")  # class logits

    def features(self, pixels: Tensor) -> Tensor:
        network = self._modules["features"]
        assert network is not None
        x = network(from_uint8(resize_as_tf1(pixels, self.side)))
        features: Tensor = self.classifier(x.flatten(1))
        return features
