"""Time and memory of every metric on random features, each in a process of its own.

    python -m benchmarks.metrics [--images 50000] [--dimension 2048] [--metrics kid prdc]
                                 [--python /path/to/an/environment/bin/python]

With ``--python``, pytorch-fid, clean-fid, torch-fidelity and prdc run in turn with ours, as far as
that environment has them and they have the metric: KID of 100 subsets of 1,000, and of torch-fidelity's
precision and recall alone. What would need more than three quarters of the memory is left out.

Wall time is what a user waits for; processor time, of all threads together, is the figure that
also holds where other programs share the cores. Peak memory is of the whole process, the features
of both sets included. The time that features take to be computed or read does not count.
"""

import json
import multiprocessing
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import Row, markdown, parser, record, resident_peak, write
from stylenat import command
from stylenat.metrics import METRICS
from stylenat.metrics.moments import Moments, Statistics
from stylenat.records import StatisticsRecord
from stylenat.runtime import select_device

CLASSES = 1008  # of Inception's head
OURS = ("stylenat", "stylenat, without a standard error")
PEERS = ("pytorch-fid", "clean-fid", "torch-fidelity", "prdc")
KEYS = ("metric", "program", "wall_s", "cpu_s", "memory_mb")
COLUMNS = ("metric", "program", "wall time (s)", "processor time (s)", "peak memory (MB)")


def main() -> None:
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--images", type=int, default=50_000, help="in each of the two sets")
    options.add_argument("--dimension", type=int, default=2048, help="of the features")
    options.add_argument("--metrics", nargs="+", choices=list(METRICS), default=list(METRICS))
    options.add_argument("--python", help="of the environment with the other programs")
    command.main(options, run)


def run(
    *,
    device: str,
    output: Path,
    images: int,
    dimension: int,
    metrics: Sequence[str],
    python: str | None,
) -> None:
    selected = select_device(device)
    facts = record(selected, images=images, dimension=dimension)
    rows: list[Row] = []
    for metric in metrics:
        sizes = (images, dimension, facts["threads"])
        for name in OURS if metric == "frechet" else OURS[:1]:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(measure, (name, metric, *sizes)))
            command.log.info("%s", rows[-1])
        for program in PEERS if python else ():
            if row := theirs(python, program, metric, sizes):
                rows.append(row)
                command.log.info("%s", row)
    lines = [
        [f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in KEYS]
        for row in rows
    ]
    write(output, "metrics", facts, rows, markdown(COLUMNS, lines))


def theirs(python: str, program: str, metric: str, sizes: tuple[int, ...]) -> Row | None:
    """The same of another program; None where it has no such metric, is missing or fails."""
    script = Path(__file__).with_name("peer_times.py")
    words = [python, script, program, metric, *map(str, sizes)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        command.log.warning("%s of %s left out: %s", metric, program, reason)
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    return found and {"metric": metric, "program": f"{program} {found.pop('version')}"} | found


def measure(program: str, metric: str, images: int, dimension: int, threads: int) -> Row:
    """One metric between two sets of as many random features, in this process."""
    torch.set_num_threads(threads)
    real, generated = (_statistics(metric, seed, images, dimension) for seed in (0, 1))
    wall, processor = time.perf_counter(), time.process_time()
    if metric == "frechet":  # other metrics take no moments, or have them from another step
        kept = {} if program == OURS[0] else {"features": None}
        real, generated = (
            replace(s, moments=Moments.of(s.features), **kept) for s in (real, generated)
        )
    METRICS[metric].measure(real)(generated)
    return {
        "metric": metric,
        "program": program,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - processor,
        "memory_mb": round(resident_peak()),
    }


def _statistics(metric: str, seed: int, images: int, dimension: int) -> Statistics:
    random = np.random.default_rng(seed)
    features = random.standard_normal((images, dimension), np.float32)
    extrapolated = metric == "frechet_infinity"
    moments = Moments.of(features) if extrapolated else Moments.zeros(dimension)
    head = random.standard_normal((CLASSES, dimension), np.float32) / np.sqrt(dimension)
    values = {"randomColor": ["negative", "positive"]}
    record = StatisticsRecord.of("random", "random").model_copy(update={"attributes": values})
    labels = (features[:, :1] > 0).astype(np.int8)
    return Statistics(moments, record, features, head.astype(np.float32), labels)


if __name__ == "__main__":
    main()
