"""Batches of pixels for training, decoded before they are asked for."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch

from stylenat.data.ordered import ordered_map
from stylenat.data.store import ImageStore

_CACHE_BYTES = 256 << 20  # decoded sets up to this size are kept in memory


class Loader:
    """Endless iterator over uint8 batches (B, 3, H, W), from ``start_step`` on.

    ``indices_for_step(step)`` gives this process's data-set indices of a step, as many at each
    (with several ranks, those at ``[rank::world]`` of the total batch). ``workers`` processes
    decode up to ``prefetch`` batches ahead each; 0 decodes in this process. A small set is decoded
    once and needs neither. With ``pin_memory``, batches can be copied to a GPU asynchronously.

    Batches reach this process through the workers' pipes: 1,113 images of 256² a second on two
    cores, where shared memory gave 1,494 and PyTorch's DataLoader gives 1,212 (benchmarks/NOTES.md).
    Pipes need no shared memory, and no code of their own for errors, signals and lost workers.
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
        side = self.store.metadata.resolution
        small = len(self.store) * side * side * 3 <= _CACHE_BYTES
        for batch in self._from_memory() if small else self._from_file():
            yield batch.pin_memory() if self.pin_memory else batch

    def _steps(self) -> Iterator[np.ndarray]:
        return map(self.indices_for_step, count(self.start_step))

    def _from_memory(self) -> Iterator[torch.Tensor]:
        images = _tensor(self.store.read_all(range(len(self.store)))).contiguous()
        return (images[torch.from_numpy(indices)] for indices in self._steps())

    def _from_file(self) -> Iterator[torch.Tensor]:
        batches = ordered_map(
            self.store.read_all, self._steps(), self.workers, chunk=1, ahead=self.prefetch
        )
        return map(_tensor, batches)


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (B, 3, H, W), a view of (B, H, W, 3) memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def mirror(images: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) with those of ``which`` (bool (B,), same device) flipped left to right."""
    return torch.where(which[:, None, None, None], images.flip(3), images)
