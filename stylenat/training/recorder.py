"""What happened, as lines of JSON, on the console and in the trackers."""

import json
import logging
import math
import resource
import time
from collections import defaultdict
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from stylenat import runtime
from stylenat.errors import UserError
from stylenat.io import Json, atomic
from stylenat.training.tracking import Trackers
from stylenat.training.trainer import Record, Trainer

log = logging.getLogger(__name__)

LOG_EVERY = 50  # iterations per record


class Recorder:
    """Means over :data:`LOG_EVERY` iterations, from the trainer's step on.

    Lines of a run that got further, before it was killed or went back, are dropped. Ranks other
    than the first write nothing.
    """

    def __init__(self, path: Path, trainer: Trainer, trackers: Trackers):
        self.trainer, self.trackers = trainer, trackers
        self.values: dict[str, list[Any]] = defaultdict(list)
        self.iterations = 0
        self.started = time.monotonic()
        self.file = None
        self.place = {
            "device": runtime.describe_device(trainer.world.device),
            "processes": trainer.world.size,
            "precision": trainer.precision,
        }
        if trainer.world.is_main:
            kept = _records_until(path, trainer.step)
            with atomic(path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
            self.file = open(path, "ab", buffering=0)  # noqa: SIM115

    def add(self, record: Record, bar: tqdm) -> None:
        """Take one iteration's scalars; write a line when the interval is full."""
        self.iterations += 1
        for key, value in record.items():
            self.values[key].append(value)
        if self.trainer.step % LOG_EVERY == 0:
            line = self.flush()
            bar.set_postfix_str(
                f"D {line.get('loss_d', math.nan):.3f} G {line.get('loss_g', math.nan):.3f}",
                refresh=False,
            )

    def flush(self) -> dict[str, float]:
        """Write the means of what was added since the last line; keys that have none are absent."""
        if not self.iterations:
            return {}
        seconds = time.monotonic() - self.started
        batch, step = self.trainer.config.batch_size, self.trainer.step
        line: dict[str, float] = {"step": step, "images_seen": step * batch}
        for key, values in self.values.items():
            numbers = _numbers(values)
            finite = numbers[numbers.isfinite()]  # the others are counted as skipped
            if len(finite):
                line[key] = finite.mean().item()
        line["skipped"] = int(_numbers(self.values["skipped"]).sum())
        line["images_per_second"] = self.iterations * batch / seconds
        line["memory_mb"] = _memory_mb(self.trainer.world.device)
        self.values.clear()
        self.iterations = 0
        self.started = time.monotonic()
        if self.file:
            self._write(self.file, {**line, **self.place})
            log.info("step %d  %s", step, _summary(line))
            self.trackers.scalars(step, line)
        return line

    def _write(self, file: FileIO, line: Json) -> None:
        try:
            file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise UserError(
                f"{file.name} could not be written ({error.strerror}); "
                "free the space and run the same command again."
            ) from error

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        if self.file:
            self.file.close()


def _numbers(values: list[Any]) -> torch.Tensor:
    """Scalars of several iterations, float32 on the CPU; a GPU is waited for once."""
    if isinstance(values[0], torch.Tensor):
        return torch.stack(values).to("cpu", torch.float32)
    return torch.tensor([float(value) for value in values])


def _summary(line: dict[str, float]) -> str:
    parts = (
        ("D {:.3f}", "loss_d"),
        ("G {:.3f}", "loss_g"),
        ("real {:+.2f}", "d_real"),
        ("fake {:+.2f}", "d_fake"),
        ("R1 {:.4g}", "r1"),
        ("|∇D| {:.2f}", "grad_norm_d"),
        ("{:.1f} img/s", "images_per_second"),
    )
    text = "  ".join(form.format(line[key]) for form, key in parts if key in line)
    return f"{text}  {line['skipped']} optimiser steps skipped" if line["skipped"] else text


def _records_until(path: Path, step: int) -> list[Json]:
    """Whole lines up to ``step``: if the process was killed, the last may be cut, or later than the saved state."""
    lines = []
    if path.exists():
        for text in path.read_text(errors="replace").splitlines():
            try:
                line = json.loads(text)
                wanted = line["step"] <= step
            except (ValueError, TypeError, KeyError):  # cut off, or zeros after a power cut
                break
            if wanted:
                lines.append(line)
    return lines


def _memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
