"""Batches of pixels for training, decoded before they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch

from stylenat.data.ordered import ordered_map
from stylenat.data.slots import Slots, fill
from stylenat.data.store import ImageStore

_CACHE_BYTES = 256 << 20  # decoded sets up to this size are kept in memory


class Loader:
    """Endless iterator over uint8 batches (B, 3, H, W), from ``start_step`` on.

    ``indices_for_step(step)`` gives this process's data-set indices of a step, as many at each
    (with several ranks, those at ``[rank::world]`` of the total batch). ``workers`` processes
    decode up to ``prefetch`` batches ahead each; 0 decodes in this process. A small set is decoded
    once and needs neither. With ``pin_memory``, batches can be copied to a GPU asynchronously.
    """

    def __init__(
        self,
        path: str | Path,
        indices_for_step: Callable[[int], np.ndarray],
        start_step: int = 0,
        workers: int = 0,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        self.store = ImageStore(path)
        self.indices_for_step = indices_for_step
        self.start_step = start_step
        self.workers = workers
        self.prefetch = prefetch
        self.pin_memory = pin_memory

    def __iter__(self) -> Iterator[torch.Tensor]:
        side = self.store.metadata["resolution"]
        if len(self.store) * side * side * 3 <= _CACHE_BYTES:
            return self._from_memory()
        return self._from_workers() if self.workers else self._from_file()

    def _steps(self) -> Iterator[np.ndarray]:
        return map(self.indices_for_step, count(self.start_step))

    def _from_memory(self) -> Iterator[torch.Tensor]:
        images = decode(self.store, range(len(self.store))).contiguous()
        for indices in self._steps():
            yield self._pinned(images[torch.from_numpy(indices)])

    def _from_file(self) -> Iterator[torch.Tensor]:
        for indices in self._steps():
            yield self._pinned(decode(self.store, indices))

    def _from_workers(self) -> Iterator[torch.Tensor]:
        side = self.store.metadata["resolution"]
        batch_size = len(self.indices_for_step(self.start_step))
        # One more than can be in flight: that of the batch which is being copied out.
        slots = Slots(self.workers * self.prefetch + 1, (batch_size, side, side, 3))
        tasks = ((turn % len(slots), indices) for turn, indices in enumerate(self._steps()))
        work = partial(fill, self.store, slots)
        try:
            for slot in ordered_map(work, tasks, self.workers, chunk=1, ahead=self.prefetch):
                yield _channels_first(self._copied(slots[slot]))
        finally:
            slots.close()

    def _copied(self, pixels: np.ndarray) -> torch.Tensor:
        """A batch of its own, since a slot is filled anew when its turn comes again."""
        # Pinning copies. Else not by torch, whose threads would take the cores from the workers.
        return self._pinned(torch.from_numpy(pixels if self.pin_memory else pixels.copy()))

    def _pinned(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.pin_memory() if self.pin_memory else batch


def decode(store: ImageStore, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
    """Images ``indices`` as uint8 (B, 3, H, W), a view of (B, H, W, 3) memory."""
    side = store.metadata["resolution"]
    pixels = np.empty((len(indices), side, side, 3), np.uint8)
    for row, index in zip(pixels, indices, strict=True):
        row[:] = store.read(int(index))
    return _channels_first(torch.from_numpy(pixels))


def _channels_first(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.permute(0, 3, 1, 2)


def mirror(images: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) with those of ``which`` (bool (B,), same device) flipped left to right."""
    return torch.where(which[:, None, None, None], images.flip(3), images)
