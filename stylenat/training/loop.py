"""The loop around the iterations: data in, records out, state kept safe by the clock."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from stylenat.errors import UserError
from stylenat.images import from_uint8
from stylenat.training import noise
from stylenat.training.augment import Augmentation
from stylenat.training.checkpoint import restore
from stylenat.training.distributed import FIRST_TIMEOUT, TIMEOUT
from stylenat.training.interruption import Interruption
from stylenat.training.noise import Purpose
from stylenat.training.pace import Pace
from stylenat.training.recorder import Recorder
from stylenat.training.rolling import RollingStates
from stylenat.training.tracking import Trackers
from stylenat.training.trainer import Record, Trainer

log = logging.getLogger(__name__)

SAVE, STOP = 1, 2  # what a rank asks of all, the highest wins
MOST_SKIPPED = 20  # iterations in a row without a finite gradient
# Iterations after which a GPU is waited for: to read whether their gradients were finite, and for the
# ranks to agree on saving and stopping, which so happen up to so many iterations later.
READ_EVERY = 8


class Interrupted(Exception):
    """Training stopped early with its state saved; the same command continues it."""


class TrainingLoop:
    """Train to iteration ``until``, from the furthest state there is.

    ``batches(step)`` yields this rank's reals from iteration ``step`` on: uint8 (B, 3, S, S) on
    its device, flipped already. Rank 0 writes the files, in the background.
    ``run_iterations`` is the length of the whole run, for the estimate of its time.
    """

    def __init__(
        self,
        trainer: Trainer,
        states: RollingStates,
        until: int,
        batches: Callable[[int], Iterator[Tensor]],
        interruption: Interruption,
        trackers: Trackers,
        save_seconds: float,
        run_iterations: int | None = None,
    ):
        self.trainer, self.world = trainer, trainer.world
        self.states, self.until, self.batches = states, until, batches
        self.interruption, self.trackers = interruption, trackers
        self.save_seconds = save_seconds
        self.pace = Pace(until, run_iterations)
        self.skipped: list[str] = []  # what was not finite in the latest iterations, all skipped
        self.saved_step = -1
        self.read_every = READ_EVERY if self.world.device.type != "cpu" else 1
        self.unread: list[Record] = []  # of the latest iterations

    def resume(self) -> None:
        """Restore the furthest state of this segment, or the one the last segment ended with."""
        if self.world.is_main:
            self.states.clear()
        state = self.states.load(self.until)
        if not self.world.same(state.step):
            raise UserError(
                f"the ranks found different states (this one {state.path}, step {state.step}); "
                "the file system does not show them the same files yet. Wait a moment and rerun."
            )
        restore(self.trainer, state)
        self.saved_step = state.step
        log.info("resuming from step %d (%s)", state.step, state.path)

    def run(self, records: Path, bar: tqdm) -> None:
        """Train, then write the segment's state and ``records``.

        Raises :class:`Interrupted`, everything saved, if the interruption asks for it.
        """
        recorder = Recorder(self.states.records, self.trainer, self.trackers)
        batches = self.batches(self.trainer.step)
        first = self.trainer.step + 1
        self.world.limit_waiting(FIRST_TIMEOUT)
        last_save = time.monotonic()
        try:
            while self.trainer.step < self.until:
                self.states.raise_failure()
                saving = time.monotonic() - last_save > self.save_seconds
                request = self._agree(STOP if self.interruption.reason else SAVE * saving)
                if request == STOP:
                    self._stop()
                if request == SAVE:
                    recorder.flush()
                    self._save()
                    last_save = time.monotonic()
                record = self._iterate(next(batches))
                if self.trainer.step == first:
                    self.world.limit_waiting(TIMEOUT)
                bar.update()
                recorder.add(record, bar)
                self.unread.append(record)
                if len(self.unread) >= self.read_every:
                    self._watch()
                if estimate := self.pace.estimate(self.trainer.step):
                    log.info("%s", estimate)
        finally:
            recorder.close()
        self.world.highest(0)  # an error if the last iteration lacks a rank's share
        self._save()
        self._wait_for_writer()
        if self.world.is_main:
            self.states.publish(records)

    def _iterate(self, pixels: Tensor) -> Record:
        training, step, world = self.trainer.config, self.trainer.step, self.world
        shape = (training.batch_size, self.trainer.generator.config.style_dim)
        return self.trainer.iteration(
            from_uint8(pixels),
            noise.draw_z(training.seed, step, Purpose.DISCRIMINATOR_Z, shape, world),
            noise.draw_z(training.seed, step, Purpose.GENERATOR_Z, shape, world),
            Augmentation(
                *(training.augment, training.seed, step, training.batch_size, world),
                self.trainer.ada.p if self.trainer.ada else 0.0,
            ),
        )

    def _agree(self, request: int) -> int:
        """The most that any rank asks for; several ranks are asked every :attr:`read_every`
        iterations, since all have to wait for the answer."""
        if self.world.size > 1 and self.trainer.step % self.read_every:
            return 0
        return self.world.highest(request)

    def _watch(self) -> None:
        """Stop after too many iterations in a row in which an optimiser step was skipped."""
        records, self.unread = self.unread, []
        skipped = [record["skipped"] for record in records]
        tensors = [count for count in skipped if isinstance(count, Tensor)]
        if tensors:  # then all of them are
            skipped = torch.stack(tensors).tolist()  # waits for the device, once
        first = self.trainer.step - len(records)
        for step, (record, count) in enumerate(zip(records, skipped, strict=True), first):
            if count:
                self._count_skipped(step, record)
            else:
                self.skipped.clear()

    def _count_skipped(self, step: int, record: Record) -> None:
        """Note what was not finite in an iteration; a UserError if it was so in too many."""
        values = {key: float(value) for key, value in record.items()}
        faults = [f"{key} {value}" for key, value in values.items() if not math.isfinite(value)]
        self.skipped.append(", ".join(faults))
        if len(self.skipped) == MOST_SKIPPED:
            self._wait_for_writer()
            first = step - MOST_SKIPPED + 1
            raise UserError(
                f"no finite gradient in any of the iterations {first} to {step} (at {first}: "
                f"{self.skipped[0]}). The last good state, of step {self.saved_step}, is kept, and "
                "the same command goes on from there; if it ends here again, lower "
                "training.generator_lr and training.discriminator_lr or raise training.r1_gamma, "
                "under a new experiment name."
            )

    def _save(self) -> None:
        """Begin to save the state, unless the newest file has it or it may be beyond repair."""
        self._watch()
        if self.trainer.step == self.saved_step and self.states.newest.exists():
            return
        if self.skipped and self.trainer.step < self.until:
            return
        self.saved_step = self.trainer.step
        if self.world.is_main:
            self.states.save(self.trainer)

    def _stop(self) -> None:
        self._save()
        self._wait_for_writer()
        raise Interrupted(
            f"stopped at step {self.trainer.step} ({self.interruption.reason or 'another rank'}); "
            f"the same command goes on from step {self.saved_step}"
        )

    def _wait_for_writer(self) -> None:
        """Until the last state is on disk, all ranks together."""
        self.world.wait(lambda: self.states.is_saved)
        self.states.wait()
