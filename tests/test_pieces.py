"""Sampling on a CPU works piece by piece: the same images as whole maps, in less memory."""

import pytest
import torch

from stylenat.models import Generator, layers
from tests.tiny import experiment
from tests.weights import fill, normal


@pytest.fixture
def generator() -> Generator:
    generator = Generator(experiment().model).eval().requires_grad_(False)
    generator.load_state_dict(fill(generator.state_dict()))
    return generator


@pytest.mark.parametrize("numbers", [1, 5 * 16 * 3 * 16, 1 << 20])
def test_images_do_not_depend_on_the_size_of_pieces(generator, numbers, monkeypatch):
    z = normal("z", (3, generator.config.style_dim))
    whole = generator(z)  # gradients enabled: no pieces
    monkeypatch.setattr(layers, "PIECE_NUMBERS", numbers)
    with torch.no_grad():
        torch.testing.assert_close(generator(z), whole, rtol=1e-5, atol=2e-5)


def test_pieces_cover_a_map_once_and_are_small():
    x, y = torch.zeros(2, 7, 5, 4), torch.zeros(2, 7, 5, 9)
    number = 2 * 2 * 5 * 16
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "PIECE_NUMBERS", number)
        for a, b in layers.pieces(x, y, channels=16):
            assert a.shape[:3] == b.shape[:3] and a[..., 0].numel() * 16 <= number
            a += 1
            b += 1
    assert (x == 1).all() and (y == 1).all()


def test_gradients_see_whole_maps(generator, monkeypatch):
    monkeypatch.setattr(layers, "PIECE_NUMBERS", 1)
    generator.requires_grad_(True)
    generator(normal("z", (2, generator.config.style_dim))).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())


def test_inputs_are_left_alone(generator):
    z = normal("z", (2, generator.config.style_dim))
    with torch.no_grad():
        first = generator(z)
        assert torch.equal(generator(z), first)
        assert torch.equal(z, normal("z", z.shape))
