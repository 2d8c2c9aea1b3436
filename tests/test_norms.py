"""The norms of the two networks, whose derivatives are in closed form."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm

from stylenat.models import Discriminator, cpu, instance_norm
from stylenat.models.instance_norm import EPSILON, InstanceNorm, _normalise, parts
from stylenat.models.spectral import normalise, with_norm
from tests.tiny import SIZE, experiment
from tests.weights import normal


def maps(*sides: int) -> list[torch.Tensor]:
    """x (2, 5, 3, 4), or of other sides, far from zero mean, and its style."""
    shape = sides or (2, 5, 3, 4)
    shapes = {"x": shape, "style": (shape[0], 2 * shape[3])}
    return [(5 + normal(*item).double()).requires_grad_() for item in shapes.items()]


def test_instance_norm_is_pytorchs():
    x, style = maps()
    gamma, beta = parts(style)
    expected = torch.nn.functional.instance_norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(InstanceNorm.apply(x, style), expected * gamma + beta)


def test_derivatives_of_the_instance_norm():
    assert torch.autograd.gradcheck(InstanceNorm.apply, maps())


def test_both_ways_to_normalise_agree():
    x, style = maps()
    ways = [each(x, *parts(style), EPSILON) for each in (cpu.normalise, _normalise)]
    for one, other in zip(*ways, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("sides", [(2, 5, 3, 4), (3, 26, 25, 8), (2, 3, 2, 130)])
@pytest.mark.parametrize("whole", [True, False], ids=["style", "part of all styles"])
def test_the_kernels_are_the_steps(sides, whole, monkeypatch):
    """Values and gradients in Triton's interpreter, or on a GPU; the steps in float64."""
    kernels = pytest.importorskip("stylenat.models.instance_norm_ops")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs = maps(*sides)
    grad = normal("grad", sides).double()

    def outcome(dtype: torch.dtype, device: str) -> list[torch.Tensor]:
        x, style = (value.detach().to(device, dtype).requires_grad_() for value in inputs)
        given = style if whole else torch.cat((style, style), 1)[:, : style.shape[1]]
        y = InstanceNorm.apply(x, given)
        return [y.detach(), *torch.autograd.grad(y, (x, style), grad.to(y))]

    expected = outcome(torch.float64, "cpu")
    monkeypatch.setattr(instance_norm, "kernels", lambda x: kernels)
    for found, exact in zip(outcome(torch.float32, device), expected, strict=True):
        assert (found.double().cpu() - exact).abs().max() <= 2e-5 * exact.abs().max()


def outputs(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Of a layer with PyTorch's spectral norm, or with ours."""
    if not hasattr(layer, "scale"):
        return layer(x)
    normalise([layer], 1)
    return layer(x) * layer.scale


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", [nn.Conv2d(5, 7, 3, bias=False), nn.Linear(6, 3, bias=False)])
def test_spectral_norm_is_pytorchs(layer, training):
    """Outputs, gradients and vectors, over several power iterations."""
    ours = with_norm(copy.deepcopy(layer).double()).train(training)
    normalise([ours], 1)
    theirs = spectral_norm(copy.deepcopy(layer).double()).train(training)
    theirs.load_state_dict(ours.state_dict())
    x = normal("x", (4, *layer.weight.shape[1:])).double()
    if not training:  # the two definitions of the norm agree where u belongs to v
        for each in (ours, theirs):
            outputs(each.train(), x)
            each.eval()
    for _ in range(3):
        found, expected = outputs(ours, x), outputs(theirs, x)
        torch.testing.assert_close(found, expected)
        for each, y in ((ours, found), (theirs, expected)):
            each.zero_grad()
            y.square().sum().backward()
        torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("frozen", [0, 1])
def test_passes_in_one_batch_are_passes_one_after_the_other(frozen):
    """Logits, gradients and the vectors of the spectral norms."""
    networks = [Discriminator(experiment().discriminator).double() for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    images = normal("images", (3 * 8, 3, SIZE, SIZE)).double()
    weights = normal("weights", (3 * 8, 1)).double()
    together, apart = networks
    for network in networks:
        network.requires_grad_(False)
        for parameter in network.trainable(frozen):
            parameter.requires_grad_(True)
    found = together(images, 3)
    expected = torch.cat([apart(part) for part in images.chunk(3)])
    torch.testing.assert_close(found, expected)
    for logits in (found, expected):
        (logits * weights).sum().backward()
    for (name, one), other in zip(together.named_parameters(), apart.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None) == (not one.requires_grad), name
        torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(together.state_dict(), apart.state_dict())


def test_some_passes_are_those_of_all():
    """Logits, gradients and the vectors of the spectral norms."""
    networks = [Discriminator(experiment().discriminator).double() for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    before = copy.deepcopy(networks[0].state_dict())
    images = normal("images", (4 * 8, 3, SIZE, SIZE)).double().chunk(4)
    weights = normal("weights", (4 * 8, 1)).double().chunk(4)
    together, apart = networks
    expected = together(torch.cat(images), 4).chunk(4)
    torch.autograd.backward(expected, weights)
    for which in (slice(0, None, 2), slice(1, None, 2)):
        apart.load_state_dict(before)
        found = apart(torch.cat(images[which]), 4, which).chunk(2)
        torch.testing.assert_close(found, expected[which])
        torch.autograd.backward(found, weights[which])
        torch.testing.assert_close(together.state_dict(), apart.state_dict())
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
