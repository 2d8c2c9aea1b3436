"""Feature networks by name, and the features of stored images."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.io import sha256
from stylenat.metrics.extractors import NETWORKS
from stylenat.metrics.extractors.base import FeatureNetwork
from stylenat.metrics.thumbnails import SIDE

BATCH_SIZE = {"cpu": 16, "cuda": 64}  # enough for full speed, little memory


@dataclass(frozen=True)
class Extractor:
    """A feature network together with what identifies its features."""

    name: str
    weights_sha256: str
    network: FeatureNetwork

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.device

    @property
    def dimension(self) -> int:
        """Length of one image's feature vector."""
        return self.network.dimension

    @property
    def head(self) -> np.ndarray | None:
        """(classes, dimension): what makes class logits of features, if the network has that."""
        head = self.network.head
        return None if head is None else head.cpu().numpy()

    def __call__(self, images: Tensor) -> np.ndarray:
        """uint8 (B, 3, H, W) → float32 (B, dimension)."""
        found: np.ndarray = self.network(images).cpu().numpy()
        return found


def extractor(name: str, weights: str | Path, device: str | torch.device = "cpu") -> Extractor:
    """The feature network ``name`` with the weights file ``weights``, on ``device``.

    Raises :class:`UserError` for an unknown name and for a file that is missing, truncated or
    holds something else.
    """
    if name not in NETWORKS:
        raise UserError(f"no extractor is called {name!r}; use one of {', '.join(NETWORKS)}.")
    network = NETWORKS[name](weights)
    if torch.device(device).type == "cpu":  # the layout CPU convolutions are fastest in
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Extractor(name, sha256(weights), network.to(device))


def features(
    network: Extractor, store: ImageStore, indices: Sequence[int] | np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features of the chosen images, in order, as float32 (B, dimension) per batch, and their
    thumbnails.

    A GPU is fed by decoding threads. On a CPU each thread takes whole batches through the network
    alone, because threads that share every small layer mostly wait for each other: on two busy
    cores that was up to ten times slower.
    """
    threads, on_cpu = torch.get_num_threads(), network.device.type == "cpu"
    size = BATCH_SIZE[network.device.type]

    def task(start: int) -> tuple[Tensor | np.ndarray, np.ndarray]:
        images = _read(store, indices[start : start + size])
        return network(images) if on_cpu else images, thumbnails(images)

    def finish(result: Tensor | np.ndarray, small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return network(result) if isinstance(result, Tensor) else result, small

    pending: deque[Future[tuple[Tensor | np.ndarray, np.ndarray]]] = deque()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for start in range(0, len(indices), size):
                pending.append(pool.submit(task, start))
                if len(pending) > 2 * threads:
                    yield finish(*pending.popleft().result())
            while pending:
                yield finish(*pending.popleft().result())
    finally:
        torch.set_num_threads(threads)  # new threads would inherit the pool's number


def thumbnails(images: Tensor) -> np.ndarray:
    """uint8 (B, 3, H, W) → uint8 (B, 32, 32, 3)."""
    if images.shape[2:] != (SIDE, SIDE):
        small = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
        images = small.round().clamp(0, 255).byte()
    return images.permute(0, 2, 3, 1).numpy()


def _read(store: ImageStore, indices: Sequence[int] | np.ndarray) -> Tensor:
    """uint8 (B, 3, H, W)."""
    return torch.from_numpy(store.read_all(indices)).permute(0, 3, 1, 2)
