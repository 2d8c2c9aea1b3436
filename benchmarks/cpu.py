"""What each of the CPU's own ways gains in sampling: the network with one of them, and without any.

Cases: experiments, and the batch that sampling computes at once. The network without the ways of
:mod:`stylenat.models.cpu`, with one of them and with all run in turn, for every number of threads.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.generator import build
from benchmarks.harness import (
    Program,
    Row,
    add_seconds,
    in_turn,
    markdown,
    parser,
    record,
    summary,
    write,
)
from benchmarks.iteration import experiment
from stylenat import command
from stylenat.models import Generator, cpu, instance_norm
from stylenat.runtime import select_device

CASES = ("faces32:8", "ffhq256:1")

# By name: what is replaced, what by outside CPUs, and the CPU's way.
WAYS: dict[str, tuple[Any, str, Callable[..., Any], Callable[..., Any]]] = {
    "linear layers by oneDNN": (
        *(cpu.PixelLinear, "forward"),
        *(nn.Linear.forward, cpu.PixelLinear.forward),
    ),
    "norms by their definition": (
        *(cpu, "normalise"),
        *(instance_norm._normalise, cpu.normalise),
    ),
}
NETWORKS = {"neither": (), **{name: (name,) for name in WAYS}, "both": tuple(WAYS)}


def forward(network: Generator, z: Tensor, ways: tuple[str, ...]) -> Program:
    def run() -> None:
        for name, (owner, part, elsewhere, way) in WAYS.items():
            setattr(owner, part, way if name in ways else elsewhere)
        with torch.inference_mode():
            network(z)

    return run


def measure(case: str, threads: int, device: torch.device, seconds: float) -> Row:
    name, _, batch = case.partition(":")
    torch.set_num_threads(threads)
    config = experiment(name, 16).model
    network = build(config, device)
    z = torch.randn(int(batch), config.style_dim)
    programs = {name: forward(network, z, ways) for name, ways in NETWORKS.items()}
    times = {n: summary(v) for n, v in in_turn(programs, device, seconds).items()}
    return {"case": case, "threads": threads, "times": times}


def table(rows: list[Row]) -> str:
    """One line for each case, number of threads and network."""
    header = ("case", "threads", "network", "rounds", "ms", "quartiles", "times as fast as neither")
    return markdown(
        header,
        [
            [
                *(row["case"], str(row["threads"]), name, str(times["rounds"])),
                f"{times['ms']:.4g}",
                f"{times['ms_q25']:.4g} to {times['ms_q75']:.4g}",
                f"{row['times']['neither']['ms'] / times['ms']:.2f}",
            ]
            for row in rows
            for name, times in row["times"].items()
        ],
    )


def run(
    *, device: str, output: Path, seconds: float, cases: Sequence[str], threads: Sequence[int]
) -> None:
    selected = select_device(device)
    about = record(selected)
    rows = [measure(case, number, selected, seconds) for case in cases for number in threads]
    write(output, "cpu", about, rows, table(rows))


def main() -> None:
    options = parser(__doc__)
    add_seconds(options)
    options.add_argument("--cases", nargs="+", default=CASES, help="experiment:batch")
    options.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    command.main(options, run)


if __name__ == "__main__":
    main()
