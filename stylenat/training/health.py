"""Whether training still works: what to make of iterations without a finite gradient.

A step whose loss or gradient is not finite is skipped, and usually the next one is fine. When
many in a row are not, training goes back to the last good state, once. That is a test of the
machine: the same iterations compute the same numbers (on a GPU, nearly), so they fail again unless
it made a mistake.
"""

import logging
import math
from dataclasses import dataclass

from stylenat.errors import UserError
from stylenat.training.checkpoint import State
from stylenat.training.trainer import Record

log = logging.getLogger(__name__)

PATIENCE = 20  # iterations in a row without a finite gradient


@dataclass(frozen=True)
class Failure:
    """Iterations in a row that could not be used; ``what`` names the values of the first."""

    first: int
    last: int
    what: str

    def overlaps(self, other: "Failure") -> bool:
        """Whether some iteration belongs to both."""
        return self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        return (
            f"no finite gradient in any of the iterations {self.first} to {self.last} "
            f"(at {self.first}: {self.what})"
        )


class Health:
    """Watches every iteration; all ranks see the same averages, and so come to the same end."""

    def __init__(self) -> None:
        self.failing: list[str] = []  # what was not finite, in the latest iterations
        self.earlier: Failure | None = None

    def watch(self, step: int, record: Record) -> Failure | None:
        """Take the record of iteration ``step``; a failure says to go back."""
        if not record["skipped"]:
            self.failing.clear()
            if self.earlier and step == self.earlier.last:
                log.warning(
                    "the iterations up to %d passed this time: a fault of the machine is likely. "
                    "Training goes on; have its memory and GPUs checked.",
                    step,
                )
            return None
        self.failing.append(
            ", ".join(
                f"{key} {float(value)}"
                for key, value in record.items()
                if not math.isfinite(float(value))
            )
        )
        if len(self.failing) < PATIENCE:
            return None
        failure = Failure(step - len(self.failing) + 1, step, self.failing[0])
        self.failing.clear()
        return failure

    def forgive(self, failure: Failure, state: State) -> None:
        """Allow one return to the last good state; the second time is a UserError."""
        kept = f"The last good state, of step {state.step}, is kept in {state.path}"
        if self.earlier is None:
            self.earlier = failure
            log.warning("%s. %s: trying from there once more.", failure, kept)
        elif failure.overlaps(self.earlier):
            raise UserError(
                f"{failure}, the second time, from the same state: the training diverges, the "
                f"machine is sound. {kept}. Lower training.generator_lr and "
                "training.discriminator_lr or raise training.r1_gamma, under a new experiment name."
            )
        else:
            raise UserError(
                f"{failure}; earlier, {self.earlier}, which passed when repeated. A machine that "
                f"makes mistakes is likely. {kept}. Run the same command on another node; if it "
                "fails there too, lower the learning rates under a new experiment name."
            )
