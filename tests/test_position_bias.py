"""``relative_position_bias: false``: the same generator without the hydra levels' tables."""

import dataclasses

import pytest
import torch

from stylenat import interop
from stylenat.errors import UserError
from stylenat.models import Generator, load_generator, read_header, save_generator
from stylenat.records import Provenance
from tests.tiny import experiment
from tests.weights import fill, normal

WITH = experiment().model
WITHOUT = dataclasses.replace(WITH, relative_position_bias=False)


def filled(config) -> Generator:
    generator = Generator(config).eval()
    generator.load_state_dict(fill(generator.state_dict()))
    return generator


def test_only_the_tables_of_the_hydra_levels_are_gone():
    keys = {config: set(Generator(config).state_dict()) for config in (WITH, WITHOUT)}
    gone = keys[WITH] - keys[WITHOUT]
    assert gone == {key for key in keys[WITH] if ".attn.rpb." in key} != set()
    assert keys[WITHOUT] < keys[WITH]


def test_no_bias_is_a_bias_of_zero():
    z = normal("z", (2, WITH.style_dim))
    zero, without = filled(WITH), filled(WITHOUT)
    assert not torch.allclose(zero(z), without(z), atol=1e-4)
    with torch.no_grad():
        for name, parameter in zero.named_parameters():
            if ".attn.rpb." in name:
                parameter.zero_()
    torch.testing.assert_close(zero(z), without(z), rtol=1e-5, atol=1e-5)


def test_it_trains_and_survives_its_file(tmp_path):
    generator, z = filled(WITHOUT), normal("z", (2, WITH.style_dim))
    generator(z).square().mean().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())
    path = tmp_path / "weights.safetensors"
    save_generator(path, generator, Provenance())
    assert read_header(path)[0] == WITHOUT
    with torch.no_grad():
        torch.testing.assert_close(load_generator(path)(z), generator(z))


def test_the_reference_has_no_such_model(tmp_path):
    networks = {"g_ema": Generator(WITHOUT).state_dict()}
    with pytest.raises(UserError, match="no model without relative position bias"):
        interop.write_checkpoint(tmp_path / "x.pt", WITHOUT, networks, {})
