"""Join an experiment's records with the published results: one table as CSV and as a page."""

import argparse
from pathlib import Path

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.presentation.page import write_page
from stylenat.presentation.published import read_published
from stylenat.presentation.tables import EXTRACTORS, metric_table, throughput_table
from stylenat.records import atomic, read_json


def run(args: argparse.Namespace) -> None:
    experiment = ExperimentConfig.from_dict(read_json(args.experiment))
    published = read_published(args.published)
    records = {str(path): read_json(path) for path in args.records}
    if args.table == "throughput":
        measurements = [record for file in records.values() for record in file]
        frame = throughput_table(measurements, experiment, published)
    else:
        frame = metric_table(records, args.table, experiment, published)
    with atomic(args.output) as temporary:
        frame.to_csv(temporary, index=False)
    write_page(args.html, frame, f"{experiment.name}: {args.table}")
    counts = ", ".join(f"{count} {kind}" for kind, count in frame["kind"].value_counts().items())
    command.log.info("%s: %d rows (%s)", args.output, len(frame), counts)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--table", choices=[*EXTRACTORS, "throughput"], required=True)
    options.add_argument("--experiment", type=Path, required=True, help="resolved experiment")
    options.add_argument(
        "--records", type=Path, nargs="+", required=True, help="JSON records of this experiment"
    )
    options.add_argument("--published", type=Path, required=True, help="published results (CSV)")
    options.add_argument("--output", type=Path, required=True, help="the table (CSV)")
    options.add_argument("--html", type=Path, required=True, help="the same table as a page")
    command.main(options, run)


if __name__ == "__main__":
    main()
