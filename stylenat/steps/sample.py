"""Sample a generator: the same seed gives the same image, whatever else is sampled with it.

--output X.lmdb packs the images in the order of the seeds; anything else is a directory that
receives one PNG per seed, 000000.png. z of a seed is torch.manual_seed(seed); torch.randn(1, dim)
on the CPU.
"""

import argparse
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from stylenat import command, runtime
from stylenat.data.writer import write_store
from stylenat.io import alone, atomic, sha256
from stylenat.models import load_generator, read_header
from stylenat.models.latents import MEAN_SEEDS, generate, parse_seeds
from stylenat.records import SampledSet


def run(args: argparse.Namespace) -> None:
    seeds = parse_seeds(args.seeds)
    generator = load_generator(args.weights, args.device)
    pictures = command.progress(
        generate(generator, seeds, args.truncation, args.batch_size),
        total=len(seeds),
        desc="sampling",
        unit="img",
    )
    if args.output.suffix == ".lmdb":
        with alone(args.output):
            write_store(args.output, pictures, _metadata(args).to_dict())
    else:
        _write_pngs(args.output, seeds, pictures, args.batch_size)


def _metadata(args: argparse.Namespace) -> SampledSet:
    """What the LMDB says of its origin; ``generator_sha256`` marks it as generated."""
    _, provenance = read_header(args.weights)
    data = provenance.data
    return SampledSet(
        name=provenance.experiment_name or args.weights.stem,
        kind="generated",
        filter=data.filter if data else None,
        source=f"{args.weights.name}, step {provenance.step}",
        licence="that of the data set the generator was trained on",
        notes=[],
        seeds=args.seeds,
        truncation=args.truncation,
        generator_sha256=sha256(args.weights),
        data=data,
        device=runtime.describe_device(args.device),
        dtype="float32",
        versions=runtime.versions(),
        commit=runtime.commit(),
    )


def _write_pngs(
    directory: Path, seeds: list[int], pictures: Iterable[np.ndarray], pending: int
) -> None:
    """Encode in threads, at most ``pending`` images behind the network."""
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor() as pool:
        for seed, pixels in zip(seeds, pictures, strict=True):
            waiting.append(pool.submit(_write_png, directory / f"{seed:06d}.png", pixels))
            if len(waiting) > pending:
                waiting.popleft().result()
        for written in waiting:
            written.result()


def _write_png(path: Path, pixels: np.ndarray) -> None:
    with atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG")


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    options.add_argument("--seeds", required=True, help="such as 0,3,10-20")
    options.add_argument("--output", type=Path, required=True, help="X.lmdb, or a directory")
    options.add_argument(
        "--truncation",
        type=float,
        metavar="PSI",
        help="move w towards its mean, over seeds "
        f"{MEAN_SEEDS.start} to {MEAN_SEEDS.stop - 1}, by this factor",
    )
    options.add_argument(
        "--batch-size",
        type=int,
        default=64,
        help="images between the network and the disk; costs memory, changes no image",
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
