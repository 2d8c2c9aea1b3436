"""Draw what a pixel sees at every level, from the kernels and dilations of an experiment."""

import argparse
from pathlib import Path

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.io import read_json
from stylenat.report import style
from stylenat.report.receptive import draw_receptive_fields


def run(args: argparse.Namespace) -> None:
    experiment = ExperimentConfig.from_dict(read_json(args.experiment))
    with style.styled():
        style.save(draw_receptive_fields(experiment.model), args.outputs)
    command.log.info("wrote %s", ", ".join(map(str, args.outputs)))


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--experiment", type=Path, required=True, help="resolved experiment")
    options.add_argument(
        "--outputs", type=Path, nargs="+", required=True, help="one file per format (.svg, .png)"
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
