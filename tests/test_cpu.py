"""What is computed otherwise on a CPU gives the same numbers, and the same gradients."""

import copy

import pytest
import torch
from torch import nn

from stylenat.models import Generator, cpu
from stylenat.models.cpu import PixelLinear
from tests.tiny import experiment
from tests.weights import fill, normal


@pytest.fixture
def generator() -> Generator:
    generator = Generator(experiment().model).eval().requires_grad_(False)
    generator.load_state_dict(fill(generator.state_dict()))
    return generator


@pytest.fixture
def calls(monkeypatch) -> list[torch.Size]:
    """Shapes that oneDNN's layer is given."""
    if cpu.ONEDNN is None:
        pytest.skip("this build of PyTorch has no oneDNN")
    shapes = []
    onednn = cpu.ONEDNN

    def counted(x, *arguments):
        shapes.append(x.shape)
        return onednn(x, *arguments)

    monkeypatch.setattr(cpu, "ONEDNN", counted)
    return shapes


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("contiguous", [True, False])
def test_linear_layers_by_onednn_are_pytorchs(calls, bias, contiguous):
    layer, x = PixelLinear(24, 40, bias).eval(), normal("x", (3, 5, 7, 24))
    if not contiguous:
        x = x.transpose(1, 2)

    def outcome(forward):
        inputs = [x.clone().requires_grad_(), *layer.parameters()]
        y = forward(layer, inputs[0])
        return y, *torch.autograd.grad(y.sin().sum(), inputs)

    expected = outcome(nn.Linear.forward)
    assert not calls
    torch.testing.assert_close(outcome(PixelLinear.forward), expected)
    assert len(calls) == 2  # there and back


def test_gradients_that_nobody_needs_are_not_computed(calls):
    layer = PixelLinear(4, 4).eval().requires_grad_(False)
    x = normal("x", (1, 2, 2, 4)).requires_grad_()
    layer(x).sum().backward()
    assert layer.weight.grad is None and x.grad is not None


def test_training_keeps_pytorchs_linear_layers(calls):
    layer, x = PixelLinear(4, 4), normal("x", (1, 2, 2, 4))
    assert torch.equal(layer(x), nn.Linear.forward(layer, x))
    layer.double().eval()(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(x).dtype == torch.bfloat16
    torch.jit.trace(layer, x, check_trace=False)
    assert not calls


def test_images_are_those_of_the_network_in_training(generator, calls):
    z = normal("z", (3, generator.config.style_dim))
    with torch.inference_mode():
        expected = copy.deepcopy(generator).train()(z)
        assert not calls
        torch.testing.assert_close(generator(z), expected, rtol=1e-5, atol=2e-5)
    assert calls


def test_images_without_onednn(generator, monkeypatch):
    z = normal("z", (3, generator.config.style_dim))
    with torch.inference_mode():
        expected = generator(z)
        monkeypatch.setattr(cpu, "ONEDNN", None)
        torch.testing.assert_close(generator(z), expected, rtol=1e-5, atol=2e-5)


def test_sampling_leaves_its_inputs_alone(generator):
    z = normal("z", (2, generator.config.style_dim))
    with torch.inference_mode():
        first = generator(z)
        assert torch.equal(generator(z), first)
        assert torch.equal(z, normal("z", z.shape))


@pytest.mark.parametrize("numbers", [1, 3 * 16 * 16, 1 << 18])
def test_images_do_not_depend_on_how_many_rows_there_are_at_once(generator, numbers, monkeypatch):
    z = normal("z", (3, generator.config.style_dim))
    whole = generator(z)  # gradients enabled: all rows
    monkeypatch.setattr(cpu, "NUMBERS_AT_ONCE", numbers)
    with torch.no_grad():
        torch.testing.assert_close(generator(z), whole, rtol=1e-5, atol=2e-5)


def test_few_rows_are_in_memory_at_once(monkeypatch):
    seen = []

    class Layer:
        @cpu.by_rows
        def forward(self, x):
            seen.append(x.shape)
            return 2 * x

    monkeypatch.setattr(cpu, "NUMBERS_AT_ONCE", 2 * 2 * 5 * 4)
    x = normal("x", (2, 7, 5, 4))
    with torch.no_grad():
        assert torch.equal(Layer().forward(x), 2 * x)
    assert [shape[1] for shape in seen] == [2, 2, 2, 1]
    Layer().forward(x)
    assert seen[-1] == x.shape
