"""Kernels that one training iteration launches on a GPU, the bytes that they read and write, and the
memory that it takes.

Counted without a GPU: the iteration runs on a pretended device (benchmarks.pretended), which
computes shapes only. An operation counts as one launch, a custom kernel as well; what libraries
launch inside an operation (convolutions that change the layout first) is not seen. Bytes are those of
all inputs and outputs, caches not counted. Memory is that of all tensors alive at once; what libraries
take for themselves is not in it.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.harness import Row, markdown
from benchmarks.iteration import experiment
from benchmarks.pretended import DEVICE, Watch, pretended
from stylenat import command, runtime
from stylenat.config import ExperimentConfig
from stylenat.io import atomic, write_json
from stylenat.training.augment import Augmentation
from stylenat.training.build import build_trainer
from stylenat.training.distributed import World
from stylenat.training.trainer import Trainer

CASES = ("ffhq256:4", "ffhq256:8", "ffhq256:16", "ffhq1024:4", "ffhq1024:8")
PHASES = {
    "_discriminator_step": "discriminator",
    "_r1_step": "R1",
    "_generator_step": "generator",
    "_update_ema": "average",
}
LONGEST = 12  # operations in the table of each case


def count(config: ExperimentConfig, microbatch: int | None = None) -> tuple[Watch, int]:
    """What an iteration with R1 does, after one in which the optimisers make their state; and the
    most bytes of tensors, networks included."""
    world = World(0, 1, DEVICE)
    trainer = build_trainer(config, world, microbatch)
    training = config.training
    batch, size = training.batch_size, config.model.image_size
    reals = torch.zeros(batch, 3, size, size, device=DEVICE)
    z = torch.zeros(batch, config.model.style_dim, device=DEVICE)
    with pretended() as watch:
        for method, phase in PHASES.items():
            _name(trainer, method, phase, watch)
        for _ in range(2):
            watch.events.clear()
            watch.launches.clear()
            watch.bytes.clear()
            trainer.step = training.r1_interval
            augment = Augmentation(training.augment, training.seed, trainer.step, batch, world)
            trainer.iteration(reals, z, z, augment)
    networks = (trainer.generator, trainer.generator_ema, trainer.discriminator)
    states = [x for network in networks for x in (*network.parameters(), *network.buffers())]
    return watch, watch.peak + sum(x.numel() * x.element_size() for x in states)


def _name(trainer: Trainer, method: str, phase: str, watch: Watch) -> None:
    """Count what the method does under the name of its phase."""
    original = getattr(trainer, method)

    def named(*arguments: Any) -> Any:
        with patch.object(watch, "phase", phase):
            return original(*arguments)

    setattr(trainer, method, named)


def measure(config: ExperimentConfig) -> Row:
    watch, memory = count(config)
    training = replace(config.training, checkpoint_activations=True)
    checkpointed = replace(config, training=training)

    def by(key: Callable[[tuple[str, str]], str], counts: Counter) -> Counter:
        sums: Counter[str] = Counter()
        for name, number in counts.items():
            sums[key(name)] += number
        return sums

    plain = {name: number for name, number in watch.launches.items() if name[0] != "R1"}
    return {
        "experiment": config.name,
        "batch_size": config.training.batch_size,
        "launches_plain": sum(plain.values()),
        "gb_plain": sum(watch.bytes[name] for name in plain) / 1e9,
        "waits": len(watch.events),
        "memory_gb": memory / 1e9,
        "memory_checkpointed_gb": count(checkpointed)[1] / 1e9,
        "memory_checkpointed_one_gb": count(checkpointed, 1)[1] / 1e9,
        "launches": by(lambda name: name[0] or "other", watch.launches),
        "bytes": by(lambda name: name[0] or "other", watch.bytes),
        "operations": by(lambda name: name[1], Counter(plain)),
        "operation_bytes": by(lambda name: name[1], Counter({n: watch.bytes[n] for n in plain})),
    }


def table(rows: list[Row]) -> str:
    """All cases; then of each its parts, and the operations that move most."""
    lines = [
        [
            f"{row['experiment']}, batch {row['batch_size']}",
            f"{row['launches_plain']:,}",
            f"{row['gb_plain']:.1f}",
            str(row["waits"]),
            f"{row['memory_gb']:.1f}",
            f"{row['memory_checkpointed_gb']:.1f}",
            f"{row['memory_checkpointed_one_gb']:.1f}",
        ]
        for row in rows
    ]
    header = ["a plain iteration", "launches", "GB moved", "waits of the host", "GB of memory"]
    header += ["with `checkpoint_activations`", "and `microbatch: 1`"]
    text = markdown(header, lines) + "\n"
    for row in rows:
        text += f"## {row['experiment']}, batch {row['batch_size']}\n\n"
        lines = [
            [part, str(number), f"{row['bytes'][part] / 1e9:.1f}"]
            for part, number in row["launches"].items()
        ]
        text += markdown(["part", "launches", "GB"], lines) + "\n"
        lines = [
            [name, str(row["operations"][name]), f"{moved / 1e9:.1f}"]
            for name, moved in row["operation_bytes"].most_common(LONGEST)
        ]
        text += markdown(["operation of a plain iteration", "launches", "GB"], lines) + "\n"
    return text


def run(*, cases: Sequence[str], output: Path) -> None:
    named = [case.partition(":") for case in cases]
    rows = [measure(experiment(name, int(batch))) for name, _, batch in named]
    about = {"versions": runtime.versions(), "commit": runtime.commit()}
    write_json(output / "launches.json", {**about, "rows": rows})
    heading = f"# launches\n\nCounted, not measured. commit {about['commit']}\n\n"
    with atomic(output / "launches.md") as temporary:
        temporary.write_text(heading + table(rows).rstrip("\n") + "\n")
    command.log.info("%s\n%s", output / "launches.md", table(rows))


def main() -> None:
    os.environ["TRITON_INTERPRET"] = (
        "1"  # before Triton is imported: there is no GPU to compile for
    )
    options = command.parser(__doc__)
    options.add_argument("--cases", nargs="+", default=CASES, help="experiment:batch size")
    options.add_argument(
        "--output", type=Path, default=Path("benchmarks/results"), help="folder of the results"
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
