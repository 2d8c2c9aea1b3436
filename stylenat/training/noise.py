"""Random numbers of training: pure functions of (seed, iteration, purpose, sample).

Draws are made for the whole batch and each rank keeps its share, so that neither restarts nor the
number of ranks change what any sample sees. Sample i of the batch belongs to rank i mod world:
then the minibatch-stddev groups are the same sets for every world size that divides them.
"""

from enum import IntEnum

import numpy as np
import torch

from stylenat.training.distributed import World


class Purpose(IntEnum):
    """Independent streams of one iteration."""

    DISCRIMINATOR_Z = 0
    GENERATOR_Z = 1
    AUGMENT_REAL = 2
    AUGMENT_FAKE = 3
    AUGMENT_GENERATED = 4  # in the generator's step


def stream(seed: int, step: int, purpose: Purpose) -> np.random.Generator:
    """The random stream of one purpose in one iteration (counter-based, so no state to save)."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, 0, step]))


def draw_z(
    seed: int, step: int, purpose: Purpose, shape: tuple[int, int], world: World
) -> torch.Tensor:
    """This rank's share of z ~ N(0, 1) of the total ``shape`` (batch, style_dim), float32."""
    z = stream(seed, step, purpose).standard_normal(shape, dtype=np.float32)
    return world.to_device(torch.from_numpy(z[world.share]))
