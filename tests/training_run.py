"""For tests of training: reals that depend on the step alone, and a run on disk to train."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stylenat.data.writer import write_store
from stylenat.io import write_json
from stylenat.training import noise
from stylenat.training.augment import Augmentation
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import _tensors, save_state
from stylenat.training.distributed import World
from stylenat.training.graphs import Graphs, Step
from stylenat.training.noise import Purpose
from stylenat.training.trainer import Trainer
from tests.tiny import SIZE, experiment

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)


def reals(step: int, batch: int) -> torch.Tensor:
    rng = np.random.default_rng(step)
    return torch.from_numpy(rng.standard_normal((batch, 3, SIZE, SIZE), dtype=np.float32))


def advance(trainer: Trainer, until: int, dtype: torch.dtype = torch.float32) -> None:
    """Train to ``until`` on data that depend on the step alone."""
    config, world = trainer.config, trainer.world
    shape = (config.batch_size, trainer.generator.config.style_dim)
    while trainer.step < until:
        step = trainer.step
        trainer.iteration(
            reals(step, config.batch_size)[world.share].to(dtype),
            noise.draw_z(config.seed, step, Purpose.DISCRIMINATOR_Z, shape, world).to(dtype),
            noise.draw_z(config.seed, step, Purpose.GENERATOR_Z, shape, world).to(dtype),
            Augmentation(
                *(config.augment, config.seed, step, config.batch_size, world),
                trainer.ada.p if trainer.ada else 0.0,
            ),
        )


class Repeated(Graphs):
    """Without a GPU: what it would play back runs again."""

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self._begin(names)

    def _aside(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _record(self, step: Step) -> Step:
        return step


def everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Copies of all tensors of a state."""
    return {key: value.clone() for key, value in _tensors(trainer).items()}


@dataclass(frozen=True)
class Run:
    """The files of a tiny experiment in a folder, as the workflow would lay them out."""

    folder: Path

    def file(self, name: str) -> Path:
        return self.folder / "train" / name

    def arguments(self, start: int, until: int, *options: str) -> list[str]:
        """Command line of the step that trains from one iteration to another, without Python."""
        named = {
            "experiment": self.folder / "experiment.json",
            "data": self.folder / "dots.lmdb",
            "resume": self.file(f"{start}.state"),
            "until": until,
            "state": self.file(f"{until}.state"),
            "weights": self.folder / f"weights/{until}.safetensors",
            "records": self.file(f"{until}.jsonl"),
            "device": "cpu",
        }
        pairs = [text for key, value in named.items() for text in (f"--{key}", str(value))]
        return ["stylenat.steps.train", *pairs, *options]

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        """Run a Python module in a process group of its own, one thread, output kept."""
        return subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def make_run(folder: Path, **training) -> Run:
    """A data set of 40 random images, the experiment and its initial state."""
    config = experiment(**training)
    pixels = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3), np.uint8)
    metadata = {"name": "dots", "filter": "none", "source": "tests", "licence": "", "notes": []}
    write_store(folder / "dots.lmdb", pixels, metadata)
    write_json(folder / "experiment.json", config.to_dict())
    run = Run(folder)
    save_state(run.file("0.state"), build_trainer(config, ALONE), config, None)
    return run


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 60) -> None:
    """Return once a condition holds, which a running process has to bring about."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.1)
