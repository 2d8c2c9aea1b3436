"""Draw what a pixel sees at every level, from the kernels and dilations of an experiment."""

import argparse

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
    command.add_files(options, experiment="resolved experiment")
    command.add_files(options, many=True, outputs=style.FORMATS)
    command.main(options, run)


if __name__ == "__main__":
    main()
