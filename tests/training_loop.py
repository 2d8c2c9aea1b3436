"""The loop of a segment on random batches: from the initial state, stopped, and with failures."""

import os
import signal
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from stylenat.records import DataIdentity
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import save_state
from stylenat.training.interruption import Interruption
from stylenat.training.loop import Interrupted, TrainingLoop
from stylenat.training.rolling import RollingStates
from stylenat.training.tracking import Trackers
from stylenat.training.trainer import Trainer
from tests.tiny import SIZE, experiment
from tests.training_run import ALONE

DATA = DataIdentity(name="dots")


def pixels(step: int):
    """Batches from a step on, each a function of its step."""
    while True:
        rng = torch.Generator().manual_seed(step)
        yield torch.randint(0, 256, (8, 3, SIZE, SIZE), generator=rng, dtype=torch.uint8)
        step += 1


def make_loop(folder: Path, until: int = 12, config=None, batches=pixels, save_seconds=1e9):
    """The loop of a segment from iteration 0 that has resumed from the furthest state in a folder."""
    config = config or experiment()
    trainer = build_trainer(config, ALONE)
    if not (folder / "0.state").exists():
        save_state(folder / "0.state", trainer, config, None)
    loop = TrainingLoop(
        trainer,
        RollingStates(folder / "0.state", folder / f"{until}.state", config, DATA),
        until,
        batches,
        Interruption(),
        Trackers({}, folder, config),
        save_seconds,
    )
    loop.resume()
    return loop


def run(loop: TrainingLoop, records: str = "records.jsonl") -> None:
    with tqdm(total=loop.until, initial=loop.trainer.step, disable=True) as bar:
        loop.run(loop.states.state.with_name(records), bar)


def stopping_at(step: int, number: int = signal.SIGTERM):
    """Batches; a signal arrives while the one of ``step`` is loaded."""

    def batches(start: int):
        for index, batch in enumerate(pixels(start), start):
            if index == step:
                os.kill(os.getpid(), number)
            yield batch

    return batches


def stop(folder: Path, step: int, **options) -> TrainingLoop:
    loop = make_loop(folder, batches=stopping_at(step - 1), **options)
    with pytest.raises(Interrupted, match=f"stopped at step {step} .* goes on from step {step}"):
        run(loop)
    return loop


def failing(monkeypatch, first: int, times: int) -> None:
    """Make the reals NaN from an iteration on, for so many iterations in all."""
    original, left = Trainer.iteration, iter(range(times))

    def iteration(self, reals, *others):
        if self.step >= first and next(left, None) is not None:
            reals = reals * torch.nan
        return original(self, reals, *others)

    monkeypatch.setattr(Trainer, "iteration", iteration)
