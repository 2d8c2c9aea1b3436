"""Write an experiment's first page: reals and samples, headline numbers, what was trained on what."""

from collections.abc import Sequence
from pathlib import Path

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.data.store import ImageStore
from stylenat.io import read_json
from stylenat.report.curves import read_training
from stylenat.report.measured import read_table
from stylenat.report.overview import training_of, write_overview
from stylenat.report.rows import MetricRow


def run(
    *,
    experiment: Path,
    metrics: Path,
    data: Sequence[Path],
    picture: Path,
    output: Path,
    records: Sequence[Path] = (),
) -> None:
    config = ExperimentConfig.from_dict(read_json(experiment))
    training = None
    if records:
        training = training_of(read_training(records), config.training.batch_size)
    datasets = [ImageStore(path).metadata for path in data]
    rows = MetricRow.of(read_table(metrics), metrics)
    write_overview(output, config, rows, training, datasets, picture)
    command.log.info("%s: %d numbers", output, sum(row.kind == "snapshot" for row in rows))


def main() -> None:
    options = command.parser(__doc__)
    command.add_files(options, experiment="resolved experiment", metrics="its table of all metrics")
    options.add_argument("--records", type=Path, nargs="*", help="JSON lines of every segment")
    reals = "the training images (LMDB), then the held-out ones if there are any"
    command.add_files(options, many=True, data=reals)
    command.add_files(options, picture="of the step compare", output="the page (HTML)")
    command.main(options, run)


if __name__ == "__main__":
    main()
