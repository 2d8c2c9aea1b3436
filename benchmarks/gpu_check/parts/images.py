"""The same seeds on this device and on the CPU."""

import copy

import numpy as np
import torch

from benchmarks.gpu_check.check import Check
from benchmarks.harness import ffhq
from benchmarks.iteration import experiment
from stylenat.models import Generator
from stylenat.models.attention import use_backend
from stylenat.models.latents import generate
from tests.weights import fill


def run(check: Check) -> None:
    config = experiment("faces32", 4).model if check.dry else ffhq(256)
    generator = Generator(config)
    generator.load_state_dict(fill(generator.state_dict()))
    generator = generator.eval().requires_grad_(False)
    seeds = range(2 if check.dry else 4)
    here = _pictures(copy.deepcopy(generator).to(check.device), seeds)
    if check.gpu:
        there = _pictures(generator, seeds)
    else:  # at least by another formulation
        with use_backend("reference"):
            there = _pictures(generator, seeds)
    difference = np.abs(here.astype(int) - there.astype(int))
    check.row(
        "uint8 pixels",
        images=len(seeds),
        side=config.image_size,
        equal=float((difference == 0).mean()),
        within_one=float((difference <= 1).mean()),
        largest=int(difference.max()),
        deviation=float(there.std()),
    )
    check.verdict(
        "Are images the CPU's, within one grey level?",
        bool(difference.max() <= 1),
        f"The largest difference is {difference.max()}; {(difference == 0).mean():.3%} are equal.",
    )


def _pictures(generator: Generator, seeds: range) -> np.ndarray:
    with torch.inference_mode():
        return np.stack(list(generate(generator, seeds)))
