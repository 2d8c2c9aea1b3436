"""A source divided into images to train on and images that are held out."""

import numpy as np
from PIL import Image

from stylenat.data.sources.base import Source

_SEED = 0  # of the draw, part of what the two parts are


class Split(Source):
    """The held-out share of a source's images, or all others.

    The draw depends on the number of images and the share alone; both parts keep the order. It is one
    of places in the source's list, not of contents: those are not known before every image was read,
    which would be done once more for each part.
    """

    def __init__(self, source: Source, share: float, held_out: bool) -> None:
        count = len(source.names)
        drawn = np.random.Generator(np.random.Philox(_SEED)).permutation(count)
        taken = max(1, round(share * count))
        self.source = source
        self.indices = np.sort(drawn[:taken] if held_out else drawn[taken:]).tolist()
        self.names = [source.names[index] for index in self.indices]
        self.licence, self.creator, self.classes = source.licence, source.creator, source.classes
        self.described = f"{'held out' if held_out else 'all but'} {share:g} of {source.describe()}"

    def read(self, index: int) -> bytes | Image.Image:
        return self.source.read(self.indices[index])

    def describe(self) -> str:
        return self.described

    def attributes(self, index: int) -> dict[str, str] | None:
        return self.source.attributes(self.indices[index])

    def pixel_md5(self, index: int) -> str | None:
        return self.source.pixel_md5(self.indices[index])
