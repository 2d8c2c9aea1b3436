"""Order, flips and batches for training: pure functions of (seed, step)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylenat.data import loader
from stylenat.data.loader import Loader, mirror
from stylenat.data.sampler import batch_indices, epoch_indices, flips
from stylenat.data.store import ImageStore
from stylenat.data.writer import write_store
from stylenat.errors import UserError

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**31)


@settings(deadline=None)  # says nothing about speed
@given(count=sizes, batch_size=sizes, seed=seeds)
def test_every_image_once_per_epoch_whatever_the_batch(count, batch_size, seed):
    steps = -(-3 * count // batch_size)
    stream = np.concatenate([batch_indices(count, batch_size, t, seed) for t in range(steps)])
    for epoch in range(3):
        seen = stream[epoch * count : (epoch + 1) * count]
        assert np.array_equal(np.sort(seen), np.arange(count))
        assert np.array_equal(seen, epoch_indices(count, epoch, seed))


def test_order_depends_on_seed_and_epoch_and_not_on_what_was_asked_before():
    first = batch_indices(1000, 16, 300, seed=1)
    batch_indices(1000, 16, 5, seed=2)
    assert np.array_equal(first, batch_indices(1000, 16, 300, seed=1))
    assert not np.array_equal(first, batch_indices(1000, 16, 300, seed=2))
    assert not np.array_equal(epoch_indices(1000, 0, 1), epoch_indices(1000, 1, 1))


def test_batch_size_does_not_change_the_stream():
    stream = [np.concatenate([batch_indices(50, b, t, 7) for t in range(96 // b)]) for b in (8, 32)]
    assert np.array_equal(*stream)


def test_flips_are_fair_and_repeatable():
    drawn = np.stack([flips(3, step, 64) for step in range(200)])
    assert abs(drawn.mean() - 0.5) < 0.02
    assert np.array_equal(drawn[50], flips(3, 50, 64))
    assert not np.array_equal(drawn[50], drawn[51])
    assert not np.array_equal(drawn[50], flips(4, 50, 64))


def test_mirror_flips_only_the_chosen():
    images = torch.arange(2 * 3 * 2 * 4).reshape(2, 3, 2, 4).to(torch.uint8)
    mirrored = mirror(images, torch.tensor([False, True]))
    assert torch.equal(mirrored[0], images[0])
    assert torch.equal(mirrored[1, :, :, 0], images[1, :, :, 3])


@pytest.fixture
def path(tmp_path):
    random = np.random.default_rng(0)
    images = (random.integers(0, 256, (72, 72, 3), dtype=np.uint8) for _ in range(11))
    write_store(tmp_path / "x.lmdb", images, {"name": "x"})
    return tmp_path / "x.lmdb"


@pytest.mark.parametrize("mode", ["memory", "in process", "two workers"])
def test_batches_from_any_step_on(path, mode, monkeypatch):
    if mode != "memory":
        monkeypatch.setattr(loader, "_CACHE_BYTES", 0)
    store = ImageStore(path)
    expected = [batch_indices(11, 4, step, seed=5) for step in range(20)]
    workers = 2 if mode == "two workers" else 0
    batches = iter(Loader(path, lambda step: expected[step], start_step=3, workers=workers))
    kept = {step: next(batches) for step in range(3, 12)}
    for step, batch in kept.items():  # a later one is not written into an earlier one
        assert batch.dtype == torch.uint8
        assert batch.shape == (4, 3, 72, 72)
        pixels = np.stack([store.read(index) for index in expected[step]])
        assert np.array_equal(batch.permute(0, 2, 3, 1).numpy(), pixels)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_reaches_the_trainer_as_one_sentence(path, workers, monkeypatch):
    monkeypatch.setattr(loader, "_CACHE_BYTES", 0)
    value = ImageStore(path).encoded(3)
    path.write_bytes(path.read_bytes().replace(value[:64], bytes(64)))
    batches = iter(Loader(path, lambda step: np.array([3]), workers=workers))
    with pytest.raises(UserError, match="image 3 cannot be read") as caught:
        next(batches)
    assert "\n" not in str(caught.value)
