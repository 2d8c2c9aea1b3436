"""The largest batch that training fits into the device's memory."""

import torch

from benchmarks.gpu_check.check import Check, first_line
from benchmarks.gpu_check.parts.iterations import forget
from benchmarks.iteration import experiment, iterations
from stylenat.config import ExperimentConfig
from stylenat.models.discriminator import STDDEV_GROUP


def run(check: Check) -> None:
    # Below these, an 80 GB card has room; building a network takes seconds.
    for name, batch in [("faces32", 4)] if check.dry else [("ffhq1024", 4), ("ffhq256", 16)]:
        _largest(check, name, batch)


def _largest(check: Check, name: str, batch: int) -> None:
    """Double the batch for as long as an iteration with R1 fits."""
    first, fits, end = batch, 0, "no larger one was tried"
    while check.left() > 0 and (check.gpu or batch <= 2 * STDDEV_GROUP):
        forget(check)
        try:
            _once(experiment(name, batch), check.device)
        except Exception as error:  # noqa: BLE001 too little memory, or too many numbers in one tensor
            end = first_line(error)
            break
        fits, batch = batch, 2 * batch
    check.verdict(
        f"What is the largest batch of {name}, of {first}, {2 * first} …?",
        None if end == "no larger one was tried" and not fits else fits > 0,
        f"{fits}; {end}.",
    )


def _once(config: ExperimentConfig, device: torch.device) -> None:
    iterations(config, device)["with R1"]()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
