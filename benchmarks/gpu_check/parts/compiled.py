"""Images per second of FFHQ-256's generator by Inductor; a part of its own, because a compiler takes long."""

from benchmarks.generator import build
from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.parts.sampling import NO_TIME, sweep
from benchmarks.harness import ffhq


def run(check: Check) -> None:
    question = "Does compiled sampling run, and how fast?"
    if not check.gpu:
        check.verdict(question, None, "There is no GPU.")
        return
    generator = build(ffhq(256), check.device)
    rates, failures = sweep(check, generator, [(p, 64, "compile") for p in ("tf32", "bf16")])
    answers = [f"{key}: {rate:.4g}" for key, rate in rates.items()] + failures
    check.verdict(question, not failures if answers else None, "; ".join(answers) or NO_TIME)
