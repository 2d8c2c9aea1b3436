"""One PNG of several samples side by side, enlarged by a whole factor where they are small."""

import argparse
from pathlib import Path

from stylenat import command
from stylenat.models import load_generator
from stylenat.models.latents import generate, parse_seeds
from stylenat.pictures import save_grid


def run(args: argparse.Namespace) -> None:
    seeds = parse_seeds(args.seeds)
    generator = load_generator(args.weights, args.device)
    pictures = command.pictures(generate(generator, seeds, args.truncation), [len(seeds)])
    save_grid(args.output, pictures, args.seeds, args.truncation)
    command.log.info("%s: seeds %s, truncation %s", args.output, args.seeds, args.truncation)


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
