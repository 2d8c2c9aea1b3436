"""Measure a snapshot against reference statistics, or real images against real ones (the floor)."""

import argparse
from pathlib import Path
from typing import Any

import torch

from stylenat import command, runtime
from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.evaluation.frechet import frechet_distance
from stylenat.evaluation.moments import COMPARABLE, Statistics, require_same
from stylenat.evaluation.subsets import HALVES
from stylenat.models import Generator, read_header
from stylenat.records import read_json, sha256, write_json

Record = dict[str, Any]


def run(args: argparse.Namespace) -> None:
    experiment = ExperimentConfig.from_dict(read_json(args.experiment))
    measured, reference = Statistics.load(args.statistics), Statistics.load(args.reference)
    require_same(COMPARABLE, measured.record, reference.record)
    _require_reals(args.reference, reference.record, experiment)
    if args.weights is None:
        subject = _floor(args, measured.record, reference.record)
    else:
        subject = _snapshot(args, measured.record)
    value = _distance(measured, reference)
    write_json(
        args.output,
        {
            "experiment": experiment.name,
            "dataset": reference.record["dataset"]["name"],
            "resolution": reference.record["dataset"]["resolution"],
            **subject,
            "protocol": args.protocol,
            "table": args.table,
            "value": value,
            "n_generated": measured.moments.count,
            "n_real": reference.moments.count,
            "reals": {key: reference.record[key] for key in ("subset", "seed")},
            "extractor": reference.record["extractor"],
            "weights_sha256": reference.record["weights_sha256"],
            "filter": reference.record["dataset"]["filter"],
            "dataset_sha256": reference.record["dataset"]["content_sha256"],
            "device": measured.record["device"],
            "dtype": measured.record["dtype"],
            "versions": runtime.versions(),
            "commit": runtime.commit(),
        },
    )
    command.log.info("%s: %s = %.4f", args.output, args.protocol, value)


def _distance(measured: Statistics, reference: Statistics) -> float:
    for statistics in (measured, reference):
        count, dimension = statistics.moments.count, len(statistics.moments.sum)
        if count < dimension:
            command.log.warning(
                "%d %s images for %d features: the covariance is singular and the distance "
                "too large; compare it only with values of the same counts",
                count,
                statistics.record["kind"],
                dimension,
            )
    a, b = measured.moments, reference.moments
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def _snapshot(args: argparse.Namespace, measured: Record) -> Record:
    """What the weights say about themselves; they must be those that were sampled."""
    config, provenance = read_header(args.weights)
    digest = sha256(args.weights)
    if measured["generator_sha256"] != digest:
        raise UserError(
            f"generator_sha256 is {measured['generator_sha256']} in {args.statistics} but "
            f"{args.weights} has {digest}; sample these weights and compute the statistics again."
        )
    with torch.device("meta"):  # shapes suffice to count
        parameters = sum(parameter.numel() for parameter in Generator(config).parameters())
    return {
        "kind": "snapshot",
        "step": provenance["step"],
        "images_seen": provenance["images_seen"],
        "generator_sha256": digest,
        "checkpoint": provenance.get("checkpoint"),
        "parameters": parameters,
    }


def _floor(args: argparse.Namespace, measured: Record, reference: Record) -> Record:
    """The two halves of one set of reals, which share no image."""
    require_same(("kind", "dataset.content_sha256", "seed"), measured, reference)
    if {measured["subset"], reference["subset"]} != set(HALVES):
        raise UserError(
            f"subset is {measured['subset']!r} in {args.statistics} and {reference['subset']!r} "
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
    options.add_argument("--statistics", type=Path, required=True, help="of what is measured")
    options.add_argument("--reference", type=Path, required=True, help="of the reals")
    options.add_argument("--protocol", required=True, help="the measurement's name, as in fid50k")
    options.add_argument("--table", required=True, help="the table it goes to, as in fid")
    options.add_argument("--experiment", type=Path, required=True, help="resolved experiment")
    options.add_argument(
        "--weights", type=Path, help="the snapshot; without it both statistics are of reals"
    )
    options.add_argument("--output", type=Path, required=True, help="the record (JSON)")
    command.main(options, run)


if __name__ == "__main__":
    main()
