"""Which image comes when: pure functions of (seed, step), so that nothing need be saved to resume.

Number of ranks, restarts and workers do not enter: sample i of the total batch of a step is the
same image, flipped or not, however the batch is shared out.
"""

from functools import lru_cache

import numpy as np

# Separate random streams of one seed.
_ORDER, _FLIPS = 1, 2


@lru_cache(maxsize=2)  # a batch may need the end of one epoch and the start of the next
def epoch_indices(count: int, epoch: int, seed: int) -> np.ndarray:
    """The order of one epoch: a seeded permutation of ``range(count)``, int64, read-only."""
    order = np.random.default_rng((_ORDER, seed, epoch)).permutation(count)
    order.setflags(write=False)
    return order


def batch_indices(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Data-set indices (batch_size,) of the total batch of ``step``, int64.

    Epochs follow each other without a gap: a batch that reaches the end of one goes on in the
    next, so every image is seen once per epoch, whatever the batch size.
    """
    epochs, offsets = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), count)
    indices = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = epoch_indices(count, int(epoch), seed)[offsets[here]]
    return indices


def flips(seed: int, step: int, batch_size: int) -> np.ndarray:
    """Which samples of the total batch of ``step`` are mirrored: bool (batch_size,), half of all."""
    return np.random.default_rng((_FLIPS, seed, step)).random(batch_size) < 0.5
