"""Sample a generator: the same seed gives the same image, whatever else is sampled with it.

--output X.lmdb packs the images in the order of the seeds; anything else is a directory that
receives one PNG per seed, 000000.png. z of a seed is torch.manual_seed(seed); torch.randn(1, dim)
on the CPU.
"""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stylenat import command, runtime
from stylenat.data.writer import write_store
from stylenat.io import alone, atomic, sha256
from stylenat.models import load_generator, read_header
from stylenat.models.latents import MEAN_SEEDS, generate, parse_seeds
from stylenat.records import SampledSet


def run(
    *,
    weights: Path,
    seeds: str,
    output: Path,
    device: str = "auto",
    truncation: float | None = None,
    batch_size: int = 64,
) -> None:
    numbers = parse_seeds(seeds)
    selected = runtime.select_device(device)
    generator = load_generator(weights, selected)
    pictures = command.progress(
        generate(generator, numbers, truncation, batch_size),
        total=len(numbers),
        desc="sampling",
        unit="img",
    )
    if output.suffix == ".lmdb":
        with alone(output):
            metadata = _metadata(weights, seeds, truncation, selected)
            write_store(output, pictures, metadata.to_dict())
    else:
        _write_pngs(output, numbers, pictures, batch_size)


def _metadata(
    weights: Path, seeds: str, truncation: float | None, device: torch.device
) -> SampledSet:
    """What the LMDB says of its origin; ``generator_sha256`` marks it as generated."""
    _, provenance = read_header(weights)
    data = provenance.data
    return SampledSet(
        name=provenance.experiment_name or weights.stem,
        kind="generated",
        filter=data.filter if data else None,
        source=f"{weights.name}, step {provenance.step}",
        licence="that of the data set the generator was trained on",
        notes=[],
        seeds=seeds,
        truncation=truncation,
        generator_sha256=sha256(weights),
        data=data,
        device=runtime.describe_device(device),
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
        help="images between the network and the disk; costs memory, changes no image",
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
