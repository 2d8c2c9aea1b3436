"""The discriminator: a StyleGAN2-like tower on Haar wavelets, spectrally normalised throughout.

It is StyleSwin's, which the paper trains with (section 4). Every operation is twice
differentiable, because the R1 penalty differentiates through the gradient of the input.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenat.config import WidthConfig
from stylenat.models.layers import (
    DWT,
    BiasedLeakyReLU,
    Blur,
    Downsample,
    InverseDWT,
    at_least_float32,
    fixed_conv,
)
from stylenat.models.spectral import Normalised, normalise, with_norm

WAVELET_CHANNELS = 12
STDDEV_GROUP = 4


class Activated(nn.Sequential):
    """A normalised layer and the activation with its bias, after what else comes before them.

    Several passes in one: (passes · B, …) → (passes · B, …).
    """

    def forward(self, x: Tensor) -> Tensor:
        *before, layer, activation = self
        for module in before:
            x = module(x)
        y: Tensor = activation(layer(x), layer.scale)
        return y


def _activated(
    inputs: int, outputs: int, kernel: int, *before: nn.Module, stride: int = 1, padding: int = 0
) -> Activated:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return Activated(*before, with_norm(conv), BiasedLeakyReLU(outputs))


def halving_filter(chain: nn.Module) -> Tensor:
    """The convolution (12, 12, 4, 4) with stride 2 and padding 1 that ``chain`` is: from wavelets to
    the image, low-pass to half the side, to wavelets. Of the answers to single ones."""
    taps = WAVELET_CHANNELS * 4 * 4
    ones = torch.eye(taps).view(taps, WAVELET_CHANNELS, 4, 4)
    answers: Tensor = chain(F.pad(ones, (1, 3, 1, 3)))[:, :, 1, 1]
    return answers.T.reshape(WAVELET_CHANNELS, WAVELET_CHANNELS, 4, 4)


class FromRGB(nn.Module):
    """Enter the tower with the wavelets of the image: (B, 12, r, r) → (B, width, r, r).

    Every level but the first halves the wavelets before it uses them.
    """

    halving: Tensor

    def __init__(self, channels: int, halve: bool):
        super().__init__()
        if halve:
            self.iwt = InverseDWT()
            self.downsample = Downsample()
            self.dwt = DWT()
            chain = nn.Sequential(self.iwt, self.downsample, self.dwt)
            self.register_buffer("halving", halving_filter(chain), persistent=False)
        self.halve = halve
        self.conv = _activated(WAVELET_CHANNELS, channels, 1)

    def forward(self, wavelets: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the wavelets at this level's side, and the features with them added."""
        if self.halve:
            wavelets = fixed_conv(wavelets, self.halving, 2, 1)
        entering = self.conv(wavelets)
        return wavelets, entering if features is None else entering + features


class ConvBlock(nn.Module):
    """Two 3×3 convolutions, the second blurred and strided: (B, C, r, r) → (B, C', r/2, r/2)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = _activated(inputs, inputs, 3, padding=1)
        self.conv2 = _activated(inputs, outputs, 3, Blur(), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return y


def stddev_group(batch: int) -> int:
    """Samples per group of the minibatch standard deviation: B's largest divisor up to 4."""
    return next(size for size in range(STDDEV_GROUP, 0, -1) if batch % size == 0)


def minibatch_stddev(x: Tensor, passes: int) -> Tensor:
    """Append the standard deviation over groups of a pass as a last channel (ProGAN).

    (passes · B, C, H, W) → (passes · B, C + 1, H, W). A pass is viewed as (group, B/group), so its
    samples i, i + B/group, … form one group.
    """
    batch, _, height, width = x.shape
    group = stddev_group(batch // passes)
    grouped = at_least_float32(x).unflatten(0, (passes, group, -1))
    deviation = (grouped.var(1, unbiased=False) + 1e-8).sqrt().mean((2, 3, 4))
    deviation = deviation[:, None, :, None, None].expand(-1, group, -1, height, width)
    return torch.cat((x, deviation.reshape(batch, 1, height, width)), 1)


class Discriminator(nn.Module):
    """Images (B, 3, S, S), ImageNet-normalised → logits (B, 1); above 0 means real."""

    __call__: Callable[..., Tensor]

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
        self.final_conv = _activated(last + 1, last, 3, padding=1)
        self.final_linear = nn.Sequential(
            with_norm(nn.Linear(last * 4 * 4, last)),
            BiasedLeakyReLU(last),
            with_norm(nn.Linear(last, 1)),
        )
        layers = [layer for layer in self.modules() if hasattr(layer, "weight_orig")]
        self.normalised = cast(list[Normalised], layers)

    def trainable(self, frozen: int) -> list[nn.Parameter]:
        """All parameters but those of the first ``frozen`` levels, nearest to the image (FreezeD;
        Mo et al. 2020)."""
        levels = (*self.from_rgbs[:frozen], *self.convs[:frozen])
        kept = {parameter for level in levels for parameter in level.parameters()}
        return [parameter for parameter in self.parameters() if parameter not in kept]

    def forward(self, images: Tensor, passes: int = 1, which: slice = slice(None)) -> Tensor:
        """With ``passes``, the logits of as many passes one after the other, each with a power
        iteration and groups of its own: images and logits are (passes · B, …). If only some of
        them are wanted, images and logits are those of ``which``."""
        normalise(self.normalised, passes, which)
        passes = len(range(passes)[which])
        wavelets: Tensor = self.dwt(images)
        features: Tensor | None = None
        for level, from_rgb in enumerate(self.from_rgbs):
            wavelets, features = from_rgb(wavelets, features)
            if level < len(self.convs):
                features = self.convs[level](features)
        assert features is not None
        features = self.final_conv(minibatch_stddev(features, passes))
        head: Iterator[Any] = iter(self.final_linear)
        first, activation, last = head
        features = F.linear(features.flatten(1), first.weight)
        features = activation(features, first.scale, first.bias)
        logits = at_least_float32(F.linear(features, last.weight)).view(passes, -1)
        return torch.addcmul(last.bias, logits, last.scale[:, None]).view(-1, 1)
