"""Copies found by their pixels: small pictures compared as seen, mirrored and shifted.

A perceptual hash: what is compared are the lowest frequencies of the cosine transform of a
thumbnail's brightness, and the lowest few of its colours. Features of networks miss copies that
this finds: they answer to the traces of a JPEG file, and to a picture being mirrored.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from PIL import Image
from scipy.fft import dctn

from stylenat.metrics.subsets import content_order

SIDE = 32  # of a thumbnail …
INNER = SIDE - 2  # … and of what is left of it in any shift
SHIFTS = ((1, 1), *((y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)))
# Frequencies along each axis. JPEG keeps little of the colours, but a few tell drawings apart
# that differ in a colour alone.
OF_BRIGHTNESS, OF_COLOURS = 16, 3
# Of red, green and blue to brightness and two colours (ITU-R BT.601, as in JPEG).
YCBCR = np.array(
    [[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]], np.float32
)
ROWS, COLUMNS = 32, 2048  # thumbnails whose views are compared with so many at once
ASKED = 5000  # training images whose nearest others decide the threshold
KNOWN = 500  # training images, altered to see what is found
SAME = 5.0  # two pictures that are so near differ by a sixth of a grey level, or by rounding


def views(thumbnails: np.ndarray) -> Iterator[np.ndarray]:
    """Thumbnails uint8 (n, 32, 32, 3) as vectors (n, 274), once for every shift by up to a pixel
    along each axis, and mirrored; first as they are."""
    pixels = thumbnails @ YCBCR
    for y, x in SHIFTS:
        waves = dctn(pixels[:, y : y + INNER, x : x + INNER], axes=(1, 2), norm="ortho")
        yield _lowest(waves)
        waves[:, :, 1::2] *= -1  # the odd ones change their sign with left and right
        yield _lowest(waves)


def _lowest(waves: np.ndarray) -> np.ndarray:
    brightness = waves[:, :OF_BRIGHTNESS, :OF_BRIGHTNESS, 0].reshape(len(waves), -1)
    colours = waves[:, :OF_COLOURS, :OF_COLOURS, 1:].reshape(len(waves), -1)
    return np.concatenate([brightness, colours], 1)


@dataclass(frozen=True)
class Thumbnails:
    """Those of the training images, to be searched, and the distance up to which one is a copy."""

    pixels: np.ndarray  # uint8 (n, 32, 32, 3)
    centre: np.ndarray  # (274,) of their vectors, …
    vectors: np.ndarray  # … which are (n, 274) about it
    threshold: float

    @classmethod
    def of(cls, pixels: np.ndarray, quantile: float) -> Self:
        """The threshold is this quantile of training images' distances to their nearest others."""
        parts = range(0, len(pixels), COLUMNS)
        vectors = np.concatenate([next(views(pixels[i : i + COLUMNS])) for i in parts])
        centre = vectors.mean(0)
        found = cls(pixels, centre, vectors - centre, SAME)
        asked = content_order(pixels)[:ASKED]
        distances = found.distances(pixels[asked], asked)
        distinct = distances[distances > SAME]  # twins would make the quantile one of zeros
        if not len(distinct):
            return found
        return replace(found, threshold=float(np.quantile(distinct, quantile)))

    def copies(self, pixels: np.ndarray) -> np.ndarray:
        """Which thumbnails (m, 32, 32, 3) are copies, as booleans (m,)."""
        return self.distances(pixels) <= self.threshold

    def distances(self, pixels: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
        """Of thumbnails (m, 32, 32, 3), in whichever view, to the nearest training image (m,), that at
        ``own`` (m,) left out."""
        lengths = np.einsum("nd,nd->n", self.vectors, self.vectors)
        found = np.full(len(pixels), np.inf, np.float32)
        for start in range(0, len(pixels), ROWS):
            rows = slice(start, start + ROWS)
            seen = np.stack(list(views(pixels[rows]))) - self.centre
            least = found[rows]
            for first in range(0, len(self.vectors), COLUMNS):
                columns = slice(first, first + COLUMNS)
                squares = (-2 * seen) @ self.vectors[columns].T
                squares += lengths[columns]
                if own is not None:
                    inside = np.flatnonzero((own[rows] >= first) & (own[rows] < first + COLUMNS))
                    squares[:, inside, own[rows][inside] - first] = np.inf
                nearest = squares.min(2) + np.einsum("vnd,vnd->vn", seen, seen)
                np.minimum(least, nearest.min(0), out=least)
        return np.sqrt(np.maximum(found, 0))

    def detected(self) -> dict[str, float]:
        """Of copies that are known to be some, the shares that are found, by what was done to them."""
        images = self.pixels[content_order(self.pixels)[:KNOWN]]
        known = {
            "mirrored": images[:, :, ::-1],
            "shifted by a pixel": np.roll(images, 1, axis=(1, 2)),
            "JPEG of quality 95": through_jpeg(images, 95),
            "JPEG of quality 75": through_jpeg(images, 75),
        }
        return {change: float(self.copies(copies).mean()) for change, copies in known.items()}


def through_jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    """Images uint8 (n, H, W, 3), written and read as JPEG files."""
    written = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        written.append(np.asarray(Image.open(file)))
    return np.stack(written)
