"""A trainer for an experiment, with its seeded initial weights."""

import torch

from stylenat.config import ExperimentConfig
from stylenat.models import Discriminator, Generator
from stylenat.training.distributed import World
from stylenat.training.trainer import Trainer


def build_trainer(
    experiment: ExperimentConfig,
    world: World,
    microbatch: int | None = None,
    execution: str = "eager",
) -> Trainer:
    """Networks initialised on the CPU, so that a seed gives the same weights on every device."""
    torch.manual_seed(experiment.training.seed)
    generator = Generator(experiment.model)
    training = experiment.training
    generator.initialise(training.weight_std, training.rgb_gain, training.position_scale)
    discriminator = Discriminator(experiment.discriminator).to(world.device)
    return Trainer(
        generator.to(world.device),
        discriminator,
        experiment.training,
        world,
        microbatch,
        experiment.precision,
        execution,
    )
