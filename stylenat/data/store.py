"""A data set is one LMDB file: image 12 under the key ``00000012``, its attributes (JSON), where there
are any, under ``00000012.json``, and a JSON record of the whole under ``__meta__``."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from stylenat.data import codec
from stylenat.data.environment import Reader
from stylenat.errors import UserError
from stylenat.records import Dataset

META_KEY = b"__meta__"  # sorts behind every index


def index_key(index: int) -> bytes:
    """The key of image ``index``: decimal, zero-padded, so keys sort as numbers."""
    return b"%08d" % index


def attributes_key(index: int) -> bytes:
    """The key of the attributes of image ``index``, which sorts right behind the image's."""
    return index_key(index) + b".json"


def key_index(key: bytes) -> int:
    """The image that a key of either kind belongs to."""
    return int(key.partition(b".")[0])


class ImageStore:
    """Read access to a packed data set.

    Pickles as its path, opens the file on first use in each process (so it may be handed to
    forked or spawned workers, and be shared by threads), takes no lock and writes nothing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._reader = Reader(path)

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path,)

    @cached_property
    def metadata(self) -> Dataset:
        """The record of the whole; a :class:`UserError` where there is none."""
        value = self._reader.get(META_KEY)
        if value is None:
            raise UserError(
                f"{self.path} is an LMDB but not a packed data set (it has no metadata record); "
                "list it as a source of kind lmdb and pack it."
            )
        return Dataset.read(value, self.path, "delete the file and pack the data set again")

    @cached_property
    def digests(self) -> list[bytes]:
        """:func:`codec.pixel_digest` of every image, in order; all of them are decoded for it."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self._digest, range(len(self))))

    def __len__(self) -> int:
        return self.metadata.count

    def encoded(self, index: int) -> bytes:
        """Image ``index`` as it is stored."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has no image {index}: it holds {len(self)}")
        value = self._reader.get(index_key(index))
        if value is None:
            raise self._damaged(index, "it is missing")
        return value

    def read(self, index: int) -> np.ndarray:
        """Image ``index`` as read-only uint8 (resolution, resolution, 3), RGB."""
        value = self.encoded(index)
        try:
            return codec.decode(value, self.metadata.codec, self.metadata.resolution)
        except (ValueError, OSError) as error:
            raise self._damaged(index, str(error)) from error

    def read_all(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Images ``indices`` as uint8 (count, resolution, resolution, 3), RGB."""
        side = self.metadata.resolution
        pixels = np.empty((len(indices), side, side, 3), np.uint8)
        for row, index in zip(pixels, indices, strict=True):
            row[:] = self.read(int(index))
        return pixels

    def attributes(self, index: int) -> dict[str, str] | None:
        """What is known of image ``index`` beside its pixels; None where the source knows nothing."""
        value = self._reader.get(attributes_key(index))
        try:
            return None if value is None else json.loads(value)
        except ValueError as error:
            raise self._damaged(index, f"its attributes: {error}") from error

    def _digest(self, index: int) -> bytes:
        return codec.pixel_digest(self.read(index))

    def _damaged(self, index: int, reason: str) -> UserError:
        return UserError(
            f"{self.path} is damaged: image {index} cannot be read ({reason}); "
            "delete the file and pack the data set again."
        )
