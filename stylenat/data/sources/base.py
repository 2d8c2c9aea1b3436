"""What every source of images offers to packing."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from PIL import Image

from stylenat.data.sources.classes import CLASS


class Source(ABC):
    """A fixed sequence of images, each with a name, readable in any order.

    Sources are handed to worker processes: they pickle as names and paths and open files lazily.
    """

    licence: str
    creator: str | None = None  # who is to be named
    classes: Sequence[str] = ()  # each image's class, where the source keeps them
    names: Sequence[str]  # one per image, for messages, in the order in which they are packed

    @abstractmethod
    def read(self, index: int) -> bytes | Image.Image:
        """Image ``index``: encoded (of any format Pillow reads), or already decoded."""

    @abstractmethod
    def describe(self) -> str:
        """Where the images come from, in a few words, for the metadata record."""

    def attributes(self, index: int) -> dict[str, str] | None:
        """What is known of image ``index`` beside its pixels, by name."""
        return {CLASS: self.classes[index]} if self.classes else None

    def pixel_md5(self, index: int) -> str | None:
        """MD5 the image's decoded RGB pixels must have before they are resized, where known."""
        return None
