"""Triton kernels of AdaIN's instance norm: each reads and writes maps once.

Maps are (images, pixels, channels), float32 and contiguous; a program takes some pixels of some
channels of one image. Nothing is added atomically, so results are reproducible bit for bit.
"""

import triton
import triton.language as tl


@triton.jit
def place_of(pixels, rounds, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Of this program: its image, its number in the image, its first pixels, its channels."""
    programs = tl.cdiv(pixels, rounds * ROWS)
    image = tl.program_id(0) // programs
    number = tl.program_id(0) % programs
    row = number * rounds * ROWS + tl.arange(0, ROWS)
    return image, number, row, tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)


@triton.jit
def normalise(
    x, mean, variance, style, y, pixels, channels, stride, epsilon,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    image, _, row, channel = place_of(pixels, 1, ROWS, CHANNELS)
    known = channel < channels
    of_image = image * channels + channel
    scale = 1 / tl.sqrt(tl.load(variance + of_image, mask=known, other=1.0) + epsilon)
    factor = scale * tl.load(style + image * stride + channel, mask=known, other=0.0)
    beta = tl.load(style + image * stride + channels + channel, mask=known, other=0.0)
    centre = tl.load(mean + of_image, mask=known, other=0.0)
    there = (row < pixels)[:, None] & known[None, :]
    start = image.to(tl.int64) * pixels * channels
    place = start + row[:, None] * channels + channel[None, :]
    centred = tl.load(x + place, mask=there, other=0.0) - centre[None, :]
    tl.store(y + place, centred * factor[None, :] + beta[None, :], mask=there)


@triton.jit
def sums(
    grad, x, mean, partial, pixels, channels, rounds, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    """partial (images, programs, 2, channels): sums of grad * (x - mean), and of grad."""
    image, number, row, channel = place_of(pixels, rounds, ROWS, CHANNELS)
    known = channel < channels
    centre = tl.load(mean + image * channels + channel, mask=known, other=0.0)
    start = image.to(tl.int64) * pixels * channels
    products = tl.zeros((ROWS, CHANNELS), tl.float32)
    grads = tl.zeros((ROWS, CHANNELS), tl.float32)
    for _ in range(rounds):
        there = (row < pixels)[:, None] & known[None, :]
        place = start + row[:, None] * channels + channel[None, :]
        g = tl.load(grad + place, mask=there, other=0.0)
        products += g * (tl.load(x + place, mask=there, other=0.0) - centre[None, :])
        grads += g
        row += ROWS
    programs = tl.cdiv(pixels, rounds * ROWS)
    partial += (image * programs + number) * 2 * channels + channel
    tl.store(partial, tl.sum(products, 0), mask=known)
    tl.store(partial + channels, tl.sum(grads, 0), mask=known)


@triton.jit
def gradients(
    grad, x, mean, variance, style, sums, dx, dstyle, pixels, channels, stride, epsilon,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    image, number, row, channel = place_of(pixels, 1, ROWS, CHANNELS)
    known = channel < channels
    of_image = image * channels + channel
    of_style = 2 * image * channels + channel
    scale = 1 / tl.sqrt(tl.load(variance + of_image, mask=known, other=1.0) + epsilon)
    factor = scale * tl.load(style + image * stride + channel, mask=known, other=0.0)
    centre = tl.load(mean + of_image, mask=known, other=0.0)
    dgamma = scale * tl.load(sums + of_style, mask=known, other=0.0)
    dbeta = tl.load(sums + of_style + channels, mask=known, other=0.0)
    first = known & (number == 0)
    tl.store(dstyle + of_style, dgamma, mask=first)
    tl.store(dstyle + of_style + channels, dbeta, mask=first)
    slope = scale * dgamma / pixels
    offset = dbeta / pixels
    there = (row < pixels)[:, None] & known[None, :]
    start = image.to(tl.int64) * pixels * channels
    place = start + row[:, None] * channels + channel[None, :]
    centred = tl.load(x + place, mask=there, other=0.0) - centre[None, :]
    g = tl.load(grad + place, mask=there, other=0.0) - offset[None, :]
    tl.store(dx + place, (g - centred * slope[None, :]) * factor[None, :], mask=there)
