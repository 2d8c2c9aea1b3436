"""The FID Inception: Inception-v3 of 2015-12-05 as ported to PyTorch by pytorch-fid.

It differs from torchvision's network: average pools leave the padding out, the last block pools
by maximum, and there are 1008 classes. Keys are those of ``pt_inception-2015-12-05-6726825d.pth``.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenat.metrics.extractors.base import FeatureNetwork, Weights, resize_as_tf1

average_pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
maximum_pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
reducing_pool = partial(F.max_pool2d, kernel_size=3, stride=2)

# A block's layers: key → (what it reads, output channels, kernel height, kernel width, stride).
# "x" is the block's input, "pool" its pooled input; what no layer reads is the block's output.
Layers = dict[str, tuple[str, int, int, int, int]]


def _layers_a(pool_channels: int) -> Layers:
    return {
        "branch1x1": ("x", 64, 1, 1, 1),
        "branch5x5_1": ("x", 48, 1, 1, 1),
        "branch5x5_2": ("branch5x5_1", 64, 5, 5, 1),
        "branch3x3dbl_1": ("x", 64, 1, 1, 1),
        "branch3x3dbl_2": ("branch3x3dbl_1", 96, 3, 3, 1),
        "branch3x3dbl_3": ("branch3x3dbl_2", 96, 3, 3, 1),
        "branch_pool": ("pool", pool_channels, 1, 1, 1),
    }


LAYERS_B: Layers = {
    "branch3x3": ("x", 384, 3, 3, 2),
    "branch3x3dbl_1": ("x", 64, 1, 1, 1),
    "branch3x3dbl_2": ("branch3x3dbl_1", 96, 3, 3, 1),
    "branch3x3dbl_3": ("branch3x3dbl_2", 96, 3, 3, 2),
}


def _layers_c(inner: int) -> Layers:
    return {
        "branch1x1": ("x", 192, 1, 1, 1),
        "branch7x7_1": ("x", inner, 1, 1, 1),
        "branch7x7_2": ("branch7x7_1", inner, 1, 7, 1),
        "branch7x7_3": ("branch7x7_2", 192, 7, 1, 1),
        "branch7x7dbl_1": ("x", inner, 1, 1, 1),
        "branch7x7dbl_2": ("branch7x7dbl_1", inner, 7, 1, 1),
        "branch7x7dbl_3": ("branch7x7dbl_2", inner, 1, 7, 1),
        "branch7x7dbl_4": ("branch7x7dbl_3", inner, 7, 1, 1),
        "branch7x7dbl_5": ("branch7x7dbl_4", 192, 1, 7, 1),
        "branch_pool": ("pool", 192, 1, 1, 1),
    }


LAYERS_D: Layers = {
    "branch3x3_1": ("x", 192, 1, 1, 1),
    "branch3x3_2": ("branch3x3_1", 320, 3, 3, 2),
    "branch7x7x3_1": ("x", 192, 1, 1, 1),
    "branch7x7x3_2": ("branch7x7x3_1", 192, 1, 7, 1),
    "branch7x7x3_3": ("branch7x7x3_2", 192, 7, 1, 1),
    "branch7x7x3_4": ("branch7x7x3_3", 192, 3, 3, 2),
}

LAYERS_E: Layers = {
    "branch1x1": ("x", 320, 1, 1, 1),
    "branch3x3_1": ("x", 384, 1, 1, 1),
    "branch3x3_2a": ("branch3x3_1", 384, 1, 3, 1),
    "branch3x3_2b": ("branch3x3_1", 384, 3, 1, 1),
    "branch3x3dbl_1": ("x", 448, 1, 1, 1),
    "branch3x3dbl_2": ("branch3x3dbl_1", 384, 3, 3, 1),
    "branch3x3dbl_3a": ("branch3x3dbl_2", 384, 1, 3, 1),
    "branch3x3dbl_3b": ("branch3x3dbl_2", 384, 3, 1, 1),
    "branch_pool": ("pool", 192, 1, 1, 1),
}

BLOCKS = {
    "Mixed_5b": (average_pool, _layers_a(32)),
    "Mixed_5c": (average_pool, _layers_a(64)),
    "Mixed_5d": (average_pool, _layers_a(64)),
    "Mixed_6a": (reducing_pool, LAYERS_B),
    "Mixed_6b": (average_pool, _layers_c(128)),
    "Mixed_6c": (average_pool, _layers_c(160)),
    "Mixed_6d": (average_pool, _layers_c(160)),
    "Mixed_6e": (average_pool, _layers_c(192)),
    "Mixed_7a": (reducing_pool, LAYERS_D),
    "Mixed_7b": (average_pool, LAYERS_E),
    "Mixed_7c": (maximum_pool, LAYERS_E),
}


class BasicConv2d(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """One block: a small graph of convolutions and a pool, its ends joined over channels."""

    def __init__(self, inputs: int, pool: Callable[[Tensor], Tensor], layers: Layers):
        super().__init__()
        self.pool = pool
        self.sources = {key: source for key, (source, *_) in layers.items()}
        self.ends = [k for k in (*layers, "pool") if k not in self.sources.values()]
        channels = {"x": inputs, "pool": inputs}
        for key, (source, outputs, height, width, stride) in layers.items():
            # Strided layers pad nothing; the others keep the size.
            padding = (height // 2, width // 2) if stride == 1 else (0, 0)
            layer = BasicConv2d(channels[source], outputs, (height, width), stride, padding)
            self.add_module(key, layer)
            channels[key] = outputs
        self.channels = sum(channels[key] for key in self.ends)

    def forward(self, x: Tensor) -> Tensor:
        values = {"x": x, "pool": self.pool(x)}
        for key, source in self.sources.items():
            values[key] = self.get_submodule(key)(values[source])
        return torch.cat([values[key] for key in self.ends], 1)


class Inception(FeatureNetwork):
    """The 2048 features of the last pool ("pool3").

    ``weights`` is a path or a state dict. Called with uint8 (B, 3, H, W) of any size.
    """

    dimension = 2048
    side = 299

    def __init__(self, weights: Weights):
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, (3, 3), padding=(1, 1))
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, (3, 3))
        channels = 192
        for name, (pool, layers) in BLOCKS.items():
            block = Mixed(channels, pool, layers)
            self.add_module(name, block)
            channels = block.channels
        self.fc = nn.Linear(channels, 1008)  # behind the features: for the Inception Score
        self.load_weights(weights)

    @property
    def head(self) -> Tensor:
        return self.fc.weight

    def features(self, pixels: Tensor) -> Tensor:
        x = self.Conv2d_1a_3x3(self.scaled(pixels))
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(x))
        x = self.Conv2d_3b_1x1(reducing_pool(x))
        x = reducing_pool(self.Conv2d_4a_3x3(x))
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
        features: Tensor = x.mean((2, 3))
        return features

    def scaled(self, pixels: Tensor) -> Tensor:
        """As pytorch-fid does it: (B, 3, H, W) → (B, 3, 299, 299), 0…255 → −1…1."""
        size = (self.side, self.side)
        return 2 * F.interpolate(pixels / 255, size, mode="bilinear", align_corners=False) - 1


class InceptionTF1(Inception):
    """The same of images that are resized and scaled as by TensorFlow 1, as torch-fidelity does it."""

    def scaled(self, pixels: Tensor) -> Tensor:
        """As in the graph of 2015: what 255 is comes out a little below 1."""
        return (resize_as_tf1(pixels, self.side) - 128) / 128
