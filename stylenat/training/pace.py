"""How long training takes on this machine, told after the first iterations."""

import time
from collections.abc import Callable

WARM_UP = 10  # iterations: the first ones fill caches and memory
COUNTED = 32  # iterations that are timed: two of the usual intervals between gradient penalties


class Pace:
    """Times iterations from the first call of :meth:`estimate` on.

    ``until`` is the iteration at which the segment ends, ``total`` the length of the whole run
    where it is known. ``clock`` returns seconds.
    """

    def __init__(self, until: int, total: int | None, clock: Callable[[], float] = time.monotonic):
        self.until, self.total, self.clock = until, total, clock
        self.done = 0
        self.started = 0.0

    def estimate(self, step: int) -> str | None:
        """Call after each iteration, ``step`` being their number: a sentence, once, else None."""
        self.done += 1
        if self.done == WARM_UP:
            self.started = self.clock()
        if self.done != WARM_UP + COUNTED or step >= self.until:
            return None
        seconds = (self.clock() - self.started) / COUNTED
        sentence = (
            f"{1 / seconds:.2g} iterations/s: "
            f"this segment ends in about {words((self.until - step) * seconds)}"
        )
        if self.total is None:
            return sentence
        return (
            f"{sentence}, and the run's {self.total:,} iterations take about "
            f"{words(self.total * seconds)} here, evaluation not counted"
        )


def words(seconds: float) -> str:
    """A duration to two units: 92 s, 4 min 40 s, 7 h 5 min, 3 d 4 h."""
    if seconds < 100:
        return f"{round(seconds)} s"
    for unit, name, part, part_name in ((60, "min", 1, "s"), (3600, "h", 60, "min")):
        if seconds < 100 * unit:
            whole, rest = divmod(round(seconds / part), unit // part)
            return f"{whole} {name} {rest} {part_name}"
    whole, rest = divmod(round(seconds / 3600), 24)
    return f"{whole} d {rest} h"
