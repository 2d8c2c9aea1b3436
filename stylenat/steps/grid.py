"""One PNG of several samples side by side, enlarged by a whole factor where they are small."""

import argparse
import math
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylenat import command
from stylenat.models import load_generator
from stylenat.models.latents import generate, parse_seeds
from stylenat.records import atomic

LEGIBLE = 128  # pixels; smaller images are enlarged towards it
MARGIN = 2  # pixels between images and around them
BACKGROUND = 255


def tile(pictures: np.ndarray) -> np.ndarray:
    """uint8 (n, S, S, 3) → uint8 (H, W, 3): rows of ⌈√n⌉ images, in reading order."""
    factor = max(1, LEGIBLE // pictures.shape[1])
    pictures = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    count, side = pictures.shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pitch = side + MARGIN
    grid = np.full((MARGIN + rows * pitch, MARGIN + columns * pitch, 3), BACKGROUND, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        y, x = MARGIN + row * pitch, MARGIN + column * pitch
        grid[y : y + side, x : x + side] = picture
    return grid


def run(args: argparse.Namespace) -> None:
    seeds = parse_seeds(args.seeds)
    generator = load_generator(args.weights, args.device)
    pictures = generate(generator, seeds, args.truncation)
    bar = command.progress(pictures, total=len(seeds), desc="sampling", unit="img")
    grid = tile(np.stack(list(bar)))
    text = PngInfo()
    text.add_text("seeds", args.seeds)
    text.add_text("truncation", str(args.truncation))
    with atomic(args.output) as temporary:
        Image.fromarray(grid).save(temporary, "PNG", pnginfo=text)
    command.log.info("%s: seeds %s, truncation %s", args.output, args.seeds, args.truncation)


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    options.add_argument("--weights", type=Path, required=True, help="generator (safetensors)")
    options.add_argument("--seeds", required=True, help="such as 0-24")
    options.add_argument("--output", type=Path, required=True, help="the PNG")
    options.add_argument(
        "--truncation", type=float, metavar="PSI", help="move w towards its mean by this factor"
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
