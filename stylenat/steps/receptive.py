"""Draw what a pixel sees at every level, from the kernels and dilations of an experiment."""

from collections.abc import Sequence
from pathlib import Path

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.io import read_json
from stylenat.report import style
from stylenat.report.receptive import draw_receptive_fields


def run(*, experiment: Path, outputs: Sequence[Path]) -> None:
    config = ExperimentConfig.from_dict(read_json(experiment))
    with style.styled():
        style.save(draw_receptive_fields(config.model), outputs)
    command.log.info("wrote %s", ", ".join(map(str, outputs)))


def main() -> None:
    options = command.parser(__doc__)
    command.add_files(options, experiment="resolved experiment")
    command.add_files(options, many=True, outputs=style.FORMATS)
    command.main(options, run)


if __name__ == "__main__":
    main()
