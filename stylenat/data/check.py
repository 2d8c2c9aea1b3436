"""Is a packed data set what its metadata says?"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from stylenat.data import codec
from stylenat.data.ordered import ordered_map
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.records import Dataset


def verify(
    path: Path, workers: int = 1, advance: Callable[[int], None] = lambda count: None
) -> Dataset:
    """Decode every image, read its attributes and compare the content hash; return the metadata
    record.

    A data set that cannot be read whole, or holds other pixels than it says, is a
    :class:`UserError` naming the images. ``advance`` is told how many images are done.
    """
    store = ImageStore(path)
    content, damaged = codec.ContentHash(), []
    results = ordered_map(partial(_digest, store), range(len(store)), workers if workers > 1 else 0)
    for index, digest in enumerate(results):
        if digest is None:
            damaged.append(str(index))
        else:
            content.update(digest)
        advance(1)
    again = "delete the file and pack the data set again."
    if damaged:
        shown = ", ".join(damaged[:10]) + (" …" if len(damaged) > 10 else "")
        raise UserError(
            f"{path} is damaged: {len(damaged)} of {len(store)} images cannot be read "
            f"({shown}); {again}"
        )
    if content.hexdigest() != store.metadata.content_sha256:
        raise UserError(f"{path} holds other pixels than its content hash says; {again}")
    return store.metadata


def _digest(store: ImageStore, index: int) -> bytes | None:
    try:
        store.attributes(index)
        return codec.pixel_digest(store.read(index))
    except UserError:
        return None
