"""Directions in w along which pictures change, found without labels.

Härkönen et al., "GANSpace", NeurIPS 2020 (arXiv 2004.02546): the principal directions of w itself.
Shen and Zhou, "Closed-Form Factorization of Latent Semantics in GANs" (SeFa), CVPR 2021 (arXiv
2007.06600): those that the layers which read w enlarge most.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from stylenat.errors import UserError
from stylenat.models.generator import AdaIN, Generator


class Directions(NamedTuple):
    """Float64, on a CPU, the strongest first."""

    vectors: Tensor  # (n, style_dim), orthonormal
    shares: Tensor  # (n,): of the variance of w, or of the squared gain of the layers
    spreads: Tensor  # (n,): standard deviation of w along each


def principal_directions(w: Tensor, count: int) -> Directions:
    """The ``count`` directions in which the rows of w (samples, style_dim) vary most."""
    centred = _centred(w)
    return _strongest(centred.T @ centred, centred, count)


def style_directions(generator: Generator, w: Tensor, count: int) -> Directions:
    """The ``count`` directions that change the styles of all layers most, for a step of length one:
    eigenvectors of AᵀA, where A holds the weights of all layers that read w, one below the other.

    The rows of w (samples, style_dim) say how far samples lie apart along them.
    """
    layers = [module.style for module in generator.modules() if isinstance(module, AdaIN)]
    weights = torch.cat([layer.weight_scale * layer.weight.double().cpu() for layer in layers])
    return _strongest(weights.T @ weights, _centred(w), count)


def _centred(w: Tensor) -> Tensor:
    w = w.double().cpu()
    return w - w.mean(0)


def _strongest(square: Tensor, centred: Tensor, count: int) -> Directions:
    """Of a symmetric matrix, and the spread of ``centred`` along them."""
    if not 1 <= count <= len(square):
        raise UserError(
            f"{count} directions were asked for, but w has {len(square)} dimensions; "
            f"ask for 1 to {len(square)}."
        )
    values, vectors = torch.linalg.eigh(square)
    vectors = vectors.T.flip(0)[:count]
    # A direction has two signs; the one whose largest number is positive, so that it is always the
    # same.
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    vectors = vectors * largest.sign()
    spreads = (centred @ vectors.T).square().mean(0).sqrt()
    return Directions(vectors, values.flip(0)[:count] / values.sum(), spreads)
