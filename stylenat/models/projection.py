"""The w whose picture is nearest to a given one.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (StyleGAN2), CVPR 2020 (arXiv
1912.04958), appendix D. Our generator has no noise maps, so neither are these optimised, nor is there a
term that keeps them noise. For w+ (a w for each block) the same is done again, from the w found, without
noise.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stylenat.models.generator import Generator
from stylenat.models.self_check import check_kernels
from stylenat.precision import products

RATE = 0.1  # largest learning rate
NOISE = 0.05  # of the spread of w, at the start
NOISE_UNTIL, RAMP_UP, RAMP_DOWN = 0.75, 0.05, 0.25  # shares of the iterations


class Spread(NamedTuple):
    """Where w is."""

    mean: Tensor  # (style_dim,)
    distance: float  # root mean square distance of w from the mean

    @classmethod
    def of(cls, w: Tensor) -> "Spread":
        """Of the rows of w (samples, style_dim)."""
        mean = w.mean(0)
        return cls(mean, (w - mean).square().sum(1).mean().sqrt().item())


def project(
    generator: Generator,
    loss: Callable[[Tensor], Tensor],
    start: Tensor,
    noise: float,
    steps: int,
    seed: int,
    report: Callable[[], object] = lambda: None,
) -> Tensor:
    """``start``, w (style_dim,) or (latents, style_dim), moved in ``steps`` iterations so that the
    ``loss`` of its picture gets smaller; ``report`` is called after each.

    ``loss`` turns the generator's output (1, 3, S, S) into a number. In the first three quarters, w is
    looked at with noise of standard deviation ``noise``, ramped down, drawn by ``seed``: the same seed
    gives the same w on the same CPU.
    """
    check_kernels(generator.config, start.device, "float32", gradients=True)
    random = torch.Generator().manual_seed(seed)
    w = start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([w], betas=(0.9, 0.999))
    for step in range(steps):
        time = step / steps
        optimizer.param_groups[0]["lr"] = rate(time)
        drawn = torch.randn(w.shape, generator=random).to(w)
        with torch.enable_grad(), products("float32", w.device, deterministic=True):
            moved = w + noise_share(time) * noise * drawn
            value = loss(generator.synthesis(moved[None]))
            (w.grad,) = torch.autograd.grad(value, w)
        optimizer.step()
        report()
    return w.detach()


def rate(time: float) -> float:
    """The learning rate, up linearly and down by a cosine, at a share of the iterations."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - time) / RAMP_DOWN))
    return RATE * down * min(1.0, time / RAMP_UP)


def noise_share(time: float) -> float:
    """Of the first noise, what is left at a share of the iterations."""
    return max(0.0, 1 - time / NOISE_UNTIL) ** 2
