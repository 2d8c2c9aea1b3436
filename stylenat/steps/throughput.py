"""Measure how many images a second a generator makes: upstream's protocol, and a batch sweep."""

import argparse
from pathlib import Path

import torch

from stylenat import command, runtime
from stylenat.errors import UserError
from stylenat.evaluation.timing import MEDIAN, UPSTREAM, throughput
from stylenat.models import load_generator, read_header
from stylenat.models.attention import default_backend
from stylenat.records import sha256, write_json

SECONDS = {"cpu": 5.0, "cuda": 600.0}


def run(args: argparse.Namespace) -> None:
    generator = load_generator(args.weights, args.device)
    _, provenance = read_header(args.weights)
    experiment = provenance["experiment"]  # None for a checkpoint converted without one
    common = {
        "experiment": experiment and experiment["name"],
        "step": provenance["step"],
        "generator_sha256": sha256(args.weights),
        "resolution": generator.config.image_size,
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "device": runtime.describe_device(args.device),
        "backend": default_backend(args.device),
        "threads": torch.get_num_threads(),
        "timed": "mapping and synthesis, z to image in float32, both on the device",
        "versions": runtime.versions(),
        "commit": runtime.commit(),
    }
    seconds = args.seconds or SECONDS[args.device.type]
    records = []
    # Ascending, because a process's peak memory never falls.
    for protocol, batch_size in ((UPSTREAM, 1), *((MEDIAN, b) for b in sorted(args.batch_sizes))):
        try:
            measured = throughput(generator, protocol, batch_size, seconds)
        except torch.OutOfMemoryError:
            command.log.warning("batch size %d does not fit into memory: left out", batch_size)
            break
        records.append(common | measured)
        command.log.info(
            "%s, batch %d: %.2f images/s (quartiles %.2f to %.2f, %d rounds), %.0f MB",
            protocol.name,
            batch_size,
            *(measured[f"images_per_second{key}"] for key in ("", "_q25", "_q75")),
            measured["rounds"],
            measured["memory_mb"],
        )
    if not records:
        raise UserError("not even one image fits into the memory of this device; use a larger one.")
    write_json(args.output, records)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--weights", type=Path, required=True, help="generator (safetensors)")
    options.add_argument("--batch-sizes", type=int, nargs="+", required=True, help="to sweep")
    options.add_argument(
        "--seconds", type=float, help=f"time for each measurement; if not given, {SECONDS}"
    )
    options.add_argument("--output", type=Path, required=True, help="list of records (JSON)")
    command.add_device(options)
    command.main(options, run)


if __name__ == "__main__":
    main()
