"""Join an experiment's records with the published results: one table as CSV and as a page."""

from collections.abc import Sequence
from pathlib import Path

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.io import atomic, read_json
from stylenat.records import MetricRecord, Throughput
from stylenat.report.page import write_page
from stylenat.report.published import read_published
from stylenat.report.speeds import throughput_table
from stylenat.report.tables import metric_table


def run(
    *,
    table: str,
    experiment: Sequence[Path],
    records: Sequence[Path],
    published: Path,
    output: Path,
    html: Path,
) -> None:
    experiments = [ExperimentConfig.from_dict(read_json(path)) for path in experiment]
    literature = read_published(published)
    remedy = "delete it and run its step again"
    if table == "throughput":
        speeds = Throughput.read_lists(records, remedy)
        frame = throughput_table(speeds, experiments, literature)
    else:
        metrics = MetricRecord.read_lists(records, remedy)
        frame = metric_table(metrics, table, experiments[0], literature)
    with atomic(output) as temporary:
        frame.to_csv(temporary, index=False)
    names = ", ".join(experiment.name for experiment in experiments)
    write_page(html, frame, f"{names}: {table}")
    counts = ", ".join(f"{count} {kind}" for kind, count in frame["kind"].value_counts().items())
    command.log.info("%s: %d rows (%s)", output, len(frame), counts)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument(
        "--table",
        required=True,
        help="fid, fd_lite0, …: a Fréchet distance at every snapshot; metrics: everything about the "
        "last one; or throughput",
    )
    resolved = "resolved experiment; for throughput, all that were measured side by side"
    command.add_files(options, many=True, experiment=resolved, records="their JSON records")
    command.add_files(options, published="published results (CSV)", output="the table (CSV)")
    command.add_files(options, html="the same table as a page")
    command.main(options, run)


if __name__ == "__main__":
    main()
