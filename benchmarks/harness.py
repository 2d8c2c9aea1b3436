"""What the benchmarks share: rounds in turn, the floor of this machine, JSON and a table.

Variants run in turn within one process, because another minute is another machine: clocks, caches
and neighbours change. What is compared is medians, with their quartiles.
"""

import argparse
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from stylenat import command, runtime
from stylenat.config import ModelConfig
from stylenat.errors import UserError
from stylenat.io import atomic, write_json
from stylenat.metrics.timing import elapsed

ROOT = Path(__file__).parents[1]
LEAST_ROUNDS = 3  # below this there are no quartiles
MOST_ROUNDS = 100

Program = Callable[[], Any]
Row = dict[str, Any]


def parser(description: str) -> argparse.ArgumentParser:
    """Options of every benchmark: where it runs and where the results go."""
    options = command.parser(description)
    command.add_device(options)
    options.set_defaults(device="auto")
    options.add_argument(
        "--output", type=Path, default=Path("benchmarks/results"), help="folder of the results"
    )
    return options


def add_seconds(to: argparse.ArgumentParser) -> None:
    """The option of benchmarks that call :func:`in_turn`: how long."""
    to.add_argument(
        "--seconds", type=float, default=1.0, help="for each variant, which runs 3 times at least"
    )


def ffhq(image_size: int) -> ModelConfig:
    """The published generator of this size, from the defaults of the shipped configuration."""
    defaults = yaml.safe_load((ROOT / "config/config.yaml").read_text())["defaults"]
    return ModelConfig(**defaults["model"] | {"image_size": image_size})


def in_turn(
    programs: dict[str, Program], device: torch.device, seconds: float
) -> dict[str, np.ndarray]:
    """Seconds of every round of every program, after one that does not count.

    A program that has run :data:`LEAST_ROUNDS` times and for ``seconds`` drops out; one that fails
    in the first round is left out, with a warning.
    """
    times: dict[str, list[float]] = {}
    for name, program in programs.items():
        try:
            elapsed(program, device)
        except (RuntimeError, ValueError, UserError) as error:
            reason = str(error).strip().partition("\n")[0]
            command.log.warning("%s left out: %s: %s", name, type(error).__name__, reason)
        else:
            times[name] = []
    for _ in range(MOST_ROUNDS):
        for name, values in times.items():
            if len(values) < LEAST_ROUNDS or sum(values) < seconds:
                values.append(elapsed(programs[name], device))
    return {name: np.array(values) for name, values in times.items()}


def summary(times: np.ndarray) -> Row:
    """Median and quartiles in milliseconds."""
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75)) * 1e3
    return {"ms": median, "ms_q25": low, "ms_q75": high, "rounds": len(times)}


@dataclass(frozen=True)
class Machine:
    """What this device can do at most, measured: bytes/s of a copy, FLOP/s of a matrix product."""

    bandwidth: float
    rate: float

    def floor(self, bytes: float, flops: float) -> float:
        """Milliseconds below which no program moves so many bytes and does so many operations."""
        return max(bytes / self.bandwidth, flops / self.rate) * 1e3


def measure_machine(device: torch.device, dtype: torch.dtype, size: int) -> Machine:
    """The best of several rounds; ``size`` is the side of the square matrices."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(16 * size * size, device=device)  # larger than any cache
    target = torch.empty_like(source)
    programs = {"copy": lambda: target.copy_(source), "product": lambda: a @ b}
    times = in_turn(programs, device, 0.5)
    moved = 2 * source.numel() * source.element_size()
    return Machine(moved / times["copy"].min(), 2 * size**3 / times["product"].min())


def peak_memory(function: Callable[..., Any], *arguments: Any) -> float:
    """Most memory (MB of 10⁶ bytes) of a fresh process that calls a module's ``function``."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_call, (function, arguments))


def _call(function: Callable[..., Any], arguments: tuple) -> float:
    function(*arguments)
    return resident_peak()


def resident_peak() -> float:
    """Most memory (MB of 10⁶ bytes) that this process has had since its start."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def record(device: torch.device, **fields: Any) -> Row:
    """What the numbers depend on, beside ``fields``; made before the measurement."""
    return {
        "device": runtime.describe_device(device),
        "threads": torch.get_num_threads(),
        # Programs that others ran meanwhile; 0 is a quiet machine.
        "load_before": os.getloadavg()[0],
        "versions": runtime.versions(),
        "commit": runtime.commit(),
        **fields,
    }


def write(output: Path, name: str, record: Row, rows: list[Row], table: str) -> None:
    """``name.json`` with everything, ``name.md`` with ``table``; the table is logged as well."""
    write_json(output / f"{name}.json", {**record, "rows": rows})
    heading = (
        f"# {name}\n\n{record['device']}, torch {record['versions']['torch']}, "
        f"commit {record['commit']}, load {record['load_before']:.1f} before\n\n"
    )
    with atomic(output / f"{name}.md") as temporary:
        temporary.write_text(heading + table)
    command.log.info("%s\n%s", output / f"{name}.json", table)


def markdown(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A table; all columns but the first are numbers."""
    header = list(header)
    rule = ["---", *["--:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *lines))
