"""Training: images per second of whole iterations, with everything on.

An iteration with the R1 penalty and one without are timed apart; the mean iteration holds one of
the former to every ``r1_interval``. Reals are noise, drawn beforehand: reading data is measured by
benchmarks.data.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from benchmarks.harness import (
    ROOT,
    Program,
    Row,
    add_seconds,
    in_turn,
    markdown,
    parser,
    peak_memory,
    record,
    summary,
    write,
)
from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.experiments import resolve as experiments_of
from stylenat.precision import resolve
from stylenat.runtime import select_device
from stylenat.training.augment import Augmentation
from stylenat.training.build import build_trainer
from stylenat.training.distributed import World

# Experiments, and the total batch instead of their own; a CPU is too slow for that of the faces.
CASES = {"cpu": ("faces32:16", "ffhq256:1"), "cuda": ("ffhq256:8", "ffhq256:16", "ffhq1024:4")}


def experiment(name: str, batch: int) -> ExperimentConfig:
    """A shipped experiment with another batch size."""
    shipped = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    config = experiments_of(shipped)[0][name].config
    return replace(config, training=replace(config.training, batch_size=batch))


def iterations(config: ExperimentConfig, device: torch.device) -> dict[str, Program]:
    """One iteration of either kind."""
    world = World(0, 1, device)
    trainer = build_trainer(config, world)
    batch, size, interval = (
        config.training.batch_size,
        config.model.image_size,
        config.training.r1_interval,
    )
    reals = torch.randn(batch, 3, size, size, device=device)

    def at(step: int) -> Program:
        def run() -> None:
            trainer.step = step
            z_d, z_g = torch.randn(2, batch, config.model.style_dim, device=device)
            trainer.iteration(reals, z_d, z_g, Augmentation("bcr", 0, step, batch, world))

        return run

    return {"plain": at(interval + 1), "with R1": at(interval)}


def both_once(config: ExperimentConfig) -> None:
    """What the peak memory is measured of: a process that trains on the CPU."""
    for program in iterations(config, torch.device("cpu")).values():
        program()


def measure(config: ExperimentConfig, device: torch.device, seconds: float) -> Row:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    programs = iterations(config, device)
    times = {n: summary(v) for n, v in in_turn(programs, device, seconds).items()}
    if times.keys() != programs.keys():
        raise UserError("an iteration failed, as said above")
    interval, batch = config.training.r1_interval, config.training.batch_size
    mean = ((interval - 1) * times["plain"]["ms"] + times["with R1"]["ms"]) / interval
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 1e6
    else:
        memory = peak_memory(both_once, config)
    return {
        "experiment": config.name,
        "batch_size": batch,
        "precision": resolve(config.precision, device),
        "images_per_second": batch / mean * 1e3,
        "memory_mb": memory,
        "times": times,
    }


def table(rows: list[Row]) -> str:
    """One line for each experiment and batch size."""
    header = ["experiment", "batch", "images/s", "peak MB", "plain, ms", "with R1, ms"]
    return markdown(
        header,
        [
            [
                row["experiment"],
                str(row["batch_size"]),
                f"{row['images_per_second']:.3g}",
                f"{row['memory_mb']:.0f}",
                f"{row['times']['plain']['ms']:.4g}",
                f"{row['times']['with R1']['ms']:.4g}",
            ]
            for row in rows
        ],
    )


def run(*, device: str, output: Path, seconds: float, cases: Sequence[str] | None) -> None:
    selected = select_device(device)
    about = record(selected)
    rows = []
    for case in cases or CASES[selected.type]:
        name, _, batch = case.partition(":")
        try:
            rows.append(measure(experiment(name, int(batch)), selected, seconds))
        except (RuntimeError, UserError) as error:
            command.log.warning("%s left out: %s", case, str(error).partition("\n")[0])
    write(output, "iteration", about, rows, table(rows))


def main() -> None:
    options = parser(__doc__)
    add_seconds(options)
    options.add_argument("--cases", nargs="+", help=f"experiment:batch size; if not given, {CASES}")
    command.main(options, run)


if __name__ == "__main__":
    main()
