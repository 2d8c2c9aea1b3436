"""Layers shared by the two networks, and the fixed filters both resample with.

Names of parameters and buffers are those of the published checkpoints.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenat.precision import without_autocast
from stylenat.torch_types import Function

LEAKY_SLOPE = 0.2
LEAKY_GAIN = math.sqrt(2)  # keeps the variance through a leaky ReLU (StyleGAN2)


def at_least_float32(x: Tensor) -> Tensor:
    """x, or its float32 copy where it has fewer bits: what statistics and losses are taken of."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class BiasedLeakyReLU(nn.Module):
    """Per-channel bias, leaky ReLU, √2. Channels are dimension 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        """x (passes · B, C, …), after it is multiplied by the ``scale`` (passes,) of its pass and a
        further ``bias`` is added."""
        bias = self.bias if bias is None else self.bias + bias
        # √2 before the leaky ReLU is √2 after it.
        gained = (bias * LEAKY_GAIN).to(x.dtype).view(-1, *(1,) * (x.ndim - 2))
        scale = scale.to(x.dtype).view(-1, *(1,) * x.ndim)
        y = torch.addcmul(gained, x.unflatten(0, (len(scale), -1)), scale, value=LEAKY_GAIN)
        return F.leaky_relu(y, LEAKY_SLOPE, inplace=True).flatten(0, 1)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate (StyleGAN): (B, inputs) → (B, outputs).

    Unit-variance weights are scaled by ``lr_mul / √inputs`` at run time, the bias by ``lr_mul``.
    """

    def __init__(self, inputs: int, outputs: int, lr_mul: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.weight_scale = lr_mul / math.sqrt(inputs)
        self.bias_scale = lr_mul

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(
            self.bias, x, self.weight.T, alpha=self.weight_scale, beta=self.bias_scale
        )


def fir_kernel(gain: float = 1.0) -> Tensor:
    """The (4, 4) binomial low-pass [1,3,3,1]⊗[1,3,3,1], summing to ``gain``."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = taps[:, None] * taps[None, :]
    return kernel / kernel.sum() * gain


class FixedConvolution(Function):
    """Convolution with a filter that is not trained, differentiable any number of times.

    ``conv2d`` computes the gradients of its filter in the double derivative of R1, whether or not
    anybody uses them. The gradient with respect to the input is the transposed convolution with
    the same filter, and the other way round.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        stride: int,
        padding: int,
        groups: int,
        output_padding: tuple[int, ...] | None,
    ) -> Tensor:
        """As conv2d; with ``output_padding`` (rows, columns), as conv_transpose2d. In x's dtype."""
        ctx.save_for_backward(weight)
        ctx.arguments = stride, padding, groups
        # Its derivatives need tensors of one dtype, and images their precision.
        with without_autocast(x.device):
            if output_padding is not None:
                ctx.output_padding = None
                return F.conv_transpose2d(x, weight, None, stride, padding, output_padding, groups)
            y = F.conv2d(x, weight, None, stride, padding, groups=groups)
        sides = zip(x.shape[2:], y.shape[2:], weight.shape[2:], strict=True)
        # Rows and columns at the end that no position of the filter reached.
        ctx.output_padding = tuple(a + 2 * padding - (b - 1) * stride - k for a, b, k in sides)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        dx = FixedConvolution.apply(grad, weight, *ctx.arguments, ctx.output_padding)
        return dx, None, None, None, None, None


def fixed_conv(x: Tensor, weight: Tensor, stride: int, padding: int = 0, groups: int = 1) -> Tensor:
    """``conv2d`` with a filter that is not trained."""
    return FixedConvolution.apply(x, weight.to(x.dtype), stride, padding, groups, None)


def fixed_conv_transpose(
    x: Tensor, weight: Tensor, stride: int, padding: int = 0, groups: int = 1
) -> Tensor:
    """``conv_transpose2d`` with a filter that is not trained."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        with without_autocast(x.device):
            return F.conv_transpose2d(x, weight.to(x.dtype), None, stride, padding, 0, groups)
    return FixedConvolution.apply(x, weight.to(x.dtype), stride, padding, groups, (0, 0))


def depthwise(kernel: Tensor, channels: int) -> Tensor:
    """One (k, k) filter as the weight (channels, 1, k, k) of a convolution of every channel."""
    return kernel.expand(channels, 1, *kernel.shape)


class Blur(nn.Module):
    """Low-pass before a stride-2 convolution: pad 2 on every side, H → H + 1."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel())

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return fixed_conv(x, depthwise(self.kernel, channels), 1, 2, channels)


class Downsample(nn.Module):
    """Halve the side with the low-pass: pad 1, every second pixel."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel())

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return fixed_conv(x, depthwise(self.kernel, channels), 2, 1, channels)


class Upsample(nn.Module):
    """Double the side: insert zeros, pad (2, 1), low-pass with gain 4."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain=4.0))

    def forward(self, x: Tensor) -> Tensor:
        channels = int(x.shape[1])  # a number, also where a network is traced for export
        return fixed_conv_transpose(x, depthwise(self.kernel, channels), 2, 1, channels)


class HaarTransform(nn.Module):
    """The four Haar filters. lh is high-pass along rows (dimension y), hl along columns."""

    high_pass = (-1.0, 1.0)
    ll: Tensor
    lh: Tensor
    hl: Tensor
    hh: Tensor
    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        low = torch.tensor([1.0, 1.0]) / math.sqrt(2)
        high = torch.tensor(self.high_pass) / math.sqrt(2)
        self.register_buffer("ll", torch.outer(low, low))
        self.register_buffer("lh", torch.outer(high, low))
        self.register_buffer("hl", torch.outer(low, high))
        self.register_buffer("hh", torch.outer(high, high))
        # All of them as convolution weights (4, 1, 2, 2).
        bank = torch.stack((self.ll, self.lh, self.hl, self.hh)).unsqueeze(1)
        self.register_buffer("bank", bank, persistent=False)


class DWT(HaarTransform):
    """Haar wavelet transform: (B, 3, H, W) → (B, 12, H/2, W/2), bands ll, lh, hl, hh."""

    def __init__(self) -> None:
        super().__init__()
        # conv2d correlates; a true convolution needs the filters flipped.
        self.bank = self.bank.flip(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        planes = x.reshape(batch * channels, 1, height, width)
        bands = fixed_conv(planes, self.bank, 2)
        bands = bands.view(batch, channels, 4, height // 2, width // 2).transpose(1, 2)
        return bands.reshape(batch, 4 * channels, height // 2, width // 2)


class InverseDWT(HaarTransform):
    """The inverse: (B, 12, H, W) → (B, 3, 2H, 2W)."""

    high_pass = (1.0, -1.0)  # the time-reversed filter: lh and hl change sign, hh does not

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        bands = x.view(batch, 4, channels // 4, height, width).transpose(1, 2)
        planes = bands.reshape(batch * channels // 4, 4, height, width)
        image = fixed_conv_transpose(planes, self.bank, 2)
        return image.view(batch, channels // 4, 2 * height, 2 * width)
