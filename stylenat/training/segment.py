"""The loop around the iterations: data in, records out, state kept safe by the clock."""

import json
import logging
import os
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.images import from_uint8
from stylenat.training import noise
from stylenat.training.augment import consistency_augment
from stylenat.training.checkpoint import newest, restore, save_state
from stylenat.training.interruption import Interruption
from stylenat.training.noise import Purpose
from stylenat.training.trainer import Trainer

log = logging.getLogger(__name__)

LOG_EVERY = 50  # iterations per record
SAVE_SECONDS = 600.0  # between two rolling states
PATIENCE = 20  # iterations in a row without a finite gradient before going back


class Interrupted(Exception):
    """Training stopped early with its state saved; the same command continues it."""


@dataclass(frozen=True)
class SegmentFiles:
    """What a segment reads and writes. Beside ``state`` lie undeclared rolling files, because the
    workflow deletes the declared ones when a job fails."""

    resume: Path
    state: Path
    records: Path

    @property
    def rolling(self) -> Path:
        """The newest state inside the segment."""
        return self.state.with_name(self.state.name + ".rolling")

    @property
    def previous(self) -> Path:
        """The rolling state before it, should the newest be damaged."""
        return self.state.with_name(self.state.name + ".previous")

    @property
    def rolling_records(self) -> Path:
        """Records so far; becomes ``records`` when the segment is complete."""
        return self.records.with_name(self.records.name + ".rolling")

    def candidates(self) -> list[Path]:
        """Where to resume from, the furthest first."""
        return [self.rolling, self.previous, self.resume]

    def finish(self) -> None:
        """Publish the records and remove what only a restart would have needed."""
        os.replace(self.rolling_records, self.records)
        self.rolling.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)


class Segment:
    """Train from a state to iteration ``until``.

    ``batches`` yields this rank's reals from the trainer's step on: uint8 (B, 3, S, S), flipped
    already. Raises :class:`Interrupted` after saving if ``interruption`` asks for it.
    """

    def __init__(
        self,
        trainer: Trainer,
        experiment: ExperimentConfig,
        data: dict[str, Any],
        files: SegmentFiles,
        interruption: Interruption,
    ):
        self.trainer, self.experiment, self.data = trainer, experiment, data
        self.files, self.interruption = files, interruption
        self.world = trainer.world
        self.failures = 0

    def resume(self) -> None:
        """Restore the furthest state of this segment, or the one the last segment ended with."""
        restore(self.trainer, newest(self.files.candidates()), self.experiment, self.data)

    def run(self, batches: Iterator[Tensor], until: int, bar: tqdm) -> None:
        """Iterate until ``until`` iterations are finished; then write the segment's state."""
        recorder = Recorder(self.files.rolling_records, self.trainer, self.experiment)
        saved = time.monotonic()
        for pixels in batches:
            if self.trainer.step >= until:
                break
            record = self._iterate(pixels)
            bar.update()
            recorder.add(record, bar)
            self._watch(record)
            if self.world.any(self.interruption.reason is not None):
                self._stop(recorder)
            if self.world.any(time.monotonic() - saved > SAVE_SECONDS):
                recorder.flush()
                self._save_rolling()
                saved = time.monotonic()
        recorder.close()
        if self.world.is_main:
            save_state(self.files.state, self.trainer, self.experiment, self.data)
            self.files.finish()

    def _iterate(self, pixels: Tensor) -> dict[str, Tensor | float]:
        training, step, world = self.experiment.training, self.trainer.step, self.world
        shape = (training.batch_size, self.experiment.model.style_dim)
        return self.trainer.iteration(
            from_uint8(world.to_device(pixels)),
            noise.latents(training.seed, step, Purpose.DISCRIMINATOR_Z, shape, world),
            noise.latents(training.seed, step, Purpose.GENERATOR_Z, shape, world),
            consistency_augment(training.seed, step, training.batch_size, world),
        )

    def _watch(self, record: dict[str, Any]) -> None:
        self.failures = self.failures + 1 if record["skipped"] else 0
        if self.failures >= PATIENCE:
            raise UserError(
                f"no finite gradient in the {PATIENCE} iterations before step {self.trainer.step}; "
                f"the last good state is kept in {self.files.state.parent}. Lower the learning "
                "rates or raise r1_gamma, under a new experiment name."
            )

    def _save_rolling(self) -> None:
        if self.world.is_main:
            if self.files.rolling.exists():
                os.replace(self.files.rolling, self.files.previous)
            save_state(self.files.rolling, self.trainer, self.experiment, self.data)
            log.info("saved the state of step %d", self.trainer.step)

    def _stop(self, recorder: "Recorder") -> None:
        recorder.close()
        self._save_rolling()
        raise Interrupted(
            f"stopped at step {self.trainer.step} ({self.interruption.reason or 'another rank'}); "
            "everything is saved, the same command goes on from here"
        )


class Recorder:
    """Means over :data:`LOG_EVERY` iterations, as lines of JSON and on the console."""

    def __init__(self, path: Path, trainer: Trainer, experiment: ExperimentConfig):
        self.trainer, self.experiment = trainer, experiment
        self.path = path
        self.values: dict[str, list[Tensor | float]] = defaultdict(list)
        self.started = time.monotonic()
        self.file = None
        if trainer.world.is_main:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = _records_until(path, trainer.step)
            self.file = open(path, "w")
            self.file.writelines(json.dumps(line) + "\n" for line in kept)

    def add(self, record: dict[str, Tensor | float], bar: tqdm) -> None:
        """Take one iteration's scalars; write a line when the interval is full."""
        for key, value in record.items():
            self.values[key].append(value)
        if self.trainer.step % LOG_EVERY == 0:
            line = self.flush()
            bar.set_postfix_str(
                f"D {line['loss_d']:.3f} G {line['loss_g']:.3f}", refresh=False
            )

    def flush(self) -> dict[str, float]:
        """Write the means of what was added since the last line."""
        if not self.values:
            return {}
        seconds = time.monotonic() - self.started
        count = len(self.values["loss_g"])
        batch = self.experiment.training.batch_size
        line: dict[str, Any] = {
            "step": self.trainer.step,
            "images_seen": self.trainer.step * batch,
        }
        for key, values in self.values.items():
            line[key] = float(torch.tensor([float(value) for value in values]).mean())
        line["skipped"] = sum(self.values["skipped"])
        line["images_per_second"] = count * batch / seconds
        line["memory_mb"] = _memory_mb(self.trainer.world.device)
        self.values.clear()
        self.started = time.monotonic()
        if self.file:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
            r1 = f"  R1 {line['r1']:.4g}" if "r1" in line else ""
            log.info(
                "step %d  D %.3f  G %.3f  real %+.2f  fake %+.2f%s  |∇D| %.2f  %.1f img/s",
                line["step"], line["loss_d"], line["loss_g"], line["d_real"], line["d_fake"],
                r1, line["grad_norm_d"], line["images_per_second"],
            )  # fmt: skip
        return line

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        if self.file:
            self.file.close()


def _records_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Whole lines up to ``step``: a kill may have cut the last, or come after the state's save."""
    lines = []
    if path.exists():
        for text in path.read_text().splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                break
            if line["step"] <= step:
                lines.append(line)
    return lines


def _memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
