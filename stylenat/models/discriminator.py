"""The discriminator: a StyleGAN2-like tower on Haar wavelets, spectrally normalised throughout.

It is StyleSwin's, which the paper trains with (section 4). Every operation is twice
differentiable, because the R1 penalty differentiates through the gradient of the input.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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
from stylenat.torch_types import Function

WAVELET_CHANNELS = 12
STDDEV_GROUP = 4


class DivideByNorm(Function):
    """weight / σ, where σ = |weight v| is its spectral norm if v is the leading right singular
    vector, and the u = weight v / σ that the next power iteration begins with.

    weight (rows, columns), v (columns,). Derivatives are those for fixed u and v (Miyato et al.
    2018, equation 10), in a few operations. Differentiable once.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        image = weight @ v
        norm = torch.linalg.vector_norm(image)
        u = image / norm
        normalised = weight / norm
        ctx.save_for_backward(normalised, norm, u, v)
        ctx.mark_non_differentiable(u)
        ctx.set_materialize_grads(False)
        return normalised, u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor, None]:
        normalised, norm, u, v = ctx.saved_tensors
        along = torch.dot(grad.flatten(), normalised.flatten())
        return torch.addr(grad, u, v * along, alpha=-1) / norm, None


class _Layer(nn.Module):
    """For types: a layer as :func:`torch.nn.utils.spectral_norm` leaves it."""

    weight: Tensor
    weight_orig: nn.Parameter
    weight_u: Tensor
    weight_v: Tensor


class SpectralNorm:
    """Before every forward of a layer, its weight divided by its spectral norm, with parameters and
    buffers as :func:`torch.nn.utils.spectral_norm` names them. One power iteration in training.

    Weights keep their precision under autocast.
    """

    def __call__(self, layer: _Layer, inputs: tuple[Tensor, ...]) -> None:
        weight = layer.weight_orig
        with without_autocast(weight.device):
            matrix = weight.flatten(1)
            if layer.training:
                with torch.no_grad():
                    v = matrix.T @ layer.weight_u
                    v /= torch.linalg.vector_norm(v)
                normalised, u = DivideByNorm.apply(matrix, v)
                torch._foreach_copy_([layer.weight_u, layer.weight_v], [u, v])
            else:
                normalised, _ = DivideByNorm.apply(matrix, layer.weight_v)
        layer.weight = normalised.view_as(weight)


def _normalised(layer: nn.Module) -> nn.Module:
    """With spectral norm."""
    spectral_norm(layer)  # makes the parameters and buffers
    (key,) = layer._forward_pre_hooks
    layer._forward_pre_hooks[key] = SpectralNorm()
    return layer


def _activated(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0
) -> tuple[nn.Module, nn.Module]:
    """A convolution and the activation with its bias."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return _normalised(conv), BiasedLeakyReLU(outputs)


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
        self.conv = nn.Sequential(*_activated(WAVELET_CHANNELS, channels, 1))

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
        self.conv1 = nn.Sequential(*_activated(inputs, inputs, 3, padding=1))
        self.conv2 = nn.Sequential(Blur(), *_activated(inputs, outputs, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return y


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
        self.final_conv = nn.Sequential(*_activated(last + 1, last, 3, padding=1))
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
        wavelets: Tensor = self.dwt(images)
        features: Tensor | None = None
        for level, from_rgb in enumerate(self.from_rgbs):
            wavelets, features = from_rgb(wavelets, features)
            if level < len(self.convs):
                features = self.convs[level](features)
        assert features is not None
        features = self.final_conv(minibatch_stddev(features))
        return at_least_float32(self.final_linear(features.flatten(1)))
