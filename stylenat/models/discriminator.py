"""The discriminator: a StyleGAN2-like tower on Haar wavelets, spectrally normalised throughout.

It is StyleSwin's, which the paper trains with (section 4). Every operation is twice
differentiable, because the R1 penalty differentiates through the gradient of the input.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from stylenat.config import WidthConfig
from stylenat.models.layers import (
    DWT,
    BiasedLeakyReLU,
    Blur,
    Downsample,
    InverseDWT,
    at_least_float32,
)
from stylenat.precision import without_autocast

WAVELET_CHANNELS = 12
STDDEV_GROUP = 4


def _normalised(layer: nn.Module) -> nn.Module:
    """With spectral norm, which keeps the precision of the weights under autocast, too."""
    spectral_norm(layer)
    ((key, hook),) = layer._forward_pre_hooks.items()

    def in_own_precision(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        with without_autocast(layer.weight_orig.device):
            hook(layer, inputs)

    layer._forward_pre_hooks[key] = in_own_precision
    return layer


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Module:
    return _normalised(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False))


class FromRGB(nn.Module):
    """Enter the tower with the wavelets of the image: (B, 12, r, r) → (B, width, r, r).

    Every level but the first halves the wavelets before it uses them.
    """

    def __init__(self, channels: int, halve: bool):
        super().__init__()
        if halve:
            self.iwt = InverseDWT()
            self.downsample = Downsample()
            self.dwt = DWT()
        self.halve = halve
        self.conv = nn.Sequential(_conv(WAVELET_CHANNELS, channels, 1), BiasedLeakyReLU(channels))

    def forward(self, wavelets: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the wavelets at this level's side, and the features with them added."""
        if self.halve:
            wavelets = self.dwt(self.downsample(self.iwt(wavelets)))
        entering = self.conv(wavelets)
        return wavelets, entering if features is None else entering + features


class ConvBlock(nn.Module):
    """Two 3×3 convolutions, the second blurred and strided: (B, C, r, r) → (B, C', r/2, r/2)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Sequential(_conv(inputs, inputs, 3, padding=1), BiasedLeakyReLU(inputs))
        self.conv2 = nn.Sequential(
            Blur(), _conv(inputs, outputs, 3, stride=2), BiasedLeakyReLU(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


def stddev_group(batch: int) -> int:
    """Samples per group of the minibatch standard deviation: B's largest divisor up to 4."""
    return next(size for size in range(STDDEV_GROUP, 0, -1) if batch % size == 0)


def minibatch_stddev(x: Tensor) -> Tensor:
    """Append the standard deviation over groups of the batch as a last channel (ProGAN).

    (B, C, H, W) → (B, C + 1, H, W). The batch is viewed as (group, B/group), so samples
    i, i + B/group, … form one group.
    """
    batch, channels, height, width = x.shape
    group = stddev_group(batch)
    grouped = at_least_float32(x).view(group, -1, channels, height, width)
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)
    return torch.cat((x, deviation.repeat(group, 1, height, width)), 1)


class Discriminator(nn.Module):
    """Images (B, 3, S, S), ImageNet-normalised → logits (B, 1); above 0 means real."""

    def __init__(self, config: WidthConfig):
        super().__init__()
        size = config.image_size
        sides = [size >> level for level in range(1, int(math.log2(size)) - 1)]
        # The first level works at half the image's side with the width of the full side.
        widths = [config.width(size)] + [config.width(side) for side in sides[1:]]
        self.dwt = DWT()
        self.from_rgbs = nn.ModuleList(
            FromRGB(width, halve=level > 0) for level, width in enumerate(widths)
        )
        self.convs = nn.ModuleList(ConvBlock(*pair) for pair in pairwise(widths))
        last = widths[-1]
        self.final_conv = nn.Sequential(_conv(last + 1, last, 3, padding=1), BiasedLeakyReLU(last))
        self.final_linear = nn.Sequential(
            _normalised(nn.Linear(last * 4 * 4, last)),
            BiasedLeakyReLU(last),
            _normalised(nn.Linear(last, 1)),
        )

    def trainable(self, frozen: int) -> list[nn.Parameter]:
        """All parameters but those of the first ``frozen`` levels, nearest to the image (FreezeD;
        Mo et al. 2020)."""
        levels = (*self.from_rgbs[:frozen], *self.convs[:frozen])
        kept = {parameter for level in levels for parameter in level.parameters()}
        return [parameter for parameter in self.parameters() if parameter not in kept]

    def forward(self, images: Tensor) -> Tensor:
        wavelets, features = self.dwt(images), None
        for level, from_rgb in enumerate(self.from_rgbs):
            wavelets, features = from_rgb(wavelets, features)
            if level < len(self.convs):
                features = self.convs[level](features)
        features = self.final_conv(minibatch_stddev(features))
        return at_least_float32(self.final_linear(features.flatten(1)))
