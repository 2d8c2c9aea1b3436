"""Measure what a protocol gives for real images alone. A generator as good as real images would reach it.

Held-out reals are measured against the reference, in sets of as many images as there are samples;
without held-out reals, halves of the reference against each other.
"""

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


def run(
    *,
    reference: Path,
    samples: int,
    metric: str,
    protocol: str,
    experiment: Path,
    output: Path,
    held_out: Path | None = None,
) -> None:
    config = ExperimentConfig.from_dict(read_json(experiment))
    reals = Statistics.load(reference)
    require_reference(reference, reals.record, config)
    unseen = None
    if held_out is not None:
        unseen = Statistics.load(held_out)
        require_held_out(held_out, unseen.record, reals.record)
    found = floor(METRICS[metric], reals, unseen, samples)
    subject = Subject(
        experiment=config.name,
        dataset=reals.record.dataset.name,
        resolution=reals.record.dataset.resolution,
        kind="floor",
        floor_of=found.of,
        step=None,
        images_seen=None,
        generator_sha256=None,
        protocol=protocol,
    )
    measured = (unseen or reals).record
    source = origin(reals, measured, found.n_generated, found.n_real, [])
    summaries = [summary(same, found.n_generated) for same in zip(*found.draws, strict=True)]
    records = [MetricRecord.joined(subject, one, source) for one in summaries]
    write_json(output, [record.to_dict() for record in records])
    for one in summaries:
        command.log.info("%s: %s = %.4f", output, one.metric, one.value)


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
