"""Adaptive discriminator augmentation (ADA; Karras et al. 2020, "Training Generative Adversarial
Networks with Limited Data", appendix B): everything that the discriminator is shown is augmented,
each operation with probability p, which follows a sign of overfitting.

Three groups of operations, in the paper's order: pixel blitting (flip, turn, shift by whole pixels),
geometry (scaling, rotation, shift by fractions), colour. Every group is one affine map of each image, of
its coordinates or of its colours, so it is linear in the image and twice differentiable; images
whose map is the identity keep their bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from stylenat.images import MEAN, STD
from stylenat.training.distributed import to_device

INTERVAL = 4  # iterations between two changes of p

# Low-pass filter of the wavelet sym6 (Daubechies 1992), whose even shifts are orthonormal.
SYM6 = np.array(
    [
        *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
        *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
        *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
    ]
)
_REACH = len(SYM6) // 2

_GREY = np.full((3, 3), 1 / 3)  # projection of colours onto the axis of luma


@dataclass(frozen=True)
class Draws:
    """One draw for each image: affine maps, float64.

    ``blit`` and ``geometry`` (B, 2, 3) map coordinates (x, y) in the result, in units of the side
    from the centre, to those in the image; ``colour`` (B, 3, 4) maps colours in [−1, 1].
    """

    blit: np.ndarray
    geometry: np.ndarray
    colour: np.ndarray

    def __getitem__(self, which: slice) -> "Draws":
        return Draws(self.blit[which], self.geometry[which], self.colour[which])


def draw(rng: np.random.Generator, batch: int, side: int, p: float) -> Draws:
    """Draw for a batch of images of one side; how many random numbers are used does not depend on p."""

    def chosen(probability: float, values: np.ndarray, otherwise: float) -> np.ndarray:
        return np.where(rng.random(batch) < probability, values, otherwise)

    zero, one = np.zeros(batch), np.ones(batch)
    flip = chosen(p, 1.0 - 2 * rng.integers(0, 2, batch), 1)
    turns = chosen(p, rng.integers(0, 4, batch), 0)
    whole = [chosen(p, np.round(rng.uniform(-0.125, 0.125, batch) * side) / side, 0) for _ in "xy"]
    # Exact sines and cosines of whole turns.
    sine, cosine = np.array([0.0, 1, 0, -1]), np.array([1.0, 0, -1, 0])
    quarter = turns.astype(int)
    blit = _chain(
        _affine(flip, zero, zero, one, zero, zero),
        _affine(cosine[quarter], sine[quarter], -sine[quarter], cosine[quarter], zero, zero),
        _affine(one, zero, zero, one, *(-shift for shift in whole)),
    )

    # With this probability before and after the anisotropic scaling, at least one has probability p.
    rotation = 1 - np.sqrt(1 - p)
    scale = chosen(p, np.exp2(0.2 * rng.standard_normal(batch)), 1)
    before = chosen(rotation, rng.uniform(-np.pi, np.pi, batch), 0)
    stretch = chosen(p, np.exp2(0.2 * rng.standard_normal(batch)), 1)
    after = chosen(rotation, rng.uniform(-np.pi, np.pi, batch), 0)
    shifts = [chosen(p, 0.125 * rng.standard_normal(batch), 0) for _ in "xy"]
    geometry = _chain(
        _affine(1 / scale, zero, zero, 1 / scale, zero, zero),
        _rotation(before),
        _affine(1 / stretch, zero, zero, stretch, zero, zero),
        _rotation(after),
        _affine(one, zero, zero, one, *(-shift for shift in shifts)),
    )

    brightness = chosen(p, 0.2 * rng.standard_normal(batch), 0)
    contrast = chosen(p, np.exp2(0.5 * rng.standard_normal(batch)), 1)
    luma_flip = chosen(p, rng.integers(0, 2, batch).astype(float), 0)
    hue = chosen(p, rng.uniform(-np.pi, np.pi, batch), 0)
    saturation = chosen(p, np.exp2(rng.standard_normal(batch)), 1)
    eye = np.eye(3)
    linear = contrast[:, None, None] * (eye - 2 * luma_flip[:, None, None] * _GREY)
    linear = _hue(hue) @ linear
    linear = (_GREY + saturation[:, None, None] * (eye - _GREY)) @ linear
    # Brightness comes first; neither hue nor saturation changes grey.
    offset = brightness * contrast * (1 - 2 * luma_flip)
    colour = np.concatenate([linear, np.broadcast_to(offset[:, None, None], (batch, 3, 1))], 2)
    return Draws(blit[:, :2], geometry[:, :2], colour)


def apply(images: Tensor, draws: Draws) -> Tensor:
    """Augment ImageNet-normalised images (B, 3, S, S)."""
    for change, maps in ((_blit, draws.blit), (_warp, draws.geometry), (_tint, draws.colour)):
        images = _where_changed(change, images, maps)
    return images


class AdaptiveProbability:
    """p, and what decides on it: the mean sign of the discriminator's logits on reals (r_t).

    Above ``target`` p rises, below it falls, at a speed at which ``images`` reals take it from 0 to 1.
    ``state`` is [p, sum of the signs since it changed], float64; the host reads p when it may have
    changed, because that waits for the device.
    """

    def __init__(self, target: float, images: int, batch: int, device: torch.device) -> None:
        self.target = target
        self.change = batch * INTERVAL / images
        self.state = torch.zeros(2, dtype=torch.float64, device=device)
        self._p: float | None = None

    @property
    def p(self) -> float:
        """The probability of each operation."""
        if self._p is None:
            self._p = float(self.state[0])
        return self._p

    def restore(self, state: Tensor) -> None:
        """Go on from a saved :attr:`state`."""
        self.state.copy_(state)
        self._p = None

    def update(self, sign: Tensor, step: int) -> None:
        """Take the mean sign of iteration ``step``; a sign that is not finite counts as 0."""
        self.state[1] += torch.nan_to_num(sign, nan=0.0)
        if (step + 1) % INTERVAL == 0:
            excess = torch.sign(self.state[1] / INTERVAL - self.target)
            self.state[0] = (self.state[0] + self.change * excess).clamp(0, 1)
            self.state[1] = 0
            self._p = None


# ------------------------------------------------------------------------------------- maps


def _affine(*entries: np.ndarray) -> np.ndarray:
    """(B, 3, 3) of xx, xy, yx, yy, x, y: the matrix's entries and the translation."""
    xx, xy, yx, yy, x, y = entries
    zero, one = np.zeros_like(xx), np.ones_like(xx)
    return np.stack([xx, xy, x, yx, yy, y, zero, zero, one], 1).reshape(-1, 3, 3)


def _rotation(angle: np.ndarray) -> np.ndarray:
    sine, cosine, zero = np.sin(angle), np.cos(angle), np.zeros_like(angle)
    return _affine(cosine, sine, -sine, cosine, zero, zero)


def _chain(*maps: np.ndarray) -> np.ndarray:
    """The operations one after the other: coordinates in the result go through the last one first."""
    result: np.ndarray = maps[0]
    for further in maps[1:]:
        result = result @ further
    return result


def _hue(angle: np.ndarray) -> np.ndarray:
    """(B, 3, 3): rotations about the axis of luma (Rodrigues' formula)."""
    cross = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    rotation: np.ndarray = cosine * np.eye(3) + sine * cross + (1 - cosine) * _GREY
    return rotation


# ------------------------------------------------------------------------------- operations


def _where_changed(
    change: Callable[[Tensor, np.ndarray], Tensor], images: Tensor, maps: np.ndarray
) -> Tensor:
    """Apply an operation to the images whose map is not the identity."""
    (which,) = np.nonzero((maps != np.eye(*maps.shape[1:])).any((1, 2)))
    if not len(which):
        return images
    index = _moved(which, images)
    return images.index_copy(0, index, change(images[index], maps[which]))


def _coordinates(maps: np.ndarray, positions: np.ndarray, side: int) -> np.ndarray:
    """(B, 2, N, N): where in the image (x, y), in pixels, the results at these positions come from."""
    units = (positions - (side - 1) / 2) / side
    x = maps[:, :, 0, None, None] * units + maps[:, :, 1, None, None] * units[:, None]
    coordinates: np.ndarray = (x + maps[:, :, 2, None, None]) * side + (side - 1) / 2
    return coordinates


def _mirrored(position: np.ndarray, first: float, last: float) -> np.ndarray:
    """Positions outside are reflected at the first and last, as often as it takes."""
    length = last - first
    distance = np.mod(position - first, 2 * length)
    return first + np.minimum(distance, 2 * length - distance)


def _blit(images: Tensor, maps: np.ndarray) -> Tensor:
    side = images.shape[-1]
    source = np.rint(_coordinates(maps, np.arange(side), side))
    x, y = np.moveaxis(_mirrored(source, 0, side - 1).astype(np.int64), 1, 0)
    return _gathered(images, y * side + x)


def _warp(images: Tensor, maps: np.ndarray) -> Tensor:
    """Resample at twice the resolution, where bilinear interpolation does little harm."""
    side = images.shape[-1]
    up, down = (_moved(matrix, images, images.dtype) for matrix in _resamplers(side))
    # The fine sample j lies at (j + 1/2) / 2 in pixels; `down` needs these; `up` gives one more
    # on either side.
    fine = np.arange(-_REACH, 2 * side - 2 + _REACH)
    source = 2 * _coordinates(maps, (fine + 0.5) / 2, side) - 0.5
    first = fine[0] - 1
    there = (source >= first) & (source < fine[-1] + 1)
    source = np.where(there, source, _mirrored(source, -0.5, 2 * side - 2.5)) - first
    corner = np.floor(source).astype(np.int64)
    weight = _moved(source - corner, images, images.dtype)
    (x, y), (right, below) = np.moveaxis(corner, 1, 0), weight.unsqueeze(2).unbind(1)
    magnified = up @ images @ up.T
    width = magnified.shape[-1]

    def at(row: np.ndarray, column: np.ndarray) -> Tensor:
        return _gathered(magnified, row * width + column)

    above = torch.lerp(at(y, x), at(y, x + 1), right)
    under = torch.lerp(at(y + 1, x), at(y + 1, x + 1), right)
    return down @ torch.lerp(above, under, below) @ down.T


def _tint(images: Tensor, maps: np.ndarray) -> Tensor:
    # From normalised colours to [−1, 1] and back, in one map with the change between.
    scale, offset = 2 * np.array(STD), 2 * np.array(MEAN) - 1
    linear = maps[:, :, :3] * scale / scale[:, None]
    constant = (maps[:, :, :3] @ offset + maps[:, :, 3] - offset) / scale
    linear, constant = (_moved(values, images, images.dtype) for values in (linear, constant))
    return (linear @ images.flatten(2) + constant.unsqueeze(2)).view_as(images)


def _gathered(images: Tensor, index: np.ndarray) -> Tensor:
    """Pixels of (B, C, H, W) by their number in the image, (B, N, M) → (B, C, N, M)."""
    numbers = _moved(index, images).flatten(1).unsqueeze(1)
    pixels = images.flatten(2).gather(2, numbers.expand(-1, images.shape[1], -1))
    return pixels.view(*pixels.shape[:2], *index.shape[1:])


def _moved(array: np.ndarray, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """An array on the device of a tensor, without waiting for the copy."""
    tensor = torch.from_numpy(array)
    return to_device(tensor if dtype is None else tensor.to(dtype), like.device)


@cache
def _resamplers(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that double a mirrored axis, (2S + 12, S), and halve it again, (S, 2S + 10).

    One after the other, without the first row and the last, they are the identity, because the
    filter's even shifts are orthonormal.
    """
    taps = 2 * side - 2 + 2 * _REACH
    up = np.zeros((taps + 2, side))
    for row, fine in enumerate(range(-_REACH - 1, taps + 1 - _REACH)):
        for pixel in range(-2 * _REACH, side + 2 * _REACH):
            tap = fine - 2 * pixel + _REACH
            if 0 <= tap < len(SYM6):
                column = int(_mirrored(np.array(pixel), 0, side - 1))
                up[row, column] += np.sqrt(2) * SYM6[tap]
    down = np.zeros((side, taps))
    for pixel in range(side):
        down[pixel, 2 * pixel : 2 * pixel + len(SYM6)] = SYM6 / np.sqrt(2)
    return up, down
