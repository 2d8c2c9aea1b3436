"""Draw a training's curves: losses, logits, penalties, speed, and its snapshots' distances."""

from collections.abc import Sequence
from pathlib import Path

from stylenat import command
from stylenat.records import MetricRecord
from stylenat.report import style
from stylenat.report.curves import draw_training, read_training


def run(*, records: Sequence[Path], outputs: Sequence[Path], metrics: Sequence[Path] = ()) -> None:
    training = read_training(records)
    snapshots = MetricRecord.read_lists(metrics, "delete it and run the step metrics again")
    with style.styled():
        style.save(draw_training(training, list(snapshots.values())), outputs)
    command.log.info("%d records drawn in %s", len(training), ", ".join(map(str, outputs)))


def main() -> None:
    options = command.parser(__doc__)
    command.add_files(options, many=True, records="JSON lines of every segment")
    options.add_argument("--metrics", type=Path, nargs="*", help="metric records of the snapshots")
    command.add_files(options, many=True, outputs=style.FORMATS)
    command.main(options, run)


if __name__ == "__main__":
    main()
