"""From seeds to pixels: an image depends on its seed and on nothing else.

A pass of the network always holds the same images: pass *p* those of seeds ``p n … p n + n − 1``,
``n`` fixed by the model. Matrix products round differently for another number of rows, so only
images computed in the same batch have the same bytes; those that were not asked for are dropped.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from stylenat.config import ModelConfig
from stylenat.errors import UserError
from stylenat.fields import LAST_SEED
from stylenat.images import to_uint8
from stylenat.models.generator import Generator
from stylenat.precision import products

MEAN_SEEDS = range(10_000)  # whose mean w truncation moves towards

_PIXELS_PER_PASS = 4 * 256**2  # no more, because a lone seed costs a whole pass
_IMAGES_PER_PASS = 8  # a CPU is no faster with more


def parse_seeds(text: str) -> list[int]:
    """``"0,3,10-20"`` → the seeds in this order, ends of ranges included, repetitions dropped."""
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise UserError(f"seeds {text!r}: {part!r} is neither a seed nor a range like 10-20.")
        require_seed(last)
        seeds.update(dict.fromkeys(range(first, last + 1)))
    return list(seeds)


def latents(seeds: Sequence[int], dim: int) -> Tensor:
    """z (n, dim): row i is what ``torch.manual_seed(seeds[i]); torch.randn(1, dim)`` gives on a CPU,
    the reference's rule, so its published pictures can be had. Seeds that PyTorch would change are a
    :class:`UserError`."""
    for seed in seeds:
        require_seed(seed)
    generator = torch.Generator()
    return torch.cat([torch.randn(1, dim, generator=generator.manual_seed(s)) for s in seeds])


def require_seed(seed: int) -> None:
    """A seed that PyTorch would change is a :class:`UserError`."""
    if not 0 <= seed <= LAST_SEED:
        raise UserError(f"seed {seed} is not from 0 to {LAST_SEED:,}; use one that is.")


def generate(
    generator: Generator,
    seeds: Sequence[int],
    truncation: float | None = None,
    ahead: int = 64,
) -> Iterator[np.ndarray]:
    """The image of each seed, uint8 (S, S, 3), in the order of ``seeds``.

    ``truncation`` ψ samples at ``mean + ψ (w − mean)``, the mean being that of
    :data:`MEAN_SEEDS` (StyleGAN). About ``ahead`` images are computed before they are asked for,
    so that the network need not wait for whoever encodes them.
    """
    count = images_per_pass(generator.config)
    mean = None if truncation is None else mean_style(generator)

    def batches() -> Iterator[np.ndarray]:
        for number, members in groupby(seeds, lambda seed: seed // count):
            batch = range(number * count, (number + 1) * count)
            pixels = _compute(generator, batch, mean, truncation)
            yield pixels[[seed - batch.start for seed in members]]

    for batch in _in_advance(batches(), max(1, ahead // count)):
        yield from batch


def images_per_pass(config: ModelConfig) -> int:
    """How many consecutive seeds the network computes together: 8 up to 128², fewer above."""
    return max(1, min(_IMAGES_PER_PASS, _PIXELS_PER_PASS // config.image_size**2))


@torch.inference_mode()
def styles(generator: Generator, seeds: Sequence[int]) -> Tensor:
    """w (n, style_dim) of each seed."""
    device = _device(generator)
    with products("float32", device):
        return generator.mapping(latents(seeds, generator.config.style_dim).to(device))


def mean_style(generator: Generator) -> Tensor:
    """The mean w (style_dim,) of :data:`MEAN_SEEDS`: stored with the weights, or else computed."""
    return computed_mean_style(generator) if generator.mean_w is None else generator.mean_w


def computed_mean_style(generator: Generator) -> Tensor:
    """The same, of the mapping network as it is now."""
    return styles(generator, MEAN_SEEDS).mean(0)


def render(generator: Generator, w: Tensor) -> Iterator[np.ndarray]:
    """The image of each row of w (n, style_dim) or (n, latents, style_dim), uint8 (S, S, 3)."""
    for rows in w.split(images_per_pass(generator.config)):
        yield from _pixels(generator, rows)


def _compute(
    generator: Generator, seeds: Sequence[int], mean: Tensor | None, truncation: float | None
) -> np.ndarray:
    """uint8 (n, S, S, 3) on the CPU."""
    w = styles(generator, seeds)
    if mean is not None and truncation is not None:
        w = mean + truncation * (w - mean)
    return _pixels(generator, w)


@torch.inference_mode()
def _pixels(generator: Generator, w: Tensor) -> np.ndarray:
    """uint8 (n, S, S, 3) on the CPU, computed in exact float32 and by deterministic algorithms."""
    with products("float32", w.device, deterministic=True):
        pixels = to_uint8(generator.synthesis(w))
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _device(generator: Generator) -> torch.device:
    return next(generator.parameters()).device


def _in_advance(items: Iterator[np.ndarray], depth: int) -> Iterator[np.ndarray]:
    """The same items; another thread computes up to ``depth`` of them before they are asked for."""
    worker = ThreadPoolExecutor(1)
    try:
        waiting = deque(worker.submit(next, items, None) for _ in range(depth))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(worker.submit(next, items, None))
            yield item
    finally:
        worker.shutdown(cancel_futures=True)
