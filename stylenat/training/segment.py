"""The loop around the iterations: data in, records out, state kept safe by the clock."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from stylenat.errors import UserError
from stylenat.images import from_uint8
from stylenat.training import noise
from stylenat.training.augment import consistency_augment
from stylenat.training.checkpoint import restore
from stylenat.training.health import Failure, Health
from stylenat.training.interruption import Interruption
from stylenat.training.noise import Purpose
from stylenat.training.pace import Pace
from stylenat.training.recorder import Recorder
from stylenat.training.rolling import RollingStates
from stylenat.training.tracking import Trackers
from stylenat.training.trainer import Record, Trainer

log = logging.getLogger(__name__)

SAVE, STOP = 1, 2  # what a rank asks of all, the highest wins


class Interrupted(Exception):
    """Training stopped early with its state saved; the same command continues it."""


class Segment:
    """Train to iteration ``until``, from the furthest state there is.

    ``batches(step)`` yields this rank's reals from iteration ``step`` on: uint8 (B, 3, S, S) on
    its device, flipped already. Rank 0 writes the files, in the background, so that nobody waits for it.
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
        self.health = Health()
        self.pace = Pace(until, run_iterations)
        self.saved_step = -1

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
        while failure := self._advance(bar):
            self._go_back(failure, bar)
        self._save()
        self.world.wait(lambda: self.states.is_saved)
        if self.world.is_main:
            self.states.publish(records)

    def _advance(self, bar: tqdm) -> Failure | None:
        """Iterate until the end, or until health says that this leads nowhere."""
        recorder = Recorder(self.states.records, self.trainer, self.trackers)
        batches = self.batches(self.trainer.step)
        last_save = time.monotonic()
        try:
            while self.trainer.step < self.until:
                self.states.raise_failure()
                saving = time.monotonic() - last_save > self.save_seconds
                wish = self.world.highest(STOP if self.interruption.reason else SAVE * saving)
                if wish == STOP:
                    self._stop()
                if wish == SAVE:
                    recorder.flush()
                    self._save_good()
                    last_save = time.monotonic()
                step = self.trainer.step
                record = self._iterate(next(batches))
                bar.update()
                recorder.add(record, bar)
                if estimate := self.pace.estimate(self.trainer.step):
                    log.info("%s", estimate)
                if failure := self.health.watch(step, record):
                    return failure
        finally:
            recorder.close()
        return None

    def _iterate(self, pixels: Tensor) -> Record:
        training, step, world = self.trainer.config, self.trainer.step, self.world
        shape = (training.batch_size, self.trainer.generator.config.style_dim)
        return self.trainer.iteration(
            from_uint8(pixels),
            noise.latents(training.seed, step, Purpose.DISCRIMINATOR_Z, shape, world),
            noise.latents(training.seed, step, Purpose.GENERATOR_Z, shape, world),
            consistency_augment(training.seed, step, training.batch_size, world),
        )

    def _save(self) -> None:
        """Begin to save the state, unless the newest file has it."""
        if self.trainer.step == self.saved_step and self.states.newest.exists():
            return
        self.saved_step = self.trainer.step
        if self.world.is_main:
            self.states.save(self.trainer)

    def _save_good(self) -> None:
        """Save, but not between iterations that had to be skipped: they may be undone."""
        if not self.health.failing:
            self._save()

    def _stop(self) -> None:
        self._save_good()
        self.world.wait(lambda: self.states.is_saved)
        self.states.wait()
        raise Interrupted(
            f"stopped at step {self.trainer.step} ({self.interruption.reason or 'another rank'}); "
            f"the same command goes on from step {self.saved_step}"
        )

    def _go_back(self, failure: Failure, bar: tqdm) -> None:
        """Return to the last good state, once."""
        self.world.wait(lambda: self.states.is_saved)
        self.states.wait()
        state = self.states.load(self.until)
        self.health.forgive(failure, state)
        restore(self.trainer, state)
        self.saved_step = state.step
        bar.update(state.step - bar.n)
