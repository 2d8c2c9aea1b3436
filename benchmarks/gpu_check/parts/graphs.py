"""Training iterations recorded as CUDA graphs, beside eager ones: their numbers, their speed."""

import time
from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.gpu_check.check import Check, first_line
from benchmarks.gpu_check.parts.iterations import forget
from benchmarks.iteration import experiment
from stylenat.config import ExperimentConfig
from stylenat.training import noise, trainer
from stylenat.training.augment import Augmentation
from stylenat.training.build import build_trainer
from stylenat.training.distributed import World
from stylenat.training.noise import Purpose
from stylenat.training.trainer import Record, Trainer
from tests.training_run import Repeated

R1_INTERVAL = 2
RECORDED = 5  # iterations after which every step has been recorded
COMPARED = 3
# Of how far the weights came: what is left where a GPU's sums have no fixed order.
TOLERANCE = 0.01


def run(check: Check) -> None:
    config = experiment("faces32", 4) if check.dry else experiment("ffhq256", 8)
    config = replace(config, training=replace(config.training, r1_interval=R1_INTERVAL))
    question = "Do iterations that were recorded as CUDA graphs train like eager ones?"
    # Without a GPU the same code runs on the same memory, but nothing is recorded.
    with patch.object(trainer, "Graphs", trainer.Graphs if check.gpu else Repeated):
        try:
            first, again = (_trained(check, config, "eager") for _ in range(2))
            found = _trained(check, config, "graph")
        except Exception as error:  # noqa: BLE001 what is raised is the finding
            check.verdict(question, False, first_line(error))
            return
    start = _weights(build_trainer(config, World(0, 1, check.device)))
    length = torch.linalg.vector_norm(first[0] - start)
    spread, difference = (
        (torch.linalg.vector_norm(other[0] - first[0]) / length).item() for other in (again, found)
    )
    for name in ("loss_d", "loss_g", "r1", "grad_norm_d", "grad_norm_g"):
        values = [float(record[name]) for _, record, _ in (first, again, found)]
        check.row(
            "the last values",
            name=name,
            **dict(zip(("eager", "again", "graph"), values, strict=True)),
        )
    check.verdict(
        question,
        difference <= max(TOLERANCE, 3 * spread),
        f"Weights differ by {difference:.2g} of their way, those of two eager runs by {spread:.2g}.",
    )
    times = ", ".join(
        f"{name} {it[2] * 1e3:.4g} ms" for name, it in (("eager", first), ("graph", found))
    )
    check.verdict(
        "Is a plain iteration faster as CUDA graphs?",
        found[2] < first[2] if check.gpu else None,
        f"{times}." if check.gpu else "There is no GPU.",
    )


def _trained(
    check: Check, config: ExperimentConfig, execution: str
) -> tuple[Tensor, Record, float]:
    """Weights and scalars after the iterations that are compared; seconds of a plain one."""
    forget(check)
    if check.gpu:
        torch.cuda.reset_peak_memory_stats()
    trainer = build_trainer(config, World(0, 1, check.device), execution=execution)
    if not check.gpu:
        trainer.device_decides = True
    record: Record = {}
    for step in range(RECORDED + COMPARED):
        record |= trainer.iteration(*_inputs(trainer, step))
    weights = _weights(trainer)
    times = [_seconds(trainer, check) for _ in range(2 if check.dry else 10)]
    if check.gpu:
        check.row(
            "iterations",
            execution=execution,
            ms=min(times) * 1e3,
            reserved_mb=torch.cuda.max_memory_reserved() / 1e6,
        )
    return weights, record, min(times)


def _inputs(trainer: Trainer, step: int) -> tuple[Tensor, Tensor, Tensor, Augmentation]:
    training, model, world = trainer.config, trainer.generator.config, trainer.world
    batch, side = training.batch_size, model.image_size
    random = torch.Generator().manual_seed(step)
    shape = (batch, model.style_dim)
    return (
        world.to_device(torch.randn(batch, 3, side, side, generator=random)),
        noise.draw_z(training.seed, step, Purpose.DISCRIMINATOR_Z, shape, world),
        noise.draw_z(training.seed, step, Purpose.GENERATOR_Z, shape, world),
        Augmentation(training.augment, training.seed, step, batch, world),
    )


def _seconds(trainer: Trainer, check: Check) -> float:
    trainer.step = R1_INTERVAL + 1
    inputs = _inputs(trainer, trainer.step)
    if check.gpu:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    trainer.iteration(*inputs)
    if check.gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _weights(trainer: Trainer) -> Tensor:
    networks = (trainer.generator, trainer.discriminator)
    return torch.cat([p.detach().flatten() for net in networks for p in net.parameters()]).cpu()
