"""The kernels of `instance_norm_kernels` as PyTorch operators on float32 maps (B, H, W, C)."""

import torch
from torch import Tensor

from stylenat.models import instance_norm_kernels

ROWS = 32  # pixels that a program takes at a time
CHANNELS = 128  # and of each at most so many channels
ROUNDS = 16  # how often at most a program that sums takes them
SIZES = {"ROWS": ROWS, "CHANNELS": CHANNELS}


@torch.library.custom_op("stylenat::instance_norm", mutates_args=())
def normalise(x: Tensor, mean: Tensor, variance: Tensor, style: Tensor, epsilon: float) -> Tensor:
    """The normalised map, of x (B, H, W, C), its statistics (B, 1, 1, C) and a style (B, 2 C)."""
    y = torch.empty_like(x)
    pixels, channels = x.shape[1] * x.shape[2], x.shape[3]
    with torch.cuda.device_of(x):
        instance_norm_kernels.normalise[_grid(x, 1)](
            x, mean, variance, style, y, pixels, channels, style.stride(0), epsilon, **SIZES
        )
    return y


@torch.library.custom_op("stylenat::instance_norm_sums", mutates_args=())
def sums(grad: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    """Sums over parts of the pixels (B, parts, 2 C): of grad * (x - mean), and of grad."""
    partial: Tensor = _parts(grad, x, mean)
    pixels, channels = x.shape[1] * x.shape[2], x.shape[3]
    rounds = _rounds(pixels)
    with torch.cuda.device_of(x):
        instance_norm_kernels.sums[_grid(x, rounds)](
            grad, x, mean, partial, pixels, channels, rounds, **SIZES
        )
    return partial


@torch.library.custom_op("stylenat::instance_norm_backward", mutates_args=())
def gradients(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    style: Tensor,
    sums: Tensor,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    """The gradients of x and the style; ``sums`` (B, 2 C) are over all pixels."""
    dx, dstyle = torch.empty_like(x), torch.empty_like(sums)
    pixels, channels = x.shape[1] * x.shape[2], x.shape[3]
    with torch.cuda.device_of(x):
        instance_norm_kernels.gradients[_grid(x, 1)](
            grad, x, mean, variance, style, sums, dx, dstyle,
            pixels, channels, style.stride(0), epsilon, **SIZES,
        )  # fmt: skip
    return dx, dstyle


@normalise.register_fake
def _like(x: Tensor, *_: Tensor | float) -> Tensor:
    return torch.empty_like(x)


@sums.register_fake
def _parts(grad: Tensor, x: Tensor, mean: Tensor) -> Tensor:
    pixels = x.shape[1] * x.shape[2]
    return x.new_empty(x.shape[0], _pieces(pixels, _rounds(pixels) * ROWS), 2 * x.shape[3])


@gradients.register_fake
def _like_both(
    grad: Tensor, x: Tensor, mean: Tensor, variance: Tensor, style: Tensor, sums: Tensor, _: float
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(sums)


def _rounds(pixels: int) -> int:
    return min(ROUNDS, _pieces(pixels, ROWS))


def _grid(x: Tensor, rounds: int) -> tuple[int, int]:
    pixels = x.shape[1] * x.shape[2]
    return x.shape[0] * _pieces(pixels, rounds * ROWS), _pieces(x.shape[3], CHANNELS)


def _pieces(length: int, piece: int) -> int:
    """How many of them cover the length."""
    return -(-length // piece)
