"""Reasons to stop before the end of a segment: a signal, or the end of the job's time."""

import signal
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
# Left over for saving the state and for what a scheduler does before and after us; of jobs that
# last minutes, half.
RESERVE_SECONDS = 120.0
EXIT_CODE = 75  # EX_TEMPFAIL: stopped with everything saved; the same command goes on


class Interruption:
    """Watches for signals from its creation on; ``reason`` is why to stop, or None."""

    def __init__(self, time_limit_minutes: float | None = None):
        self._signal: str | None = None
        self._deadline = None
        if time_limit_minutes is not None:
            seconds = time_limit_minutes * 60
            self._deadline = time.monotonic() + seconds - min(RESERVE_SECONDS, seconds / 2)
        for number in SIGNALS:
            signal.signal(number, self._catch)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name

    @property
    def reason(self) -> str | None:
        """``SIGTERM``, ``time limit`` …, or None to go on."""
        if self._signal is None and self._deadline and time.monotonic() > self._deadline:
            return "time limit"
        return self._signal
