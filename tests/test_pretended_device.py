"""Training, sampling and features on a device that is not there: nothing is mixed up, no copy is
forgotten, and the host waits where it has to and nowhere else."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from benchmarks.pretended import DEVICE, Watch, pretended
from stylenat import images
from stylenat.metrics.extractors.features import Extractor
from stylenat.metrics.extractors.inception import Inception
from stylenat.metrics.extractors.lite0 import Lite0
from stylenat.models import Generator, latents
from stylenat.models.attention_maps import record_attention
from stylenat.training import augment, distributed
from stylenat.training.augment import ada, bcr
from stylenat.training.build import build_trainer
from stylenat.training.distributed import World
from stylenat.training.loop import TrainingLoop
from stylenat.training.trainer import Trainer
from tests.project import run
from tests.tiny import SIZE, experiment

WORLD = World(0, 1, DEVICE)
R1_STEP, PLAIN_STEP = 4, 5


def train(monkeypatch, step: int, trainer: Trainer | None = None, **settings) -> Watch:
    """One iteration as the loop does it, after one in which optimisers come into being."""
    trainer = trainer or build_trainer(experiment(**settings), WORLD)
    if trainer.ada:
        trainer.ada._p = 0.5  # as if read before: else nothing would be augmented
    loop = SimpleNamespace(trainer=trainer, world=WORLD)
    pixels = torch.zeros(8, 3, SIZE, SIZE, dtype=torch.uint8)
    with pretended() as watch:
        for _ in range(2):
            trainer.step = step
            watch.events.clear()
            watch.launches.clear()
            record = TrainingLoop._iterate(loop, WORLD.to_device(pixels))
    assert ("r1" in record) == (step == R1_STEP)
    assert {value.device for value in record.values() if isinstance(value, torch.Tensor)} == {
        DEVICE
    }
    return watch


@pytest.mark.parametrize(
    ("step", "settings"),
    [
        (PLAIN_STEP, {}),
        (R1_STEP, {}),
        (R1_STEP, {"augment": "diffaugment"}),
        (R1_STEP, {"augment": "ada"}),
        (PLAIN_STEP, {"checkpoint_activations": True}),
    ],
    ids=["plain", "R1 and bCR", "R1 and DiffAugment", "R1 and ADA", "checkpointed"],
)
def test_nothing_waits_in_an_iteration(monkeypatch, step, settings):
    watch = train(monkeypatch, step, **settings)
    assert watch.events == []
    assert watch.launches.total() > 500, "it was watched"


def test_sampling_waits_for_its_noise_and_its_pixels(monkeypatch):
    generator = Generator(experiment().model).eval().requires_grad_(False).to(DEVICE)
    with pretended() as watch:
        pixels = latents._compute(generator, range(4), None, None)
    assert pixels.shape == (4, SIZE, SIZE, 3) and pixels.dtype == np.uint8
    assert watch.count() == {("wait", "latents.py"): 2}


@pytest.mark.parametrize("network", [Lite0, Inception])
def test_features_wait_for_their_images_and_their_vectors(monkeypatch, network):
    # Whatever the weights are: none are computed with.
    monkeypatch.setattr(network, "load_weights", lambda self, weights: self.eval())
    net = network({}).requires_grad_(False).to(DEVICE)
    with pretended() as watch:
        found = Extractor("x", "", net)(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert found.shape == (2, network.dimension) and found.dtype == np.float32
    assert watch.count() == {("wait", "base.py"): 1, ("wait", "features.py"): 1}


def test_attention_maps_wait_for_what_they_keep(monkeypatch):
    generator = Generator(experiment().model).eval().requires_grad_(False).to(DEVICE)
    w = torch.zeros(1, generator.config.style_dim, device=DEVICE)
    with pretended() as watch:
        image, blocks = record_attention(generator, w)
    assert image.device == DEVICE and blocks
    assert {block.q.device.type for block in blocks} == {"cpu"}
    assert watch.count().keys() == {("wait", "attention_maps.py")}


def test_launches_are_counted_by_part(tmp_path):
    done = run(
        *("python", "-m", "benchmarks.launches", "--cases", "faces32:4", "--output", str(tmp_path))
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "launches.json").read_text())["rows"]
    # Other: the sum of the optimiser steps that were skipped.
    parts = ("discriminator", "R1", "generator", "average", "other")
    assert row["launches"].keys() == set(parts) and row["launches"]["other"] <= 3
    plain = sum(row["launches"].values()) - row["launches"]["R1"]
    assert row["launches_plain"] == plain == sum(row["operations"].values())
    assert row["waits"] == 0
    memory = [row[f"memory_{name}gb"] for name in ("checkpointed_one_", "checkpointed_", "")]
    assert 0 < memory[0] <= memory[1] < memory[2] < 1


# ------------------------------------------------------------------------ planted mistakes


def test_mixed_devices_are_caught(monkeypatch):
    """Constants that stay on the host."""

    def channels(values, like):
        return torch.tensor(values, dtype=like.dtype).view(1, 3, 1, 1)

    monkeypatch.setattr(images, "_channels", channels)
    events = train(monkeypatch, PLAIN_STEP).events
    assert {event.kind for event in events} == {"mixed devices"}
    assert all(event.place.startswith("images.py:") for event in events)


def test_a_forgotten_copy_is_caught(monkeypatch):
    """Parameters that nobody moved, until an operation asks for them one by one."""

    def stay(world, arrays):
        return {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}

    monkeypatch.setattr(World, "all_to_device", stay)
    watch = train(monkeypatch, PLAIN_STEP)
    assert watch.count() == {("wait", "bcr.py"): 2 * 8}


def test_a_number_that_is_read_is_caught(monkeypatch):
    """Whether the gradients are finite, asked by the host: three times with R1."""
    trainer = build_trainer(experiment(), WORLD)
    trainer.device_decides = False
    watch = train(monkeypatch, R1_STEP, trainer)
    assert watch.count() == {("wait", "trainer.py"): 3}
    assert {event.operation for event in watch.events} == {"_local_scalar_dense"}


def test_a_copy_of_memory_that_is_not_pinned_is_caught(monkeypatch):
    def unpinned(tensor, device):
        return tensor.to(device, non_blocking=True)

    for module in (distributed, ada):
        monkeypatch.setattr(module, "to_device", unpinned)
    watch = train(monkeypatch, PLAIN_STEP)
    assert {event.operation for event in watch.events} == {"_to_copy from the host, not pinned"}


def test_an_augmentation_that_reads_is_caught(monkeypatch):
    apply = bcr.apply

    def reading(x, draws):
        return apply(x, draws) if float(x.mean()) > 0 else x

    monkeypatch.setattr(augment.bcr, "apply", reading)
    assert len(train(monkeypatch, PLAIN_STEP).events) == 2
