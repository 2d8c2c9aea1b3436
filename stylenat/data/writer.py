"""Writing a data set: sequential, resumable after a kill, and the same bytes every time.

Images go to ``X.lmdb.part`` in transactions cut by size alone, each in a freshly opened
environment. So the file after a transaction is a function of the images in it: not of timing, not
of the number of workers, not of how often the process was killed and started again. (Within one
environment LMDB recycles buffers without clearing them, which would show in unused space.) An
image and its attributes are never in different transactions.
"""

import json
import os
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Self

import lmdb
import numpy as np
from PIL import Image

from stylenat.data import codec
from stylenat.data.environment import open_readonly
from stylenat.data.store import META_KEY, attributes_key, index_key, key_index
from stylenat.errors import UserError
from stylenat.io import Json, sync_directory, unwritten
from stylenat.records import Dataset

_TRANSACTION = 32 << 20  # bytes of images held in memory, and lost by a kill
_MAPPED = 128  # images read back before the file is mapped anew
_PAGE = 4096
_MEBIBYTE = 1 << 20


class StoreWriter:
    """Append encoded images to a data set that is whole or absent.

    With ``resume``, what an earlier process left is kept: read it back with :meth:`written` and
    :meth:`confirm` each image before appending more. A context manager, because transactions are
    written in the background while more images are appended.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path = Path(path)
        self.partial = partial_path(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            self.partial.unlink(missing_ok=True)
        self._pending: list[codec.Encoded] = []
        self._pending_bytes = 0
        self._hash = codec.ContentHash()
        self._digests: set[bytes] = set()
        self._checksums = array("I")
        self._stored, self._sealed = self._survey()
        self._background = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._background.shutdown()  # waits for the transaction that is under way

    def __len__(self) -> int:
        """Images appended or found, pending ones included."""
        return self._stored + len(self._pending)

    def written(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The images an earlier process left and their attributes, as stored, in order."""
        return _values(self.partial, self._stored)

    def confirm(self, checksum: int, digest: bytes) -> None:
        """Take over the next image of :meth:`written`, given its :func:`codec.checksum` and its
        :func:`codec.pixel_digest`."""
        self._hash.update(digest)
        self._digests.add(digest)
        self._checksums.append(checksum)

    def append(self, image: codec.Encoded) -> None:
        """Add an image."""
        self.confirm(image.checksum, image.digest)
        self._pending.append(image)
        self._pending_bytes += len(image.value) + len(image.attributes or b"")
        if self._pending_bytes >= _TRANSACTION:
            self._flush()

    def finish(self, metadata: Json) -> Dataset:
        """Add count and content hash to ``metadata``, store it, verify the file, rename it.

        ``duplicates`` is added where images have the pixels of an earlier one. Returns the complete
        record. An empty data set is a :class:`UserError`.
        """
        if not len(self):
            raise UserError(f"{self.path} would be empty: there was no image to write.")
        record = metadata | {"count": len(self), "content_sha256": self._hash.hexdigest()}
        if duplicates := len(self) - len(self._digests):
            record["duplicates"] = duplicates
        if not self._sealed:
            self._flush(json.dumps(record).encode()).result()
        self._verify(record)
        try:
            os.replace(self.partial, self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise unwritten(self.path, error) from error
        return Dataset(**record)

    def _survey(self) -> tuple[int, bool]:
        """(images, whether the metadata is there too) in the partial file."""
        try:
            environment = open_readonly(self.partial)
        except UserError:  # none, or killed before its first transaction
            self.partial.unlink(missing_ok=True)
            return 0, False
        with environment.begin() as transaction:
            sealed = transaction.get(META_KEY) is not None
            # The metadata's key is the last one.
            cursor = transaction.cursor()
            found = cursor.last() and (not sealed or cursor.prev())
            return (key_index(cursor.key()) + 1 if found else 0), sealed

    def _flush(self, record: bytes | None = None) -> Future[None]:
        """Write the pending images, and the metadata if this is the end, in one transaction."""
        if self._writing:
            self._writing.result()
        items = []
        for index, image in enumerate(self._pending, self._stored):
            items.append((index_key(index), image.value))
            if image.attributes is not None:
                items.append((attributes_key(index), image.attributes))
        if record is not None:
            items.append((META_KEY, record))
        self._writing = self._background.submit(_commit, self.partial, items)
        self._stored += len(self._pending)
        self._pending, self._pending_bytes = [], 0
        return self._writing

    def _verify(self, record: Json) -> None:
        with open_readonly(self.partial).begin() as transaction:
            if json.loads(transaction.get(META_KEY) or b"null") != record:
                raise UserError(f"{self.partial} holds another data set; delete it and run again.")
        values = _values(self.partial, len(self))
        for index, (stored, checksum) in enumerate(zip(values, self._checksums, strict=True)):
            if codec.checksum(*stored) != checksum:
                raise UserError(
                    f"{self.partial} reads back differently at image {index}: the disk or the "
                    "memory is faulty; delete the file and run again elsewhere."
                )


def _values(path: Path, count: int) -> Iterator[tuple[bytes, bytes | None]]:
    """The stored form of images 0 … count - 1 and of their attributes."""
    # Mapped anew for every few, because pages stay with the process until the map is closed.
    for start in range(0, count, _MAPPED):
        yield from _some_values(path, range(start, min(start + _MAPPED, count)))


def _some_values(path: Path, indices: range) -> Iterator[tuple[bytes, bytes | None]]:
    with open_readonly(path).begin() as transaction:
        for index in indices:
            yield transaction.get(index_key(index), b""), transaction.get(attributes_key(index))


def _commit(path: Path, items: list[tuple[bytes, bytes]]) -> None:
    size = path.stat().st_size if path.exists() else 0
    pages = sum(len(value) // _PAGE + 2 for _, value in items)
    # Part of the file, so it too has to follow from the images alone.
    map_size = ((size + pages * _PAGE) // _MEBIBYTE + 2) * _MEBIBYTE
    try:
        with (
            closing(
                lmdb.open(str(path), subdir=False, lock=False, map_size=map_size)
            ) as environment,
            environment.begin(write=True) as transaction,
        ):
            for key, value in items:
                transaction.put(key, value, append=True)
    except lmdb.Error as error:
        raise unwritten(path, error) from error


def partial_path(path: Path) -> Path:
    """Where a data set is until it is whole."""
    return path.with_name(f"{path.name}.part")


def write_store(path: str | Path, images: Iterable[np.ndarray], metadata: Json) -> Dataset:
    """Write uint8 images (S, S, 3) of one size as a data set and return its complete metadata.

    ``metadata`` gives what the pixels cannot tell (name, filter, source, licence, notes);
    resolution, codec, count and content hash are added.
    """
    resolution, name = 0, ""
    try:
        with StoreWriter(path) as writer:
            for pixels in images:
                if not resolution:
                    resolution = len(pixels)
                    name = codec.choose(resolution)
                if pixels.shape != (resolution, resolution, 3) or pixels.dtype != np.uint8:
                    raise ValueError(f"{pixels.dtype} {pixels.shape}, not uint8 of {resolution}²")
                writer.append(codec.encode(Image.fromarray(pixels), name))
            return writer.finish(metadata | {"resolution": resolution, "codec": name})
    except BaseException:
        partial_path(Path(path)).unlink(missing_ok=True)
        raise
