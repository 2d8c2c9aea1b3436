"""TensorBoard and Weights & Biases, for those who use them; the JSON lines are always written.

A tracker can be missing, misconfigured, or hang without a network. It therefore works in a
thread of its own, and one that fails is reported once and left out: it never stops training.
"""

import hashlib
import json
import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stylenat.config import ExperimentConfig
from stylenat.io import Json
from stylenat.models import Generator
from stylenat.models.latents import generate
from stylenat.models.self_check import check_kernels

log = logging.getLogger(__name__)

SAMPLE_SEEDS = range(16)
CLOSING_SECONDS = 20.0  # a scheduler that stops a job grants 30


class Tracker(Protocol):
    """What the trackers have in common."""

    def scalars(self, step: int, values: dict[str, float]) -> None: ...

    def images(self, step: int, pictures: np.ndarray) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in ``directory``/tensorboard; see them with ``tensorboard --logdir results``."""

    def __init__(self, directory: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        # What a killed run wrote beyond the state that training resumes from is hidden.
        self.writer = SummaryWriter(directory / "tensorboard", purge_step=step + 1)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def images(self, step: int, pictures: np.ndarray) -> None:
        self.writer.add_images("samples", pictures, step, dataformats="NHWC")

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """One run per experiment, continued by every segment; files in ``directory``/wandb."""

    def __init__(self, directory: Path, experiment: ExperimentConfig, settings: Json):
        import wandb

        self.wandb = wandb
        settings = dict(settings)
        config = experiment.to_dict()
        # Another folder or another experiment is another run; a restart is not.
        identity = json.dumps([str(directory.resolve()), config])
        self.run = wandb.init(
            project=settings.pop("project"),
            name=settings.pop("name", experiment.name),
            notes=settings.pop("description", None),
            dir=directory,
            id=hashlib.sha256(identity.encode()).hexdigest()[:16],
            resume="allow",
            config=config,
            **settings,  # entity, tags, mode
        )

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def images(self, step: int, pictures: np.ndarray) -> None:
        self.run.log({"samples": [self.wandb.Image(picture) for picture in pictures]}, step=step)

    def close(self) -> None:
        self.run.finish()


class Trackers:
    """The trackers that ``settings`` asks for, such as
    ``{"tensorboard": true, "wandb": {"project": "stylenat", "mode": "offline"}}``.

    Work is done in the order it comes in, in the background.
    """

    def __init__(self, settings: Json, directory: Path, experiment: ExperimentConfig) -> None:
        self.kinds: dict[str, Callable[[int], Tracker]] = {}
        if settings.get("tensorboard"):
            self.kinds["TensorBoard"] = lambda step: TensorBoard(directory, step)
        if settings.get("wandb"):
            self.kinds["Weights & Biases"] = lambda step: WeightsAndBiases(
                directory, experiment, settings["wandb"]
            )
        self.active: dict[str, Tracker] = {}
        self.work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def start(self, step: int) -> None:
        """Begin, or go on, after ``step`` iterations."""
        if self.kinds:
            self.thread.start()
            self.work.put(lambda: self._open(step))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Log numbers by name."""
        self._submit(lambda: self._each("scalars", step, values))

    def samples(self, step: int, generator: Generator) -> None:
        """Log images of fixed seeds; the generator must not be trained any further."""

        def draw() -> None:
            if self.active:
                device = next(generator.parameters()).device
                check_kernels(generator.config, device, "float32", gradients=False)
                self._each("images", step, np.stack(list(generate(generator, SAMPLE_SEEDS))))

        self._submit(draw)

    def close(self) -> None:
        """Finish what has come in; a tracker that takes long is left behind."""
        if self.thread.is_alive():
            self.work.put(lambda: self._each("close"))
            self.work.put(None)
            self.thread.join(CLOSING_SECONDS)
            if self.thread.is_alive():
                log.warning("%s did not finish in time", " and ".join(self.active or self.kinds))

    def _submit(self, task: Callable[[], None]) -> None:
        if self.kinds:
            self.work.put(task)

    def _work(self) -> None:
        while (task := self.work.get()) is not None:
            task()

    def _open(self, step: int) -> None:
        for name, kind in self.kinds.items():
            try:
                self.active[name] = kind(step)
            except Exception as error:  # noqa: BLE001 (whatever a tracker may raise)
                self._give_up(name, error)

    def _each(self, method: str, *arguments: Any) -> None:
        for name, tracker in list(self.active.items()):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:  # noqa: BLE001 (whatever a tracker may raise)
                del self.active[name]
                self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        log.warning("training goes on without %s: %s: %s", name, type(error).__name__, error)
