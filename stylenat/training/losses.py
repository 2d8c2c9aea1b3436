"""The losses of StyleNAT's training (paper, section 4), as functions of tensors."""

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(real: Tensor | None = None, fake: Tensor | None = None) -> Tensor:
    """Non-saturating loss of logits (B, 1): mean softplus(−real) + mean softplus(fake); where only one
    of the two is given, its term alone."""
    signed = [] if real is None else [-real]
    signed += [] if fake is None else [fake]
    return reduce(torch.add, [F.softplus(logits).mean() for logits in signed])


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating loss of logits (B, 1): mean softplus(−fake)."""
    return F.softplus(-fake).mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], reals: Tensor) -> Tensor:
    """E‖∇D‖² over reals (B, 3, S, S), differentiable in D (Mescheder et al. 2018)."""
    reals = reals.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(reals).sum(), reals, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
