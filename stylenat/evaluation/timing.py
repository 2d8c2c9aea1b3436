"""How fast a generator makes images: two protocols, each stated with its number."""

import logging
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stylenat.models import Generator

log = logging.getLogger(__name__)

LEAST_ROUNDS = 3  # below this there are no quartiles


@dataclass(frozen=True)
class Protocol:
    """A way to time; the numbers of rounds are what a budget of time may cut short."""

    name: str
    warmup: int
    rounds: int
    tf32: bool
    summary: Callable[[np.ndarray], float]  # seconds of every round → seconds of a round


# Upstream's README: batch 1, 10 warm-ups, 500 rounds, TF32.
UPSTREAM = Protocol("upstream", warmup=10, rounds=500, tf32=True, summary=np.mean)
MEDIAN = Protocol("median", warmup=50, rounds=200, tf32=False, summary=np.median)


def throughput(
    generator: Generator, protocol: Protocol, batch_size: int, seconds: float
) -> dict[str, Any]:
    """Time ``generator(z)``, mapping network included, z and images left on the device.

    Every round is synchronised. At most about ``seconds`` are spent, a fifth of them on warm-ups.
    Returns the fields of a throughput record that depend on the measurement (images/s, rounds
    done, peak memory in MB of 10⁶ bytes).
    """
    device = next(generator.parameters()).device
    z = torch.randn(batch_size, generator.config.style_dim, device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    tf32 = protocol.tf32 and device.type == "cuda"
    with _float32(tf32), torch.inference_mode():
        warmups = _time(lambda: generator(z), protocol.warmup, seconds / 5, device)
        times = _time(lambda: generator(z), protocol.rounds, seconds - sum(warmups), device)
    slow, fast = np.quantile(times, (0.75, 0.25))
    return {
        "protocol": protocol.name,
        "batch_size": batch_size,
        "images_per_second": batch_size / float(protocol.summary(times)),
        "images_per_second_median": batch_size / float(np.median(times)),
        "images_per_second_q25": batch_size / float(slow),
        "images_per_second_q75": batch_size / float(fast),
        "warmup": len(warmups),
        "rounds": len(times),
        "rounds_intended": protocol.rounds,
        "seconds": seconds,
        "dtype": "tf32" if tf32 else "float32",
        **_peak_memory(device),
    }


def _time(work: Callable[[], Any], rounds: int, seconds: float, device: torch.device) -> np.ndarray:
    """Seconds of each round, until there are ``rounds`` or the time is spent."""
    times: list[float] = []
    while len(times) < rounds and (len(times) < LEAST_ROUNDS or sum(times) < seconds):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return np.array(times)


def _peak_memory(device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        return {
            "memory_mb": torch.cuda.max_memory_allocated(device) / 1e6,
            "memory_of": "tensors on the device",
        }
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6,
        "memory_of": "the process since its start",
    }


@contextmanager
def _float32(tf32: bool) -> Iterator[None]:
    """float32 matrix products and convolutions with TF32 on or off."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
