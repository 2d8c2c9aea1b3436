"""How long another program takes for a metric of random features; :mod:`benchmarks.metrics` runs it.

    python benchmarks/peer_times.py PROGRAM METRIC IMAGES DIMENSION THREADS

It prints wall time, processor time and peak memory as JSON, or null where this program has no such
metric or is missing. The features are those that benchmarks.metrics measures our own metrics of.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import metadata

import numpy as np
import torch
from peer_values import gaussian, stand_in_for_torchvision

Pair = tuple[np.ndarray, np.ndarray]
SUBSETS, SUBSET_SIZE = 100, 1000  # of kernel distances, as in our protocols


def pytorch_fid_frechet(real: np.ndarray, generated: np.ndarray) -> None:
    from pytorch_fid.fid_score import calculate_frechet_distance

    calculate_frechet_distance(*gaussian(real), *gaussian(generated))


def clean_fid_frechet(real: np.ndarray, generated: np.ndarray) -> None:
    from cleanfid.fid import fid_from_feats

    fid_from_feats(real, generated)


def clean_fid_kid(real: np.ndarray, generated: np.ndarray) -> None:
    from cleanfid.fid import kernel_distance

    kernel_distance(real, generated, SUBSETS, SUBSET_SIZE)


def torch_fidelity_frechet(real: np.ndarray, generated: np.ndarray) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    gaussians = [fid_features_to_statistics(torch.from_numpy(x)) for x in (real, generated)]
    fid_statistics_to_metric(*gaussians, False)


def torch_fidelity_kid(real: np.ndarray, generated: np.ndarray) -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    subsets = {"kid_subsets": SUBSETS, "kid_subset_size": SUBSET_SIZE, "verbose": False}
    kid_features_to_metric(torch.from_numpy(real), torch.from_numpy(generated), **subsets)


def torch_fidelity_prdc(real: np.ndarray, generated: np.ndarray) -> None:
    """Precision and recall alone, by blocks."""
    from torch_fidelity.metric_prc import calculate_precision_recall_part

    calculate_precision_recall_part(torch.from_numpy(generated), torch.from_numpy(real))


def prdc_prdc(real: np.ndarray, generated: np.ndarray) -> None:
    from prdc import compute_prdc

    compute_prdc(real, generated, nearest_k=5)


MEASURES: dict[tuple[str, str], Callable[[np.ndarray, np.ndarray], None]] = {
    ("pytorch-fid", "frechet"): pytorch_fid_frechet,
    ("clean-fid", "frechet"): clean_fid_frechet,
    ("clean-fid", "kid"): clean_fid_kid,
    ("torch-fidelity", "frechet"): torch_fidelity_frechet,
    ("torch-fidelity", "kid"): torch_fidelity_kid,
    ("torch-fidelity", "prdc"): torch_fidelity_prdc,
    ("prdc", "prdc"): prdc_prdc,
}


def main(program: str, metric: str, images: int, dimension: int, threads: int) -> None:
    measure = MEASURES.get((program, metric))
    try:
        version = metadata.version(program)
    except metadata.PackageNotFoundError:
        measure = None
    if measure is None:
        print("null")
        return
    # A program that would need more than there is fails, and the machine goes on.
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (memory * 3 // 4, memory * 3 // 4))
    torch.set_num_threads(threads)
    stand_in_for_torchvision()
    draw = [np.random.default_rng(seed) for seed in (0, 1)]
    real, generated = (r.standard_normal((images, dimension), np.float32) for r in draw)
    warm = (x[:2000, :16] for x in (real, generated))  # imports do not count
    measure(*warm)
    wall, processor = time.perf_counter(), time.process_time()
    measure(real, generated)
    found = {
        "version": version,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - processor,
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
