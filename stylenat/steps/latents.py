"""Walk through the latent space: truncation sweep, style mixing, animated interpolation.

Each takes the first seeds, 0, 1, …; nothing is picked.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from stylenat import command
from stylenat.models import Generator, load_generator
from stylenat.models.latents import mean_style, render, styles
from stylenat.pictures import fit, save_animation, tile
from stylenat.report import style
from stylenat.report.mosaic import draw_mosaic

PSI = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
SWEPT = range(6)  # seeds of the truncation sweep
ROWS, COLUMNS = range(4), range(4, 10)  # seeds of the mixing grid
STOPS = 4  # seeds that a walk passes before it is back
FRAMES = 12  # from one stop to the next
MILLISECONDS = 100  # a frame
WIDTH = 512  # pixels of the animation: as many walks side by side as fit


def run(args: argparse.Namespace) -> None:
    generator = load_generator(args.weights, args.device)
    for draw, output in ((draw_truncation, args.truncation), (draw_mixing, args.mixing)):
        with style.styled():
            figure, facts = draw(generator)
            style.save(figure, [output], facts)
        command.log.info("%s: %s", output, facts)
    frames, comment = interpolate(generator)
    save_animation(args.interpolation, frames, MILLISECONDS, comment)
    command.log.info("%s: %s", args.interpolation, comment)


def draw_truncation(generator: Generator) -> tuple[Figure, dict[str, str]]:
    """Rows are seeds, columns ψ: ``mean + ψ (w − mean)``. The second is what was drawn, in words."""
    mean = mean_style(generator)
    psi = torch.tensor(PSI, device=mean.device)[:, None]
    w = mean + psi * (styles(generator, SWEPT)[:, None] - mean)
    figure = draw_mosaic(
        _render(generator, w), [f"seed {s}" for s in SWEPT], [f"ψ = {value:g}" for value in PSI]
    )
    return figure, {"seeds": _words(SWEPT), "truncation": ", ".join(map(str, PSI))}


def draw_mixing(generator: Generator) -> tuple[Figure, dict[str, str]]:
    """Coarse levels take their style from the picture on the left, fine ones from that above."""
    rows, columns = styles(generator, ROWS), styles(generator, COLUMNS)
    levels = len(generator.config.resolutions)
    first = levels // 2  # of the fine levels, each of which has two styles
    mixed = rows[:, None, None].repeat(1, len(columns), 2 * levels, 1)
    mixed[:, :, 2 * first :] = columns[:, None]
    left, above = _render(generator, rows[:, None]), _render(generator, columns[None])
    empty = np.full_like(left[:1], 255)
    pictures = np.concatenate(
        (
            np.concatenate((empty, above), 1),
            np.concatenate((left, _render(generator, mixed)), 1),
        )
    )
    names = [["", *(f"seed {s}" for s in seeds)] for seeds in (ROWS, COLUMNS)]
    sides = generator.config.resolutions
    facts = {
        "seeds": f"{_words(ROWS)} (rows), {_words(COLUMNS)} (columns)",
        "truncation": "None",
        "coarse": f"{sides[0]}² to {sides[first - 1]}², from the row",
        "fine": f"{sides[first]}² to {sides[-1]}², from the column",
    }
    return draw_mosaic(pictures, *names, sources=(1, 1)), facts


def interpolate(generator: Generator) -> tuple[list[np.ndarray], str]:
    """Frames (H, W, 3) of closed walks from seed to seed on straight lines in w, and in words."""
    config = generator.config
    cell = fit(np.zeros((config.image_size, config.image_size, 3), np.uint8)).shape[0]
    walks = WIDTH // cell
    stops = styles(generator, range(walks * STOPS)).unflatten(0, (walks, STOPS))
    share = torch.arange(FRAMES, device=stops.device)[:, None] / FRAMES
    ahead = stops.roll(-1, 1)
    path = torch.lerp(stops[:, :, None], ahead[:, :, None], share).flatten(1, 2)
    pictures = _render(generator, path)
    frames = [tile(pictures[:, frame], walks) for frame in range(pictures.shape[1])]
    comment = (
        f"walks side by side: {walks}, each through {STOPS} seeds of {_words(range(walks * STOPS))} "
        f"and back; linear in w, {FRAMES} frames from seed to seed; truncation None"
    )
    return frames, comment


def _render(generator: Generator, w: Tensor) -> np.ndarray:
    """w (a, b, …) → uint8 (a, b, S, S, 3)."""
    pictures = command.progress(
        render(generator, w.flatten(0, 1)), total=w.shape[:2].numel(), desc="sampling", unit="img"
    )
    flat = np.stack(list(pictures))
    return flat.reshape(*w.shape[:2], *flat.shape[1:])


def _words(seeds: range) -> str:
    return f"{seeds.start}-{seeds.stop - 1}"


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    for name, kind in (("truncation", "PNG"), ("mixing", "PNG"), ("interpolation", "GIF")):
        options.add_argument(f"--{name}", type=Path, required=True, help=f"the {kind}")
    command.main(options, run)


if __name__ == "__main__":
    main()
