"""Write the state and the snapshot a training run starts from: at step 0, or, with --start, from what
was trained before, by the experiment's training.start_from."""

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
from stylenat.training.start import start as start_from


def run(*, experiment: Path, state: Path, weights: Path, start: Path | None = None) -> None:
    config = ExperimentConfig.from_dict(read_json(experiment))
    # Nothing is computed yet, so the device need not have the precision of the training.
    trainer = build_trainer(replace(config, precision="auto"), World(0, 1, torch.device("cpu")))
    if start:
        assert config.training.start_from is not None  # where the file is from
        start_from(trainer, start, config.training.start_from)
    save_generator(weights, trainer.generator_ema, provenance(trainer, config, None))
    save_state(state, trainer, config, None)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--experiment", type=Path, required=True, help="resolved experiment")
    options.add_argument("--start", type=Path, help="file that training.start_from names")
    options.add_argument("--state", type=Path, required=True, help="training state to write")
    options.add_argument("--weights", type=Path, required=True, help="generator to write")
    command.main(options, run)


if __name__ == "__main__":
    main()
