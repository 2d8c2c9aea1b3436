"""A training that is told to stop in mid-segment, and the same command once more."""

import re
import signal

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.parts.training import arguments, difference, training
from stylenat.training.checkpoint import load_state
from stylenat.training.interruption import EXIT_CODE
from tests.training_run import make_run


def run(check: Check) -> None:
    question = "Does a stopped training go on where it was?"
    until = 20 if check.dry else 40
    folder = check.folder
    cut, whole = make_run(folder / "cut"), make_run(folder / "whole")
    words = arguments(cut, until, check.device, "--save-every", "0")
    saved = cut.file(f"{until}.state.rolling")
    with training(folder, "first", *words) as first:
        # Once a second state is there, it is in the middle.
        begun = first.until(saved.with_suffix(".previous").exists, check.left())
        first.process.send_signal(signal.SIGTERM)
        status = first.wait(30)
    if not begun or status != EXIT_CODE:
        check.verdict(question, False, f"It ended with status {status}: {first.said('error')}")
        return
    stopped = load_state(saved).step
    with training(folder, "second", *words) as second:
        status = second.wait(max(10.0, check.left()))
    resumed = re.search(r"resuming from step (\d+) ", second.text)
    good = status == 0 and resumed is not None and int(resumed[1]) == stopped > 0
    check.verdict(
        question,
        good,
        f"Stopped at {stopped} of {until}; then status {status}: {second.said('resuming from|error')}",
    )
    if not good:
        return
    with training(folder, "straight", *arguments(whole, until, check.device)) as straight:
        status = straight.wait(max(10.0, check.left()))
    question = "Does it end where a training without a stop does?"
    if status != 0:
        check.verdict(question, None, f"That one ended with status {status}.")
        return
    error = difference(whole.file(f"{until}.state"), cut.file(f"{until}.state"))
    # On a GPU bilinear upsampling adds its gradients in any order, and training enlarges that.
    check.verdict(
        question,
        error == 0 if not check.gpu else None,
        f"The largest difference is {error:.2g}"
        + (" (a GPU's sums have no fixed order)." if check.gpu else "."),
    )
