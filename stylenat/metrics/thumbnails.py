"""Copies found by their pixels: small pictures compared as seen, mirrored and shifted.

A perceptual hash: what is compared are the lowest frequencies of the cosine transform of a
thumbnail's brightness, and the lowest few of its colours. Features of networks miss copies that
this finds: they answer to the traces of a JPEG file, and to a picture being mirrored.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.spatial import KDTree

from stylenat.metrics.neighbours import nearest
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
BLOCK = 1024  # thumbnails whose views are in memory at once
KNOWN = 500  # training images, altered to see what is found


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
    tree: KDTree
    threshold: float

    @classmethod
    def of(cls, pixels: np.ndarray, quantile: float) -> Self:
        """The threshold is this quantile of the training images' distances to their nearest others."""
        vectors = np.concatenate([next(views(pixels[rows])) for rows in _rows(pixels)])
        tree = KDTree(vectors)
        plain = nearest(vectors, vectors, 1, same=True)[1][:, 0]
        # Mirrored or shifted, some are nearer still; what is as far as most is not asked for.
        bound = _quantile(plain, quantile)
        distances = np.minimum(plain, bound)
        for rows in _rows(pixels):
            own = np.arange(len(pixels))[rows, None]
            for vectors in views(pixels[rows]):
                found, others = tree.query(vectors, 2, distance_upper_bound=bound)
                found[others == own] = np.inf
                distances[rows] = np.minimum(distances[rows], found.min(1))
        return cls(pixels, tree, _quantile(distances, quantile))

    def copies(self, pixels: np.ndarray) -> np.ndarray:
        """Which thumbnails (m, 32, 32, 3) are copies, as booleans (m,)."""
        flags = np.zeros(len(pixels), bool)
        bound = self.threshold + 1e-6  # what is found is below it
        for rows in _rows(pixels):
            for vectors in views(pixels[rows]):
                found, _ = self.tree.query(vectors, distance_upper_bound=bound)
                flags[rows] |= np.isfinite(found)
        return flags

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


def _rows(pixels: np.ndarray) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, len(pixels), BLOCK)]


def _quantile(distances: np.ndarray, quantile: float) -> float:
    """Of distinct images: where some are there twice, the quantile would be 0 and flag nothing."""
    distinct = distances[distances > 0]
    return float(np.quantile(distinct, quantile)) if len(distinct) else 0.0


def through_jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    """Images uint8 (n, H, W, 3), written and read as JPEG files."""
    written = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        written.append(np.asarray(Image.open(file)))
    return np.stack(written)
