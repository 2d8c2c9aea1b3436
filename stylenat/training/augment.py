"""The augmentation T of balanced consistency regularisation (Zhao et al. 2020, bCR).

Per image, in this order: flip, translation, brightness, saturation, contrast, cut-out; on
ImageNet-normalised images. No gradient flows through T: its inputs are data or detached fakes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stylenat.training.distributed import World
from stylenat.training.noise import Purpose, stream

Augment = Callable[[Tensor], Tensor]


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


@torch.no_grad()
def apply(images: Tensor, draws: Draws) -> Tensor:
    """T(images) for images (B, 3, S, S); pixels that move in from outside are 0."""

    def each(values: Tensor) -> Tensor:
        return values.to(images.device).view(-1, 1, 1, 1)

    batch, channels, height, width = images.shape
    x = torch.where(each(draws.flip), images.flip(3), images)

    rows = torch.arange(height, device=x.device).view(1, 1, -1, 1) - each(draws.shift_y)
    columns = torch.arange(width, device=x.device).view(1, 1, 1, -1) - each(draws.shift_x)
    inside = ((rows >= 0) & (rows < height)) & ((columns >= 0) & (columns < width))
    x = x.gather(2, rows.clamp(0, height - 1).expand(batch, channels, height, width))
    x = x.gather(3, columns.clamp(0, width - 1).expand(batch, channels, height, width)) * inside

    x = x + each(draws.brightness).to(x.dtype)
    x = _about(x.mean(1, keepdim=True), x, each(draws.saturation))
    x = _about(x.mean((1, 2, 3), keepdim=True), x, each(draws.contrast))

    cut = _cut_side(height)
    rows = torch.arange(height, device=x.device).view(1, 1, -1, 1) - each(draws.cut_y)
    columns = torch.arange(width, device=x.device).view(1, 1, 1, -1) - each(draws.cut_x)
    hidden = ((rows >= 0) & (rows < cut)) & ((columns >= 0) & (columns < cut))
    return x.masked_fill(hidden, 0.0)


def consistency_augment(seed: int, step: int, batch: int, world: World) -> Augment:
    """T of one iteration: the first call augments the reals, the second, independently, the fakes.

    ``batch`` is the total; images passed to it are this rank's share.
    """
    purposes = iter((Purpose.AUGMENT_REAL, Purpose.AUGMENT_FAKE))

    def augment(images: Tensor) -> Tensor:
        values = draw(stream(seed, step, next(purposes)), batch, images.shape[-1])
        share = {key: torch.from_numpy(value[world.share]) for key, value in values.items()}
        return apply(images, Draws(**share))

    return augment


def _cut_side(side: int) -> int:
    return int(side / 2 + 0.5)


def _about(mean: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    return mean + (x - mean) * factor.to(x.dtype)
