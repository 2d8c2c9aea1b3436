"""Two ranks against one, and what is said when one of two is killed or fails."""

import os
import signal
import time

import torch

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.parts.training import LAUNCH, arguments, difference, training
from tests.training_run import Run, make_run

ENDLESS = 1_000_000
AGREE = 1e-2  # of weights after a few iterations, whose sums are in another order
NOTICED = 60.0  # seconds in which the cause must be named


def run(check: Check) -> None:
    if check.gpu and torch.cuda.device_count() < 2:
        for question in (SAME, KILLED, RAISED):
            check.verdict(question, None, "It takes two GPUs, and there is one.")
        return
    _same(check)
    _killed(check)
    _raised(check)


SAME = "Do two ranks train as one does?"
KILLED = "Is a killed rank named within a minute?"
RAISED = "Is a failing rank named within a minute?"


def _same(check: Check) -> None:
    until = 4
    alone, both = (_run(check, name) for name in ("alone", "both"))
    with training(check.folder, "alone", *arguments(alone, until, check.device)) as one:
        first = one.wait(check.left())
    with training(check.folder, "both", *LAUNCH, *arguments(both, until, check.device)) as two:
        second = two.wait(check.left())
    if first != 0 or second != 0:
        said = (two if first == 0 else one).said("error")
        check.verdict(SAME, False, f"They ended with status {first} and {second}: {said}")
        return
    error = difference(alone.file(f"{until}.state"), both.file(f"{until}.state"))
    check.verdict(SAME, error < AGREE, f"After {until} iterations they differ by {error:.2g}.")


def _killed(check: Check) -> None:
    endless = _run(check, "killed")
    words = arguments(endless, ENDLESS, check.device, "--save-every", "0")
    with training(check.folder, "killed", *LAUNCH, *words) as both:
        if not both.until(endless.file(f"{ENDLESS}.state.rolling").exists, check.left()):
            check.verdict(KILLED, None, f"They did not begin: {both.said('error')}")
            return
        os.kill(both.ranks()[1], signal.SIGKILL)
        begun = time.monotonic()
        status = both.wait(NOTICED)
    named = "rank 1 was ended by SIGKILL" in both.text
    seconds = time.monotonic() - begun
    answer = f"Status {status} after {seconds:.0f} s: {both.said('error: rank 1')}"
    check.verdict(KILLED, status is not None and named, answer)


def _raised(check: Check) -> None:
    words = arguments(_run(check, "raised"), ENDLESS, check.device)
    words[0] = "benchmarks.gpu_check.parts.failing"
    with training(check.folder, "raised", *LAUNCH, *words) as both:
        if not both.until(lambda: "planted failure" in both.text, check.left()):
            check.verdict(RAISED, None, f"They did not begin: {both.said('error')}")
            return
        begun = time.monotonic()
        status = both.wait(NOTICED)
    named = "rank 1 ended with status 70" in both.text
    seconds = time.monotonic() - begun
    answer = f"Status {status} after {seconds:.0f} s: {both.said('error: rank')}"
    check.verdict(RAISED, status is not None and named, answer)


def _run(check: Check, name: str) -> Run:
    return make_run(check.folder / name, batch_size=8)
