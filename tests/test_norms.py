"""The norms of the two networks, whose derivatives are in closed form."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm

from stylenat.models.discriminator import _normalised
from stylenat.models.generator import InstanceNorm, _normalise, _normalise_at_once
from tests.weights import normal


def maps() -> list[torch.Tensor]:
    """x (2, 5, 3, 4) far from zero mean, gamma and beta (2, 1, 1, 4)."""
    shapes = {"x": (2, 5, 3, 4), "gamma": (2, 1, 1, 4), "beta": (2, 1, 1, 4)}
    return [(5 + normal(*item).double()).requires_grad_() for item in shapes.items()]


def test_instance_norm_is_pytorchs():
    x, gamma, beta = maps()
    expected = torch.nn.functional.instance_norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(InstanceNorm.apply(x, gamma, beta), expected * gamma + beta)


def test_derivatives_of_the_instance_norm():
    assert torch.autograd.gradcheck(InstanceNorm.apply, maps())


def test_both_ways_to_normalise_agree():
    for one, other in zip(_normalise(*maps()), _normalise_at_once(*maps()), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", [nn.Conv2d(5, 7, 3, bias=False), nn.Linear(6, 3)])
def test_spectral_norm_is_pytorchs(layer, training):
    """Weights, gradients and vectors, over several power iterations."""
    ours = _normalised(copy.deepcopy(layer).double()).train(training)
    theirs = spectral_norm(copy.deepcopy(layer).double()).train(training)
    theirs.load_state_dict(ours.state_dict())
    x = normal("x", (4, *layer.weight.shape[1:])).double()
    if not training:  # the two definitions of the norm agree where u belongs to v
        for each in (ours, theirs):
            each.train()(x)
            each.eval()
    for _ in range(3):
        for each in (ours, theirs):
            each.zero_grad()
            each(x).square().sum().backward()
        torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
