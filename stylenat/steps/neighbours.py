"""Find the training images nearest to samples, and how near training images are to each other.

A sample that is nearer to a training image than nearly all training images are to one another is
a copy. The output (npz) holds, for the first samples, their seeds, indices of the nearest training
images and distances, and for the whole sets each image's distance to the nearest training image.
"""

from pathlib import Path

import numpy as np

from stylenat import command, runtime
from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.io import read_json, write_npz
from stylenat.metrics.copies import COPY_QUANTILE, TrainingSet
from stylenat.metrics.moments import COMPARABLE, Statistics, require_same
from stylenat.metrics.neighbours import nearest
from stylenat.metrics.reals import require_reference
from stylenat.models.latents import parse_seeds
from stylenat.records import NeighboursRecord

SHOWN = 16  # samples whose neighbours a figure can show …
NEIGHBOURS = 5  # … and so many for each


def run(
    *, statistics: Path, reference: Path, protocol: str, step: int, experiment: Path, output: Path
) -> None:
    config = ExperimentConfig.from_dict(read_json(experiment))
    generated, reals = Statistics.load(statistics), Statistics.load(reference)
    require_reference(reference, reals.record, config)
    require_same(COMPARABLE, generated.record, reals.record)
    found, known = generated.features, reals.features
    if found is None or known is None:
        path = statistics if found is None else reference
        raise UserError(f"{path} holds no features; compute it again with --features.")
    if reals.record.subset != "all":
        raise UserError(
            f"{reference} is not of all training images (subset "
            f"{reals.record.subset}); a copy of one that is left out would go unseen."
        )
    if generated.record.seeds is None:
        raise UserError(f"{statistics} is not of samples; there are no seeds to show.")
    training = TrainingSet.of(known)
    indices, distances = nearest(found, training.features, NEIGHBOURS)
    copies = float((distances[:, 0] <= training.threshold).mean())
    write_npz(
        output,
        {
            "seeds": np.array(parse_seeds(generated.record.seeds)[:SHOWN]),
            "indices": indices[:SHOWN],
            "distances": distances[:SHOWN],
            "sample_distances": distances[:, 0],
            "train_distances": training.distances,
        },
        NeighboursRecord(
            experiment=config.name,
            dataset=reals.record.dataset.name,
            dataset_sha256=reals.record.dataset.content_sha256,
            resolution=reals.record.dataset.resolution,
            step=step,
            protocol=protocol,
            extractor=reals.record.extractor,
            weights_sha256=reals.record.weights_sha256,
            generator_sha256=generated.record.generator_sha256,
            n_generated=generated.moments.count,
            n_real=reals.moments.count,
            seeds=generated.record.seeds,
            quantile=COPY_QUANTILE,
            threshold=training.threshold,
            copies=copies,
            versions=runtime.versions(),
            commit=runtime.commit(),
        ).to_dict(),
    )
    command.log.info(
        "%s: %.2f %% of %d samples are as near to a training image as the nearest %g %% of "
        "training images are to each other",
        output,
        100 * copies,
        generated.moments.count,
        100 * COPY_QUANTILE,
    )


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument(
        "--statistics", type=Path, required=True, help="of the samples, with features"
    )
    options.add_argument(
        "--reference", type=Path, required=True, help="of all training images, with features"
    )
    options.add_argument("--protocol", required=True, help="the measurement's name")
    options.add_argument("--step", type=int, required=True, help="the snapshot that was sampled")
    options.add_argument("--experiment", type=Path, required=True, help="resolved experiment")
    options.add_argument("--output", type=Path, required=True, help="neighbours (npz)")
    command.main(options, run)


if __name__ == "__main__":
    main()
