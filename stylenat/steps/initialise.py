"""Write the state and the snapshot a training run starts from: at step 0, or, with --start, from what
was trained before, by the experiment's training.start_from."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.io import read_json
from stylenat.models import save_generator
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import provenance, save_state
from stylenat.training.distributed import World
from stylenat.training.start import start


def run(args: argparse.Namespace) -> None:
    experiment = ExperimentConfig.from_dict(read_json(args.experiment))
    # Nothing is computed yet, so the device need not have the precision of the training.
    trainer = build_trainer(replace(experiment, precision="auto"), World(0, 1, torch.device("cpu")))
    if args.start:
        config = experiment.training.start_from
        assert config is not None  # where the file is from
        start(trainer, args.start, config)
    save_generator(args.weights, trainer.generator_ema, provenance(trainer, experiment, None))
    save_state(args.state, trainer, experiment, None)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--experiment", type=Path, required=True, help="resolved experiment")
    options.add_argument("--start", type=Path, help="file that training.start_from names")
    options.add_argument("--state", type=Path, required=True, help="training state to write")
    options.add_argument("--weights", type=Path, required=True, help="generator to write")
    command.main(options, run)


if __name__ == "__main__":
    main()
