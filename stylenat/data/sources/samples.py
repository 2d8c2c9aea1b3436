"""Photographs that travel inside scikit-image's wheel: data sets that need no download."""

import hashlib
import importlib.util
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from stylenat.data.sources.base import Source
from stylenat.errors import UserError

HUBBLE = (
    "hubble_deep_field.jpg",
    "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
)
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "ihc.png",
    "retina.jpg",
)


def sample_file(name: str, sha256: str | None = None) -> Path:
    """The path of a file of scikit-image's ``data`` folder, its hash checked where one is given."""
    # find_spec, because importing scikit-image takes longer than cutting out the galaxies.
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise UserError(
            f"{name} travels in scikit-image, which is not installed; pip install 'stylenat[demo]'."
        )
    path = Path(package.origin).parent / "data" / name
    if not path.is_file():
        raise UserError(f"{path} is missing; install scikit-image from PyPI's wheel.")
    if sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise UserError(f"{path} is not the expected image; reinstall scikit-image.")
    return path


class Galaxies(Source):
    """852 crops of 32 x 32 pixels, each centred on a source of the Hubble deep field.

    Centres are the local maxima of the smoothed brightness, brightest first.
    """

    licence = "public domain (NASA/ESA Hubble deep field)"

    _HALF = 16  # half the side of a crop
    _SIGMA = 1.5  # px, of the Gaussian that suppresses noise peaks
    _THRESHOLD = 40.0  # of 255, smoothed mean of R, G and B
    _DISTANCE = 6  # px along either axis within which only the brightest maximum counts

    def __init__(self) -> None:
        self.path = sample_file(*HUBBLE)

    @cached_property
    def _image(self) -> Image.Image:
        with Image.open(self.path) as image:
            return image.convert("RGB")

    @cached_property
    def centres(self) -> np.ndarray:
        """Centres as (n, 2) int64 rows (y, x), by falling brightness."""
        brightness = ndimage.gaussian_filter(np.asarray(self._image).mean(axis=2), self._SIGMA)
        highest = ndimage.maximum_filter(brightness, size=2 * self._DISTANCE + 1)
        peaks = np.argwhere((brightness == highest) & (brightness > self._THRESHOLD))
        limits = np.array(brightness.shape) - self._HALF
        peaks = peaks[np.all((peaks >= self._HALF) & (peaks < limits), axis=1)]
        return peaks[np.argsort(-brightness[tuple(peaks.T)], kind="stable")]

    @cached_property
    def names(self) -> list[str]:  # type: ignore[override]  # found when they are first needed
        return [f"y={y} x={x}" for y, x in self.centres]

    def read(self, index: int) -> Image.Image:
        y, x = map(int, self.centres[index])
        half = self._HALF
        return self._image.crop((x - half, y - half, x + half, y + half))

    def describe(self) -> str:
        return "galaxies: crops of NASA's Hubble deep field, from scikit-image"


class Photos(Source):
    """2,000 square crops of six photographs, of random place and scale, from one seed.

    Crops share pixels: two halves of this set are not independent of each other.
    """

    licence = "CC0 or public domain (photographs of scikit-image)"

    _COUNT = 2000
    _SEED = 0

    def __init__(self, resolution: int) -> None:
        self.paths = [sample_file(name) for name in PHOTOGRAPHS]
        self.resolution = resolution
        self.names = [f"crop {index}" for index in range(self._COUNT)]

    @cached_property
    def _images(self) -> list[Image.Image]:
        images = []
        for path in self.paths:
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        return images

    def read(self, index: int) -> Image.Image:
        random = np.random.default_rng((self._SEED, index))
        image = self._images[random.integers(len(self._images))]
        # Log-uniform: as many crops between 32 and 64 px as between 64 and 128.
        smallest, largest = self.resolution, min(image.size)
        side = round(smallest * (largest / smallest) ** random.random())
        left, top = (int(random.integers(length - side + 1)) for length in image.size)
        return image.crop((left, top, left + side, top + side))

    def describe(self) -> str:
        return "photos: random crops of six photographs, from scikit-image"
