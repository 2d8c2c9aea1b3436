"""Walk through the latent space: truncation sweep, style mixing, animated interpolation.

Whatever has an output is drawn. Without other seeds it is the first ones, 0, 1, …; nothing is picked.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from stylenat import command
from stylenat.errors import UserError
from stylenat.models import Generator, load_generator
from stylenat.models.latents import mean_style, parse_seeds, render, styles
from stylenat.pictures import encoder, fit, save_animation, tile
from stylenat.report import style
from stylenat.report.mosaic import draw_mosaic
from stylenat.runtime import select_device

PSI = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
SWEPT = "0-5"  # seeds of the truncation sweep
ROWS, COLUMNS = "0-3", "4-9"  # seeds of the mixing grid
STOPS = 4  # seeds that a walk passes before it is back
FRAMES = 12  # from one stop to the next
MILLISECONDS = 100  # a frame
WIDTH = 512  # pixels of the animation: as many walks side by side as fit


def run(
    *,
    weights: Path,
    device: str = "auto",
    truncation: Path | None = None,
    seeds: str = SWEPT,
    psi: Sequence[float] = PSI,
    mixing: Path | None = None,
    rows: str = ROWS,
    columns: str = COLUMNS,
    layers: Sequence[int] | None = None,
    interpolation: Path | None = None,
    walks: Sequence[str] | None = None,
    frames: int = FRAMES,
) -> None:
    outputs = (truncation, mixing, interpolation)
    if not any(outputs):
        raise UserError("nothing is to be drawn; give --truncation, --mixing or --interpolation.")
    if interpolation and interpolation.suffix == ".mp4":
        encoder()  # before anything is computed
    generator = load_generator(weights, select_device(device))
    figures = (
        partial(draw_truncation, seeds=seeds, psi=psi),
        partial(draw_mixing, rows=rows, columns=columns, layers=layers),
    )
    for draw, output in zip(figures, outputs, strict=False):
        if output:
            with style.styled():
                figure, facts = draw(generator)
                style.save(figure, [output], facts)
            command.log.info("%s: %s", output, facts)
    if interpolation:
        pictures, comment = interpolate(generator, walks, frames)
        save_animation(interpolation, pictures, MILLISECONDS, comment)
        command.log.info("%s: %s", interpolation, comment)


def draw_truncation(
    generator: Generator, seeds: str = SWEPT, psi: Sequence[float] = PSI
) -> tuple[Figure, dict[str, str]]:
    """Rows are seeds, columns ψ: ``mean + ψ (w − mean)``. The second is what was drawn, in words."""
    if not all(map(math.isfinite, psi)):
        raise UserError(f"--psi has {', '.join(map(str, psi))}; give finite numbers.")
    numbers, mean = parse_seeds(seeds), mean_style(generator)
    factors = torch.tensor(psi, device=mean.device)[:, None]
    w = mean + factors * (styles(generator, numbers)[:, None] - mean)
    figure = draw_mosaic(
        _render(generator, w), [f"seed {s}" for s in numbers], [f"ψ = {value:g}" for value in psi]
    )
    return figure, {"seeds": seeds, "truncation": ", ".join(map(str, psi))}


def draw_mixing(
    generator: Generator,
    rows: str = ROWS,
    columns: str = COLUMNS,
    layers: Sequence[int] | None = None,
) -> tuple[Figure, dict[str, str]]:
    """The levels of these sides (None: the finer half) take their style from the picture above, the
    others from that on the left."""
    sides = generator.config.resolutions
    coarse, fine = sides[: len(sides) // 2], sides[len(sides) // 2 :]
    if unknown := set(layers or ()) - set(sides):
        raise UserError(
            f"--layers {min(unknown)}: the generator has no level of this side; give some of "
            f"{', '.join(map(str, sides))}."
        )
    seeds = parse_seeds(rows), parse_seeds(columns)
    lefts, tops = (styles(generator, some) for some in seeds)
    mixed = lefts[:, None, None].repeat(1, len(tops), generator.config.latents, 1)
    for level, side in enumerate(sides):
        if side in (layers or fine):
            mixed[:, :, 2 * level : 2 * level + 2] = tops[:, None]
    left, above = _render(generator, lefts[:, None]), _render(generator, tops[None])
    empty = np.full_like(left[:1], 255)
    pictures = np.concatenate(
        (
            np.concatenate((empty, above), 1),
            np.concatenate((left, _render(generator, mixed)), 1),
        )
    )
    down, across = (["", *(f"seed {s}" for s in some)] for some in seeds)
    facts = {"seeds": f"{rows} (rows), {columns} (columns)", "truncation": "None"}
    if layers:
        facts["layers"] = f"{', '.join(f'{side}²' for side in layers)}, from the column"
    else:
        facts["coarse"] = f"{coarse[0]}² to {coarse[-1]}², from the row"
        facts["fine"] = f"{fine[0]}² to {fine[-1]}², from the column"
    return draw_mosaic(pictures, down, across, sources=(1, 1)), facts


def interpolate(
    generator: Generator, walks: Sequence[str] | None = None, frames: int = FRAMES
) -> tuple[list[np.ndarray], str]:
    """Frames (H, W, 3) of closed walks from seed to seed on straight lines in w, and in words.

    Each of ``walks`` names its seeds (None: as many of the first seeds as fit side by side).
    """
    if frames < 1:
        raise UserError(f"--frames is {frames}; give 1 or more.")
    if walks is None:
        size = generator.config.image_size
        count = WIDTH // fit(np.zeros((size, size, 3), np.uint8)).shape[0]
        words = f"0-{count * STOPS - 1}"
        seeds = [list(range(walk * STOPS, (walk + 1) * STOPS)) for walk in range(count)]
    else:
        words = " ".join(walks)
        seeds = [parse_seeds(walk) for walk in walks]
    length = len(seeds[0])
    if any(len(walk) != length for walk in seeds):
        raise UserError(
            f"--walks {words}: they pass different numbers of seeds; give each as many."
        )
    flat = [seed for walk in seeds for seed in walk]
    stops = styles(generator, flat).unflatten(0, (len(seeds), length))
    share = torch.arange(frames, device=stops.device)[:, None] / frames
    ahead = stops.roll(-1, 1)
    path = torch.lerp(stops[:, :, None], ahead[:, :, None], share).flatten(1, 2)
    pictures = _render(generator, path)
    shown = [tile(pictures[:, frame], len(seeds)) for frame in range(pictures.shape[1])]
    comment = (
        f"walks side by side: {len(seeds)}, each through {length} seeds of {words} "
        f"and back; linear in w, {frames} frames from seed to seed; truncation None"
    )
    return shown, comment


def _render(generator: Generator, w: Tensor) -> np.ndarray:
    """w (a, b, …) → uint8 (a, b, S, S, 3)."""
    return command.pictures(render(generator, w.flatten(0, 1)), w.shape[:2])


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    options.add_argument("--truncation", type=Path, help="PNG: seeds against ψ")
    options.add_argument("--seeds", help="of the truncation sweep, a row each")
    options.add_argument("--psi", type=float, nargs="+", help="its columns")
    options.add_argument("--mixing", type=Path, help="PNG: styles of two seeds in one picture")
    options.add_argument("--rows", help="seeds of the mixing, a row each")
    options.add_argument("--columns", help="seeds of the mixing, a column each")
    options.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="SIDE",
        help="levels whose style is that of the column; without, the finer half of all",
    )
    options.add_argument(
        "--interpolation",
        type=Path,
        help="GIF, or MP4 (X.mp4; pip install imageio-ffmpeg): walks from seed to seed",
    )
    options.add_argument(
        "--walks",
        nargs="+",
        metavar="SEEDS",
        help="a closed walk through each list of seeds, such as 3,17,4; without, through "
        f"{STOPS} seeds each",
    )
    options.add_argument("--frames", type=int, help="from one seed to the next")
    command.main(options, run)


if __name__ == "__main__":
    main()
