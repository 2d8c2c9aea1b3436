"""Train one segment: from a state to iteration --until, on one process or under torchrun.

Killed, stopped or out of time, the same command goes on where it was. Exit status 75 means
stopped on request with everything saved.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.data.loader import Loader, mirror
from stylenat.data.sampler import batch_indices, flips
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.io import Json, alone, read_json
from stylenat.models import save_generator
from stylenat.models.self_check import check_kernels
from stylenat.records import DataIdentity
from stylenat.runtime import select_device
from stylenat.training import distributed
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import provenance
from stylenat.training.distributed import World
from stylenat.training.interruption import EXIT_CODE, Interruption
from stylenat.training.loop import Interrupted, TrainingLoop
from stylenat.training.rolling import RollingStates
from stylenat.training.tracking import Trackers


def reals(
    path: Path, experiment: ExperimentConfig, world: World, workers: int, start: int
) -> Iterator[Tensor]:
    """This rank's batches from iteration ``start`` on, on its device: uint8 (B, 3, S, S), flipped."""
    training = experiment.training
    total = len(ImageStore(path))

    def indices(step: int) -> np.ndarray:
        return batch_indices(total, training.batch_size, step, training.seed)[world.share]

    batches = Loader(path, indices, start, workers=workers, pin_memory=world.device.type == "cuda")
    for step, images in zip(count(start), batches, strict=False):
        images = world.to_device(images)
        if training.horizontal_flips:
            which = flips(training.seed, step, training.batch_size)[world.share]
            images = mirror(images, world.to_device(torch.from_numpy(which)))
        yield images


def data_identity(path: Path, experiment: ExperimentConfig) -> DataIdentity:
    """What a state remembers of its data set; one that does not fit is a UserError."""
    metadata = ImageStore(path).metadata
    for key, found, wanted in (
        ("name", metadata.name, experiment.dataset),
        ("resolution", metadata.resolution, experiment.model.image_size),
    ):
        if found != wanted:
            raise UserError(
                f"{path}: its {key} is {found}, the experiment needs {wanted}; "
                "pack the data set the experiment names."
            )
    if classes := metadata.classes:
        command.log.info(
            "%s has %d classes; training is unconditional and does not use them", path, len(classes)
        )
    return metadata.part(DataIdentity)


def run(
    *,
    experiment: Path,
    data: Path,
    resume: Path,
    until: int,
    state: Path,
    weights: Path,
    records: Path,
    device: str = "auto",
    workers: int = 2,
    microbatch: int | None = None,
    execution: str = "eager",
    save_every: float = 10,
    time_limit: float | None = None,
    run_iterations: int | None = None,
    tracking: Json | None = None,
) -> None:
    # Before the ranks meet, so that one that is refused keeps none waiting.
    writes = os.environ.get("RANK", "0") == "0"
    with alone(state) if writes else nullcontext():
        interruption = Interruption(time_limit)
        config = ExperimentConfig.from_dict(read_json(experiment))
        identity = data_identity(data, config)
        trackers = Trackers(tracking or {}, records.parent, config)
        world = distributed.start(select_device(device))
        try:
            trainer = build_trainer(config, world, microbatch, execution)
            loop = TrainingLoop(
                trainer,
                RollingStates(resume, state, config, identity),
                until,
                partial(reals, data, config, world, workers),
                interruption,
                trackers,
                save_every * 60,
                run_iterations,
            )
            command.log.info("precision: %s", trainer.precision)
            loop.resume()
            # Here, because ranks next wait for each other in the first iteration, which has time
            # for compiling.
            check_kernels(config.model, world.device, trainer.precision, gradients=True)
            if world.is_main:
                trackers.start(trainer.step)
            with command.progress(
                total=until, initial=trainer.step, desc=config.name, unit="it"
            ) as bar:
                loop.run(records, bar)
            if world.is_main:
                origin = provenance(trainer, config, identity)
                save_generator(weights, trainer.generator_ema, origin)
                trackers.samples(trainer.step, trainer.generator_ema)
        except Interrupted as reason:
            if world.is_main:
                command.log.warning("%s", reason)
            sys.exit(EXIT_CODE)
        finally:
            trackers.close()


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    options.add_argument("--experiment", type=Path, required=True, help="resolved experiment")
    options.add_argument("--data", type=Path, required=True, help="packed data set (LMDB)")
    options.add_argument("--resume", type=Path, required=True, help="state to start from")
    options.add_argument("--until", type=int, required=True, help="iteration to train to")
    options.add_argument("--state", type=Path, required=True, help="training state to write")
    options.add_argument("--weights", type=Path, required=True, help="EMA generator to write")
    options.add_argument("--records", type=Path, required=True, help="JSON lines to write")
    options.add_argument("--workers", type=int, help="data-loading processes per rank")
    options.add_argument(
        "--microbatch",
        type=int,
        help="most images that a rank computes at once, with the same result; the discriminator "
        "computes at least a group of its minibatch standard deviation, four",
    )
    options.add_argument(
        "--execution",
        choices=("eager", "graph"),
        help="graph: what an iteration launches on the GPU is recorded and played back (one process)",
    )
    options.add_argument("--save-every", type=float, help="minutes between two saved states")
    options.add_argument(
        "--time-limit", type=float, help="minutes this job has; stop cleanly before they end"
    )
    options.add_argument(
        "--run-iterations", type=int, help="length of the whole run, to say how long it takes here"
    )
    options.add_argument(
        "--tracking",
        type=json.loads,
        help='JSON such as {"tensorboard": true, "wandb": {"project": "stylenat"}}',
    )
    failed = True
    try:
        command.main(options, run, precision="that of the experiment, below")
        failed = False
    except SystemExit as end:
        failed = end.code != EXIT_CODE
        raise
    finally:  # only now, when the reason of a failure has been logged
        distributed.leave(failed)


if __name__ == "__main__":
    main()
