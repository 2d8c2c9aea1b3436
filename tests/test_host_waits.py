"""The host waits for a GPU seldom, and nothing that is computed changes for it; tried on a CPU."""

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from stylenat.errors import UserError
from stylenat.training.augment import Augmentation
from stylenat.training.augment.ada import AdaptiveProbability
from stylenat.training.build import build_trainer
from stylenat.training.distributed import World
from stylenat.training.loop import READ_EVERY, SAVE, STOP, TrainingLoop
from stylenat.training.noise import Purpose
from stylenat.training.trainer import Trainer
from tests.tiny import experiment
from tests.training_loop import failing, make_loop, run, stop
from tests.training_run import ALONE, CPU, advance, everything

pytestmark = pytest.mark.usefixtures("handlers")


@pytest.fixture
def device_decides(monkeypatch):
    """A CPU that decides like a GPU whether a step is taken, and is read as seldom."""
    original = Trainer.__init__

    def initialise(self, *arguments, **options):
        original(self, *arguments, **options)
        self.device_decides = True

    monkeypatch.setattr(Trainer, "__init__", initialise)
    initial = TrainingLoop.__init__

    def initialise_loop(self, *arguments, **options):
        initial(self, *arguments, **options)
        self.read_every = READ_EVERY

    monkeypatch.setattr(TrainingLoop, "__init__", initialise_loop)


def test_a_device_that_decides_takes_the_same_steps():
    """Bit for bit, a skipped one among them."""

    def trained(decides: bool) -> tuple[dict[str, torch.Tensor], float]:
        trainer = build_trainer(experiment(), ALONE)
        trainer.device_decides = decides
        advance(trainer, 2)
        nothing = torch.full((8, 3, 16, 16), torch.nan)
        z = torch.ones(8, 8)
        record = trainer.iteration(nothing, z, z, lambda images, *_: images)
        advance(trainer, 5)
        return everything(trainer), float(record["skipped"])

    (found, skipped), (expected, also_skipped) = trained(True), trained(False)
    assert skipped == also_skipped == 1
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


def test_what_was_skipped_is_read_a_few_iterations_later(tmp_path, monkeypatch, device_decides):
    stop(tmp_path, 12, until=60)
    failing(monkeypatch, first=15, times=40)
    loop = make_loop(tmp_path, until=60)
    with pytest.raises(UserError, match=r"any of the iterations 15 to 34 \(at 15: loss_d nan"):
        run(loop)
    assert 34 < loop.trainer.step <= 35 + READ_EVERY


def test_a_state_is_not_saved_before_the_latest_iterations_are_read(
    tmp_path, monkeypatch, device_decides
):
    failing(monkeypatch, first=3, times=2)
    loop = make_loop(tmp_path, until=12)
    saved = []
    monkeypatch.setattr(loop.states, "save", lambda trainer: saved.append(trainer.step))
    reals = loop.batches(0)
    for _ in range(4):
        loop.unread.append(loop._iterate(next(reals)))
    loop._save()
    assert saved == [] and loop.skipped, "it may be beyond repair"
    loop.unread.append(loop._iterate(next(reals)))
    loop._save()
    assert saved == []
    loop.unread.append(loop._iterate(next(reals)))
    loop._save()
    assert saved == [6] and not loop.skipped


def test_several_ranks_are_asked_at_the_same_iterations():
    asked = []
    world = SimpleNamespace(size=2, highest=lambda request: asked.append(request) or request)
    loop = SimpleNamespace(world=world, read_every=READ_EVERY, trainer=SimpleNamespace(step=0))
    answers = []
    for step in range(13, 18):
        loop.trainer.step = step
        answers.append(TrainingLoop._agree(loop, STOP))
    assert answers == [0, 0, 0, STOP, 0] and asked == [STOP]
    world.size = 1
    assert TrainingLoop._agree(loop, SAVE) == SAVE, "alone, at once"


def test_a_cpu_is_read_at_every_iteration(tmp_path):
    loop = make_loop(tmp_path)
    assert loop.read_every == 1 and not loop.trainer.device_decides


class Counting(World):
    """A world that counts what is moved."""

    moved: ClassVar[list] = []

    def to_device(self, tensor):
        self.moved.append(tensor)
        return super().to_device(tensor)


def test_arrays_move_in_one_copy():
    world = Counting(0, 1, CPU)
    world.moved.clear()
    arrays = {
        "flags": np.array([True, False, True]),
        "whole": np.arange(6).reshape(2, 3)[:, ::2],
        "single": np.array([0.1, -0.2, 3], np.float32),
        "double": np.array([[1 / 3]]),
    }
    found = world.all_to_device(arrays)
    assert len(world.moved) == 1
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        expected = torch.from_numpy(array.copy())
        assert found[name].dtype == expected.dtype and torch.equal(found[name], expected), name


@pytest.mark.parametrize("kind", ["bcr", "diffaugment"])
def test_parameters_of_an_augmentation_move_in_one_copy(kind):
    world = Counting(0, 1, CPU)
    world.moved.clear()
    augment = Augmentation(kind, 0, 3, 8, world)
    augment(torch.zeros(8, 3, 16, 16), Purpose.AUGMENT_REAL)
    assert len(world.moved) == 1


def test_the_probability_of_ada_is_read_when_it_may_have_changed():
    control = AdaptiveProbability(0.6, 100, 10, CPU)
    assert control.p == 0.0
    control.state = None  # reading it would fail
    assert control.p == 0.0
    control.state = torch.zeros(2, dtype=torch.float64)
    for step in range(4):
        control.update(torch.tensor(1.0), step)
    assert control.p == pytest.approx(0.4)
    control.restore(torch.tensor([0.25, 0.0], dtype=torch.float64))
    assert control.p == 0.25
