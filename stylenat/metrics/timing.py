"""How fast generators make images: two protocols, each stated with its numbers."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylenat import runtime
from stylenat.errors import UserError
from stylenat.images import to_uint8
from stylenat.metrics.flops import mapping_flops, synthesis_flops
from stylenat.metrics.memory import peak_memory
from stylenat.models import Generator
from stylenat.models.attention import default_backend
from stylenat.models.self_check import check_kernels
from stylenat.precision import layers, products, resolve
from stylenat.records import Throughput

log = logging.getLogger(__name__)

LEAST_ROUNDS = 3  # below this there are no quartiles

Work = Callable[[], Any]

# What is timed, from noise z or style w, both on the device, to images, which stay there.
WHOLE, SYNTHESIS, STORED = PARTS = ("z to image", "w to image", "z to uint8")

EXECUTIONS = ("eager", "graph", "compile")  # graph: its launches recorded, on a GPU


@dataclass(frozen=True)
class Protocol:
    """A way to time; the numbers of rounds are what a budget of time may cut short."""

    name: str
    warmup: int
    rounds: int
    precision: str | None  # whatever is asked for
    parts: tuple[str, ...]
    summary: Callable[[np.ndarray], float]  # seconds of every round → seconds of a round


# Upstream's README: batch 1, 10 warm-ups, 500 rounds, TF32.
UPSTREAM = Protocol(
    "upstream", warmup=10, rounds=500, precision="auto", parts=(WHOLE,), summary=np.mean
)
MEDIAN = Protocol("median", warmup=50, rounds=200, precision=None, parts=PARTS, summary=np.median)


def throughput(
    generators: Sequence[Generator],
    protocol: Protocol,
    batch_size: int,
    seconds: float,
    dtype: str = "float32",
    execution: str = "eager",
) -> list[list[Throughput]]:
    """Time all parts of the protocol for all generators, which are on one device.

    A round does everything once, in turn, so that what else the machine does falls on all alike;
    every piece is synchronised and timed by itself. At most about ``seconds`` are spent on all
    together, a fifth of them on warm-ups. Returns for each generator a record for each part,
    without whose generator it is.
    """
    device = next(generators[0].parameters()).device
    precision = resolve(protocol.precision or dtype, device)
    for generator in generators:
        check_kernels(generator.config, device, precision, gradients=False)
    jobs = [(g, part) for g in generators for part in protocol.parts]
    with _computing(precision, device):
        works = eager = [_work(generator, part, batch_size) for generator, part in jobs]
        if execution != "eager":
            prepare = {"graph": _captured, "compile": _compiled}[execution]
            works = [prepare(work) for work in works]
        warmups = _rounds(works, protocol.warmup, seconds / 5, device)
        memory = [peak_memory(work, device) for work in eager]
        times = _rounds(works, protocol.rounds, seconds - warmups.sum(), device)
    records = []
    for (generator, part), column, most in zip(jobs, times.T, memory, strict=True):
        slow, fast = np.quantile(column, (0.75, 0.25))
        config, weights = generator.config, list(generator.parameters())
        mapping = 0 if part == SYNTHESIS else mapping_flops(config)
        records.append(
            Throughput(
                device=runtime.describe_device(device),
                threads=torch.get_num_threads(),
                backend=default_backend(device),
                versions=runtime.versions(),
                commit=runtime.commit(),
                protocol=protocol.name,
                batch_size=batch_size,
                warmup=len(warmups),
                rounds=len(times),
                rounds_intended=protocol.rounds,
                seconds=seconds,
                interleaved=len(works),
                dtype=precision,
                execution=execution,
                memory_of="the weights, and all other tensors at once in one eager pass",
                resolution=config.image_size,
                parameters=sum(p.numel() for p in weights),
                flops=mapping + synthesis_flops(config),
                timed=part,
                images_per_second=batch_size / float(protocol.summary(column)),
                images_per_second_median=batch_size / float(np.median(column)),
                images_per_second_q25=batch_size / float(slow),
                images_per_second_q75=batch_size / float(fast),
                memory_mb=(sum(p.nbytes for p in weights) + most) / 1e6,
            )
        )
    count = len(protocol.parts)
    return [records[start : start + count] for start in range(0, len(records), count)]


def sweep(
    generators: Sequence[Generator],
    batch_sizes: Sequence[int],
    seconds: float,
    dtype: str = "float32",
    execution: str = "eager",
) -> Iterator[list[list[Throughput]]]:
    """What :func:`throughput` gives for upstream's protocol, then for ours at every batch size, in
    ascending order, until one fails, which is logged; on a GPU also at the largest that fits.

    An error of the very first measurement is raised, unless memory is what it lacks."""
    for number, (protocol, size) in enumerate(_plan(generators, batch_sizes, dtype)):
        try:
            measured = throughput(generators, protocol, size, seconds, dtype, execution)
        except RuntimeError as error:
            if number == 0 and not isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).strip().partition("\n")[0]
            log.warning("batch size %d and what is larger is left out: %s", size, reason)
            return
        yield measured


def _plan(
    generators: Sequence[Generator], batch_sizes: Sequence[int], dtype: str
) -> Iterator[tuple[Protocol, int]]:
    sizes = sorted(set(batch_sizes))
    yield UPSTREAM, 1
    yield from ((MEDIAN, size) for size in sizes)
    if next(generators[0].parameters()).device.type == "cuda":
        largest = min(largest_batch(generator, sizes[-1], dtype) for generator in generators)
        if largest > sizes[-1]:
            yield MEDIAN, largest


def largest_batch(generator: Generator, start: int, dtype: str = "float32") -> int:
    """``start``, which fits into the memory of the device, doubled for as long as it does."""
    size = start
    while _fits(generator, 2 * size, dtype):
        size *= 2
    return size


def _fits(generator: Generator, batch_size: int, dtype: str) -> bool:
    try:
        with _computing(dtype, next(generator.parameters()).device):
            _work(generator, WHOLE, batch_size)()
    except RuntimeError:  # out of memory, or beyond what an operation can index
        return False
    return True


@contextmanager
def _computing(precision: str, device: torch.device) -> Iterator[None]:
    with (
        products(precision, device, benchmark=True),
        layers(precision, device),
        torch.inference_mode(),
    ):
        yield


def _work(generator: Generator, part: str, batch_size: int) -> Work:
    device = next(generator.parameters()).device
    z = torch.randn(batch_size, generator.config.style_dim, device=device)
    w = generator.mapping(z)
    works = {
        WHOLE: lambda: generator(z),
        SYNTHESIS: lambda: generator.synthesis(w),
        STORED: lambda: to_uint8(generator(z)),
    }
    return works[part]


def _compiled(work: Work) -> Work:
    """By Inductor, on a GPU as CUDA graphs, which launch no kernels one by one."""
    work = torch.compile(work, mode="reduce-overhead", dynamic=False)
    work()  # compiles
    return work


def _captured(work: Work) -> Work:
    """As a CUDA graph: the launches of one call are recorded, and played back all at once."""
    if not torch.cuda.is_available():
        raise UserError("--execution graph needs a CUDA device; use eager or compile.")
    aside = torch.cuda.Stream()  # where PyTorch wants what comes before a capture
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # kernels are compiled and chosen, and tables are made
            work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result: Tensor = work()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def _rounds(works: Sequence[Work], rounds: int, seconds: float, device: torch.device) -> np.ndarray:
    """Seconds (rounds, works), until there are ``rounds`` or the time is spent."""
    times: list[list[float]] = []
    spent = 0.0
    while len(times) < rounds and (len(times) < LEAST_ROUNDS or spent < seconds):
        times.append([elapsed(work, device) for work in works])
        spent += sum(times[-1])
    return np.array(times)


def elapsed(work: Work, device: torch.device) -> float:
    """Seconds until the device has done ``work``."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
