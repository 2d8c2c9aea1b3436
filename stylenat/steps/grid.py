"""One PNG of several samples side by side, enlarged by a whole factor where they are small."""

from pathlib import Path

from stylenat import command
from stylenat.models import load_generator
from stylenat.models.latents import generate, parse_seeds
from stylenat.pictures import save_grid
from stylenat.runtime import select_device


def run(
    *,
    weights: Path,
    seeds: str,
    output: Path,
    device: str = "auto",
    truncation: float | None = None,
) -> None:
    numbers = parse_seeds(seeds)
    generator = load_generator(weights, select_device(device))
    pictures = command.pictures(generate(generator, numbers, truncation), [len(numbers)])
    save_grid(output, pictures, seeds, truncation)
    command.log.info("%s: seeds %s, truncation %s", output, seeds, truncation)


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    options.add_argument("--seeds", required=True, help="such as 0-24")
    options.add_argument("--output", type=Path, required=True, help="the PNG")
    options.add_argument(
        "--truncation", type=float, metavar="PSI", help="move w towards its mean by this factor"
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
