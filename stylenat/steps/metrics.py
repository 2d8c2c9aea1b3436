"""Measure a snapshot against reference statistics, or real images against real ones (the floor).

Several sampling sets of one snapshot give a mean, and show how much it depends on the seeds. Where
a data set has held-out reals, a snapshot is compared with those, too, and they are the floor.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from stylenat import command, runtime
from stylenat.config import ExperimentConfig, ModelConfig
from stylenat.errors import UserError
from stylenat.io import read_json, sha256, write_json
from stylenat.metrics import METRICS
from stylenat.metrics.attributes import describe_missing, missing_values
from stylenat.metrics.base import Measurement, Shares
from stylenat.metrics.moments import COMPARABLE, Statistics, require_same
from stylenat.metrics.reals import held_out_name, require_held_out, require_reference
from stylenat.metrics.subsets import HALVES
from stylenat.models import Generator, read_header

Record = dict[str, Any]


def run(args: argparse.Namespace) -> None:
    experiment = ExperimentConfig.from_dict(read_json(args.experiment))
    reference = Statistics.load(args.reference)
    require_reference(args.reference, reference.record, experiment)
    held_out = _held_out(args, reference)
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
        **({} if held_out is None else {"n_real_held_out": held_out.moments.count}),
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
    measures = [
        METRICS[args.metric].measure(real) for real in (reference, held_out) if real is not None
    ]
    # By set, then by what it is compared with.
    results = [
        [measure(samples) for measure in measures]
        for samples in (Statistics.load(path) for path in args.statistics)
    ]
    against = [list(zip(*one, strict=True)) for one in zip(*results, strict=True)]
    summaries = [_summary(same, sets[0]["count"]) for same in against[0]]
    if held_out is not None:
        for summary, same in zip(summaries, against[1], strict=True):
            summary |= _against_held_out(same)
    records = [{**common, **summary, **provenance} for summary in summaries]
    write_json(args.output, records)
    for record in records:
        beside = f" ({record['held_out']:.4f} to held-out reals)" if "held_out" in record else ""
        command.log.info("%s: %s = %.4f%s", args.output, record["metric"], record["value"], beside)
        if record["note"]:
            command.log.info("%s: %s", record["metric"], record["note"])


def _held_out(args: argparse.Namespace, reference: Statistics) -> Statistics | None:
    """The held-out reals that a snapshot is compared with, if they were given and the metric
    compares samples with reals that were not trained on."""
    if args.held_out is None:
        return None
    if args.weights is None:
        raise UserError(
            "--held-out is what a snapshot is compared with beside the reference; for a floor, "
            "give the held-out reals as --statistics."
        )
    metric = METRICS[args.metric]
    held_out = Statistics.load(args.held_out, features=metric.held_out)
    require_held_out(args.held_out, held_out.record, reference.record)
    return held_out if metric.held_out else None


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


def _summary(sets: tuple[Measurement, ...], count: int) -> Record:
    """One metric over all sets of ``count`` images: the mean first, and every set's own value; the
    uncertainty is that of a single set, averaged."""
    first, values = sets[0], [one.value for one in sets]
    known = [one.uncertainty for one in sets if one.uncertainty is not None]
    return {
        "metric": first.metric,
        "better": first.better,
        "value": float(np.mean(values)),
        "values": values,
        "uncertainty": float(np.mean(known)) if known else None,
        "uncertainty_of": first.uncertainty_of,
        "note": first.note,
        **_missing([one.shares for one in sets], first.attribute, count),
    }


def _missing(sets: list[Shares | None], attribute: str | None, count: int) -> Record:
    """Where shares of an attribute's values were measured: their means over all sets, and the
    values that are missing, as they are and in words."""
    if attribute is None:
        return {}
    shares = {
        value: (reals, float(np.mean([one[value][1] for one in sets])))
        for value, (reals, _) in sets[0].items()
    }
    missing = missing_values(shares, count)
    texts = [describe_missing(attribute, value, shares, count) for value in missing]
    return {
        "attribute": attribute,
        "shares": {
            value: dict(zip(("reals", "samples"), pair, strict=True))
            for value, pair in shares.items()
        },
        "missing": missing,
        "note": "; ".join(texts) or None,
    }


def _against_held_out(sets: tuple[Measurement, ...]) -> Record:
    """The same for the comparison with held-out reals, in short."""
    values = [one.value for one in sets]
    return {"held_out": float(np.mean(values)), "held_out_values": values}


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
        "precision": provenance.get("precision"),
        "parameters": provenance.get("parameters") or _parameters(config),
    }


def _parameters(config: ModelConfig) -> int:
    """For weights of before their header said it."""
    return sum(parameter.numel() for parameter in Generator(config).parameters())


def _floor(args: argparse.Namespace, sets: list[Record], reference: Record) -> Record:
    """Held-out reals against the reference; without them, the two halves of the reals, which
    share no image."""
    held_out = held_out_name(reference["dataset"]["name"])
    for path, measured in zip(args.statistics, sets, strict=True):
        if measured["dataset"]["name"] == held_out:
            require_held_out(path, measured, reference)
            continue
        require_same(("kind", "dataset.content_sha256", "seed"), measured, reference)
        if {measured["subset"], reference["subset"]} != set(HALVES):
            raise UserError(
                f"subset is {measured['subset']!r} in {path} and {reference['subset']!r} "
                f"in {args.reference}; a floor needs {' and '.join(HALVES)}, or held-out reals "
                "(or give --weights)."
            )
    floor_of = "held-out" if sets[0]["dataset"]["name"] == held_out else "halves"
    nothing = dict.fromkeys(("step", "images_seen", "generator_sha256"))
    return {"kind": "floor", "floor_of": floor_of, **nothing}


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument(
        "--statistics",
        type=Path,
        nargs="+",
        required=True,
        help="of what is measured: sampling sets of one snapshot; for a floor, held-out reals or "
        "one half of the reals",
    )
    options.add_argument("--reference", type=Path, required=True, help="of the reals")
    options.add_argument(
        "--held-out", type=Path, help="of reals that were not trained on, to compare with as well"
    )
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
