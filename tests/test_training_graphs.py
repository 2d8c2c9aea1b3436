"""Iterations that are recorded as CUDA graphs, as far as that can be tried without a GPU: on a CPU, what
one would play back runs again on the memory that it would use; on a pretended device, what would be
recorded is the same in every iteration."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stylenat.errors import UserError
from stylenat.training import trainer as module
from stylenat.training.augment import Augmentation
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import load_state, restore, save_state
from stylenat.training.distributed import World
from stylenat.training.graphs import Graphs
from stylenat.training.loop import TrainingLoop
from stylenat.training.trainer import Trainer
from tests.tiny import SIZE, experiment
from tests.training_run import ALONE, CPU, Repeated, advance, everything

STEPS = {"_discriminator_step", "_r1_step", "_generator_step"}
# Rates that float32 holds exactly, as the device gets them.
EXACT = {"generator_lr": 2**-10, "discriminator_lr": 2**-10, "r1_interval": 3, "lr_decay_end": 36}


def make(execution: str, microbatch: int | None = None, **settings) -> Trainer:
    trainer = build_trainer(experiment(**EXACT | settings), ALONE, microbatch, execution)
    trainer.device_decides = True
    return trainer


@pytest.mark.parametrize(
    ("microbatch", "settings"),
    [(None, {}), (3, {}), (None, {"augment": "diffaugment", "checkpoint_activations": True})],
    ids=["bCR", "in pieces", "DiffAugment, checkpointed"],
)
def test_on_the_same_memory_iterations_are_the_same_bit_for_bit(monkeypatch, microbatch, settings):
    """Weights and records, an iteration without a finite gradient among them."""

    def trained(execution: str) -> tuple[dict, list[dict]]:
        trainer = make(execution, microbatch, **settings)
        records, iteration = [], trainer.iteration
        trainer.iteration = lambda *inputs: records.append(iteration(*inputs))
        advance(trainer, 6)
        nothing, z = torch.full((8, 3, SIZE, SIZE), math.nan), torch.ones(8, 8)
        trainer.iteration(nothing, z, z, Augmentation(trainer.config.augment, 0, 6, 8, ALONE))
        advance(trainer, 8)
        assert not trainer.graphs or trainer.graphs.recorded.keys() == STEPS
        return everything(trainer), records

    monkeypatch.setattr(module, "Graphs", Repeated)
    (found, recorded), (expected, records) = trained("graph"), trained("eager")
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    assert [int(record["skipped"]) for record in recorded] == [0] * 6 + [2] + [0]
    for a, b in zip(recorded, records, strict=True):
        assert a.keys() == b.keys()
        assert all(float(a[key]) == float(b[key]) or math.isnan(b[key]) for key in a)


def test_a_run_goes_on_where_it_was(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "Graphs", Repeated)
    straight, trainer = make("graph"), make("graph")
    advance(straight, 9)
    advance(trainer, 5)
    save_state(tmp_path / "x.state", trainer, experiment(**EXACT), None)
    trainer = make("graph")
    restore(trainer, load_state(tmp_path / "x.state"))
    advance(trainer, 9)
    found, expected = everything(trainer), everything(straight)
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


def test_what_cannot_be_recorded_is_refused(monkeypatch):
    with pytest.raises(UserError, match="needs a GPU, and this runs on cpu; use eager"):
        make("graph")
    monkeypatch.setattr(module, "Graphs", Repeated)
    with pytest.raises(UserError, match="ADA augments another number of images in each; use eager"):
        make("graph", augment="ada")
    with pytest.raises(UserError, match="what one process launches, and here are 2; use eager"):
        build_trainer(experiment(), World(0, 2, CPU), None, "graph")


# -------------------------------------------------------------------- what would be recorded


class Listing(TorchDispatchMode):
    """The operations of a step with all their numbers, and the memory that was there before it."""

    def __init__(self):
        super().__init__()
        self.operations: list[tuple] = []
        # Storages by their numbers; kept, so that no later one gets the same number.
        self.before: dict[int, torch.UntypedStorage] = {}
        self.made: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        leaves = tree_leaves((args, kwargs or {}))
        assert torch.Tag.nondeterministic_seeded not in function.tags, f"{function} draws"
        self.before |= {k: x for k, x in storages(leaves).items() if k not in self.made}
        result = function(*args, **(kwargs or {}))
        self.made |= storages(tree_leaves(result)).keys() - self.before
        if function.namespace != "profiler":
            self.operations.append((function, *map(described, leaves)))
        return result


def storages(values: list[Any]) -> dict[int, torch.UntypedStorage]:
    found = [x.untyped_storage() for x in values if isinstance(x, torch.Tensor)]
    return {x._cdata: x for x in found if x.device.type != "cpu"}


def described(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if value.device.type == "cpu":
        assert not value.dim(), "a copy from the host"
        return value.item()
    return value.shape, value.stride(), value.dtype


def listings(monkeypatch, **settings) -> dict[str, list[Listing]]:
    """What iterations with several rates, inputs and draws would have recorded, step by step."""
    pretended = pytest.importorskip("benchmarks.pretended")
    world, found = World(0, 1, pretended.DEVICE), {}

    class Listed(Repeated):
        def __call__(self, name, step):
            if min(self.runs.values()) >= 2:  # so that nothing is made on first use
                with (
                    Listing() as listing
                ):  # of this iteration's inputs, not of those recorded first
                    result = step()
                found.setdefault(name, []).append(listing)
                return result
            return super().__call__(name, step)

    monkeypatch.setattr(module, "Graphs", Listed)
    trainer = build_trainer(
        experiment(r1_interval=1, lr_decay_start=0, **settings), world, execution="graph"
    )
    loop = SimpleNamespace(trainer=trainer, world=world)
    with pretended.pretended() as watch:
        for _ in range(4):
            watch.events.clear()
            TrainingLoop._iterate(
                loop, world.to_device(torch.zeros(8, 3, SIZE, SIZE, dtype=torch.uint8))
            )
    assert watch.events == [] and found.keys() == STEPS
    return found


def differ(found: dict[str, list[Listing]]) -> bool:
    return any(
        (one.operations, one.before.keys()) != (first.operations, first.before.keys())
        for first, *others in found.values()
        for one in others
    )


@pytest.mark.parametrize(
    "settings", [{}, {"augment": "diffaugment", "checkpoint_activations": True}]
)
def test_every_iteration_would_be_recorded_alike(monkeypatch, settings):
    found = listings(monkeypatch, **settings)
    assert not differ(found)
    assert all(len(of) == 2 and len(of[0].operations) > 100 for of in found.values())


def test_a_number_that_changes_is_caught(monkeypatch):
    def by_value(optimizer, lr):
        optimizer.param_groups[0]["lr"] = lr

    monkeypatch.setattr(module, "_set_lr", by_value)
    assert differ(listings(monkeypatch))


def test_an_input_that_moves_is_caught(monkeypatch):
    monkeypatch.setattr(Graphs, "keep", lambda self, name, value: value)
    assert differ(listings(monkeypatch))


def test_draws_within_a_step_are_caught(monkeypatch):
    monkeypatch.setattr(Augmentation, "kept", lambda self, keep, side: self)
    with pytest.raises(AssertionError, match="a copy from the host"):
        listings(monkeypatch)
