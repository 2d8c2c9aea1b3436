"""Blocks of the generator that are computed again in the backward pass: the same, in less memory."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from stylenat.models import Generator
from stylenat.training.build import build_trainer
from tests.tiny import experiment
from tests.training_run import ALONE, advance, everything

CONFIG = experiment().model


def outcome(recompute: bool) -> tuple[list[torch.Tensor], int]:
    """Image and gradients; bytes that are kept from the forward pass to the backward pass."""
    torch.manual_seed(0)
    generator = Generator(CONFIG).train()
    generator.recompute_blocks(recompute)
    z = torch.randn(2, CONFIG.style_dim)
    kept: dict[int, int] = {}
    parameters = {p.untyped_storage().data_ptr() for p in generator.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        image = generator(z)
    bytes = sum(kept.values())
    weight = torch.linspace(-1, 1, image.numel()).view_as(image)
    gradients = torch.autograd.grad((image * weight).sum(), list(generator.parameters()))
    return [image.detach(), *gradients], bytes


def test_the_same_gradients_in_a_fraction_of_the_memory():
    (found, less), (expected, more) = outcome(True), outcome(False)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert 0 < less < more / 5, (less, more)


@pytest.mark.parametrize("microbatch", [None, 4])
def test_training_is_the_same_bit_for_bit(microbatch):
    def trained(checkpointed: bool) -> dict[str, torch.Tensor]:
        config = experiment(checkpoint_activations=checkpointed)
        trainer = build_trainer(config, ALONE, microbatch)
        assert all(level.recompute == checkpointed for level in trainer.generator.layers)
        advance(trainer, 2)
        return everything(trainer)

    found, expected = trained(True), trained(False)
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


def test_nothing_is_computed_again_where_there_are_no_gradients(monkeypatch):
    from stylenat.models import generator as module

    monkeypatch.setattr(module, "checkpoint", None)  # calling it would fail
    generator = Generator(CONFIG)
    generator.recompute_blocks(True)
    z = torch.randn(1, CONFIG.style_dim)
    with torch.no_grad():
        generator(z)
    generator.requires_grad_(False)
    generator(z)
