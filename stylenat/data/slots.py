"""Memory that workers fill with batches and the parent empties, over and over.

Handing fresh shared memory to the parent with every batch costs a tenth of the time of decoding
(a page fault for every 4 KB, and a handshake); these pages stay. No torch here, so that workers
start in a moment.
"""

import shutil
from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Self

import numpy as np

from stylenat.data.store import ImageStore
from stylenat.errors import UserError


class Slots:
    """Shared uint8 arrays of one shape; pickles as a name, so workers see the same memory."""

    def __init__(self, count: int, shape: tuple[int, ...], name: str | None = None) -> None:
        self.shape = (count, *shape)
        size = int(np.prod(self.shape))
        if name is None:
            _require_space(size)
        self._memory = SharedMemory(name, create=name is None, size=size)

    def __reduce__(self) -> tuple[type[Self], tuple[int, tuple[int, ...], str]]:
        return type(self), (self.shape[0], self.shape[1:], self._memory.name)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, slot: int) -> np.ndarray:
        array: np.ndarray = np.ndarray(self.shape, np.uint8, self._memory.buf)[slot]
        return array

    def close(self) -> None:
        """Give the memory back, once no process uses it and no array of it is left."""
        self._memory.close()
        self._memory.unlink()


def _require_space(size: int) -> None:
    """Running out of shared memory is a bus error, so ask before."""
    folder = Path("/dev/shm")
    if folder.is_dir() and (free := shutil.disk_usage(folder).free) < size:
        raise UserError(
            f"the data loader needs {size / 1e6:.0f} MB of shared memory and {folder} has "
            f"{free / 1e6:.0f} MB free; use fewer workers, or give the container more (--shm-size)."
        )


def fill(store: ImageStore, slots: Slots, task: tuple[int, Sequence[int]]) -> int:
    """Read the images of ``task`` (slot, indices) into their slot, and return its number."""
    slot, indices = task
    for row, index in zip(slots[slot], indices, strict=True):
        row[:] = store.read(int(index))
    return slot
