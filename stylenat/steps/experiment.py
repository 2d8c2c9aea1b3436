"""Write the resolved experiment: the one file that decides what the weights will be."""

import json
from pathlib import Path

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.io import write_json


def run(*, values: str, output: Path) -> None:
    write_json(output, ExperimentConfig.from_dict(json.loads(values)).to_dict())


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--values", required=True, help="the experiment as JSON, defaults merged")
    options.add_argument("--output", type=Path, required=True, help="resolved experiment (JSON)")
    command.main(options, run)


if __name__ == "__main__":
    main()
