"""Images per second of FFHQ-256's generator, by precision, batch and execution, beside StyleSwin."""

import gc
from dataclasses import replace

import torch

from benchmarks.generator import build
from benchmarks.gpu_check.check import Check, first_line
from benchmarks.harness import ffhq
from benchmarks.iteration import experiment
from stylenat.metrics.timing import MEDIAN, WHOLE, largest_batch, throughput
from stylenat.models import Generator

PROTOCOL = replace(MEDIAN, warmup=5, rounds=50, parts=(WHOLE,))
NO_TIME = "No time was left."
WANTED = 600  # images per second at batch 64: the target
# Of float32, tf32 and bf16, predicted for an H100 at batch 64, eager.
PREDICTED = {"float32": 165, "tf32": 339, "bf16": 361}


def run(check: Check) -> None:
    config = experiment("faces32", 4).model if check.dry else ffhq(256)
    generator = build(config, check.device)
    largest = 2 if check.dry else 64
    sizes = (largest,) if check.dry else (largest, 1, 8)
    eager = [(p, size, "eager") for size in sizes for p in PREDICTED]
    rates, failures = sweep(check, generator, eager)
    best = max(rates, key=rates.get, default=None)
    answer = "Nothing was measured." if best is None else f"{rates[best]:.4g} with {best}."
    check.verdict(
        f"Does it sample {WANTED} images a second, eager?",
        None if best is None or not check.gpu else rates[best] >= WANTED,
        answer,
    )
    check.verdict(
        "Does sampling run in every precision?",
        not failures if rates or failures else None,
        "; ".join(failures) or f"{len(rates)} of {len(eager)} were tried.",
    )
    _beside(check, generator)
    _largest(check, generator)
    graphs = [(p, size, "graph") for size in sizes for p in ("tf32", "bf16")]
    question = "Does sampling run as a CUDA graph, and how fast?"
    if not check.gpu:
        check.verdict(question, None, "There is no GPU.")
        return
    rates, failures = sweep(check, generator, graphs)
    answers = [f"{key}: {rate:.4g}" for key, rate in rates.items()] + failures
    check.verdict(question, not failures if answers else None, "; ".join(answers) or NO_TIME)


def sweep(
    check: Check, generator: Generator, plan: list[tuple[str, int, str]]
) -> tuple[dict[tuple, float], list[str]]:
    """Images per second by (precision, batch, execution), while there is time; what failed."""
    rates: dict[tuple, float] = {}
    failures = []
    for precision, batch, execution in plan:
        if check.left() < 0:
            break
        if not check.gpu and precision == "tf32":
            continue
        _forget(check)
        try:
            ((rate, memory),) = _rate(check, [generator], batch, precision, execution)
        except Exception as error:  # noqa: BLE001 what is raised is the finding
            failures.append(f"{precision}, batch {batch}, {execution}: {first_line(error)}")
            continue
        rates[precision, batch, execution] = rate
        known = batch == 64 and execution == "eager"
        check.row(
            "sampling",
            precision=precision,
            batch=batch,
            execution=execution,
            images_per_second=rate,
            predicted=PREDICTED[precision] if known else "",
            memory_mb=memory,
        )
    return rates, failures


def _rate(
    check: Check, generators: list[Generator], batch: int, precision: str, execution: str
) -> list[tuple[float, float]]:
    """Images per second, median, and MB of each generator."""
    seconds = 0.0 if check.dry else 2.0
    records = throughput(generators, PROTOCOL, batch, seconds, precision, execution)
    return [(record.images_per_second, record.memory_mb) for (record,) in records]


def _beside(check: Check, generator: Generator) -> None:
    """StyleSwin's generator in turn with ours."""
    question = "Is StyleNAT at least as fast as StyleSwin?"
    if check.left() < 0 or check.dry:
        reason = "It is too large for this." if check.dry else NO_TIME
        check.verdict(question, None, reason)
        return
    precision = "tf32" if check.gpu else "float32"
    other = build(experiment("ffhq256-styleswin", 4).model, check.device)
    try:
        (ours, _), (theirs, _) = _rate(check, [generator, other], 8, precision, "eager")
    except Exception as error:  # noqa: BLE001 what is raised is the finding
        check.verdict(question, None, first_line(error))
        return
    check.verdict(
        question, ours >= theirs, f"{ours:.4g} and {theirs:.4g} a second, batch 8, {precision}."
    )


def _largest(check: Check, generator: Generator) -> None:
    question = "What is the largest batch of FFHQ-256 that is sampled, of 8, 16 …?"
    if not check.gpu or check.left() < 0:
        check.verdict(question, None, "There is no GPU." if not check.gpu else NO_TIME)
        return
    _forget(check)
    size = largest_batch(generator, 8, "tf32")
    check.verdict(question, size >= 64, f"{size}.")


def _forget(check: Check) -> None:
    gc.collect()
    if check.gpu:
        torch.cuda.empty_cache()
