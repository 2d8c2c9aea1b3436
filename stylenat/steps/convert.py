"""Convert a checkpoint of the reference, or of StyleSwin, to our weights, or (--to-reference) ours
to one of the reference's.

Nothing in the checkpoint's pickle is executed.
"""

from pathlib import Path

import torch
from torch import nn

from stylenat import command, interop, runtime
from stylenat.config import ExperimentConfig
from stylenat.interop.writing import CHANNEL_MAX
from stylenat.io import read_json, sha256
from stylenat.models import load_generator, save_generator
from stylenat.records import Provenance
from stylenat.torch_types import StateDict
from stylenat.training import schedule
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import load_state, restore
from stylenat.training.distributed import World
from stylenat.training.trainer import Trainer

log = command.log


def run(
    *,
    checkpoint: Path,
    output: Path,
    network: str = "g_ema",
    experiment: Path | None = None,
    step: int | None = None,
    to_reference: bool = False,
) -> None:
    if to_reference:
        _to_reference(checkpoint, output)
    else:
        _from_reference(checkpoint, output, network, experiment, step)


def _from_reference(
    path: Path, output: Path, network: str, experiment: Path | None, step: int | None
) -> None:
    config = ExperimentConfig.from_dict(read_json(experiment)) if experiment else None
    checkpoint = interop.read_checkpoint(path)
    model = config.model if config else None
    generator = interop.generator_from(checkpoint, network, model)
    if step is None:
        step = checkpoint.step
    provenance = Provenance(
        experiment=config.to_dict() if config else None,
        step=step,
        # The checkpoint does not tell its batch size or its data set.
        images_seen=None,
        data=None,
        checkpoint=path.name,
        checkpoint_sha256=sha256(path),
        network=network,
        versions=runtime.versions(),
        commit=runtime.commit(),
    )
    save_generator(output, generator, provenance)
    log.info("model %s: %s", "of the experiment" if config else "inferred", generator.config)
    count = sum(parameter.numel() for parameter in generator.parameters())
    log.info("%s: network %s, %d parameters, step %s", output, network, count, step)


def _to_reference(path: Path, output: Path) -> None:
    """From a training state: all networks and both optimisers; from weights: the average alone."""
    optimizers = {}
    networks: dict[str, nn.Module]
    if ".state" in path.suffixes:  # a rolling one, too
        trainer = _trainer(path)
        generator = trainer.generator_ema
        networks = {
            "g": trainer.generator,
            "d": trainer.discriminator,
            "g_ema": trainer.generator_ema,
        }
        optimizers = _optimizers(trainer)
    else:
        generator = load_generator(path)
        networks = {"g_ema": generator}
    config = generator.config
    if config.channel_max != CHANNEL_MAX:
        log.warning(
            "the reference's code makes generators %d channels wide, this one has %d: "
            "its width table has to be changed before this file loads there",
            CHANNEL_MAX,
            config.channel_max,
        )
    state_dicts = {name: network.state_dict() for name, network in networks.items()}
    interop.write_checkpoint(output, config, state_dicts, optimizers)
    log.info("%s: %s", output, ", ".join((*networks, *optimizers)))


def _trainer(path: Path) -> Trainer:
    state = load_state(path)
    experiment = ExperimentConfig.from_dict(state.header.experiment)
    trainer = build_trainer(experiment, World(0, 1, torch.device("cpu")))
    restore(trainer, state)
    return trainer


def _optimizers(trainer: Trainer) -> dict[str, StateDict]:
    """Adam's own state dicts, at the learning rates of the next iteration."""
    factor = schedule.lr_factor(trainer.config, trainer.step)
    result = {}
    for name, optimizer, rate in (
        ("g_optim", trainer.generator_optimizer, trainer.generator_lr),
        ("d_optim", trainer.discriminator_optimizer, trainer.discriminator_lr),
    ):
        result[name] = optimizer.state_dict()
        # Which implementation of Adam to use is the business of whoever loads it.
        result[name]["param_groups"][0] |= {"lr": rate * factor, "fused": None}
    return result


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument(
        "--checkpoint", type=Path, required=True, help="the other's .pt; ours to convert back"
    )
    options.add_argument("--output", type=Path, required=True, help="our weights (safetensors)")
    options.add_argument("--network", choices=("g", "g_ema"), help="which generator to take")
    options.add_argument(
        "--experiment", type=Path, help="resolved experiment; else the model is inferred"
    )
    options.add_argument(
        "--step", type=int, help="iteration of the checkpoint; else its optimiser's"
    )
    options.add_argument(
        "--to-reference",
        action="store_true",
        help="write the reference's current layout from our training state (or weights)",
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
