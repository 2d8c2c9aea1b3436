"""Measure a snapshot against reference statistics.

Several sampling sets of one snapshot give a mean, and show how much it depends on the seeds. Where
a data set has held-out reals, a snapshot is compared with those, too.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stylenat import command
from stylenat.config import ExperimentConfig, ModelConfig
from stylenat.errors import UserError
from stylenat.io import read_json, sha256, write_json
from stylenat.metrics import METRICS
from stylenat.metrics.base import Measurement
from stylenat.metrics.moments import COMPARABLE, Statistics, require_same
from stylenat.metrics.reals import require_held_out, require_reference
from stylenat.metrics.summary import origin, standard_error, summary
from stylenat.models import Generator, read_header
from stylenat.records import MetricRecord, StatisticsRecord, Subject, Summary


def run(
    *,
    statistics: Sequence[Path],
    reference: Path,
    metric: str,
    protocol: str,
    experiment: Path,
    weights: Path,
    output: Path,
    held_out: Path | None = None,
) -> None:
    config = ExperimentConfig.from_dict(read_json(experiment))
    reals = Statistics.load(reference)
    require_reference(reference, reals.record, config)
    unseen = None if held_out is None else _held_out(held_out, metric, reals)
    # All that can be refused is refused before anything takes time.
    sets, sizes = zip(*(_described(path, reals) for path in statistics), strict=True)
    _require_one_size(statistics, sets, sizes)
    subject = _subject(weights, config, protocol, reals, statistics, sets)
    measures = [METRICS[metric].measure(real) for real in (reals, unseen) if real is not None]
    # By set, then by what it is compared with.
    results = [
        [measure(samples) for measure in measures]
        for samples in (Statistics.load(path) for path in statistics)
    ]
    against = [list(zip(*one, strict=True)) for one in zip(*results, strict=True)]
    summaries = [summary(same, sizes[0]) for same in against[0]]
    seeds = [record.seeds for record in sets]
    source = origin(reals, sets[0], sizes[0], reals.moments.count, seeds)
    if unseen is not None:
        summaries = list(map(_with_held_out, summaries, against[1]))
        source = source.model_copy(update={"n_real_held_out": unseen.moments.count})
    records = [MetricRecord.joined(subject, one, source) for one in summaries]
    write_json(output, [record.to_dict() for record in records])
    for one in summaries:
        beside = "" if one.held_out is None else f" ({one.held_out:.4f} to held-out reals)"
        command.log.info("%s: %s = %.4f%s", output, one.metric, one.value, beside)
        if one.note:
            command.log.info("%s: %s", one.metric, one.note)


def _held_out(path: Path, metric: str, reference: Statistics) -> Statistics | None:
    """The held-out reals that a snapshot is compared with, if the metric compares samples with
    reals that were not trained on."""
    compared = METRICS[metric].held_out
    held_out = Statistics.load(path, features=compared)
    require_held_out(path, held_out.record, reference.record)
    return held_out if compared else None


def _described(path: Path, reference: Statistics) -> tuple[StatisticsRecord, int]:
    """The record of one set, and its count; a set that does not fit the reference is refused."""
    measured = Statistics.load(path, features=False)
    require_same(COMPARABLE, measured.record, reference.record)
    for statistics in (measured, reference):
        count, dimension = statistics.moments.count, len(statistics.moments.sum)
        if count < dimension:
            command.log.warning(
                "%d %s images for %d features: their covariance is singular and a Fréchet "
                "distance too large; compare it only with values of the same counts",
                count,
                statistics.record.kind,
                dimension,
            )
    return measured.record, measured.moments.count


def _with_held_out(one: Summary, sets: tuple[Measurement, ...]) -> Summary:
    """With the comparison of the same sets with held-out reals, in short."""
    values = [it.value for it in sets]
    found = {
        "held_out": float(np.mean(values)),
        "held_out_values": values,
        "held_out_uncertainty": standard_error(sets),
    }
    return one.model_copy(update=found)


def _require_one_size(
    paths: Sequence[Path], sets: Sequence[StatisticsRecord], sizes: Sequence[int]
) -> None:
    """Sets that differ in their seeds and in nothing else."""
    for number, record in enumerate(sets):
        for earlier, other in enumerate(sets[:number]):
            if record.dataset.content_sha256 == other.dataset.content_sha256:
                raise UserError(
                    f"{paths[earlier]} and {paths[number]} hold the same images, which would count "
                    "twice; sample each set with seeds of its own."
                )
        if sizes[number] != sizes[0]:
            raise UserError(
                f"{paths[0]} holds {sizes[0]} images and {paths[number]} {sizes[number]}; a mean "
                "needs sets of one size."
            )


def _subject(
    weights: Path,
    experiment: ExperimentConfig,
    protocol: str,
    reference: Statistics,
    paths: Sequence[Path],
    sets: Sequence[StatisticsRecord],
) -> Subject:
    """What the weights say about themselves; they must be those that were sampled."""
    config, provenance = read_header(weights)
    digest = sha256(weights)
    for path, measured in zip(paths, sets, strict=True):
        if measured.generator_sha256 != digest:
            raise UserError(
                f"generator_sha256 is {measured.generator_sha256} in {path} but "
                f"{weights} has {digest}; sample these weights and compute the statistics "
                "again."
            )
    return Subject(
        experiment=experiment.name,
        dataset=reference.record.dataset.name,
        resolution=reference.record.dataset.resolution,
        kind="snapshot",
        step=provenance.step,
        images_seen=provenance.images_seen,
        generator_sha256=digest,
        checkpoint=provenance.checkpoint,
        precision=provenance.precision,
        parameters=provenance.parameters or _parameters(config),
        protocol=protocol,
    )


def _parameters(config: ModelConfig) -> int:
    """For weights of before their header said it."""
    return sum(parameter.numel() for parameter in Generator(config).parameters())


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument(
        "--statistics",
        type=Path,
        nargs="+",
        required=True,
        help="of what is measured: sampling sets of one snapshot",
    )
    options.add_argument("--reference", type=Path, required=True, help="of the reals")
    options.add_argument(
        "--held-out", type=Path, help="of reals that were not trained on, to compare with as well"
    )
    options.add_argument("--metric", choices=METRICS, required=True, help="what is measured")
    options.add_argument("--protocol", required=True, help="the measurement's name, as in fid50k")
    options.add_argument("--experiment", type=Path, required=True, help="resolved experiment")
    options.add_argument("--weights", type=Path, required=True, help="the snapshot")
    options.add_argument("--output", type=Path, required=True, help="the records (JSON)")
    command.main(options, run)


if __name__ == "__main__":
    main()
