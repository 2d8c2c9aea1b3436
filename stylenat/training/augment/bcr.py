"""The augmentation T of balanced consistency regularisation (Zhao et al. 2020, bCR).

Per image, in this order: flip, translation, brightness, saturation, contrast, cut-out; on
ImageNet-normalised images.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """One draw of T for each image; every field is (B,)."""

    flip: Tensor  # bool, probability 1/2
    shift_y: Tensor  # whole pixels in [−s, s], s = side / 8 rounded
    shift_x: Tensor
    brightness: Tensor  # added, U(−1/2, 1/2)
    saturation: Tensor  # factor about the pixel's channel mean, U(0, 2)
    contrast: Tensor  # factor about the image mean, U(1/2, 3/2)
    cut_y: Tensor  # first row and column of the cut-out square, may lie outside the image
    cut_x: Tensor


def draw(rng: np.random.Generator, batch: int, side: int) -> dict[str, np.ndarray]:
    """Draw T for a whole batch of images of one side; keys as in :class:`Draws`."""
    shift = int(side / 8 + 0.5)
    cut = _cut_side(side)

    def corner() -> np.ndarray:  # an even square is centred between pixels, an odd one on a pixel
        return rng.integers(0, side + 1 - cut % 2, batch) - cut // 2

    return {
        "flip": rng.random(batch, dtype=np.float32) < 0.5,
        "shift_y": rng.integers(-shift, shift + 1, batch),
        "shift_x": rng.integers(-shift, shift + 1, batch),
        "brightness": rng.random(batch, dtype=np.float32) - 0.5,
        "saturation": rng.random(batch, dtype=np.float32) * 2,
        "contrast": rng.random(batch, dtype=np.float32) + 0.5,
        "cut_y": corner(),
        "cut_x": corner(),
    }


def apply(images: Tensor, draws: Draws) -> Tensor:
    """T(images) for images (B, 3, S, S); pixels that move in from outside are 0."""
    x = torch.where(_each(draws.flip, images), images.flip(3), images)
    x = translate(x, draws)
    x = recolour(x, draws)
    return cut_out(x, draws)


def translate(x: Tensor, draws: Draws) -> Tensor:
    """Shift (B, 3, S, S) by whole pixels; those that move in from outside are 0."""
    batch, channels, height, width = x.shape
    rows = torch.arange(height, device=x.device).view(1, 1, -1, 1) - _each(draws.shift_y, x)
    columns = torch.arange(width, device=x.device).view(1, 1, 1, -1) - _each(draws.shift_x, x)
    inside = ((rows >= 0) & (rows < height)) & ((columns >= 0) & (columns < width))
    x = x.gather(2, rows.clamp(0, height - 1).expand(batch, channels, height, width))
    return x.gather(3, columns.clamp(0, width - 1).expand(batch, channels, height, width)) * inside


def recolour(x: Tensor, draws: Draws) -> Tensor:
    """Brightness, saturation and contrast of (B, 3, S, S)."""
    x = x + _each(draws.brightness, x).to(x.dtype)
    x = _about(x.mean(1, keepdim=True), x, _each(draws.saturation, x))
    return _about(x.mean((1, 2, 3), keepdim=True), x, _each(draws.contrast, x))


def cut_out(x: Tensor, draws: Draws) -> Tensor:
    """Set a square of half the side to 0."""
    cut = _cut_side(x.shape[-1])
    rows = torch.arange(x.shape[2], device=x.device).view(1, 1, -1, 1) - _each(draws.cut_y, x)
    columns = torch.arange(x.shape[3], device=x.device).view(1, 1, 1, -1) - _each(draws.cut_x, x)
    hidden = ((rows >= 0) & (rows < cut)) & ((columns >= 0) & (columns < cut))
    return x.masked_fill(hidden, 0.0)


def _each(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device).view(-1, 1, 1, 1)


def _cut_side(side: int) -> int:
    return int(side / 2 + 0.5)


def _about(mean: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    return mean + (x - mean) * factor.to(x.dtype)
