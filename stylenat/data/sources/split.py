"""A source divided into images to train on and images that are held out."""

import hashlib
from contextlib import closing
from functools import partial

import numpy as np
from PIL import Image

from stylenat.data.ordered import ordered_map
from stylenat.data.sources.base import Source

_SEED = 0  # of the draw of places


class Split(Source):
    """The held-out share of a source's images, or all others.

    The images' contents alone decide which are held out, whatever the files are called: every image is
    read for it, once more than for packing. With ``by_place`` it is a draw of places in the source's
    list, as for data sets of before. Both parts keep the source's order.
    """

    def __init__(
        self, source: Source, share: float, held_out: bool, by_place: bool = False, workers: int = 1
    ) -> None:
        count = len(source.names)
        if by_place:
            drawn = np.random.Generator(np.random.Philox(_SEED)).permutation(count).tolist()
        else:
            digests = _digests(source, workers)
            drawn = sorted(range(count), key=digests.__getitem__)
        taken = max(1, round(share * count))
        self.source = source
        self.indices = sorted(drawn[:taken] if held_out else drawn[taken:])
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


def _digests(source: Source, workers: int) -> list[bytes]:
    work = ordered_map(
        partial(_digest, source), range(len(source.names)), workers if workers > 1 else 0
    )
    with closing(work) as digests:
        return list(digests)


def _digest(source: Source, index: int) -> bytes:
    """Of an image as it is stored. One that cannot be read is left out by packing, in either part."""
    try:
        image = source.read(index)
    except OSError:
        return b""
    return hashlib.sha256(image if isinstance(image, bytes) else image.tobytes()).digest()
