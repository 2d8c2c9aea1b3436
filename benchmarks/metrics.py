"""Time and memory of every metric on random features, each in a process of its own.

    python -m benchmarks.metrics [--images 50000] [--dimension 2048] [--metrics kid prdc]

Wall time is what a user waits for; processor time, of all threads together, is the figure that
also holds where other programs share the cores. Peak memory is of the whole process, the features
of both sets included. The time that features take to be computed or read does not count.
"""

import argparse
import multiprocessing
import time

import numpy as np
import torch

from benchmarks.harness import Row, markdown, parser, record, resident_peak, write
from stylenat import command
from stylenat.metrics import METRICS
from stylenat.metrics.moments import Moments, Statistics

CLASSES = 1008  # of Inception's head
COLUMNS = ("metric", "wall time (s)", "processor time (s)", "peak memory (MB)")


def main() -> None:
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--images", type=int, default=50_000, help="in each of the two sets")
    options.add_argument("--dimension", type=int, default=2048, help="of the features")
    options.add_argument(
        "--metrics", nargs="+", choices=["moments", *METRICS], default=["moments", *METRICS]
    )
    command.main(options, run)


def run(args: argparse.Namespace) -> None:
    facts = record(args, images=args.images, dimension=args.dimension)
    rows: list[Row] = []
    for metric in args.metrics:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(
                pool.apply(measure, (metric, args.images, args.dimension, facts["threads"]))
            )
        command.log.info("%s", rows[-1])
    lines = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    write(args, "metrics", facts, rows, markdown(COLUMNS, lines))


def measure(metric: str, images: int, dimension: int, threads: int) -> Row:
    """One metric between two sets of as many random features, in this process."""
    torch.set_num_threads(threads)
    real, generated = (_statistics(metric, seed, images, dimension) for seed in (0, 1))
    wall, processor = time.perf_counter(), time.process_time()
    if metric == "moments":
        Moments.of(generated.features)
    else:
        METRICS[metric].measure(real)(generated)
    return {
        "metric": metric,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - processor,
        "memory_mb": round(resident_peak()),
    }


def _statistics(metric: str, seed: int, images: int, dimension: int) -> Statistics:
    random = np.random.default_rng(seed)
    if metric == "frechet":  # takes moments, whatever the number of images; enough for full rank
        images = 2 * dimension
    features = random.standard_normal((images, dimension), np.float32)
    frechet = metric.startswith("frechet")
    moments = Moments.of(features) if frechet else Moments.zeros(dimension)
    head = random.standard_normal((CLASSES, dimension), np.float32) / np.sqrt(dimension)
    names = {
        "extractor": "random",
        "dataset": {"name": "random"},
        "attributes": {"randomColor": ["negative", "positive"]},
    }
    labels = (features[:, :1] > 0).astype(np.int8)
    return Statistics(moments, names, features, head.astype(np.float32), labels)


if __name__ == "__main__":
    main()
