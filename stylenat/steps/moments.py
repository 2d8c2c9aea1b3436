"""Write mean and covariance of statistics as pytorch-fid and clean-fid read them (npz of mu and sigma)."""

from pathlib import Path

from stylenat import command
from stylenat.metrics.foreign import write_gaussian
from stylenat.metrics.moments import Statistics


def run(*, statistics: Path, output: Path) -> None:
    ours = Statistics.load(statistics, features=False)
    write_gaussian(output, ours)
    record = ours.record
    command.log.info(
        "%s: mu and sigma of %d images of %s in the features of %s; the file does not say so",
        output,
        ours.moments.count,
        record.dataset.name,
        record.extractor,
    )


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--statistics", type=Path, required=True, help="statistics of ours (npz)")
    options.add_argument("--output", type=Path, required=True, help="for other programs (npz)")
    command.main(options, run)


if __name__ == "__main__":
    main()
