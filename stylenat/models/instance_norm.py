"""The norm of AdaIN: instance norm with a factor and an offset for each image and channel."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stylenat.models import cpu
from stylenat.models.attention import kernels_serve
from stylenat.models.attention.requirements import ADAIN
from stylenat.torch_types import Function

EPSILON = 1e-5


def kernels(x: Tensor) -> ModuleType | None:
    """The Triton kernels, where they serve maps like x."""
    if torch.compiler.is_compiling() or x.dtype != torch.float32:
        return None
    if not kernels_serve(ADAIN, x.device):
        return None
    from stylenat.models import instance_norm_ops  # not everyone has Triton

    return instance_norm_ops


def parts(style: Tensor) -> tuple[Tensor, ...]:
    """gamma and beta (B, 1, 1, C) of a style (B, 2 C)."""
    return style[:, None, None, :].chunk(2, -1)


class InstanceNorm(Function):
    """gamma * (x - mean) / sqrt(variance + 1e-5) + beta, the statistics being over the pixels of each
    image: x (B, H, W, C), style (B, 2 C) with gamma, then beta → (B, H, W, C).

    Its derivatives are in closed form: nothing but x and two numbers per channel are kept for them,
    and they read and write a fraction of what the derivatives of the steps do. Differentiable once.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, style: Tensor) -> Tensor:
        ctx.fused = kernels(x)
        if ctx.fused:
            x = x.contiguous()
            spread, mean = torch.var_mean(x, (1, 2), correction=0, keepdim=True)
            y: Tensor = ctx.fused.normalise(x, mean, spread, style, EPSILON)
        else:
            normalise = cpu.normalise if x.device.type == "cpu" else _normalise
            gamma, beta = parts(style)
            y, mean, spread = normalise(x, gamma, beta, EPSILON)
        ctx.save_for_backward(x, mean, spread, style)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, mean, spread, style = ctx.saved_tensors
        if not ctx.fused:
            return _gradients(grad, x, mean, spread, parts(style)[0])
        grad = grad.contiguous()
        sums = ctx.fused.sums(grad, x, mean)
        sums = sums.sum(1) if sums.shape[1] > 1 else sums.squeeze(1)
        dx, dstyle = ctx.fused.gradients(grad, x, mean, spread, style, sums, EPSILON)
        return dx, dstyle


def _normalise(
    x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As :class:`InstanceNorm`; also the means, and the factors to unit variance (B, 1, 1, C)."""
    variance, mean = torch.var_mean(x, (1, 2), correction=0, keepdim=True)
    scale = torch.rsqrt(variance + epsilon)
    factor = scale * gamma
    shift = torch.addcmul(beta, mean, factor, value=-1)
    return torch.addcmul(shift, x, factor), mean, scale


def _gradients(
    grad: Tensor, x: Tensor, mean: Tensor, scale: Tensor, gamma: Tensor
) -> tuple[Tensor, Tensor]:
    """Of x and the style."""
    pixels = x.shape[1] * x.shape[2]
    d_beta = grad.sum((1, 2), keepdim=True)
    # The sum of grad times the normalised x.
    products = (grad * x).sum((1, 2), keepdim=True)
    d_gamma = torch.addcmul(products, mean, d_beta, value=-1) * scale
    factor = scale * gamma
    slope = factor * scale * d_gamma / -pixels
    offset = torch.addcmul(factor * d_beta / -pixels, slope, mean, value=-1)
    d_x = torch.addcmul(offset, x, slope).addcmul_(grad, factor)
    return d_x, torch.cat((d_gamma, d_beta), -1).flatten(1)
