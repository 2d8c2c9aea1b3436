"""Training: schedules, augmentation, random numbers, skipped steps and exact continuation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from stylenat.records import DataIdentity
from stylenat.training import noise, schedule
from stylenat.training.augment import Augmentation
from stylenat.training.augment.bcr import Draws, apply, draw
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import load_state, restore, save_state
from stylenat.training.distributed import World
from stylenat.training.noise import Purpose
from tests.tiny import SIZE, experiment
from tests.training_run import ALONE, CPU, advance, everything, reals

# ---------------------------------------------------------------------------- schedules


def test_learning_rate_is_a_function_of_the_step():
    config = replace(experiment().training, lr_decay_start=775_000, lr_decay_end=1_000_000)
    assert schedule.lr_factor(config, 0) == 1
    assert schedule.lr_factor(config, 775_000) == 1
    assert schedule.lr_factor(config, 887_500) == 0.5
    assert schedule.lr_factor(config, 999_999) == pytest.approx(1 / 225_000)
    constant = replace(config, lr_decay_start=None, lr_decay_end=None)
    assert schedule.lr_factor(constant, 10**9) == 1


def test_published_decay_and_correction():
    config = replace(experiment().training, ema_half_life=312.5, r1_interval=16)
    assert schedule.ema_decay(config, 0) == 0.5 ** (32 / 10_000)
    assert schedule.lazy_correction(config) == 16 / 17


# ------------------------------------------------------------------------- first weights


def test_the_generator_starts_from_the_configured_weights():
    settings = experiment(weight_std=0.1, rgb_gain=0.5, position_scale=0.25)
    weights = build_trainer(settings, ALONE).generator.state_dict()

    linear = torch.cat([w.flatten() for name, w in weights.items() if ".mlp.fc1.weight" in name])
    assert linear.std().item() == pytest.approx(0.1, rel=0.1)
    scales = [w for name, w in weights.items() if name.endswith("upsample.alpha")]
    assert scales and all(w.item() == 0.25 for w in scales)
    colours = [w for name, w in weights.items() if name.endswith("conv.weight")]
    # Xavier: gain * sqrt(2 / (fan_in + fan_out)); 8 channels to 3.
    deviation = torch.cat([w.flatten() for w in colours]).std().item()
    assert deviation == pytest.approx(0.5 * math.sqrt(2 / 11), rel=0.3)


# ------------------------------------------------------------------------- augmentation


def identity_draws(batch: int) -> dict[str, torch.Tensor]:
    none = torch.zeros(batch, dtype=torch.int64)
    return {
        "flip": torch.zeros(batch, dtype=torch.bool),
        "shift_y": none,
        "shift_x": none,
        "brightness": torch.zeros(batch),
        "saturation": torch.ones(batch),
        "contrast": torch.ones(batch),
        "cut_y": none + SIZE,  # outside
        "cut_x": none + SIZE,
    }


def test_augmentation_one_operation_at_a_time():
    x = reals(0, 2)
    same = identity_draws(2)

    def augmented(**changes):
        return apply(x, Draws(**same | {k: torch.tensor(v) for k, v in changes.items()}))

    torch.testing.assert_close(augmented(), x)
    torch.testing.assert_close(augmented(flip=[True, False])[0], x[0].flip(2))
    torch.testing.assert_close(augmented(brightness=[0.25, 0.0])[0], x[0] + 0.25)
    grey = x[0].mean(0, keepdim=True).expand(3, -1, -1)
    torch.testing.assert_close(augmented(saturation=[0.0, 1.0])[0], grey)
    mean = x[0].mean()
    torch.testing.assert_close(augmented(contrast=[0.5, 1.0])[0], mean + 0.5 * (x[0] - mean))
    shifted = augmented(shift_y=[2, 0], shift_x=[-1, 0])[0]
    torch.testing.assert_close(shifted[:, 2:, :-1], x[0, :, :-2, 1:])
    assert not shifted[:, :2].any() and not shifted[:, :, -1].any()
    cut = augmented(cut_y=[-3, SIZE], cut_x=[10, SIZE])[0]
    assert not cut[:, :5, 10:].any()
    torch.testing.assert_close(cut[:, 5:], x[0, :, 5:])
    torch.testing.assert_close(cut[:, :, :10], x[0, :, :, :10])


def test_augmentation_draws_have_the_stated_ranges():
    values = draw(np.random.default_rng(0), 20_000, 32)
    assert values["flip"].mean() == pytest.approx(0.5, abs=0.02)
    for key, low, high in (
        ("shift_y", -4, 4),
        ("shift_x", -4, 4),
        ("cut_y", -8, 24),
        ("cut_x", -8, 24),
    ):
        assert (values[key].min(), values[key].max()) == (low, high)
    for key, low, high in (("brightness", -0.5, 0.5), ("saturation", 0, 2), ("contrast", 0.5, 1.5)):
        assert low <= values[key].min() < low + 0.01 and high - 0.01 < values[key].max() <= high
        assert values[key].mean() == pytest.approx((low + high) / 2, abs=0.03)


def test_reals_and_fakes_are_augmented_independently():
    augment = Augmentation("bcr", 0, 5, 4, ALONE)
    x = reals(0, 4)
    assert not torch.equal(augment(x, Purpose.AUGMENT_REAL), augment(x, Purpose.AUGMENT_FAKE))


def test_ranks_share_out_the_same_random_numbers():
    whole = noise.draw_z(1, 7, Purpose.GENERATOR_Z, (8, 4), ALONE)
    x = reals(1, 8)
    augmented = Augmentation("bcr", 1, 7, 8, ALONE)(x, Purpose.AUGMENT_REAL)
    for rank in range(4):
        world = World(rank, 4, CPU)
        part = noise.draw_z(1, 7, Purpose.GENERATOR_Z, (8, 4), world)
        assert torch.equal(part, whole[rank::4])
        share = Augmentation("bcr", 1, 7, 8, world)(x[rank::4], Purpose.AUGMENT_REAL)
        torch.testing.assert_close(share, augmented[rank::4])


def test_random_streams_differ_by_step_purpose_and_seed():
    draws = {
        tuple(noise.stream(seed, step, purpose).integers(0, 2**62, 2))
        for seed in (0, 1)
        for step in (0, 1, 2)
        for purpose in Purpose
    }
    assert len(draws) == 2 * 3 * len(Purpose)


# ------------------------------------------------------------------------- continuation


@pytest.mark.parametrize("microbatch", [None, 3])
def test_any_chain_of_pieces_equals_one_run(tmp_path, microbatch):
    config = experiment()
    straight = build_trainer(config, ALONE, microbatch)
    advance(straight, 9)
    path = tmp_path / "x.state"
    trainer = build_trainer(config, ALONE, microbatch)
    for until in (4, 5, 9):
        advance(trainer, until)
        save_state(path, trainer, config, DataIdentity(name="dots"))
        trainer = build_trainer(experiment(), ALONE, microbatch)
        restore(trainer, load_state(path))
    assert trainer.step == 9
    found, expected = everything(trainer), everything(straight)
    assert found.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


# --------------------------------------------------------------------------- skipped steps


def test_a_step_without_finite_gradients_is_skipped():
    config = experiment()
    trainer = build_trainer(config, ALONE)
    before = everything(trainer)
    broken = torch.full((8, 3, SIZE, SIZE), math.nan)
    z = torch.zeros(8, 8)
    record = trainer.iteration(broken, z, z, lambda images, *_: images)
    assert record["skipped"] == 2  # D's step and its R1 step; G never saw the reals
    for key, value in everything(trainer).items():
        assert torch.isfinite(value).all(), key
        if key.startswith("discriminator.") and key.endswith(("orig", "bias")):
            assert torch.equal(value, before[key]), key
