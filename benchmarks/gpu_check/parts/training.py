"""What parts share that train a tiny experiment as a user would: files, commands, waiting."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from stylenat.training.checkpoint import load_state
from tests.training_run import Run

LAUNCH = ("stylenat.training.launch", "--nproc-per-node=2", "--standalone", "-m")


@dataclass
class Training:
    """A program that trains, and the file that it logs to."""

    process: subprocess.Popen
    log: Path

    def wait(self, seconds: float) -> int | None:
        """The exit status; None if it has not ended by then."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Whether a condition comes to hold while the program runs."""
        end = time.monotonic() + seconds
        while not holds():
            if self.process.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def said(self, pattern: str) -> str:
        """The line of the log that matches; the last line if none does."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        matching = [line for line in lines if re.search(pattern, line)]
        return (matching or lines or ["nothing"])[-1].strip()

    def ranks(self) -> dict[int, int]:
        """Process numbers of the ranks of a launcher, on Linux."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            names = dict(variable.partition(b"=")[::2] for variable in variables)
            if parent == self.process.pid and b"RANK" in names:
                found[int(names[b"RANK"])] = int(entry.name)
        return found


@contextmanager
def training(folder: Path, name: str, *words: str) -> Iterator[Training]:
    """A Python module that runs within; it is killed if it has not ended by itself."""
    log = folder / f"{name}.log"
    # Each with the threads of a rank, since what is trained is tiny.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as text:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], stdout=text, stderr=text, env=environment
        )
        try:
            yield Training(process, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            print(log.read_text(errors="replace"), flush=True)


def arguments(run: Run, until: int, device: torch.device, *options: str) -> list[str]:
    """The command line of the training step, without Python."""
    return run.arguments(0, until, "--device", device.type, *options)


def difference(first: Path, second: Path) -> float:
    """The largest difference between two states' tensors, relative to each tensor's largest number."""
    a, b = load_state(first).tensors, load_state(second).tensors
    return max(
        ((a[key].double() - b[key].double()).abs().max() / (a[key].abs().max() or 1.0)).item()
        for key in a
    )
