"""Directions in w: what they are, against numpy, and that pictures change along them."""

import numpy as np
import pytest
import torch
from PIL import Image

from stylenat.errors import UserError
from stylenat.io import read_npz
from stylenat.models import load_generator
from stylenat.models.directions import principal_directions, style_directions
from stylenat.models.latents import MEAN_SEEDS, generate, render, styles
from stylenat.steps import directions
from tests.attention import normal


def assert_orthonormal(vectors):
    identity = torch.eye(len(vectors), dtype=torch.float64)
    torch.testing.assert_close(vectors @ vectors.T, identity, rtol=0, atol=1e-12)


def test_principal_directions_are_those_of_a_singular_value_decomposition():
    w = normal("w", (300, 12)) @ normal("mix", (12, 12)) + 5
    found = principal_directions(w, 4)
    assert_orthonormal(found.vectors)
    centred = w.double().numpy() - w.double().numpy().mean(0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    shares = singular**2 / (singular**2).sum()
    np.testing.assert_allclose(found.shares, shares[:4], rtol=1e-10)
    np.testing.assert_allclose(found.spreads, singular[:4] / np.sqrt(300), rtol=1e-10)
    np.testing.assert_allclose(np.abs((found.vectors.numpy() * rows[:4]).sum(1)), 1, rtol=1e-10)
    assert (found.vectors.gather(1, found.vectors.abs().argmax(1)[:, None]) > 0).all()


def test_style_directions_are_those_that_layers_enlarge_most(weights):
    generator = load_generator(weights)
    w = styles(generator, range(64))
    found = style_directions(generator, w, 5)
    assert_orthonormal(found.vectors)
    # How much the styles of all layers change for a step, by the layers themselves.
    layers = [
        m for name, m in generator.named_modules() if name.endswith(("norm1.style", "norm2.style"))
    ]
    assert len(layers) == 12

    def gain(step):
        moved = [layer(w[:1].double() + step) - layer(w[:1].double()) for layer in layers]
        return sum(it.square().sum().item() for it in moved)

    generator.double()
    gains = [gain(vector) for vector in found.vectors]
    total = sum(gain(row) for row in torch.eye(w.shape[1], dtype=torch.float64))
    np.testing.assert_allclose(found.shares, np.array(gains) / total, rtol=1e-6)
    assert gains == sorted(gains, reverse=True)
    for vector in normal("other", (50, w.shape[1])).double():
        assert gain(vector / vector.norm()) < gains[0]


@pytest.mark.parametrize("count", (0, 33))
def test_as_many_directions_as_dimensions_at_most(count):
    with pytest.raises(UserError, match=f"{count} directions were asked for, but w has 32"):
        principal_directions(torch.zeros(5, 32), count)


def test_walks_pass_the_sample_and_change_it(weights):
    generator = load_generator(weights)
    w = styles(generator, MEAN_SEEDS)
    start = styles(generator, [3])[0]
    for found in (principal_directions(w, 2), style_directions(generator, w, 2)):
        path = directions.walks(start, found)
        assert path.shape == (2, len(directions.STEPS), 32)
        assert torch.equal(path[:, directions.STEPS.index(0)], start.expand(2, -1))
        # The units are standard deviations of w along the direction, both ways.
        along = torch.einsum("nsd,nd->ns", (path - start).double(), found.vectors)
        expected = found.spreads[:, None] * torch.tensor(directions.STEPS)
        torch.testing.assert_close(along, expected, rtol=1e-4, atol=1e-5)
        pictures = np.stack(list(render(generator, path[0])))
        sample = next(generate(generator, [3]))
        change = np.abs(pictures.astype(int) - sample).mean((1, 2, 3))
        middle = directions.STEPS.index(0)
        assert change[middle] < 0.5 < min(change[0], change[-1])
        # The further, the more.
        assert change[0] > change[1] > change[2] and change[-1] > change[-2] > change[-3]


def test_the_step_writes_pictures_and_vectors(weights, tmp_path):
    options = {"principal": tmp_path / "p.png", "style": tmp_path / "s.png"}
    vectors = tmp_path / "v.npz"
    directions.run(weights=weights, device="cpu", count=3, seed=7, vectors=vectors, **options)
    for path in options.values():
        with Image.open(path) as image:
            assert image.text["seed"] == "7" and "10000 samples" in image.text["unit"]
    arrays, record = read_npz(vectors)
    assert record["samples"] == 10_000
    assert arrays["principal_vectors"].shape == arrays["style_vectors"].shape == (3, 32)
    assert not np.allclose(arrays["principal_vectors"], arrays["style_vectors"])
    assert 0 < arrays["style_shares"].sum() < 1 and (arrays["principal_spreads"] > 0).all()
