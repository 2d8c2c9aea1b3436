"""Measure what a protocol gives for real images alone. A generator as good as real images would reach it.

Held-out reals are measured against the reference, in sets of as many images as there are samples;
without held-out reals, halves of the reference against each other.
"""

import argparse
from pathlib import Path

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.io import read_json, write_json
from stylenat.metrics import METRICS
from stylenat.metrics.floor import floor
from stylenat.metrics.moments import Statistics
from stylenat.metrics.reals import require_held_out, require_reference
from stylenat.metrics.summary import origin, summary
from stylenat.records import MetricRecord, Subject


def run(args: argparse.Namespace) -> None:
    experiment = ExperimentConfig.from_dict(read_json(args.experiment))
    reference = Statistics.load(args.reference)
    require_reference(args.reference, reference.record, experiment)
    held_out = args.held_out and Statistics.load(args.held_out)
    if held_out:
        require_held_out(args.held_out, held_out.record, reference.record)
    found = floor(METRICS[args.metric], reference, held_out, args.samples)
    subject = Subject(
        experiment=experiment.name,
        dataset=reference.record.dataset.name,
        resolution=reference.record.dataset.resolution,
        kind="floor",
        floor_of=found.of,
        step=None,
        images_seen=None,
        generator_sha256=None,
        protocol=args.protocol,
    )
    measured = (held_out or reference).record
    source = origin(reference, measured, found.n_generated, found.n_real, [])
    summaries = [summary(same, found.n_generated) for same in zip(*found.draws, strict=True)]
    records = [MetricRecord.joined(subject, one, source) for one in summaries]
    write_json(args.output, [record.to_dict() for record in records])
    for one in summaries:
        command.log.info("%s: %s = %.4f", args.output, one.metric, one.value)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--reference", type=Path, required=True, help="statistics of the reals")
    options.add_argument(
        "--held-out", type=Path, help="statistics of reals that were not trained on, if there are"
    )
    options.add_argument(
        "--samples", type=int, required=True, help="how many generated images are measured"
    )
    options.add_argument("--metric", choices=METRICS, required=True, help="what is measured")
    options.add_argument("--protocol", required=True, help="the measurement's name, as in fid50k")
    options.add_argument("--experiment", type=Path, required=True, help="resolved experiment")
    options.add_argument("--output", type=Path, required=True, help="the records (JSON)")
    command.main(options, run)


if __name__ == "__main__":
    main()
