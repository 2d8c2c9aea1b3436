"""Measure a snapshot against reference statistics, or real images against real ones (the floor).

Several sampling sets of one snapshot give a mean, and show how much it depends on the seeds.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from stylenat import command, runtime
from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.evaluation.metrics import METRICS, Measurement
from stylenat.evaluation.moments import COMPARABLE, Statistics, require_same
from stylenat.evaluation.subsets import HALVES
from stylenat.models import Generator, read_header
from stylenat.records import read_json, sha256, write_json

Record = dict[str, Any]


def run(args: argparse.Namespace) -> None:
    experiment = ExperimentConfig.from_dict(read_json(args.experiment))
    features = args.metric != "frechet"
    reference = Statistics.load(args.reference, features)
    _require_reals(args.reference, reference.record, experiment)
    # All that can be refused is refused before anything takes time.
    sets = [_described(path, reference) for path in args.statistics]
    _require_one_size(args.statistics, sets)
    if args.weights is None:
        subject = _floor(args, sets, reference.record)
    else:
        subject = _snapshot(args, sets)
    common = {
        "experiment": experiment.name,
        "dataset": reference.record["dataset"]["name"],
        "resolution": reference.record["dataset"]["resolution"],
        **subject,
        "protocol": args.protocol,
    }
    provenance = {
        "n_generated": sets[0]["count"],
        "n_real": reference.moments.count,
        "seeds": [record.get("seeds") for record in sets],
        "reals": {key: reference.record[key] for key in ("subset", "seed")},
        "extractor": reference.record["extractor"],
        "weights_sha256": reference.record["weights_sha256"],
        "filter": reference.record["dataset"]["filter"],
        "dataset_sha256": reference.record["dataset"]["content_sha256"],
        "dataset_licence": reference.record["dataset"].get("licence"),
        "dataset_creator": reference.record["dataset"].get("creator"),
        "device": sets[0]["device"],
        "dtype": sets[0]["dtype"],
        "versions": runtime.versions(),
        "commit": runtime.commit(),
    }
    measure = METRICS[args.metric](reference)
    results = [measure(Statistics.load(path, features)) for path in args.statistics]
    records = [{**common, **_summary(same), **provenance} for same in zip(*results, strict=True)]
    write_json(args.output, records)
    for record in records:
        command.log.info("%s: %s = %.4f", args.output, record["metric"], record["value"])


def _described(path: Path, reference: Statistics) -> Record:
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
                statistics.record["kind"],
                dimension,
            )
    return measured.record | {"count": measured.moments.count}


def _summary(sets: tuple[Measurement, ...]) -> Record:
    """One metric over all sets: the mean first, and every set's own value; the uncertainty is that
    of a single set, averaged."""
    values = [one.value for one in sets]
    known = [one.uncertainty for one in sets if one.uncertainty is not None]
    return {
        "metric": sets[0].metric,
        "better": sets[0].better,
        "value": float(np.mean(values)),
        "values": values,
        "uncertainty": float(np.mean(known)) if known else None,
        "uncertainty_of": sets[0].uncertainty_of,
    }


def _require_one_size(paths: list[Path], sets: list[Record]) -> None:
    """Sets that differ in their seeds and in nothing else."""
    for number, record in enumerate(sets):
        for earlier, other in enumerate(sets[:number]):
            if record["dataset"]["content_sha256"] == other["dataset"]["content_sha256"]:
                raise UserError(
                    f"{paths[earlier]} and {paths[number]} hold the same images, which would count "
                    "twice; sample each set with seeds of its own."
                )
        if record["count"] != sets[0]["count"]:
            raise UserError(
                f"{paths[0]} holds {sets[0]['count']} images and {paths[number]} "
                f"{record['count']}; a mean needs sets of one size."
            )


def _snapshot(args: argparse.Namespace, sets: list[Record]) -> Record:
    """What the weights say about themselves; they must be those that were sampled."""
    config, provenance = read_header(args.weights)
    digest = sha256(args.weights)
    for path, measured in zip(args.statistics, sets, strict=True):
        if measured["generator_sha256"] != digest:
            raise UserError(
                f"generator_sha256 is {measured['generator_sha256']} in {path} but "
                f"{args.weights} has {digest}; sample these weights and compute the statistics "
                "again."
            )
    return {
        "kind": "snapshot",
        "step": provenance["step"],
        "images_seen": provenance["images_seen"],
        "generator_sha256": digest,
        "checkpoint": provenance.get("checkpoint"),
        "parameters": sum(parameter.numel() for parameter in Generator(config).parameters()),
    }


def _floor(args: argparse.Namespace, sets: list[Record], reference: Record) -> Record:
    """The two halves of one set of reals, which share no image."""
    for path, measured in zip(args.statistics, sets, strict=True):
        require_same(("kind", "dataset.content_sha256", "seed"), measured, reference)
        if {measured["subset"], reference["subset"]} != set(HALVES):
            raise UserError(
                f"subset is {measured['subset']!r} in {path} and {reference['subset']!r} "
                f"in {args.reference}; a floor needs {' and '.join(HALVES)} (or give --weights)."
            )
    return {"kind": "floor", "step": None, "images_seen": None, "generator_sha256": None}


def _require_reals(path: Path, reference: Record, experiment: ExperimentConfig) -> None:
    name = reference["dataset"]["name"]
    if reference["kind"] != "real":
        raise UserError(f"{path} is of {reference['kind']} images; a reference must be of reals.")
    if name != experiment.dataset:
        raise UserError(
            f"dataset.name is {name!r} in {path}, but experiment {experiment.name} was trained on "
            f"{experiment.dataset!r}; give that data set's statistics."
        )


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument(
        "--statistics",
        type=Path,
        nargs="+",
        required=True,
        help="of what is measured: sampling sets of one snapshot, or one half of the reals",
    )
    options.add_argument("--reference", type=Path, required=True, help="of the reals")
    options.add_argument("--metric", choices=METRICS, required=True, help="what is measured")
    options.add_argument("--protocol", required=True, help="the measurement's name, as in fid50k")
    options.add_argument("--experiment", type=Path, required=True, help="resolved experiment")
    options.add_argument(
        "--weights", type=Path, help="the snapshot; without it both statistics are of reals"
    )
    options.add_argument("--output", type=Path, required=True, help="the records (JSON)")
    command.main(options, run)


if __name__ == "__main__":
    main()
