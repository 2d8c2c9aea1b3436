"""The files of a segment that are not outputs of its job, so that the workflow never deletes them.

It deletes a job's declared outputs when the job fails. What training has reached is therefore
kept beside them: the two newest states, and the records so far. They stay until the next segment
starts, because only then is it certain that the workflow has taken note of the outputs.
"""

import logging
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from stylenat import runtime
from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.io import atomic
from stylenat.records import DataIdentity
from stylenat.training.checkpoint import (
    State,
    capture,
    load_state,
    require_same,
    state_digest,
    write_state,
)
from stylenat.training.trainer import Trainer

log = logging.getLogger(__name__)


class RollingStates:
    """What the segment that ends with ``state`` has reached, starting from ``resume``."""

    def __init__(self, resume: Path, state: Path, experiment: ExperimentConfig, data: DataIdentity):
        self.resume, self.state = resume, state
        self.experiment, self.data = experiment, data
        self.newest, self.previous, self.records = _rolling_files(state)
        self.parent = state_digest(resume)
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._keep_newest = False  # whether it is whole, so that it may replace the one before it

    def load(self, until: int) -> State:
        """The furthest state that is whole and ours; others are reported and passed over.

        One of another experiment or data set is a :class:`UserError` instead: training over it
        would lose it.
        """
        for path in (self.newest, self.previous):
            if not path.exists():
                continue
            try:
                state = load_state(path)
            except UserError as error:
                log.warning("skipping a state: %s", error)
                continue
            require_same(state, self.experiment, self.data)
            if state.header.parent != self.parent:
                log.warning("skipping a state: %s does not continue %s", path, self.resume)
            elif state.step >= until and state.header.commit != runtime.commit():
                # The outputs are asked for once more, by a changed program: not these, then.
                log.warning("skipping a state: %s is another version's result", path)
            else:
                self._keep_newest = path == self.newest
                return state
        self._keep_newest = False
        state = load_state(self.resume)
        require_same(state, self.experiment, self.data)
        if state.step >= until:
            raise UserError(f"{self.resume} is at step {state.step}, not before --until {until}.")
        return state

    def save(self, trainer: Trainer) -> None:
        """Write the state of now as the newest one, in the background; keep the one before it."""
        self.wait()
        state = capture(trainer, self.experiment, self.data, self.parent)
        self._writing = self._writer.submit(self._write, state)

    @property
    def is_saved(self) -> bool:
        """Whether nothing is being written; a failed write counts, and is raised by `wait`."""
        return self._writing is None or self._writing.done()

    def wait(self) -> None:
        """Return once the last state is on disk; if it could not be written, that is raised."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def raise_failure(self) -> None:
        """Raise what went wrong in the background, if something did."""
        if self.is_saved:
            self.wait()

    def publish(self, records: Path) -> None:
        """Make the newest state and the records the segment's outputs."""
        self.wait()
        _publish(self.newest, self.state)
        _publish(self.records, records)
        self.previous.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what the segment before needed for a restart, and what a killed run left."""
        for path in _rolling_files(self.resume):
            path.unlink(missing_ok=True)
        for path in self.state.parent.glob(f"{self.state.name}.*.part"):
            path.unlink()

    def _write(self, state: State) -> None:
        if self._keep_newest:
            os.replace(self.newest, self.previous)
            self._keep_newest = False
        write_state(self.newest, state)
        self._keep_newest = True
        log.info("saved the state of step %d", state.step)


def _rolling_files(state: Path) -> tuple[Path, Path, Path]:
    """The newest state, the one before it, and the records."""
    newest, previous, records = (
        state.with_name(state.name + end) for end in (".rolling", ".previous", ".records")
    )
    return newest, previous, records


def _publish(file: Path, output: Path) -> None:
    """Give a file its declared name as well, at no cost in space."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    try:
        os.link(file, output)
    except OSError:  # a file system without hard links
        with atomic(output) as temporary:
            shutil.copyfile(file, temporary)
