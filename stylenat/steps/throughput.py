"""Measure how many images a second generators make: upstream's protocol, then a batch sweep with and
without the mapping network and the conversion to uint8.

Several generators are measured in interleaved rounds, so that whatever else the machine does, it
does to all of them. Those of --experiments are untrained: speed does not depend on the weights.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.io import Json, read_json, sha256, write_json
from stylenat.metrics.timing import EXECUTIONS, sweep
from stylenat.models import Generator, load_generator, read_header
from stylenat.precision import PRECISIONS
from stylenat.records import Throughput
from stylenat.runtime import select_device

SECONDS = {"cpu": 5.0, "cuda": 600.0}


def run(
    *,
    batch_sizes: Sequence[int],
    output: Path,
    weights: Sequence[Path] = (),
    experiments: Sequence[Path] = (),
    seconds: float | None = None,
    dtype: str = "float32",
    execution: str = "eager",
    device: str = "auto",
) -> None:
    selected = select_device(device)
    named = [_trained(path) for path in weights] + [_new(path) for path in experiments]
    names, generators = zip(*named, strict=True)
    for generator in generators:
        generator.to(selected).eval().requires_grad_(False)
    seconds = seconds or SECONDS[selected.type] * len(generators)
    records: list[Json] = []
    for measured in sweep(generators, batch_sizes, seconds, dtype, execution):
        for name, own in zip(names, measured, strict=True):
            for record in own:
                record = record.model_copy(update=name)
                _log(record)
                records.append(record.to_dict())
        write_json(output, records)  # each time, so that no failure costs what was measured
    if not records:
        raise UserError("not even one image fits into the memory of this device; use a larger one.")


def _trained(path: Path) -> tuple[Json, Generator]:
    """What a record says of whose generator it is, and the generator."""
    _, provenance = read_header(path)
    name = {
        "experiment": provenance.experiment_name,  # None for a checkpoint converted without one
        "step": provenance.step,
        "generator_sha256": sha256(path),
    }
    return name, load_generator(path)


def _new(path: Path) -> tuple[Json, Generator]:
    experiment = ExperimentConfig.from_dict(read_json(path))
    torch.manual_seed(0)
    name = {"experiment": experiment.name, "step": None, "generator_sha256": None}
    return name, Generator(experiment.model)


def _log(record: Throughput) -> None:
    command.log.info(
        "%s, %s, batch %d, %s: %.2f images/s (quartiles %.2f to %.2f, %d rounds), %.0f MB",
        record.experiment,
        record.protocol,
        record.batch_size,
        record.timed,
        record.images_per_second,
        record.images_per_second_q25,
        record.images_per_second_q75,
        record.rounds,
        record.memory_mb,
    )


def main() -> None:
    options = command.parser(__doc__)
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, nargs="+", help="safetensors")
    source.add_argument("--experiments", type=Path, nargs="+", help="resolved (JSON)")
    options.add_argument(
        "--batch-sizes",
        type=int,
        nargs="+",
        required=True,
        help="to sweep; on a GPU, the largest that fits is measured, too",
    )
    options.add_argument(
        "--seconds",
        type=float,
        help="time for each batch size, all generators together; "
        f"if not given, so many for each of them: {SECONDS}",
    )
    options.add_argument("--dtype", choices=PRECISIONS, help="of our protocol")
    options.add_argument("--execution", choices=EXECUTIONS, help="of the network")
    options.add_argument("--output", type=Path, required=True, help="list of records (JSON)")
    command.add_device(options)
    command.main(options, run)


if __name__ == "__main__":
    main()
